"""Compares settings of a config: a grid, a random or a Bayesian search, on a part of the training split.

  python -m experiments.sweep --config configs/quickstart.py --sweep configs/sweeps/quickstart_learning_rate.py

The folder is --workdir, by default runs/<name of the sweep>; the same command goes on where it stopped. Runs that
differ in seed, learning rate, schedule, weight decay or label smoothing alone are trained together in one program,
all others in processes of their own, each in a run's folder below trials/. What was found is in sweep.json and
sweep.html, with the command that trains the winner. The test data are not looked at, but once with --evaluate_test.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and sweeps."""
    parser = program.Parser(__doc__, config=True)
    parser.add_argument(
        "--sweep", required=True, metavar="FILE[:ARG]", help="sweep file, such as configs/sweeps/quickstart_search.py"
    )
    parser.add_argument("--workdir", help="folder of the sweep (default: runs/<name of the sweep>)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    parser.add_argument(
        "--evaluate_test", action="store_true", help="train the best on the whole training split, and evaluate it"
    )
    args = parser.read(argv)
    if args.jobs < 1:
        raise UserError(f"--jobs: must be >= 1, got {args.jobs}")
    program.prepare_jax()
    # This process and its children may compute on one accelerator, none of them takes all of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from vision.studies.sweep.drive import sweep
    from vision.studies.sweep.plan import make_plan

    workdir = Path(args.workdir or Path("runs") / Path(args.sweep.partition(":")[0]).stem)
    plan = make_plan(args.config, args.overrides, args.sweep)
    program.finish(sweep(plan, workdir, jobs=args.jobs, evaluate_test=args.evaluate_test), as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
