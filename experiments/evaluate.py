"""Evaluates a saved run by its own evaluators, or any weights on any data.

  python -m experiments.evaluate --workdir runs/quickstart --split test
  python -m experiments.evaluate --weights runs/vit_b16 --data imagenet_v2
  python -m experiments.evaluate --weights resnet50.safetensors --model resnet/50 --data imagenet2012 --split validation

A run is evaluated on its own splits or on another, at its newest or another checkpoint. Weights are a folder of a run
or of tools.convert_weights, a weight file or a Hub name of another library; images are prepared as these expect. On
imagenet2012_real every label of an image is right, on imagenet_a and imagenet_r only their 200 classes compete.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import ConfigError, UserError
from vision.weights import add_weights, pretrained_of


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
    parser.add_argument("--evaluator", help="with --weights: classification or any_label (default: as the data ask)")
    parser.add_argument("--batch_size", type=int, default=64, help="with --weights: images at a time (default: 64)")
    args = parser.read(argv)
    if (args.workdir is None) == (args.weights is None):
        raise UserError("give either --workdir, or --weights and --data")
    program.prepare_jax()
    result = of_run(args) if args.workdir else of_weights(args)
    program.finish(result, as_json=args.json)
    return 0


def of_run(args: Namespace) -> dict:
    """The evaluators of a run's config."""
    from vision.training import fit

    if (Path(args.workdir) / fit.FITTED).is_file():
        fitted = fit.evaluate(args.workdir, split=args.split)
        for name, values in fitted.items():
            if isinstance(values, dict):
                _tell(f"{name} on {args.split or 'its split'}", values)
        return fitted
    from vision.config.calling import call
    from vision.config.loading import plain
    from vision.training.assemble import assemble, make_evaluators
    from vision.training.checkpoint import open_existing, pick_step
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
    if not config["evals"]:
        raise UserError(f"{args.workdir} was trained without evaluations: its config.evals is empty")
    experiment = assemble(config)
    state, _ = checkpoints.restore(experiment.abstract_state, step)
    result: dict = {"workdir": str(Path(args.workdir)), "step": step}
    for name, evaluator in make_evaluators(experiment, split=args.split).items():
        values = dict(evaluator.run(state))
        result[name] = {metric: value for metric, value in values.items() if isinstance(value, float)}
        split = args.split or config["evals"][name]["split"]
        _tell(f"step {step}  {name} on {split}", result[name])
    return result


def of_weights(args: Namespace) -> dict:
    """Any weights on any data."""
    from vision.training.pretrained import evaluate

    if args.data is None:
        raise UserError("--weights needs --data: a data set to evaluate on")
    pretrained = pretrained_of(args)
    evaluator, values = evaluate(
        pretrained,
        args.data,
        split=args.split,
        data_dir=args.data_dir,
        label=args.label,
        evaluator=args.evaluator,
        batch_size=args.batch_size,
        note=lambda text: print(text, file=sys.stderr),
    )
    _tell(f"{evaluator} on {args.data}", values)
    return {"weights": args.weights, "model": pretrained.name, "data": args.data, evaluator: values}


def _tell(what: str, values: dict[str, float]) -> None:
    print(f"{what}: {'  '.join(f'{metric} {value:.4f}' for metric, value in values.items())}", file=sys.stderr)


if __name__ == "__main__":
    program.run(main)
