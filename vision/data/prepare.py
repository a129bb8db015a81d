"""The device part of the pipeline: gather, augment, normalise, mix, all inside the jitted step."""

import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num

from vision.data.augment.base import Draw, Image
from vision.data.augment.mix import Mix

Batch = Mapping[str, Array]
Prepare = Callable[[Batch, Batch, Key[Array, ""], Int[Array, ""] | int], dict[str, Array]]
Chain = Callable[[Draw, Image], Num[Array, "height width channels"]]
_MIXING, _CAPTIONS = 2**32 - 1, 2**32 - 2  # no visit is that late


def make_prepare(
    *,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    channels: int,
    augmentation: Chain | None = None,
    views: Mapping[str, Sequence[Chain]] | None = None,
    mix: Mix | None = None,
    num_classes: int = 0,
    draw_caption: bool = True,
) -> Prepare:
    """Returns ``prepare(batch, resident, key, step) -> examples``.

    ``batch`` brings ``index`` and ``visit``, and either the examples themselves or, where ``resident`` holds the
    whole data set on the device, nothing else. The draws of an example's augmentation are made from
    (key, visit, index), those of mixing, which joins examples of the whole batch, from (key, step): no device,
    process or microbatch enters them.

    Args:
      mean: per channel, of images scaled to [0, 1]; None leaves 0.
      std: per channel, likewise; None leaves 1.
      channels: of the images, against which ``mean`` and ``std`` are checked.
      augmentation: applied to each raw image, or None.
      views: name -> chains, one for each view of that name; the views take the place of ``image`` and have
        shape ``[batch, views, height, width, channels]``. Their chains begin after ``augmentation``; give views of
        one recipe the same function, then they are compiled together.
      mix: joins the normalised images and one-hot labels of the batch, or None.
      num_classes: size of those labels.
      draw_caption: keep one caption of each image, drawn for the visit; else all of them stay.

    Raises:
      ValueError: ``mean`` or ``std`` has another length than the images have channels, or a std is not positive.
    """
    for name, value in (("mean", mean), ("std", std)):
        if value is not None and len(value) != channels:
            raise ValueError(f"{name} has {len(value)} values, the images have {channels} channels")
    if std is not None and min(std) <= 0:
        raise ValueError(f"std must be positive, got {std}")

    def prepare(batch: Batch, resident: Batch, key: Key[Array, ""], step: Int[Array, ""] | int) -> dict[str, Array]:
        examples = dict(batch)
        for name, array in resident.items():
            examples[name] = array[batch["index"]]
        draws = example_draws(key, batch["visit"], batch["index"])
        if draw_caption:
            examples |= _choose_caption(examples, draws)
        if augmentation is not None:
            examples["image"] = jax.vmap(augmentation)(draws, examples["image"])
        if views is None:
            examples["image"] = normalize(examples["image"], mean, std)
        else:
            image = examples.pop("image")
            for name, chains in views.items():
                examples[name] = normalize(_views(chains, draws, image, name), mean, std)
        if mix is not None:
            label = examples["label"]
            target = jax.nn.one_hot(label, num_classes) if label.ndim == 1 else label.astype(jnp.float32)
            mix_key = jax.random.fold_in(jax.random.fold_in(key, jnp.uint32(_MIXING)), step)
            examples["image"], examples["label"] = mix(mix_key, examples["image"], target)
        return examples

    return prepare


def example_draws(key: Key[Array, ""], visit: Int[Array, " batch"], index: Int[Array, " batch"]) -> Draw:
    """Returns the draws of each example, a function of (key, visit, index) alone; the leaves have a batch axis."""

    def of_example(visit: Int[Array, ""], index: Int[Array, ""]) -> Draw:
        first, now = (jax.random.fold_in(jax.random.fold_in(key, v), index) for v in (0, visit))
        return Draw(now, first, visit)

    return jax.vmap(of_example)(visit, index)


def normalize(
    images: Num[Array, "*batch height width channels"], mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Float[Array, "*batch height width channels"]:
    """Returns ``(images - mean) / std`` in float32; integers are scaled from 0..255 to 0..1 first."""
    scaled = images.astype(jnp.float32)
    if jnp.issubdtype(images.dtype, jnp.integer):
        scaled = scaled / 255.0
    return (scaled - jnp.asarray(mean or 0.0)) / jnp.asarray(std or 1.0)


def _views(chains: Sequence[Chain], draws: Draw, images: Array, name: str) -> Array:
    """Every view of one name has draws of its own, apart from those of other names by a checksum of the name.

    Consecutive views by the same chain are made together, so that eight local views are compiled once.
    """
    salt = zlib.crc32(name.encode()) % 2**31
    made = []
    for chain, group in itertools.groupby(enumerate(chains), key=lambda numbered: numbered[1]):
        own = [jax.vmap(lambda draw, number=number: draw.fold_in(salt + number))(draws) for number, _ in group]
        of_views = jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)
        made.append(jax.vmap(jax.vmap(chain), in_axes=(0, None), out_axes=1)(of_views, images))
    return jnp.concatenate(made, axis=1)


def _choose_caption(examples: Mapping[str, Array], draws: Draw) -> dict[str, Array]:
    """Replaces the captions ``[batch, captions, bytes or tokens]`` of images by one each, drawn for this visit."""

    def choose(key: Key[Array, ""], count: Int[Array, ""], captions: Array) -> Array:
        return captions[jax.random.randint(jax.random.fold_in(key, jnp.uint32(_CAPTIONS)), (), 0, count)]

    there = [name for name in ("caption", "tokens") if name in examples]
    return {name: jax.vmap(choose)(draws.key, examples["num_captions"], examples[name]) for name in there}
