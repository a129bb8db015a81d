"""What AutoAugment, RandAugment, TrivialAugment and AugMix draw from: operations, magnitudes, learned sub-policies."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

Policy = Literal["imagenet", "cifar10", "svhn"]
Space = Literal["autoaugment", "trivialaugment", "augmix"]

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
ENHANCING = ("brightness", "saturation", "contrast", "sharpness")
KINDS = ("identity", *GEOMETRIC, *ENHANCING, "posterize", "solarize", "autocontrast", "equalize", "invert")
INDEX = {kind: index for index, kind in enumerate(KINDS)}
SIGNED = np.array([kind in GEOMETRIC + ENHANCING for kind in KINDS])
"""Kinds whose magnitude is drawn with a sign."""

RANDAUGMENT_KINDS = KINDS[:-1]  # of TrivialAugment too: all but invert
AUGMIX_KINDS = (*GEOMETRIC, "posterize", "solarize", "autocontrast", "equalize")


def magnitudes(space: Space, bins: int, height: int, width: int) -> Float[np.ndarray, "kinds bins"]:
    """Returns the magnitude of every kind at every bin, for images of ``height`` by ``width`` pixels.

    Shears are slopes, translations pixels, rotations degrees; enhancements are factors less 1; posterize counts bits,
    solarize has its threshold. Kinds without a magnitude have 0. The float32 numbers are torchvision's
    (``_augmentation_space`` of its AutoAugment and RandAugment, of TrivialAugmentWide and of AugMix), to the bit:
    a translation is cut off to whole pixels and a threshold compared with levels, so the last bit can show.

    Raises:
      ValueError: there are fewer than 2 bins.
    """
    if bins < 2:
        raise ValueError(f"num_magnitude_bins must be >= 2, got {bins}")
    slope, degrees, enhancement, most_bits, fewer_bits = {
        "autoaugment": (0.3, 30.0, 0.9, 8, 4),
        "trivialaugment": (0.99, 135.0, 0.99, 8, 6),
        "augmix": (0.3, 30.0, 0.9, 4, 4),
    }[space]
    across, down = {
        "autoaugment": (150.0 / 331.0 * width, 150.0 / 331.0 * height),
        "trivialaugment": (32.0, 32.0),
        "augmix": (width / 3.0, height / 3.0),
    }[space]
    largest = {"shear_x": slope, "shear_y": slope, "translate_x": across, "translate_y": down, "rotate": degrees}
    rows = {kind: _evenly(0.0, top, bins) for kind, top in largest.items()}
    rows |= dict.fromkeys(ENHANCING, _evenly(0.0, enhancement, bins))
    rows["solarize"] = _evenly(255.0, 0.0, bins)
    bit_steps = np.arange(bins, dtype=np.float32) / np.float32((bins - 1) / fewer_bits)
    rows["posterize"] = (most_bits - np.round(bit_steps)).astype(np.float32)
    return np.stack([rows.get(kind, np.zeros(bins, np.float32)) for kind in KINDS])


def _evenly(start: float, stop: float, bins: int) -> Float[np.ndarray, " bins"]:
    """Numbers at equal distances as torch.linspace has them: a float32 step, counted from the nearer end."""
    first, last = np.float32(start), np.float32(stop)
    step = np.float64((last - first) / np.float32(bins - 1))
    index = np.arange(bins)
    rising, falling = first + index * step, last - (bins - 1 - index) * step  # each rounded once, to float32
    return np.where(index < bins // 2, rising, falling).astype(np.float32)


class SubPolicies(NamedTuple):
    """The sub-policies of AutoAugment, each of two operations.

    Attributes:
      kinds: of the operations: indices into :data:`KINDS`.
      probabilities: with which they are applied.
      bins: of their magnitudes, of 10; 0 where the kind has none.
    """

    kinds: Int[np.ndarray, "policies 2"]
    probabilities: Float[np.ndarray, "policies 2"]
    bins: Int[np.ndarray, "policies 2"]


def sub_policies(policy: Policy) -> SubPolicies:
    """Returns the 25 sub-policies that were learned on a data set (Cubuk et al. 2019, arXiv:1805.09501, appendix A)."""
    words = [[operation.split() for operation in row.split(" + ")] for row in _LEARNED[policy]]
    return SubPolicies(
        np.array([[INDEX[kind] for kind, _, _ in row] for row in words], np.int32),
        np.array([[float(probability) for _, probability, _ in row] for row in words], np.float32),
        np.array([[0 if level == "-" else int(level) for _, _, level in row] for row in words], np.int32),
    )


# Kind, probability, bin of the magnitude; twice.
_LEARNED: dict[str, tuple[str, ...]] = {
    "imagenet": (
        "posterize 0.4 8 + rotate 0.6 9",
        "solarize 0.6 5 + autocontrast 0.6 -",
        "equalize 0.8 - + equalize 0.6 -",
        "posterize 0.6 7 + posterize 0.6 6",
        "equalize 0.4 - + solarize 0.2 4",
        "equalize 0.4 - + rotate 0.8 8",
        "solarize 0.6 3 + equalize 0.6 -",
        "posterize 0.8 5 + equalize 1.0 -",
        "rotate 0.2 3 + solarize 0.6 8",
        "equalize 0.6 - + posterize 0.4 6",
        "rotate 0.8 8 + saturation 0.4 0",
        "rotate 0.4 9 + equalize 0.6 -",
        "equalize 0.0 - + equalize 0.8 -",
        "invert 0.6 - + equalize 1.0 -",
        "saturation 0.6 4 + contrast 1.0 8",
        "rotate 0.8 8 + saturation 1.0 2",
        "saturation 0.8 8 + solarize 0.8 7",
        "sharpness 0.4 7 + invert 0.6 -",
        "shear_x 0.6 5 + equalize 1.0 -",
        "saturation 0.4 0 + equalize 0.6 -",
        "equalize 0.4 - + solarize 0.2 4",
        "solarize 0.6 5 + autocontrast 0.6 -",
        "invert 0.6 - + equalize 1.0 -",
        "saturation 0.6 4 + contrast 1.0 8",
        "equalize 0.8 - + equalize 0.6 -",
    ),
    "cifar10": (
        "invert 0.1 - + contrast 0.2 6",
        "rotate 0.7 2 + translate_x 0.3 9",
        "sharpness 0.8 1 + sharpness 0.9 3",
        "shear_y 0.5 8 + translate_y 0.7 9",
        "autocontrast 0.5 - + equalize 0.9 -",
        "shear_y 0.2 7 + posterize 0.3 7",
        "saturation 0.4 3 + brightness 0.6 7",
        "sharpness 0.3 9 + brightness 0.7 9",
        "equalize 0.6 - + equalize 0.5 -",
        "contrast 0.6 7 + sharpness 0.6 5",
        "saturation 0.7 7 + translate_x 0.5 8",
        "equalize 0.3 - + autocontrast 0.4 -",
        "translate_y 0.4 3 + sharpness 0.2 6",
        "brightness 0.9 6 + saturation 0.2 8",
        "solarize 0.5 2 + invert 0.0 -",
        "equalize 0.2 - + autocontrast 0.6 -",
        "equalize 0.2 - + equalize 0.6 -",
        "saturation 0.9 9 + equalize 0.6 -",
        "autocontrast 0.8 - + solarize 0.2 8",
        "brightness 0.1 3 + saturation 0.7 0",
        "solarize 0.4 5 + autocontrast 0.9 -",
        "translate_y 0.9 9 + translate_y 0.7 9",
        "autocontrast 0.9 - + solarize 0.8 3",
        "equalize 0.8 - + invert 0.1 -",
        "translate_y 0.7 9 + autocontrast 0.9 -",
    ),
    "svhn": (
        "shear_x 0.9 4 + invert 0.2 -",
        "shear_y 0.9 8 + invert 0.7 -",
        "equalize 0.6 - + solarize 0.6 6",
        "invert 0.9 - + equalize 0.6 -",
        "equalize 0.6 - + rotate 0.9 3",
        "shear_x 0.9 4 + autocontrast 0.8 -",
        "shear_y 0.9 8 + invert 0.4 -",
        "shear_y 0.9 5 + solarize 0.2 6",
        "invert 0.9 - + autocontrast 0.8 -",
        "equalize 0.6 - + rotate 0.9 3",
        "shear_x 0.9 4 + solarize 0.3 3",
        "shear_y 0.8 8 + invert 0.7 -",
        "equalize 0.9 - + translate_y 0.6 6",
        "invert 0.9 - + equalize 0.6 -",
        "contrast 0.3 3 + rotate 0.8 4",
        "invert 0.8 - + translate_y 0.0 2",
        "shear_y 0.7 6 + solarize 0.4 8",
        "invert 0.6 - + rotate 0.8 4",
        "shear_y 0.3 7 + translate_x 0.9 3",
        "shear_x 0.1 6 + invert 0.6 -",
        "solarize 0.7 2 + translate_y 0.6 7",
        "shear_y 0.8 4 + invert 0.8 -",
        "shear_x 0.7 9 + translate_y 0.8 3",
        "shear_y 0.8 5 + autocontrast 0.7 -",
        "shear_x 0.7 2 + invert 0.1 -",
    ),
}
