"""Draws what a network sees and has learned: PNGs and one page that opens offline.

  python -m experiments.look --workdir runs/vit --images FOLDER
  python -m experiments.look --workdir runs/vit --images FOLDER --pictures attention,pca --block 3
  python -m experiments.look --weights dino.safetensors --model vit/S16_dino --images FOLDER

Pictures: attention (of each head), pca (of patch features), tsne (of embeddings), positions (their similarity),
distance (of attention, layer by layer), mixing (a Mixer's token weights), neighbours (of each image in the training
data), filters (of the first layer), activations (the examples that excite a feature map most, cut to the receptive
field, and what in them does), saliency (of the scores of classes). Where a network has no such thing, a line says why.
Without --images a few examples of the run's evaluation are taken. An image that does not decode is named and passed
over.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError
from vision.weights import add_weights, pretrained_of


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, draws, writes the page."""
    parser = program.Parser(__doc__)
    parser.add_argument("--workdir", help="folder of a run")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    add_weights(parser)
    parser.add_argument("--images", nargs="+", metavar="PATH", help="folders and files")
    parser.add_argument("--count", type=int, default=8, help="how many images (default: 8)")
    parser.add_argument("--pictures", default="", metavar="A,B", help="which pictures (default: all)")
    parser.add_argument("--block", type=int, help="whose attention is drawn (default: the last)")
    parser.add_argument("--mass", type=float, default=0.6, help="share of attention that its mask keeps (default: 0.6)")
    parser.add_argument(
        "--foreground", type=float, default=0.0, help="threshold on the first component, in deviations (default: 0)"
    )
    parser.add_argument("--bank", type=int, help="training examples for neighbours (default: 100 to 2000, by cost)")
    parser.add_argument("--points", type=int, help="examples on the t-SNE plane (default: 100 to 1000, by cost)")
    parser.add_argument("--layer", default="", metavar="A,B", help="whose maps are shown (default: three blocks)")
    parser.add_argument("--maps", type=int, default=8, help="how many maps of each (default: 8)")
    parser.add_argument("--examples", type=int, help="the strongest are found among (default: 100 to 10000, by cost)")
    parser.add_argument(
        "--rule", choices=("guided", "deconvnet", "gradient"), default="guided", help="back through ReLUs"
    )
    parser.add_argument("--smooth", type=int, help="noisy copies for saliency, 0 for none (default: 4 to 16, by cost)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the pictures (default: look, in the run's)")
    args = parser.read(argv)
    if (args.workdir is None) == (args.weights is None):
        raise UserError("give either --workdir or --weights")
    for name in ("count", "bank", "points", "maps", "examples"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(args, name)}")
    if args.smooth is not None and args.smooth < 0:
        raise UserError(f"--smooth must not be negative, got {args.smooth}")
    if not 0 < args.mass <= 1:
        raise UserError(f"--mass must be in (0, 1], got {args.mass}")
    program.prepare_jax()
    from vision.analysis.gallery import Picture, write_page
    from vision.studies.look import Look, check_names, draw
    from vision.studies.look_data import RunData, choose_images, config_of_run, host_part_of

    def note(text: str) -> None:
        print(text, file=sys.stderr)

    names = check_names([name for name in args.pictures.split(",") if name])
    args.weights = args.weights or args.workdir
    config = config_of_run(args.weights)
    pretrained = pretrained_of(args)
    part = host_part_of(pretrained)
    data = RunData(config, part, note) if config else None
    sample, broken = choose_images(args.images, data, part, most=args.count, note=note)
    for path, reason in broken:
        note(f"{path}: {reason}")
    out = args.out or Path(args.workdir or ".") / "look"
    options = {"block": args.block, "keep": args.mass, "threshold": args.foreground}
    options |= {name: getattr(args, name) for name in ("bank", "points", "maps", "examples", "rule", "smooth")}
    layers = tuple(name for name in args.layer.split(",") if name)
    look = Look(pretrained, sample, data, out, **options, layers=layers)
    pictures = draw(look, names)
    for name, each in pictures.items():
        note(f"{name}: {', '.join(map(str, each.files)) if isinstance(each, Picture) else each}")
    height, width, channels = pretrained.image_shape
    lines = [f"{pretrained.name}, images of {height}x{width}x{channels}", f"Pictures over images show {sample.where}."]
    page = write_page(out / "look.html", f"What {args.weights} sees", lines, pictures)
    note(f"page: {page}")
    drawn = {name: each for name, each in pictures.items() if isinstance(each, Picture)}
    result = {
        "weights": args.weights,
        "model": pretrained.name,
        "images": list(sample.names),
        "broken": [str(path) for path, _ in broken],
        "pictures": {name: {"files": [str(f) for f in each.files], **each.numbers} for name, each in drawn.items()},
        "missing": {name: why for name, why in pictures.items() if name not in drawn},
        "page": str(page),
    }
    program.finish(result, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
