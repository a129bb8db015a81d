"""Evaluates a saved run by its own or other evaluators, or any weights on any data.

  python -m experiments.evaluate --workdir runs/quickstart --split test
  python -m experiments.evaluate --workdir runs/dino --evaluator knn k=10,20,100,200 --evaluator linear_probe steps=2500
  python -m experiments.evaluate --weights runs/vit_b16 --data imagenet_v2
  python -m experiments.evaluate --weights resnet50.safetensors --model resnet/50 --data imagenet2012 --split validation

A run is evaluated on its own splits or on another, at its newest or another checkpoint, by the evaluators of its config
or, with --evaluator, by any others: knn, linear_probe, few_shot and retrieval judge the features of any model. Features
are made once for all of them, and kept in the run's folder features/, which may be deleted. Weights are a folder of a
run or of tools.convert_weights, a weight file or a Hub name of another library; images are prepared as these expect. On
imagenet2012_real every label of an image is right, on imagenet_a and imagenet_r only their 200 classes compete.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vision import program
from vision.errors import ConfigError, UserError
from vision.weights import add_weights, options_of, pretrained_of


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, restores, evaluates, prints."""
    parser = program.Parser(__doc__)
    parser.add_argument("--workdir", help="folder of the run")
    parser.add_argument("--split", help="evaluate on this split, for example test or 'train[:10%%]'")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    add_weights(parser)
    parser.add_argument("--data", help="with --weights: data set, such as imagenet2012 or folder:PATH")
    parser.add_argument("--data_dir", help="with --weights: folder of prepared TFDS data sets")
    parser.add_argument("--label", help="with --weights: the feature that is the label")
    parser.add_argument("--tokenizer", metavar="FILE", help="with --weights: of a pair that was converted without one")
    parser.add_argument(
        "--evaluator",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "KEY=VALUE"),
        help="an evaluator with its options, several times for several (default: the run's own, or as the data ask)",
    )
    parser.add_argument("--batch_size", type=int, help="images at a time (default: 512 of a run, 64 of weights)")
    args = parser.read(argv)
    if (args.workdir is None) == (args.weights is None):
        raise UserError("give either --workdir, or --weights and --data")
    if args.workdir and args.batch_size is not None and not args.evaluator:
        raise UserError("--batch_size: of a run it goes with --evaluator; the config's own evaluators have theirs")
    if args.workdir and args.tokenizer:
        raise UserError("--tokenizer goes with --weights; a run has the tokenizer that it was trained with")
    program.prepare_jax()
    from vision.training.processes import check_alone

    check_alone("experiments.evaluate")
    result = of_run(args) if args.workdir else of_weights(args)
    program.finish(result, as_json=args.json)
    return 0


def of_run(args: Namespace) -> dict:
    """The evaluators of a run's config, or others."""
    from vision.training import fit

    if (Path(args.workdir) / fit.FITTED).is_file():
        if args.evaluator:
            raise UserError(f"--evaluator: {args.workdir} holds a fitted estimator, which has no features to judge")
        fitted = fit.evaluate(args.workdir, split=args.split)
        for name, values in fitted.items():
            if isinstance(values, dict):
                _tell(f"{name} on {args.split or 'its split'}", values)
        return fitted
    from vision.config.calling import call
    from vision.config.loading import plain
    from vision.data.tokenizer import Tokenizer
    from vision.training.assemble import assemble
    from vision.training.checkpoint import open_existing, pick_step
    from vision.training.evaluators import make_evaluators
    from vision.training.kept_features import files_of
    from vision.training.processes import start_jax
    from vision.training.schema import resolve
    from vision.training.sharding import make_mesh

    start_jax()
    checkpoints = open_existing(args.workdir)
    step = pick_step(checkpoints, args.step)
    saved = checkpoints.metadata(step)
    if "config" not in saved:
        raise UserError(f"{args.workdir} holds converted weights, no run: give them as --weights, with --data")
    config = resolve(plain(saved["config"]))
    try:
        call(make_mesh, config["mesh"], "config.mesh")
    except ConfigError as error:  # a run of eight devices is evaluated on one too
        print(f"{error}; data parallel instead", file=sys.stderr)
        config = resolve({**config, "mesh": {}, "sharding": ()})
    if args.evaluator:  # what ranks checkpoints by the run's own evaluators ranks none here
        config = resolve({**config, "evals": sections_of(args), "checkpoint": {}, "early_stopping": None})
    if not config["evals"]:
        raise UserError(f"{args.workdir} was trained without evaluations: its config.evals is empty; give --evaluator")
    words = Tokenizer.from_json(saved["tokenizer"]) if saved.get("tokenizer") else None
    experiment = assemble(config, tokenizer=words)
    state, _ = checkpoints.restore(experiment.abstract_state, step)
    files = files_of(args.workdir, step, saved, config, _note)
    result: dict = {"workdir": str(Path(args.workdir)), "step": step}
    for name, evaluator in make_evaluators(experiment, split=args.split, files=files).items():
        values = dict(evaluator.run(state))
        result[name] = {metric: value for metric, value in values.items() if isinstance(value, float)}
        split = args.split or config["evals"][name]["split"] or "the held-out split"
        _tell(f"step {step}  {name} on {split}", result[name])
    return result


def of_weights(args: Namespace) -> dict:
    """Any weights on any data."""
    from vision.training.pretrained import evaluate

    if args.data is None:
        raise UserError("--weights needs --data: a data set to evaluate on")
    pretrained = pretrained_of(args)
    result = evaluate(
        pretrained,
        args.data,
        split=args.split,
        data_dir=args.data_dir,
        label=args.label,
        evaluators=sections_of(args),
        tokenizer=args.tokenizer,
        batch_size=args.batch_size or 64,
        note=_note,
    )
    for evaluator, values in result.items():
        _tell(f"{evaluator} on {args.data}", values)
    return {"weights": args.weights, "model": pretrained.name, "data": args.data, **result}


def sections_of(args: Namespace) -> dict[str, dict[str, Any]]:
    """Returns a section of a config for each ``--evaluator``, by its name; ``name_2`` where it comes again."""
    sections: dict[str, dict[str, Any]] = {}
    names = [name for name, *_ in args.evaluator]
    for position, (name, *words) in enumerate(args.evaluator):
        earlier = names[:position].count(name)
        size = {} if args.batch_size is None else {"batch_size": args.batch_size}
        options = options_of(words, f"--evaluator {name}", "the evaluator")
        sections[name + (f"_{earlier + 1}" if earlier else "")] = {"name": name, **size, **options}
    return sections


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _tell(what: str, values: dict[str, float]) -> None:
    print(f"{what}: {'  '.join(f'{metric} {value:.4f}' for metric, value in values.items())}", file=sys.stderr)


if __name__ == "__main__":
    program.run(main)
