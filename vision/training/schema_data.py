"""What a config may say of the data that are learned from."""

from collections.abc import Mapping
from typing import Any, Literal

from vision.config.calling import fill, fill_named
from vision.config.duration import Duration
from vision.data import augment
from vision.data.augment.mix import MIXES
from vision.data.decode import Decoder
from vision.data.framing import CROPS, Interpolation
from vision.data.host import OnError
from vision.data.pipeline import Residency
from vision.errors import ConfigError

Section = Mapping[str, Any]


def data_section(
    *,
    name: str,
    split: str = "train",
    data_dir: str | None = None,
    label: str | None = None,
    classes: tuple[int | str, ...] | None = None,
    on_error: OnError = "error",
    image_size: int | tuple[int, int] | None = None,
    eval_image_size: int | tuple[int, int] | None = None,
    channels: Literal[1, 3] | None = None,
    crop: Section = {"name": "center"},
    eval_crop: Section = {"name": "center"},
    decoder: Decoder = "opencv",
    interpolation: Interpolation = "bilinear",
    residency: Residency = "auto",
    workers: int = 0,
    balance: Literal["class"] | None = None,
    repeats: int = 1,
    augment: tuple[Section, ...] = (),
    views: Section | None = None,
    tokens: Section | None = None,
    mix: Section | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    progressive: tuple[tuple[int, Duration], ...] = (),
) -> None:
    """What is trained on, and what is done to the images.

    Args:
      name: see :class:`vision.data.sources.Opener`.
      split: such as ``train`` or ``train[:90%]``.
      data_dir: folder of prepared TFDS data sets.
      label: the TFDS feature that is the label, where it is not the usual one.
      classes: numbers or names of the only classes there are, numbered anew in this order; None for all.
      on_error: what to do about images that cannot be used: stop, or pass over and count.
      image_size: side, or (height, width), that the host brings images to; None for their own, where they share one.
      eval_image_size: likewise in evaluations, where it differs, as views cut from larger images may be smaller.
      channels: 1 for grey, 3 for colour; None for what the images have.
      crop: the part of an image that the host takes in training, see :data:`vision.data.framing.CROPS`.
      eval_crop: likewise in evaluations.
      decoder: library that decodes and resizes.
      interpolation: filter of the resizing.
      residency: where the images live, see :func:`vision.data.pipeline.make_pipeline`.
      workers: processes that decode on the host; 0 for threads.
      balance: ``class`` draws every class equally often.
      repeats: how often each example comes in a row, every time augmented anew.
      augment: augmentations on the device, one after another.
      views: name -> chains of augmentations, each of which makes one more view of the image.
      tokens: makes tokens of captions, see :func:`tokens_section`.
      mix: joins images and labels of a batch, see :data:`vision.data.augment.mix.MIXES`.
      mean: subtracted, per channel, from images scaled to [0, 1].
      std: divided by, likewise.
      progressive: ``(image size, duration)`` of stages at the start of training whose images are smaller, one after
        another, each resized by the device; then they have their full size. The model must take any size.
    """


def tokens_section(
    *, tokenizer: str | None = None, vocab_size: int = 1000, length: int = 77, shuffled: bool = False
) -> None:
    """How captions become tokens.

    Args:
      tokenizer: file of CLIP's vocabulary, or of tools.train_tokenizer; None learns one from the training captions.
      vocab_size: of one that is learned.
      length: tokens of a caption, the first and the last among them; longer ones are cut.
      shuffled: every training image gets the captions of another: the control of what captions are worth.
    """


def resolve_data(section: Section, path: str) -> dict[str, Any]:
    """Returns the section complete with every default.

    Raises:
      ConfigError: naming the key, where anything in it is unknown, missing, of a wrong type or not allowed.
    """
    full = fill(data_section, section, path)
    full["augment"] = augment.resolve(full["augment"], f"{path}.augment")
    for key in ("crop", "eval_crop"):
        full[key] = fill_named(CROPS, full[key], f"{path}.{key}", kind="crop")
    if full["views"] is not None:
        full["views"] = augment.resolve_views(full["views"], f"{path}.views")
    if full["tokens"] is not None:
        full["tokens"] = fill(tokens_section, full["tokens"], f"{path}.tokens")
    if full["mix"] is not None:
        full["mix"] = fill_named(MIXES, full["mix"], f"{path}.mix", kind="mix", provided=("distance",))
    sizes = {
        key: full[key] if isinstance(full[key], tuple) else (full[key],) for key in ("image_size", "eval_image_size")
    }
    for key, values in (*sizes.items(), ("repeats", (full["repeats"],)), ("workers", (full["workers"] + 1,))):
        if any(value is not None and value < 1 for value in values):
            raise ConfigError(f"{path}.{key}: must be >= {0 if key == 'workers' else 1}, got {full[key]}")
    for position, (size, _) in enumerate(full["progressive"]):
        if size < 1:
            raise ConfigError(f"{path}.progressive[{position}]: an image size must be >= 1, got {size}")
    if full["progressive"] and full["views"] is not None:
        raise ConfigError(f"{path}.progressive: not together with views, which have sizes of their own")
    return full
