"""Augmentations that join the examples of one batch: mixup and CutMix."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vision.data.augment.base import check_probability

Images = Float[Array, "batch height width channels"]
Targets = Float[Array, "batch classes"]
Shares = Float[Array, " batch_or_1"]
Mix = Callable[[Key[Array, ""], Images, Targets], tuple[Images, Targets]]


def mixup(*, alpha: float = 0.2, per_example: bool = False, distance: int = 1) -> Mix:
    """Adds to each example its neighbour in the batch, in shares drawn from Beta(alpha, alpha) (Zhang et al. 2018).

    The neighbour is the row before, ``distance`` rows up, and for the first rows one of the last: batches are
    shuffled, so it is as random as any other, and of a batch that is split over devices only border rows move.

    Args:
      alpha: of the beta distribution; small values leave most examples nearly pure.
      per_example: draw a share for every example, not one for the batch.
      distance: rows to the neighbour; where each example comes several times in a row, as often.

    Raises:
      ValueError: ``alpha`` is not positive.
    """
    _check_alpha(alpha)

    def apply(key: Key[Array, ""], images: Images, targets: Targets) -> tuple[Images, Targets]:
        share = draw_share(key, alpha, len(images) if per_example else 1)
        return blend(images, targets, share[:, None, None, None], share, distance)

    return apply


def cutmix(*, alpha: float = 1.0, per_example: bool = False, distance: int = 1) -> Mix:
    """Pastes into each example a box of its neighbour in the batch (Yun et al. 2019, section 3.1).

    The box has the image's shape and, up to whole pixels, ``1 - share`` of its area, for a share drawn from
    Beta(alpha, alpha); its centre is uniform over the pixels. It is cut off at the border, and the labels are mixed
    by the area that is left.

    Args:
      alpha: of the beta distribution; 1 is the uniform distribution.
      per_example: draw share and box for every example, not once for the batch.
      distance: rows to the neighbour; see :func:`mixup`.

    Raises:
      ValueError: ``alpha`` is not positive.
    """
    _check_alpha(alpha)

    def apply(key: Key[Array, ""], images: Images, targets: Targets) -> tuple[Images, Targets]:
        share_key, box_key = jax.random.split(key)
        share = draw_share(share_key, alpha, len(images) if per_example else 1)
        kept = draw_boxes(box_key, share, *images.shape[1:3])
        return blend(images, targets, kept[..., None], area(kept), distance)

    return apply


def mixup_or_cutmix(
    *,
    mixup_alpha: float = 0.8,
    cutmix_alpha: float = 1.0,
    switch_probability: float = 0.5,
    probability: float = 1.0,
    distance: int = 1,
) -> Mix:
    """Does one of :func:`mixup` and :func:`cutmix` to the whole batch, or neither (Touvron et al. 2021, table 9).

    Args:
      mixup_alpha: of mixup's beta distribution.
      cutmix_alpha: of CutMix's.
      switch_probability: of CutMix, where one of them is done.
      probability: of doing one of them.
      distance: rows to the neighbour; see :func:`mixup`.

    Raises:
      ValueError: an alpha that is not positive or a probability outside [0, 1].

    Source: timm.data.Mixup in its mode "batch", whose partner is the row as far from the batch's other end.
    """
    _check_alpha(mixup_alpha, "mixup_alpha")
    _check_alpha(cutmix_alpha, "cutmix_alpha")
    check_probability(switch_probability, "switch_probability")
    check_probability(probability)

    def apply(key: Key[Array, ""], images: Images, targets: Targets) -> tuple[Images, Targets]:
        happens_key, switch_key, mixup_key, cutmix_key, box_key = jax.random.split(key, 5)
        kept = draw_boxes(box_key, draw_share(cutmix_key, cutmix_alpha, 1), *images.shape[1:3])
        blended = jnp.broadcast_to(draw_share(mixup_key, mixup_alpha, 1)[:, None, None], kept.shape)
        pastes = jax.random.bernoulli(switch_key, switch_probability)
        happens = jax.random.bernoulli(happens_key, probability)
        weights = jnp.where(happens, jnp.where(pastes, kept, blended), 1.0)
        shares = jnp.where(happens, jnp.where(pastes, area(kept), blended[:, 0, 0]), 1.0)
        return blend(images, targets, weights[..., None], shares, distance)

    return apply


def draw_share(key: Key[Array, ""], alpha: float, count: int) -> Shares:
    """Returns shares of the example itself, drawn from Beta(alpha, alpha); the rest is its neighbour's."""
    return jax.random.beta(key, alpha, alpha, (count,))


def draw_boxes(
    key: Key[Array, ""], share: Shares, height: int, width: int
) -> Float[Array, "batch_or_1 {height} {width}"]:
    """Returns 0 inside the boxes of CutMix and 1 outside; see :func:`cutmix`."""
    side = jnp.sqrt(1.0 - share)
    rows, columns = (jnp.floor(side * length).astype(jnp.int32) for length in (height, width))
    centers = jax.random.randint(key, (2, len(share)), 0, jnp.array([[height], [width]]))
    inside_rows = _spans(centers[0], rows, height)[:, :, None]
    inside_columns = _spans(centers[1], columns, width)[:, None, :]
    return 1.0 - (inside_rows & inside_columns).astype(jnp.float32)


def area(kept: Float[Array, "batch_or_1 height width"]) -> Shares:
    """Returns the share of pixels that are kept; they are counted, so the sum is exact."""
    return jnp.sum(kept, axis=(1, 2)) / (kept.shape[1] * kept.shape[2])


def blend(
    images: Images,
    targets: Targets,
    weights: Float[Array, "batch_or_1 rows columns 1"],
    shares: Shares,
    distance: int = 1,
) -> tuple[Images, Targets]:
    """Returns the weighted means of every example and its neighbour, and of their targets.

    Args:
      images: of the whole batch, on all devices.
      targets: the labels' distributions; those of the mixtures sum to 1 again, up to rounding.
      weights: of the example's own pixels, in [0, 1].
      shares: of the example's own label.
      distance: rows to the neighbour.
    """
    own, others = shares[:, None], 1.0 - shares[:, None]
    mixed = images * weights + jnp.roll(images, distance, axis=0) * (1.0 - weights)
    return mixed, targets * own + jnp.roll(targets, distance, axis=0) * others


def _spans(center: Int[Array, " batch"], length: Int[Array, " batch"], size: int) -> Array:
    """Which of ``size`` pixels lie in each span."""
    pixel, first = jnp.arange(size), (center - length // 2)[:, None]
    return (pixel >= first) & (pixel < (center + length // 2)[:, None])


def _check_alpha(alpha: float, name: str = "alpha") -> None:
    if alpha <= 0.0:
        raise ValueError(f"{name} must be positive, got {alpha}")


MIXES: dict[str, Callable[..., Mix]] = {"mixup": mixup, "cutmix": cutmix, "mixup_or_cutmix": mixup_or_cutmix}
