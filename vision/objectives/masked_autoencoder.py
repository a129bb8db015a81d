"""Learning by painting in what is hidden: the masked autoencoder."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vision.models.interface import ImageShape, Model
from vision.models.masked_decoder import MaskedDecoder
from vision.models.patches import patch_grid, patchify
from vision.models.positions import sincos_2d
from vision.models.vit import ViT
from vision.objectives.base import Metrics, Objective, keep_extra


def masked_autoencoder(
    model: Model,
    *,
    mask_ratio: float = 0.75,
    normalise_pixels: bool = True,
    decoder_width: int = 512,
    decoder_depth: int = 8,
    decoder_num_heads: int = 16,
) -> Objective:
    """Returns the objective of MAE (He et al. 2022): the pixels of hidden patches from those that are seen.

    Batches bring ``image``. The model sees ``int(patches (1 - mask_ratio))`` patches of each image, drawn by the
    example's key (without keys the same for all); a decoder that only training has predicts the pixels of all
    patches. The loss is the mean over hidden patches of the mean squared error of their pixels.

    Args:
      model: a ViT.
      mask_ratio: share of the patches that are hidden, in (0, 1).
      normalise_pixels: predict each patch with its own mean and standard deviation taken out.
      decoder_width: of the decoder's tokens.
      decoder_depth: its blocks.
      decoder_num_heads: of its attention.

    Raises:
      ValueError: the model is no ViT, hides patches itself or has too few, or an option is out of range.
    """
    if not isinstance(model.module, ViT):
        raise ValueError(
            f"masked_autoencoder hides patches of a vit/..., this model is a {type(model.module).__name__}"
        )
    if model.module.patch_dropout:
        raise ValueError("masked_autoencoder hides patches; it needs a model with patch_dropout=0")
    if not 0.0 < mask_ratio < 1.0:
        raise ValueError(f"mask_ratio must be in (0, 1), got {mask_ratio}")
    for name, size in (("width", decoder_width), ("depth", decoder_depth), ("num_heads", decoder_num_heads)):
        if size < 1:
            raise ValueError(f"decoder_{name} must be at least 1, got {size}")
    if decoder_width % decoder_num_heads:
        raise ValueError(f"decoder_num_heads {decoder_num_heads} does not divide the decoder_width {decoder_width}")
    sincos_2d((1, 1), decoder_width)  # the decoder's positions need some widths
    if normalise_pixels and model.module.patch_size == 1:
        raise ValueError("normalise_pixels needs a model with a patch_size of more than one pixel")
    if model.image_shape is not None:
        num_kept(model.image_shape, model.module.patch_size, mask_ratio)
    patch_size = model.module.patch_size

    def decoder(image_shape):
        return MaskedDecoder(
            patch_pixels=patch_size * patch_size * image_shape[2],
            grid=patch_grid(image_shape, patch_size),
            width=decoder_width,
            depth=decoder_depth,
            num_heads=decoder_num_heads,
            dtype=model.precision.compute,
            param_dtype=model.precision.params,
        )

    def init(key, batch_spec):
        image = batch_spec["image"]
        of_backbone, of_head = jax.random.split(key)
        params, collections = model.init(of_backbone, image)
        shape = image.shape[1:]
        kept, width = num_kept(shape, patch_size, mask_ratio), model.module.width
        class_token = jnp.zeros((1, width)) if model.module.class_token else None
        rows, columns = patch_grid(shape, patch_size)
        restore = jnp.arange(rows * columns)[None]
        variables: Any = decoder(shape).init(of_head, jnp.zeros((1, kept, width)), class_token, restore)
        return {"backbone": params, "head": variables["params"]}, {"collections": collections}

    def forward(params, extra, batch, keys, train):
        images = batch["image"]
        shape = images.shape[1:]
        kept = num_kept(shape, patch_size, mask_ratio)
        order = random_order(keys, len(images), patch_grid(shape, patch_size))
        restore = jnp.argsort(order, axis=1)
        own = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, 1)
        _, features, collections = model.apply(
            params["backbone"], extra["collections"], images, keys=own, train=train, kept=order[:, :kept]
        )
        seen, class_token = features["patch_tokens"], features.get("class_token")
        predicted: Any = decoder(shape).apply({"params": params["head"]}, seen, class_token, restore)
        outputs = {"predicted": predicted, "hidden": (restore >= kept).astype(jnp.float32)}
        return outputs, {**extra, "collections": collections}

    def loss(params, outputs, extra, batch, step):
        wanted = patch_targets(batch["image"], patch_size, normalise=normalise_pixels)
        errors = jnp.mean(jnp.square(outputs["predicted"].astype(jnp.float32) - wanted), axis=-1)
        hidden = outputs["hidden"]
        losses = jnp.sum(errors * hidden, axis=1) / jnp.sum(hidden, axis=1)
        metrics: Metrics = {}
        return jnp.mean(losses), (extra, metrics)

    def encode(params, extra, batch):
        output, features, _ = model.apply(
            params["backbone"], extra["collections"], batch["image"], keys=None, train=False
        )
        return {**features, "output": output}

    return Objective(init, forward, loss, keep_extra, encode, separable=True)


def num_kept(image_shape: ImageShape, patch_size: int, mask_ratio: float) -> int:
    """Returns how many patches are seen.

    Raises:
      ValueError: none, or patches do not divide the image.
    """
    rows, columns = patch_grid(image_shape, patch_size)
    kept = int(rows * columns * (1.0 - mask_ratio))
    if not 0 < kept < rows * columns:
        raise ValueError(f"mask_ratio {mask_ratio} of {rows}x{columns} patches leaves {kept} to be seen")
    return kept


def random_order(keys: Key[Array, " batch"] | None, batch: int, grid: tuple[int, int]) -> Int[Array, "batch patches"]:
    """Returns the patches of each example in an order drawn by its key; without keys, one for all examples."""
    shape = (grid[0] * grid[1],)
    if keys is None:
        return jnp.broadcast_to(jnp.argsort(jax.random.uniform(jax.random.key(0), shape)), (batch, *shape))
    draw = lambda key: jax.random.uniform(jax.random.fold_in(key, 0), shape)  # noqa: E731
    return jnp.argsort(jax.vmap(draw)(keys), axis=1)


def patch_targets(
    images: Float[Array, "batch height width channels"], patch_size: int, *, normalise: bool
) -> Float[Array, "batch patches pixels"]:
    """Returns the pixels of each patch in float32, in the order rows, columns, channels.

    With ``normalise`` each patch is ``(x - mean) / sqrt(var + 1e-6)``, with the unbiased variance over its pixels and
    channels (He et al. 2022, section 3; models_mae.py of the released code).
    """
    patches = patchify(images.astype(jnp.float32), patch_size)
    if not normalise:
        return patches
    mean = jnp.mean(patches, axis=-1, keepdims=True)
    variance = jnp.var(patches, axis=-1, ddof=1, keepdims=True)
    return (patches - mean) / jnp.sqrt(variance + 1e-6)
