"""Shows the data of a config: sizes, classes, mean and std, speed, fingerprint, and pictures of what a model is given.

The contact sheet has one row for each example of the first batches, augmented as in training. With --augmentations
a sheet of every augmentation there is, over examples of these data, is written to a folder.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.config.loading import load


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, looks at the data, prints and draws."""
    parser = program.Parser(__doc__, config=True)
    parser.add_argument("--out", type=Path, help="the contact sheet (default: runs/inspect/<name of the config>.png)")
    parser.add_argument("--batches", type=int, default=20, help="batches that the speed is measured over (default: 20)")
    parser.add_argument("--augmentations", type=Path, metavar="DIR", help="also write a sheet of every augmentation")
    args = parser.read(argv)
    if args.batches < 1:
        parser.error(f"--batches: must be at least 1, got {args.batches}")
    config = load(args.config, args.overrides)
    out = args.out or Path("runs") / "inspect" / f"{Path(args.config.partition(':')[0]).stem}.png"
    program.prepare_jax()
    from vision.training.inspect import draw_augmentations, inspect, look
    from vision.training.processes import start_jax

    start_jax()
    data = look(config)
    result, lines = inspect(data, out, batches=args.batches)
    print("\n".join(lines))
    if args.augmentations:
        names = draw_augmentations(data, args.augmentations)
        print(f"{'sheets':<13}{len(names)} augmentations in {args.augmentations}", file=sys.stderr)
        result["augmentations"] = names
    program.finish(result, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
