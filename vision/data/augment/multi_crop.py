"""The views of self-distillation as config sections: large crops for teacher and student, small ones for the student.

``config.data.views = multi_crop.dino_views()`` is a config's whole use of this file: a recipe is data, and every
section in it can be changed afterwards.
"""

from typing import Any

Range = tuple[float, float]
Section = dict[str, Any]
Chain = tuple[Section, ...]
Views = dict[str, tuple[Chain, ...]]


def dino_views(
    *,
    global_size: int = 224,
    local_size: int = 96,
    num_local: int = 8,
    global_scale: Range = (0.4, 1.0),
    local_scale: Range = (0.05, 0.4),
) -> Views:
    """Returns the views of DINO (Caron et al. 2021, section 3.2): two global, the rest local.

    Crops are bicubic and mirrored half of the time; then come colour jitter (probability 0.8), grey (0.2), and blur
    and solarizing as the view has them: the first global view is always blurred, the second one with probability 0.1
    and solarized with 0.2, the local ones blurred with 0.5.

    Args:
      global_size: side of the global views in pixels.
      local_size: side of the local views in pixels.
      num_local: local views; with 0 the result has none, and the paper takes a ``global_scale`` of (0.14, 1).
      global_scale: range of the share of the image's area that a global view shows.
      local_scale: the same of a local view.

    Raises:
      ValueError: ``num_local`` is negative.

    Source: github.com/facebookresearch/dino, main_dino.py, DataAugmentationDINO.
    """
    return _views((global_size, local_size), num_local, (global_scale, local_scale), (1.0, 0.1, 0.5), {})


def dinov2_views(
    *,
    global_size: int = 224,
    local_size: int = 96,
    num_local: int = 8,
    global_scale: Range = (0.32, 1.0),
    local_scale: Range = (0.05, 0.32),
    blur_as_released: bool = False,
) -> Views:
    """Returns the views of DINOv2 (Oquab et al. 2024): those of DINO with another split of scales and a 9-pixel blur.

    The published code hands ``1 - p`` to a function that expects the probability of blurring. The released models
    have therefore seen first global views that are never blurred and second ones that nearly always are (0.9, not
    0.1); the local 0.5 is the same either way. DINOv3 inherits it.

    Args:
      global_size: side of the global views in pixels.
      local_size: side of the local views in pixels; 98 where patches have 14.
      num_local: local views.
      global_scale: range of the share of the image's area that a global view shows.
      local_scale: the same of a local view.
      blur_as_released: blur as the released models were trained, not as meant.

    Raises:
      ValueError: ``num_local`` is negative.

    Source: github.com/facebookresearch/dinov2, data/augmentations.py and data/transforms.py.
    """
    blur = (1.0, 0.1, 0.5)
    if blur_as_released:
        blur = (0.0, 0.9, 0.5)
    return _views((global_size, local_size), num_local, (global_scale, local_scale), blur, {"kernel_size": 9})


def _views(
    sizes: tuple[int, int],
    num_local: int,
    scales: tuple[Range, Range],
    blur: tuple[float, float, float],
    blur_options: Section,
) -> Views:
    """The two kinds of views; ``blur`` are the probabilities of the first and second global and of the local views."""
    if num_local < 0:
        raise ValueError(f"num_local must be >= 0, got {num_local}")
    solarized: Section = {"name": "random_solarize", "threshold": 128, "probability": 0.2}
    first, second, local = (
        _chain(size, scale, {"name": "gaussian_blur", "sigma": (0.1, 2.0), "probability": probability, **blur_options})
        for size, scale, probability in zip((sizes[0], *sizes), (scales[0], *scales), blur, strict=True)
    )
    views: Views = {"global": (first, (*second, solarized))}
    if num_local > 0:
        views["local"] = (local,) * num_local
    return views


def _chain(size: int, scale: Range, blurred: Section) -> Chain:
    """A crop of one size with what all views have in common, and its blur."""
    jitter = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "probability": 0.8}
    return (
        {"name": "random_resized_crop", "size": size, "scale": scale, "interpolation": "bicubic"},
        {"name": "random_flip", "probability": 0.5},
        {"name": "color_jitter", **jitter},
        {"name": "random_grayscale", "probability": 0.2},
        blurred,
    )
