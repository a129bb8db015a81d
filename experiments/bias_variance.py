"""Where the error of a learner comes from: bias, variance and noise, and how many dimensions images have.

  python -m experiments.bias_variance
  python -m experiments.bias_variance --family polynomial neighbours --resamples 500
  python -m experiments.bias_variance --dataset digits fashion_mnist cifar10

Each family has a knob of complexity; every value of it is fitted to many training sets, and the expected squared error
is split into bias, variance and noise. Beside that, how distances concentrate in noise and in images, and the
intrinsic dimension of image sets. Writes bias_variance.json and bias_variance.html; a family that is done is not
computed again.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vision import program
from vision.errors import UserError, did_you_mean

FAMILIES = ("polynomial", "neighbours", "tree", "network", "random_features", "digits_tree")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, measures, writes, prints."""
    parser = program.Parser(__doc__)
    parser.add_argument("--family", nargs="+", default=FAMILIES, metavar="F", help=f"of {', '.join(FAMILIES)}")
    parser.add_argument("--resamples", type=int, default=50, help="training sets for each value (default: 50)")
    parser.add_argument("--dataset", nargs="+", default=["digits"], help="image sets to look at (default: digits)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
    parser.add_argument("--workdir", type=Path, default=Path("runs/bias_variance"), help="folder for the results")
    args = parser.read(argv)
    for name in args.family:
        if name not in FAMILIES:
            raise UserError(f"--family: unknown {name!r}{did_you_mean(name, FAMILIES)}; known: {', '.join(FAMILIES)}")
    if args.resamples < 2:
        raise UserError(f"--resamples: a variance needs at least 2 training sets, got {args.resamples}")
    if args.seed < 0:
        raise UserError(f"--seed: must be 0 or more, got {args.seed}")
    program.prepare_jax()

    from vision.analysis import page
    from vision.studies import parts
    from vision.studies.bias_variance import families, geometry, report

    note = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    # Image sets come first: one that is not there is told before anything long begins.
    looked_at = parts.done_or_new(
        args.workdir / "parts",
        "geometry",
        {"datasets": args.dataset, "seed": args.seed},
        lambda: geometry.run(args.dataset, seed=args.seed, note=note),
        note=note,
    )
    measured = {
        name: parts.done_or_new(
            args.workdir / "parts",
            name,
            {"resamples": args.resamples, "seed": args.seed},
            partial(families.run, name, resamples=args.resamples, seed=args.seed, note=note),
            note=note,
        )
        for name in dict.fromkeys(args.family)
    }
    text = report.render(measured, looked_at, resamples=args.resamples)
    path = page.save(args.workdir / "bias_variance.html", text)
    result = {"workdir": str(args.workdir), "resamples": args.resamples, "families": measured, **looked_at}
    parts.write(args.workdir / "bias_variance.json", result)
    for name, each in measured.items():
        row = report.best(each)
        note(
            f"{name}: smallest test error {row['test_error']:.3f} at {each['knob']} {row['knob']}: bias^2 "
            f"{row['bias2']:.3f} + variance {row['variance']:.3f} + noise {row['noise']:.3f}"
        )
    note(f"look at {path}")
    program.finish(result, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
