"""AugMix: an image mixed with chains of operations on it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from vision.data.augment.affine import Interpolation
from vision.data.augment.base import Augmentation, Image, Registry
from vision.data.augment.policies import Operations, apply_operations, check_fill, drawn_magnitudes
from vision.data.augment.policy_tables import AUGMIX_KINDS, ENHANCING, INDEX, magnitudes

BINS = 10
DEEPEST = 3


class Mixture(NamedTuple):
    """What AugMix does to one image.

    Attributes:
      kinds: of the operations of each chain, the identity where a chain is shorter.
      magnitudes: of the operations.
      weights: of the chains; the image itself has the rest to 1.
    """

    kinds: Int[Array, "chains depth"]
    magnitudes: Float[Array, "chains depth"]
    weights: Float[Array, " chains"]


def draw_augmix(
    key: Key[Array, ""],
    *,
    severity: int,
    width: int,
    depth: int,
    alpha: float,
    all_ops: bool,
    image_height: int,
    image_width: int,
) -> Mixture:
    """Draws weights, Dirichlet(alpha) times Beta(alpha, alpha), and operations, uniform below the severity."""
    of_share, of_weights, of_depth, of_kind, of_bin, of_sign = jax.random.split(key, 6)
    weights = _dirichlet(of_weights, alpha, width) * _dirichlet(of_share, alpha, 2)[0]
    longest = depth if depth > 0 else DEEPEST
    names = AUGMIX_KINDS + ENHANCING if all_ops else AUGMIX_KINDS
    kinds = jax.random.choice(of_kind, np.array([INDEX[name] for name in names], np.int32), (width, longest))
    if depth <= 0:
        depths = jax.random.randint(of_depth, (width, 1), 1, DEEPEST + 1)
        kinds = jnp.where(jnp.arange(longest) < depths, kinds, INDEX["identity"])
    bins = jax.random.randint(of_bin, (width * longest,), 0, severity)
    table = magnitudes("augmix", BINS, image_height, image_width)
    values = drawn_magnitudes(of_sign, kinds.ravel(), bins, table)
    return Mixture(kinds, values.reshape(kinds.shape), weights)


def mix_chains(image: Image, drawn: Mixture, *, interpolation: Interpolation, fill: float) -> Image:
    """Returns the weighted mean of the image and its chains, on uint8 cut off to whole levels as torchvision does."""

    def chain(kinds: Int[Array, " depth"], values: Float[Array, " depth"]) -> Image:
        return apply_operations(image, Operations(kinds, values), interpolation=interpolation, fill=fill)

    chains = jax.vmap(chain)(drawn.kinds, drawn.magnitudes)
    mixed = (1.0 - sum(drawn.weights)) * image.astype(jnp.float32)
    for weight, changed in zip(drawn.weights, chains, strict=True):
        mixed += weight * changed.astype(jnp.float32)
    return mixed.astype(image.dtype)


def _dirichlet(key: Key[Array, ""], alpha: float, count: int) -> Float[Array, " count"]:
    """Draws from a symmetric Dirichlet distribution, of two from Beta(alpha, alpha).

    With alpha 1, from exponential variates and a sum from left to right, the bits are the same in a batch of any size.
    Other draws need logarithms, of which XLA on CPU can round the last bit otherwise when it computes another number.
    """
    if alpha != 1.0:
        return jax.random.dirichlet(key, jnp.full(count, alpha, jnp.float32))
    variates = jax.random.exponential(key, (count,))
    return variates / sum(variates)


def augmix(
    *,
    severity: int = 3,
    width: int = 3,
    depth: int = -1,
    alpha: float = 1.0,
    all_ops: bool = True,
    interpolation: Interpolation = "bilinear",
    fill: float = 0.0,
) -> Augmentation:
    """Mixes the image with ``width`` chains of operations on it (Hendrycks et al. 2020, arXiv:1912.02781, algorithm 1).

    Options, operations and magnitudes are torchvision's AugMix, the operations with the semantics of its PIL backend.
    ``depth`` operations make a chain, or 1 to 3, drawn anew for each, where it is not positive. ``alpha`` shapes the
    weights. Without ``all_ops`` the operations that overlap with ImageNet-C are left out: brightness, contrast,
    saturation and sharpness. Chains of floating images are rounded to 256 levels. ``fill`` is the level, 0 to 255, of
    what affine maps bring in from outside.

    Raises:
      ValueError: ``severity`` is not in 1..10, ``width`` or ``alpha`` is not positive, or ``fill`` is not in [0, 255].
    """
    check_fill(fill)
    if not 1 <= severity <= BINS:
        raise ValueError(f"severity must be in 1..{BINS}, got {severity}")
    if width < 1 or alpha <= 0:
        raise ValueError(f"width and alpha must be positive, got {width} and {alpha}")

    def apply(key: Key[Array, ""], image: Image) -> Image:
        drawn = draw_augmix(
            key,
            severity=severity,
            width=width,
            depth=depth,
            alpha=alpha,
            all_ops=all_ops,
            image_height=image.shape[0],
            image_width=image.shape[1],
        )
        return mix_chains(image, drawn, interpolation=interpolation, fill=fill)

    return apply


AUGMENTATIONS: Registry = {"augmix": augmix}
