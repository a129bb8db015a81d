"""The art of training, visible: optimizers, initialisations, depth and width, what narrows the generalisation gap.

  python -m experiments.optimizers
  python -m experiments.optimizers --part surfaces initialisation
  python -m experiments.optimizers --part regularisation --dataset fashion_mnist --seeds 5

Paths of gradient descent and its relatives over two surfaces and on a small network; what initialisations do to
signals in a deep network; depth against width at equal parameters; regularisation on few examples. Writes
optimizers.json and optimizers.html; a part that is done is not computed again.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from vision import program
from vision.errors import UserError, did_you_mean

PARTS = ("surfaces", "network", "initialisation", "depth_width", "regularisation")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, computes, writes, prints."""
    parser = program.Parser(__doc__)
    parser.add_argument("--part", nargs="+", default=PARTS, metavar="P", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--dataset", default="digits", help="what networks learn, with train and test (default: digits)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each row of a table (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of paths, and of single trainings (default: 0)")
    parser.add_argument("--workdir", type=Path, default=Path("runs/optimizers"), help="folder for the results")
    args = parser.read(argv)
    for name in args.part:
        if name not in PARTS:
            raise UserError(f"--part: unknown {name!r}{did_you_mean(name, PARTS)}; known: {', '.join(PARTS)}")
    if args.seeds < 1 or args.seed < 0:
        raise UserError(f"--seeds must be 1 or more and --seed 0 or more, got {args.seeds} and {args.seed}")
    program.prepare_jax()

    from vision.analysis import page
    from vision.studies import parts
    from vision.studies.optimization import data, depth_width, initialisation, network, paths, regularisation, report

    note = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    chosen = dict.fromkeys(args.part)
    images = cache(partial(data.read, args.dataset))
    if chosen.keys() & {"network", "initialisation", "depth_width"}:
        images()  # a data set that is not there is told before anything long begins
    one, several = {"seed": args.seed, "dataset": args.dataset}, {"seeds": args.seeds, "dataset": args.dataset}
    jobs: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
        "surfaces": ({"seed": args.seed}, lambda: paths.run(seed=args.seed, note=note)),
        "network": (one, lambda: {"dataset": args.dataset, **network.run(images(), seed=args.seed, note=note)}),
        "initialisation": (
            one,
            lambda: initialisation.run(images().images, images().labels, seed=args.seed, note=note),
        ),
        "depth_width": (several, lambda: depth_width.run(images(), seeds=args.seeds, note=note)),
        "regularisation": (
            several,
            lambda: regularisation.run(args.dataset, seeds=args.seeds, workdir=args.workdir / "runs", note=note),
        ),
    }
    results = {
        name: parts.done_or_new(args.workdir / "parts", name, jobs[name][0], jobs[name][1], note=note)
        for name in chosen
    }
    path = page.save(args.workdir / "optimizers.html", report.render(results))
    result = {"workdir": str(args.workdir), "dataset": args.dataset, "parts": results}
    parts.write(args.workdir / "optimizers.json", result)
    note(f"look at {path}")
    program.finish(result, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
