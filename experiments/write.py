"""Lets a language model write, or fill in words, and shows which words a text model holds for alike.

  python -m experiments.write --workdir runs/captions --prompt "a red" --samples 5
  python -m experiments.write --workdir runs/captions_masked --prompt "a [mask] circle"
  python -m experiments.write --workdir runs/clip --neighbours red,circle,left

A run of next_token goes on after the prompt, which may be empty. One of masked_token fills in each [mask] by one token,
and says which are the most probable. Neighbours are nearest by the cosine of the embeddings that the model learned for
its tokens; any run with a text model has them, of contrast too.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, samples and looks up, and prints."""
    parser = program.Parser(__doc__)
    parser.add_argument("--workdir", required=True, help="folder of a run")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    parser.add_argument("--prompt", metavar="TEXT", help="how the text begins, or where words are missing")
    parser.add_argument("--samples", type=int, default=5, help="how many texts (default: 5)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes what is most probable (default: 1)")
    parser.add_argument("--top_k", type=int, help="draw from that many most probable tokens (default: from all)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    parser.add_argument("--neighbours", metavar="WORD,WORD", help="words whose nearest words are shown")
    parser.add_argument("--count", type=int, default=5, help="how many nearest or most probable words (default: 5)")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="for weights that were imported without one")
    args = parser.read(argv)
    if args.prompt is None and not args.neighbours:
        raise UserError("give --prompt, --neighbours, or both")
    for name, least in (("samples", 1), ("count", 1), ("seed", 0)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    program.prepare_jax()
    from vision.analysis.word_neighbours import word_neighbours
    from vision.training.text_run import load_text

    run = load_text(args.workdir, step=args.step, tokenizer=args.tokenizer, note=_note)
    _note(f"{run.name} of {args.workdir}, step {run.step:,}, {run.model.vocab_size:,} tokens")
    result: dict = {"workdir": args.workdir, "step": run.step, "model": run.name}
    out = sys.stderr if args.json else sys.stdout
    if args.prompt is not None:
        result |= {"prompt": args.prompt, **_written(args, run)}
        for blank in result.get("probable", ()):
            print("  ".join(f"{each['word']} {each['probability']:.3f}" for each in blank), file=out)
        for each in result["samples"]:
            print(f"{each['text']}  ({each['log_probability']:.2f})", file=out)
    if args.neighbours:
        words = [word.strip() for word in args.neighbours.split(",") if word.strip()]
        found = word_neighbours(run.params["token_embedding"], run.tokenizer, words, count=args.count)
        result["neighbours"] = {
            word: [{"word": other, "cosine": cosine} for other, cosine in near] for word, near in found.items()
        }
        for word, near in found.items():
            print(f"{word}: {'  '.join(f'{other} {cosine:.3f}' for other, cosine in near)}", file=out)
    program.finish(result, as_json=args.json)
    return 0


def _written(args, run) -> dict:
    """The samples with the logarithm of their probability, and at blanks the most probable words."""
    import jax
    import jax.numpy as jnp

    from vision.analysis.sampling import make_sampler, probable_words, prompt_of

    if not run.writes:
        raise UserError(
            f"{args.workdir} was trained by {run.objective or 'another library'} and predicts no tokens; "
            "runs of next_token and masked_token do, and --neighbours works here"
        )
    prompt = prompt_of(args.prompt, run.tokenizer, length=run.model.length, causal=run.model.causal)
    try:
        sample = make_sampler(run.model, temperature=args.temperature, top_k=args.top_k)
    except ValueError as error:
        raise UserError(f"--{error}") from error
    # Sample i is the same however many there are.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(args.seed), jnp.arange(args.samples))
    tokens, blank = (jnp.broadcast_to(each, (args.samples, len(each))) for each in prompt)
    texts, log_odds = jax.device_get(sample(run.params, tokens, blank, keys))
    samples = [
        {"text": run.tokenizer.decode(text), "log_probability": float(odds)}
        for text, odds in zip(texts, log_odds, strict=True)
    ]
    if run.model.causal:
        return {"samples": samples}
    found = probable_words(run.model, run.params, prompt, run.tokenizer, count=args.count)
    probable = [[{"word": word, "probability": odds} for word, odds in blank] for blank in found]
    return {"samples": samples, "probable": probable}


def _note(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    program.run(main)
