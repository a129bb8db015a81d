"""Corruptions by name, in strengths of 0 to 5: what a learner may be shown that it was not trained on."""

import zlib
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt8

from vision.data.corrupt import cover, light, move
from vision.data.corrupt.severity import STRENGTHS, Strength
from vision.errors import did_you_mean

Images = UInt8[Array, "batch height width channels"]
Others = UInt8[Array, "others height width channels"]
Image = UInt8[Array, "height width channels"]
OTHERS = 64
_CHUNK = 256


def _alone(change: Callable[[Key[Array, ""], Image, Strength], Image]) -> Callable[..., Image]:
    return lambda key, image, strength, others: change(key, image, strength)


CORRUPTIONS: dict[str, Callable[[Key[Array, ""], Image, Strength, Others], Image]] = {
    "translation": _alone(move.translation),
    "rotation": _alone(move.rotation),
    "viewpoint": _alone(move.viewpoint),
    "brightness": _alone(light.brightness),
    "contrast": _alone(light.contrast),
    "shade": _alone(light.shade),
    "blur": _alone(light.blur),
    "occlusion": _alone(cover.occlusion),
    "clutter": cover.clutter,
    "noise": _alone(light.noise),
}


def check(corruptions: tuple[str, ...], strengths: tuple[int, ...]) -> None:
    """Raises a ValueError for names and strengths that there are not, for none, and for any twice."""
    for name in corruptions:
        if name not in CORRUPTIONS:
            known = ", ".join(CORRUPTIONS)
            raise ValueError(f"unknown corruption {name!r}{did_you_mean(name, CORRUPTIONS)}; known: {known}")
    for strength in strengths:
        if strength not in STRENGTHS:
            raise ValueError(f"strengths are whole numbers from 1 to 5, got {strength}")
    for what, values in (("corruptions", corruptions), ("strengths", strengths)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{what} must be at least one, and none twice, got {values}")


def corrupt(
    name: str,
    images: Images,
    strength: Strength,
    key: Key[Array, ""],
    *,
    index: Int[Array, " batch"] | None = None,
    others: Others | None = None,
) -> Images:
    """Returns the images corrupted; strength 0 returns them as they are.

    What is drawn for an image depends on the key, the corruption and its index alone: neither on the strength, so that
    stronger means more of the same, nor on the batch. Everything is computed in whole numbers or rounded once, so the
    pixels do not depend on the batch either.

    Args:
      name: of a corruption, see :data:`CORRUPTIONS`; how strong the strengths are is in
        :data:`vision.data.corrupt.severity.SEVERITIES`.
      images: uint8.
      strength: 0 to 5.
      key: of all draws.
      index: of each image in its split; None counts them from 0.
      others: images that clutter takes pieces of; None takes the first ``OTHERS`` of ``images``.
    """
    index = jnp.arange(len(images)) if index is None else index
    others = images[:OTHERS] if others is None else others
    of_name = jax.random.fold_in(key, jnp.uint32(zlib.crc32(name.encode())))
    keys = jax.vmap(partial(jax.random.fold_in, of_name))(index)
    changed = jax.vmap(CORRUPTIONS[name], in_axes=(0, 0, None, None))(keys, images, jnp.asarray(strength), others)
    return jnp.where(jnp.asarray(strength) == 0, images, changed)


_compiled = jax.jit(corrupt, static_argnames="name")


def corrupted(name: str, images: np.ndarray, strength: int, *, seed: int = 0) -> np.ndarray:
    """Returns a whole split corrupted, uint8 ``[n, height, width, channels]``; see :func:`corrupt`.

    It is computed in pieces of one shape, so that each corruption is compiled once.
    """
    others = jnp.asarray(images[:OTHERS])
    made = []
    for start in range(0, len(images), _CHUNK):
        index = np.arange(start, start + _CHUNK)
        chunk = images[np.minimum(index, len(images) - 1)]
        key = jax.random.key(seed)
        made.append(
            np.asarray(
                _compiled(name, jnp.asarray(chunk), jnp.int32(strength), key, index=jnp.asarray(index), others=others)
            )
        )
    return np.concatenate(made)[: len(images)]
