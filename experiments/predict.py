"""Predicts the classes of images: the five most probable of each, and a page to look at.

  python -m experiments.predict --workdir runs/quickstart --images FOLDER
  python -m experiments.predict --weights resnet50.safetensors --model resnet/50 --images a.jpg --classes names.txt

Images are files, or folders that are searched with their subfolders. Each is prepared as the weights expect, and one
that does not decode is named and passed over. Names of classes come from the run, or from --classes, a line for each.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError
from vision.weights import add_weights, pretrained_of


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, predicts, prints and writes the page."""
    parser = program.Parser(__doc__)
    parser.add_argument("--workdir", help="folder of a run")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    add_weights(parser)
    parser.add_argument("--images", required=True, nargs="+", metavar="PATH", help="files and folders")
    parser.add_argument("--classes", type=Path, metavar="FILE", help="names of the classes, one on each line")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: predictions.html, in the run's folder)"
    )
    parser.add_argument("--top", type=int, default=5, help="how many classes of each image (default: 5)")
    parser.add_argument("--batch_size", type=int, default=32, help="images at a time (default: 32)")
    args = parser.read(argv)
    if (args.workdir is None) == (args.weights is None):
        raise UserError("give either --workdir or --weights")
    for name in ("top", "batch_size"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(args, name)}")
    program.prepare_jax()
    from vision.analysis.predictions import write_page
    from vision.training.predict import class_names_of, find_images, predict

    args.weights = args.weights or args.workdir
    paths = find_images(args.images)
    pretrained = pretrained_of(args)
    names = class_names_of(args.classes, args.weights, pretrained.model.module.num_classes)
    predictions, broken = predict(pretrained, paths, top=args.top, batch_size=args.batch_size)
    for path, reason in broken:
        print(f"{path}: {reason}", file=sys.stderr)
    if not predictions:
        raise UserError(f"none of {len(paths)} images decodes")
    shown: list[dict] = [
        {
            "image": str(each.path),
            "top": [
                {"class": names[k], "probability": p} for k, p in zip(each.classes, each.probabilities, strict=True)
            ],
        }
        for each in predictions
    ]
    for each in shown:
        words = ", ".join(f"{one['class']} {one['probability']:.3f}" for one in each["top"])
        print(f"{each['image']}: {words}", file=sys.stderr if args.json else sys.stdout)
    page = args.out or Path(args.workdir or ".") / "predictions.html"
    write_page(page, predictions, names, title=f"{pretrained.name}: {args.weights}")
    print(f"page: {page}", file=sys.stderr)
    result = {"weights": args.weights, "model": pretrained.name, "predictions": shown, "page": str(page)}
    program.finish({**result, "broken": [str(path) for path, _ in broken]}, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
