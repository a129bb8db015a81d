"""Writes the model of a run, or of converted weights, as one file that JAX runs without this code.

python -m tools.export_model runs/vit_b16 --out vit_b16.jax

The file needs JAX alone: run = jax.export.deserialize(bytearray(open("vit_b16.jax", "rb").read())), then
run.call(images) for uint8 images [batch, height, width, channels].
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, exports, tells how the file is used."""
    parser = program.Parser(__doc__)
    parser.add_argument("run", metavar="RUN", help="folder of a run or of converted weights")
    parser.add_argument("--out", required=True, help="the file")
    parser.add_argument("--function", choices=("predict", "encode"), default="predict", help="to logits or to features")
    parser.add_argument("--feature", help="which feature encode returns (default: pre_logits, what the head sees)")
    parser.add_argument("--input", choices=("uint8", "float32"), help="raw images, or normalised ones (default: raw)")
    parser.add_argument("--batch_size", type=int, help="the only one that the file takes (default: any)")
    parser.add_argument("--image_size", type=int, help="side of the images (default: as saved)")
    parser.add_argument("--platforms", nargs="+", default=["cpu", "cuda", "tpu"], help="where it shall run")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    parser.add_argument("--no_average", action="store_true", help="a run's parameters, not their moving average")
    args = parser.read(argv)
    if args.feature and args.function == "predict":
        parser.error("--feature is for --function encode")
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f"--batch_size must be at least 1, got {args.batch_size}")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # programs for other platforms are written here all the same
    program.prepare_jax()
    from vision.interop.export import export, predictor
    from vision.interop.saved import model_of, stated_shape
    from vision.training.checkpoint import load_arrays

    step, arrays, metadata = load_arrays(args.run, args.step)
    saved = model_of(
        arrays,
        metadata,
        image_shape=stated_shape(metadata, args.image_size),
        average=not args.no_average,
        source=args.run,
        note=_note,
    )
    kind = args.input or "uint8"
    if kind == "uint8" and saved.preprocessing is None:
        raise UserError(
            f"{args.run} does not say how raw images are normalised; export with --input float32 for images that are"
        )
    if args.function == "predict" and not getattr(saved.model.module, "num_classes", 0):
        raise UserError(f"{args.run}: {saved.name} has no head, so it predicts nothing; export with --function encode")
    feature = "output" if args.function == "predict" else args.feature or "pre_logits"
    preprocessing = saved.preprocessing if kind == "uint8" else None
    function = predictor(saved.model, saved.arrays, feature=feature, preprocessing=preprocessing)
    content = export(function, saved.image_shape, dtype=kind, batch_size=args.batch_size, platforms=args.platforms)
    try:
        Path(args.out).write_bytes(content)
    except OSError as error:
        raise UserError(f"--out {args.out}: {error.strerror or error}") from error
    images = f"[{args.batch_size or 'batch'}, {', '.join(map(str, saved.image_shape))}] of {kind}"
    _note(
        f"{saved.name} at step {step}: {args.function} of images {images}, {len(content) / 2**20:.1f} MiB, {args.out}"
    )
    program.finish(
        {"out": args.out, "step": step, "bytes": len(content), "function": args.function, "feature": feature},
        as_json=args.json,
    )
    return 0


def _note(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    program.run(main)
