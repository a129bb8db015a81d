"""Climbs the ladder of learning: every rung on the same data, measured the same way.

  python -m experiments.ladder --dataset digits
  python -m experiments.ladder --dataset cifar10 --size medium --max_time 90 --seeds 3 --only knn_l2 hog_svm lenet

A row is printed as soon as its rung is measured. The folder (--workdir, by default runs/ladder_DATASET_SIZE) holds
ladder.json, ladder.html, a page that opens offline, and a run for each rung and seed, which experiments.evaluate and
tools.report read. The same command goes on where it was stopped. With --max_time it stops by itself with exit code 75.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and climbs."""
    parser = program.Parser(__doc__)
    parser.add_argument("--dataset", required=True, help="digits, fashion_mnist or cifar10")
    parser.add_argument(
        "--size", default="small", help="small, medium or full: how much data, how long (default: small)"
    )
    parser.add_argument("--workdir", type=Path, help="folder of the ladder (default: runs/ladder_DATASET_SIZE)")
    parser.add_argument("--only", nargs="+", metavar="RUNG", help="these rungs only")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds of each rung (default: 1)")
    parser.add_argument("--max_time", type=float, metavar="MINUTES", help="stop after so many minutes")
    parser.add_argument("--data_dir", help="folder of prepared TFDS data sets (default: TFDS_DATA_DIR)")
    parser.add_argument(
        "--rung_minutes", type=float, default=240.0, help="what one fit may take, by its estimate (default: 240)"
    )
    parser.add_argument("--memory_gib", type=float, default=8.0, help="likewise, in GiB (default: 8)")
    parser.add_argument("--verbose", action="store_true", help="show what each rung says of itself")
    args = parser.read(argv)
    program.prepare_jax()
    from vision.studies.ladder.study import Options, study

    options = Options(
        dataset=args.dataset,
        size=args.size,
        workdir=args.workdir or Path("runs") / f"ladder_{args.dataset}_{args.size}",
        only=tuple(args.only or ()),
        seeds=args.seeds,
        minutes=args.max_time,
        data_dir=args.data_dir,
        verbose=args.verbose,
        rung_minutes=args.rung_minutes,
        memory_gib=args.memory_gib,
        command=shlex.join(["python", "-m", "experiments.ladder", *(sys.argv[1:] if argv is None else argv)]),
    )
    result, complete = study(options)
    program.finish(result, as_json=args.json)
    return 0 if complete else 75


if __name__ == "__main__":
    program.run(main)
