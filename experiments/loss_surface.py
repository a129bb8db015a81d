"""Draws the loss around trained networks along random directions, normalised filter by filter (Li et al. 2018).

  python -m experiments.loss_surface --workdir runs/plain56 runs/resnet56 --points 21 --span 1 --examples 1000
  python -m experiments.loss_surface --workdir runs/quickstart --dimensions 1 --split test

Several networks stand beside each other with the same colours and axes. Writes loss_surface.npz (distances; loss and
error of each run, second direction first), loss_surface.json, loss_surface.png and loss_surface.html. Rows of the grid
are written as they are measured, so that the same command goes on where it was stopped.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, measures each run, writes, prints."""
    parser = program.Parser(__doc__)
    parser.add_argument("--workdir", required=True, nargs="+", metavar="RUN", help="folders of runs")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest of each)")
    parser.add_argument("--points", type=int, default=21, help="along each direction, odd (default: 21)")
    parser.add_argument("--span", type=float, default=1.0, help="of the outermost point (default: 1)")
    parser.add_argument("--dimensions", type=int, choices=(1, 2), default=2, help="how many directions (default: 2)")
    parser.add_argument("--examples", type=int, default=1000, help="that the loss is of (default: 1000)")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="of each run's own data")
    parser.add_argument("--seed", type=int, default=0, help="of the directions (default: 0)")
    parser.add_argument("--direction", choices=("filter", "plain"), default="filter", help="normalised, or as drawn")
    parser.add_argument(
        "--statistics", choices=("run", "batch"), default="run", help="of batch normalisation (default: the run's)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: in the first run's)")
    args = parser.read(argv)
    if args.points < 3 or args.points % 2 == 0:
        raise UserError(f"--points must be odd and at least 3, so that the network is in the middle, got {args.points}")
    if args.span <= 0:
        raise UserError(f"--span must be above 0, got {args.span}")
    if args.examples < 1:
        raise UserError(f"--examples must be at least 1, got {args.examples}")
    if args.seed < 0:
        raise UserError(f"--seed must not be negative, got {args.seed}")
    names = [Path(workdir).resolve().name for workdir in args.workdir]
    if len(set(names)) < len(names):
        raise UserError("--workdir: two runs have the same name")
    program.prepare_jax()
    from vision.studies.loss_surface.measure import Grid
    from vision.studies.loss_surface.study import study

    grid = Grid(args.points, args.span, args.dimensions, args.seed, args.direction == "filter", args.statistics)
    result = study(
        dict(zip(names, args.workdir, strict=True)),
        grid,
        args.out or Path(args.workdir[0]) / "loss_surface",
        split=args.split,
        examples=args.examples,
        step=args.step,
        command=shlex.join(["python", "-m", "experiments.loss_surface", *(sys.argv[1:] if argv is None else argv)]),
        note=lambda text: print(text, file=sys.stderr, flush=True),
    )
    for run in result["runs"]:
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in run["summary"].items())
        print(f"{run['name']:24} {numbers}", file=sys.stderr if args.json else sys.stdout)
    program.finish(result, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
