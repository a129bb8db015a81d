"""Recognition without learning, where it works and where it fails: one page with pictures and rates.

  python -m experiments.without_learning
  python -m experiments.without_learning --data folder:photographs --pairs 50

Lines and circles by the Hough transform: clean, drawn by a shaky hand, among clutter. This very object by SIFT
keypoints, Lowe's ratio test and a RANSAC homography: in another view, and in an image of another object. Needs no data;
--data adds pairs from labelled images of one's own. Writes without_learning.json and without_learning.html.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, measures, writes, prints."""
    parser = program.Parser(__doc__)
    parser.add_argument("--data", help="labelled images besides, such as folder:PATH or cifar10")
    parser.add_argument("--data_dir", help="folder of prepared TFDS data sets")
    parser.add_argument("--pairs", type=int, default=24, help="pairs of images for each view (default: 24)")
    parser.add_argument("--pictures", type=int, default=40, help="drawn pictures of each kind (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
    parser.add_argument("--workdir", type=Path, default=Path("runs/without_learning"), help="folder for the results")
    args = parser.read(argv)
    for name, least in (("pairs", 1), ("pictures", 1), ("seed", 0)):
        if getattr(args, name) < least:
            raise UserError(f"--{name}: must be {least} or more, got {getattr(args, name)}")

    from vision.analysis import page
    from vision.data.sources import Opener
    from vision.studies import parts, without_learning

    source = Opener(args.data, args.data_dir)(None) if args.data else None
    note = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    options = {"pairs": args.pairs, "pictures": args.pictures}
    result, text = without_learning.run(args.seed, **options, data=source, name=args.data or "", note=note)
    result = {"workdir": str(args.workdir), **result}
    parts.write(args.workdir / "without_learning.json", result)
    path = page.save(args.workdir / "without_learning.html", text)
    for kind, views in result["matching"].items():
        for view, rate in views.items():
            note(f"{kind}: {view}: found {rate['found']:.0%} of {rate['pairs']}, mean inliers {rate['inliers']:.1f}")
    note(f"look at {path}")
    program.finish(result, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
