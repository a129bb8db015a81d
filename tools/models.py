"""Lists the models: the images they are built for, parameters with and without the head, and FLOPs of a prediction.

Patterns such as 'vit/*' 'resnet/50' choose among them. A model stands there at its published image size and number of
classes unless others are asked for. FLOPs are those of one image forwards, two for each multiplication with its
addition in convolutions and matrix products, as papers count them (some call the half of it FLOPs); everything else
is left out. Nothing is computed: all numbers come from shapes.
"""

import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from vision import program
from vision.errors import ConfigError, UserError, did_you_mean

_HEADS = ("head", "distillation_head")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and prints the table."""
    parser = program.Parser(__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"], metavar="PATTERN", help="names (default: all models)")
    parser.add_argument("--num_classes", type=int, metavar="N", help="size of the output; 0 for no head")
    parser.add_argument("--image_size", type=int, metavar="S", help="height and width of the images in pixels")
    parser.add_argument("--no_flops", action="store_true", help="leave the FLOPs out, which saves time")
    args = parser.read(argv)
    if args.num_classes is not None and args.num_classes < 0:
        parser.error(f"--num_classes: must not be negative, got {args.num_classes}")
    if args.image_size is not None and args.image_size < 1:
        parser.error(f"--image_size: must be positive, got {args.image_size}")
    program.prepare_jax()
    from vision.models import VARIANTS

    rows, refused = [], []
    for name in matching(args.patterns, VARIANTS):
        try:
            rows.append(
                describe(name, num_classes=args.num_classes, image_size=args.image_size, flops=not args.no_flops)
            )
        except ConfigError as error:
            refused.append(error)
    if not rows:
        raise refused[0]
    print(_table(rows))
    for reason in refused:
        print(f"left out: {reason}", file=sys.stderr)
    program.finish({"models": rows}, as_json=args.json)
    return 0


def matching(patterns: Sequence[str], names: Sequence[str] | dict[str, Any]) -> list[str]:
    """Returns the names that match any of the patterns, each once and in their own order.

    Raises:
      UserError: a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"no model matches {pattern!r}{did_you_mean(pattern, names)}; without a pattern all are listed"
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def describe(
    name: str, *, num_classes: int | None = None, image_size: int | None = None, flops: bool = True
) -> dict[str, Any]:
    """Returns a row of the table.

    Args:
      name: of a registered variant.
      num_classes: size of the output, 0 for no head; None for the published one.
      image_size: side of the images in pixels; None for the published one.
      flops: whether they are counted.

    Raises:
      ConfigError: the model does not take this size or number of classes.
    """
    import jax
    import jax.numpy as jnp

    from vision import models
    from vision.models.cost import multiply_adds
    from vision.models.platform import compiled_for

    variant = models.VARIANTS[name]
    height, width, channels = variant.image_shape
    shape = (image_size or height, image_size or width, channels)
    classes = variant.num_classes if num_classes is None else num_classes
    try:
        model = models.build(name, num_classes=classes, image_shape=shape)
        images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        # Drawing parameters multiplies no matrices, so that what is counted here is the prediction it is traced with.
        with compiled_for("tpu"):  # where convolutions stay convolutions, as papers count them
            init = jax.make_jaxpr(lambda key: model.init(key, images), return_shape=True)
            jaxpr, (params, _) = init(jax.random.key(0))
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error
    sizes = {layer: sum(leaf.size for leaf in jax.tree.leaves(tree)) for layer, tree in params.items()}
    row = {
        "name": name,
        "image_shape": list(shape),
        "num_classes": classes,
        "parameters": sum(sizes.values()),
        "backbone_parameters": sum(size for layer, size in sizes.items() if layer not in _HEADS),
    }
    return row | ({"flops": 2 * multiply_adds(jaxpr)} if flops else {})


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [("model", "input", "classes", "parameters", "backbone", "GFLOPs")]
    for row in rows:
        size = "x".join(map(str, row["image_shape"]))
        counts = (f"{row['parameters']:,}", f"{row['backbone_parameters']:,}")
        cost = f"{row['flops'] / 1e9:,.3f}" if "flops" in row else ""
        lines.append((row["name"], size, str(row["num_classes"] or "none"), *counts, cost))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


if __name__ == "__main__":
    program.run(main)
