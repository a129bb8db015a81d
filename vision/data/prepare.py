"""The device part of the pipeline: gather, augment, normalise, all inside the jitted step."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from vision.data.augment import Augmentation

Batch = Mapping[str, Array]
Prepare = Callable[[Batch, Batch, Key[Array, ""]], dict[str, Array]]


def make_prepare(
    *, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, augmentation: Augmentation | None, channels: int
) -> Prepare:
    """Returns ``prepare(batch, resident, key) -> examples``.

    ``batch`` brings ``index`` and ``epoch``, and either the examples themselves or, where ``resident`` holds the
    whole data set on the device, nothing else. The key of an example's augmentation is made from
    (key, epoch, index): no device, process or microbatch enters it.

    Args:
      mean: per channel, of images scaled to [0, 1]; None leaves 0.
      std: per channel, likewise; None leaves 1.
      augmentation: applied to each raw image, or None.
      channels: of the images, against which ``mean`` and ``std`` are checked.

    Raises:
      ValueError: ``mean`` or ``std`` has another length than the images have channels, or a std is not positive.
    """
    for name, value in (("mean", mean), ("std", std)):
        if value is not None and len(value) != channels:
            raise ValueError(f"{name} has {len(value)} values, the images have {channels} channels")
    if std is not None and min(std) <= 0:
        raise ValueError(f"std must be positive, got {std}")

    def prepare(batch: Batch, resident: Batch, key: Key[Array, ""]) -> dict[str, Array]:
        examples = {name: array[batch["index"]] for name, array in resident.items()} if resident else dict(batch)
        images = examples["image"]
        if augmentation is not None:
            images = jax.vmap(augmentation)(example_keys(key, batch["epoch"], batch["index"]), images)
        return {**examples, "image": normalize(images, mean, std)}

    return prepare


def example_keys(key: Key[Array, ""], epoch: Num[Array, " batch"], index: Num[Array, " batch"]) -> Key[Array, " batch"]:
    """Returns one key per example, a function of (key, epoch, index) alone."""
    return jax.vmap(lambda e, i: jax.random.fold_in(jax.random.fold_in(key, e), i))(epoch, index)


def normalize(
    images: Num[Array, "batch height width channels"], mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Float[Array, "batch height width channels"]:
    """Returns ``(images - mean) / std`` in float32; integers are scaled from 0..255 to 0..1 first."""
    scaled = images.astype(jnp.float32)
    if jnp.issubdtype(images.dtype, jnp.integer):
        scaled = scaled / 255.0
    return (scaled - jnp.asarray(mean or 0.0)) / jnp.asarray(std or 1.0)
