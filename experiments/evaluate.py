"""Evaluates a saved run: its evaluators, on their own splits or on another, at its newest or another checkpoint."""

import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import ConfigError, UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, restores, evaluates, prints."""
    parser = program.Parser(__doc__)
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--split", help="evaluate on this split, for example test or 'train[:10%%]'")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    args = parser.read(argv)
    program.prepare_jax()
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
    config = resolve(plain(checkpoints.metadata(step)["config"]))
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
        shown = "  ".join(f"{metric} {value:.4f}" for metric, value in result[name].items())
        print(f"step {step}  {name} on {split}: {shown}", file=sys.stderr)
    program.finish(result, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
