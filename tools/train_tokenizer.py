"""Learns the vocabulary of a text model from captions, and says how many tokens they need.

Byte-pair encoding in the form of CLIP's: the pairs that come together most often in the captions of a split are
joined. The file is taken by configs, as config.data.tokens.tokenizer; without one, a training learns the same from its
own training split. --tokenizer FILE looks at a vocabulary that is there, such as CLIP's, with these captions.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vision import program
from vision.errors import UserError

_LONGEST_WORDS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, learns, prints and writes."""
    parser = program.Parser(__doc__)
    parser.add_argument("--data", required=True, metavar="NAME", help="as config.data.name: shapes, captions:FILE, ...")
    parser.add_argument("--data_dir", metavar="DIR", help="folder of prepared data sets (default: TFDS_DATA_DIR)")
    parser.add_argument("--split", default="train", help="whose captions are learned from (default: train)")
    parser.add_argument("--vocab_size", type=int, default=1000, help="ids, bytes among them (default: 1000)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the tokenizer (default: tokenizer.json)")
    parser.add_argument("--tokenizer", metavar="FILE", help="learn nothing, look at this one")
    args = parser.read(argv)
    if args.tokenizer and args.out:
        parser.error("--out: nothing is written where --tokenizer is only looked at")
    from vision.data.sources import Opener
    from vision.data.tokenizer import load, train
    from vision.data.tokens import captions_of

    tokenizer = load(args.tokenizer) if args.tokenizer else None
    source = Opener(args.data, args.data_dir)(args.split)
    if "caption" not in source.fields:
        raise UserError(f"{args.data} has no captions; captions:FILE reads a table of images and captions")
    captions = list(captions_of(source))
    out = None
    if tokenizer is None:
        try:
            tokenizer = train(captions, vocab_size=args.vocab_size)
        except ValueError as error:
            parser.error(f"--vocab_size: {error}")
        out = args.out or Path("tokenizer.json")
        _write(out, tokenizer.to_json())
    result, lines = _look(tokenizer, captions)
    if out and tokenizer.vocab_size < args.vocab_size:
        print(f"nothing more comes twice: {tokenizer.vocab_size:,} of {args.vocab_size:,} ids", file=sys.stderr)
    print("\n".join([*lines, *([f"{'file':<13}{out}"] if out else [])]))
    program.finish({**result, "file": str(out) if out else None}, as_json=args.json)
    return 0


def _look(tokenizer: Any, captions: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Returns what is to be said of a tokenizer and captions, for programs and for people."""
    import numpy as np

    from vision.data.byte_pairs import END_OF_WORD

    counts = np.array([len(tokenizer.tokens(caption)) + 2 for caption in captions])
    median, most, longest = int(np.median(counts)), int(np.ceil(np.quantile(counts, 0.99))), int(counts.max())
    whole = [
        (number, tokenizer.decode([number]))
        for number, symbol in enumerate(tokenizer.vocabulary[:-2])
        if symbol.endswith(END_OF_WORD)
    ]
    words = [word for _, word in sorted(whole, key=lambda each: (-len(each[1]), each[0]))[:_LONGEST_WORDS]]
    example = captions[0]
    ids = [tokenizer.start, *tokenizer.tokens(example), tokenizer.end]
    pieces = [tokenizer.decode([number]) for number in ids[1:-1]]
    result = {
        "vocab_size": tokenizer.vocab_size,
        "captions": len(captions),
        "tokens": {"median": median, "quantile_99": most, "longest": longest},
        "longest_words": words,
        "example": {"text": example, "ids": ids, "pieces": pieces},
        "fingerprint": tokenizer.fingerprint,
    }
    lines = [
        f"{'vocabulary':<13}{tokenizer.vocab_size:,} tokens, fingerprint {tokenizer.fingerprint}",
        f"{'captions':<13}{len(captions):,}",
        f"{'tokens':<13}median {median}, 99 % need at most {most}, the longest {longest}, start and end among them",
        f"{'long words':<13}{', '.join(words)}",
        f"{'example':<13}{example}",
        f"{'':<13}{' | '.join(pieces)}",
        f"{'':<13}{' '.join(map(str, ids))}",
    ]
    return result, lines


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    except OSError as error:
        raise UserError(f"--out: {path} cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    program.run(main)
