"""What is done to an image before imported weights see it: taken from the file's own words, never guessed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast, get_args

from vision.data.framing import Interpolation
from vision.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # Pillow's numbers


# Of these an old file's single number for the size is the shorter side, of the others both sides.
_BY_SHORTER_SIDE = ("ConvNext", "CLIP", "Bit", "LeViT", "MobileNet")


@dataclass(frozen=True)
class Preprocessing:
    """How an image is brought to the network.

    Attributes:
      mean: subtracted, per channel, from images scaled to [0, 1].
      std: divided by, likewise.
      crop_ratio: side of the central crop over the shorter side of the resized image, in (0, 1].
      interpolation: filter of the resizing.
      squash: the image is resized to a square whatever its shape, before the central crop.
      decoder: library that decodes and resizes; ``pillow`` is that of torchvision, timm and transformers.
      activation: of the network, held against the file's config where that names one; None where it has no choice.
      source: where this was found.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_ratio: float = 1.0
    interpolation: str = "bilinear"
    squash: bool = False
    decoder: Literal["opencv", "pillow"] = "pillow"
    activation: str | None = None
    source: str = "given"

    def __post_init__(self):
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"mean and std need one value per channel, got {self.mean} and {self.std}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")
        if not 0.0 < self.crop_ratio <= 1.0:
            raise ValueError(f"crop_ratio must be in (0, 1], got {self.crop_ratio}")
        if self.interpolation not in _RESAMPLE.values():
            known = ", ".join(_RESAMPLE.values())
            raise ValueError(f"interpolation must be one of {known}, got {self.interpolation!r}")

    @property
    def crop(self) -> dict[str, Any]:
        """The crop, as a section of a config names it; see :data:`vision.data.framing.CROPS`."""
        return {"name": "whole" if self.squash else "center", "fraction": self.crop_ratio}

    @property
    def filter(self) -> Interpolation:
        """The filter of the resizing.

        Raises:
          UserError: it is none that images can be resized with here.
        """
        if self.interpolation not in get_args(Interpolation):
            raise UserError(
                f"images cannot be resized by {self.interpolation!r} here; give --interpolation bilinear or bicubic"
            )
        return cast(Interpolation, self.interpolation)

    def as_json(self) -> dict[str, Any]:
        """Returns what :func:`from_json` reads."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}


def from_json(value: Mapping[str, Any]) -> Preprocessing:
    """Returns the preprocessing that was stored with a checkpoint."""
    return Preprocessing(**{**value, "mean": tuple(value["mean"]), "std": tuple(value["std"])})


CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALVES = (0.5, 0.5, 0.5)
# Evaluation of the first released weights: 256 by the shorter side, 224 from the middle. Used where a person names
# the library; torchvision's later weights (V2) are resized to 232, and ConvNeXt's differ by size. CLIP's images are
# resized by the shorter side and cropped to a square of it, SigLIP's are squashed.
LIBRARIES: dict[str, Preprocessing] = {
    **dict.fromkeys(
        ("torchvision/alexnet", "torchvision/vgg", "torchvision/resnet"),
        Preprocessing(IMAGENET_MEAN, IMAGENET_STD, 224 / 256, "bilinear"),
    ),
    **dict.fromkeys(
        ("dino/vit", "dino/resnet", "dinov2/vit"), Preprocessing(IMAGENET_MEAN, IMAGENET_STD, 224 / 256, "bicubic")
    ),
    **dict.fromkeys(
        ("openai/clip", "openai/clip_resnet", "open_clip/clip"), Preprocessing(CLIP_MEAN, CLIP_STD, 1.0, "bicubic")
    ),
    **dict.fromkeys(
        ("huggingface/siglip", "open_clip/siglip"), Preprocessing(_HALVES, _HALVES, 1.0, "bicubic", squash=True)
    ),
}


def find(
    config: Mapping[str, Any],
    preprocessor: Mapping[str, Any],
    naming: str | None,
    *,
    activation: str | None = None,
    source: str,
) -> Preprocessing | None:
    """Returns the preprocessing that a file's configs state, or its library's where all its weights share one.

    Args:
      config: ``config.json`` of timm or Hugging Face, or ``open_clip_config.json``, or empty.
      preprocessor: ``preprocessor_config.json`` of Hugging Face, or empty.
      naming: the library that a person named; names alone do not tell how images were prepared.
      activation: of the model.
      source: for messages.

    Returns:
      None where nothing says it: weights under timm's names were trained with several means.

    Raises:
      UserError: a config states what cannot be.
    """
    try:
        if isinstance(config.get("pretrained_cfg"), Mapping):
            return replace(_timm(config["pretrained_cfg"]), activation=activation)
        if "image_mean" in preprocessor and "image_std" in preprocessor:
            return replace(_hugging_face(preprocessor), activation=activation)
        if isinstance(config.get("preprocess_cfg"), Mapping):
            return replace(_open_clip(config["preprocess_cfg"]), activation=activation)
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise UserError(f"{source}: its preprocessing cannot be read: {error}") from error
    if naming in LIBRARIES:
        return replace(LIBRARIES[naming], activation=activation, source=f"the released weights of {naming}")
    return None


def override(found: Preprocessing | None, **given: Any) -> Preprocessing | None:
    """Returns ``found`` with what a person gave in its place.

    Raises:
      UserError: a value cannot be, or mean and std are given neither here nor there.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return found
    words = ", ".join(f"{name} given" for name in given)
    try:
        if found is not None:
            return replace(found, **given, source=f"{found.source}; {words}")
        return Preprocessing(**given, source=words)
    except TypeError as error:
        raise UserError("the file does not state its preprocessing: give both --mean and --std") from error
    except ValueError as error:
        raise UserError(f"preprocessing: {error}") from error


def _timm(config: Mapping[str, Any]) -> Preprocessing:
    return Preprocessing(
        _floats(config["mean"]),
        _floats(config["std"]),
        float(config.get("crop_pct") or 0.875),
        str(config.get("interpolation") or "bicubic"),
        squash=config.get("crop_mode") == "squash",
        source="pretrained_cfg of config.json",
    )


def _open_clip(config: Mapping[str, Any]) -> Preprocessing:
    return Preprocessing(
        _floats(config.get("mean") or CLIP_MEAN),
        _floats(config.get("std") or CLIP_STD),
        1.0,
        str(config.get("interpolation") or "bicubic"),
        squash=config.get("resize_mode") == "squash",
        source="preprocess_cfg of open_clip_config.json",
    )


def _hugging_face(preprocessor: Mapping[str, Any]) -> Preprocessing:
    """The shapes that ``size`` has taken over the years: a number, a height and width, a shortest edge."""
    if preprocessor.get("do_rescale", True) is False or not _is_255th(preprocessor.get("rescale_factor", 1 / 255)):
        raise ValueError("images are not scaled to 0..1")
    size, crop = preprocessor.get("size"), preprocessor.get("crop_size")
    short = size.get("shortest_edge") if isinstance(size, Mapping) else None
    kind = str(preprocessor.get("image_processor_type") or preprocessor.get("feature_extractor_type") or "")
    if isinstance(size, int) and (preprocessor.get("crop_pct") is not None or kind.startswith(_BY_SHORTER_SIDE)):
        short = size
    ratio, squash = 1.0, short is None
    if preprocessor.get("crop_pct") is not None and short is not None:
        # ConvNeXt's: images of 384 and more are squashed, smaller ones resized by 1 / crop_pct and cropped.
        squash = short >= 384
        ratio = 1.0 if squash else float(preprocessor["crop_pct"])
    elif preprocessor.get("do_center_crop") and crop is not None:
        ratio = _height(crop) / (short or _height(size))
        squash = short is None
    resample = preprocessor.get("resample", 2)
    normalised = preprocessor.get("do_normalize", True)
    mean, std = _floats(preprocessor["image_mean"]), _floats(preprocessor["image_std"])
    return Preprocessing(
        mean if normalised else (0.0,) * len(mean),
        std if normalised else (1.0,) * len(std),
        ratio,
        _RESAMPLE[resample] if isinstance(resample, int) else str(resample),
        squash=squash,
        source="preprocessor_config.json",
    )


def _is_255th(factor: Any) -> bool:
    return abs(float(factor) * 255 - 1) < 1e-3


def _height(size: Any) -> float:
    return float(size["height"] if isinstance(size, Mapping) else size)


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in (values if isinstance(values, list | tuple) else [values]))
