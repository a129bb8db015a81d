"""The command line of programs that take a model's weights: which, of which model, and what they expect of images."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vision import program
from vision.errors import UserError

if TYPE_CHECKING:
    from vision.training.pretrained import Pretrained


def add_weights(parser: program.Parser) -> None:
    """Adds ``--weights`` and what belongs to it."""
    parser.add_argument("--weights", metavar="PATH", help="folder of a run or a conversion, weight file or Hub name")
    parser.add_argument("--model", help="variant such as vit/B16, where the weights do not say it")
    add_model_options(parser)
    add_preprocessing(parser)
    parser.add_argument("--image_size", type=int, help="side of the images (default: as in training)")
    parser.add_argument("--naming", help="whose names a file uses, such as torchvision/resnet (default: found out)")


def add_model_options(parser: program.Parser) -> None:
    """Adds ``--option``."""
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the model")


def add_preprocessing(parser: program.Parser) -> None:
    """Adds what images are prepared with, over what the weights say."""
    parser.add_argument("--mean", type=float, nargs="+", help="of images scaled to 0..1, per channel")
    parser.add_argument("--std", type=float, nargs="+", help="likewise")
    parser.add_argument("--crop_ratio", type=float, help="side of the central crop over the resized shorter side")
    parser.add_argument("--interpolation", help="filter of the resizing, such as bicubic")


def options_of(words: Sequence[str], flag: str = "--option", owner: str = "the model") -> dict[str, Any]:
    """Returns options that were written ``key=value``.

    Args:
      words: the options.
      flag: behind which they stand.
      owner: whose options they are.

    Raises:
      UserError: one is not.
    """
    from vision.config.loading import literal

    options = {}
    for word in words:
        key, separator, text = word.partition("=")
        if not separator or not key:
            raise UserError(f"{flag} {word}: write an option of {owner} as key=value")
        options[key] = literal(text)
    return options


def given_preprocessing(args: Namespace) -> dict[str, Any]:
    """Returns what was given of :func:`add_preprocessing`, as arguments of ``preprocessing.override``."""
    given = {name: getattr(args, name) for name in ("mean", "std", "crop_ratio", "interpolation")}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def pretrained_of(args: Namespace) -> "Pretrained":
    """Returns the model that ``--weights`` and its like ask for.

    Raises:
      UserError: see :func:`vision.training.pretrained.load_pretrained`.
    """
    from vision.training.pretrained import load_pretrained

    return load_pretrained(
        args.weights,
        model=args.model,
        options=options_of(args.option),
        step=args.step,
        image_size=args.image_size,
        given=given_preprocessing(args),
        naming=args.naming,
        note=lambda text: print(text, file=sys.stderr),
    )
