"""Recipes of two views for contrastive learning and for small images, as config sections.

``config.data.views = two_views.simclr_views()`` is a config's whole use of this file; see also
:mod:`vision.data.augment.multi_crop`, whose views come in two sizes.
"""

from typing import Any

Range = tuple[float, float]
Section = dict[str, Any]
Chain = tuple[Section, ...]
Views = dict[str, tuple[Chain, Chain]]


def simclr_views(*, size: int = 224, scale: Range = (0.08, 1.0), strength: float = 1.0, blur: float = 0.5) -> Views:
    """Returns the views of SimCLR (Chen et al. 2020, appendix A): both are drawn from the same distribution.

    Bicubic crops are mirrored half of the time; then come colour jitter (probability 0.8), grey (0.2) and blur with a
    kernel of a tenth of the side (23 pixels of 224). For images of 32 pixels the paper takes a strength of 0.5 and no
    blur (appendix B.9).

    Args:
      size: side of the views in pixels.
      scale: range of the share of the image's area that a view shows.
      strength: of the colour jitter: brightness, contrast and saturation change by 0.8 times this, hue by 0.2 times.
      blur: probability; 0 leaves it out.
    """
    blurred = (_blur(blur, kernel_size=2 * (size // 20) + 1),) if blur else ()
    chain = (*_crop(size, scale), *_colours(0.8 * strength, 0.8 * strength, 0.2 * strength), *blurred)
    return {"global": (chain, chain)}


def solo_learn_simclr_cifar_views() -> Views:
    """Returns solo-learn's views for SimCLR on CIFAR: those of the paper at full strength, 32 pixels, blur included.

    The kernel of the blur is not cut at a tenth of the side. Theirs is Pillow's, see
    :func:`vision.data.augment.blur.gaussian_blur`.

    Source: github.com/vturrisi/solo-learn, scripts/pretrain/cifar/augmentations/symmetric.yaml.
    """
    chain = (*_crop(32, (0.08, 1.0)), *_colours(0.8, 0.8, 0.2), _blur(0.5))
    return {"global": (chain, chain)}


def solo_learn_cifar_views() -> Views:
    """Returns solo-learn's views for DINO on CIFAR: no blur, the second view solarized with probability 0.2.

    Source: github.com/vturrisi/solo-learn, scripts/pretrain/cifar/augmentations/asymmetric.yaml.
    """
    return _solarized_second((0.08, 1.0))


def lightly_cifar_views() -> Views:
    """Returns lightly's views for DINO on CIFAR-10: as solo-learn's, but each shows at least 0.4 of the image.

    Source: github.com/lightly-ai/lightly, docs/source/getting_started/benchmarks/cifar10_benchmark.py and
    lightly/transforms/dino_transform.py.
    """
    return _solarized_second((0.4, 1.0))


def _solarized_second(scale: Range) -> Views:
    chain = (*_crop(32, scale), *_colours(0.4, 0.2, 0.1))
    solarized: Section = {"name": "random_solarize", "threshold": 128, "probability": 0.2}
    return {"global": (chain, (*chain, solarized))}


def _crop(size: int, scale: Range) -> Chain:
    return (
        {"name": "random_resized_crop", "size": size, "scale": scale, "interpolation": "bicubic"},
        {"name": "random_flip", "probability": 0.5},
    )


def _colours(brightness_and_contrast: float, saturation: float, hue: float) -> Chain:
    changes = {"brightness": brightness_and_contrast, "contrast": brightness_and_contrast}
    return (
        {"name": "color_jitter", **changes, "saturation": saturation, "hue": hue, "probability": 0.8},
        {"name": "random_grayscale", "probability": 0.2},
    )


def _blur(probability: float, **options: int) -> Section:
    return {"name": "gaussian_blur", "sigma": (0.1, 2.0), "probability": probability, **options}
