"""CLIP's and SigLIP's towers have their published sizes and start as they did."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision import models
from vision.errors import ConfigError
from vision.interop.pair import abstract_pair
from vision.interop.published_pairs import PAIRS

# Of both towers with projections and scale: the tables of OpenAI and open_clip, and the metadata of their weights.
COUNTS = {
    "clip/ViT-S16": 62_257_537,
    "clip/ViT-B32": 151_277_313,
    "clip/ViT-B16": 149_620_737,
    "clip/ViT-L14": 427_616_513,
    "clip/ViT-L14_336": 427_944_193,
    "clip/RN50": 102_007_137,
    "siglip/B16": 203_155_970,
}
SMALL = {"stage_sizes": (1, 1, 1, 1), "width": 4, "out_size": 8}


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", PAIRS)
def test_published_sizes(name):
    variant = PAIRS[name]
    shape = models.VARIANTS[variant.image].image_shape
    scan = {} if "resnet" in variant.image else {"scan": True}  # one block is traced in the place of all
    model = models.build(variant.image, num_classes=0, image_shape=shape, **scan)
    text = models.build_text(variant.text, out_size=variant.embed_dim, scan=True)
    joined = {"image_projection": variant.image_projection, "bias": variant.bias}
    params, _ = abstract_pair(model, text, shape, embed_dim=variant.embed_dim, **joined)
    assert size(params) == COUNTS[name]
    assert params.keys() - {"projection", "bias"} == {"backbone", "text", "scale"}
    if name == "clip/ViT-B32":
        assert size(params["backbone"]) + size(params["projection"]) == 87_849_216
        assert size(params["text"]) == 63_428_096
    if name == "siglip/B16":
        assert size(params["backbone"]) == 92_884_224


def test_every_branch_of_the_resnet_is_silent_at_first():
    model = models.build("clip_resnet/50", num_classes=0, image_shape=(64, 64, 3), **SMALL)
    params, collections = jax.jit(lambda key: model.init(key, jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)))(
        jax.random.key(0)
    )
    for block in (params[f"block{number:02}"] for number in range(4)):
        assert not np.any(block["norm3"]["scale"])
        assert np.all(block["norm1"]["scale"] == 1)
    assert not jnp.allclose(params["pool"]["mean_position"], 0)
    assert "batch_stats" in collections


def test_the_mean_asks_and_is_itself_among_what_answers():
    """A map that is the same everywhere: every value but for its position is the same, and so is the outcome."""
    options = {**SMALL, "resize_positions": True}
    model = models.build("clip_resnet/50", num_classes=0, image_shape=(64, 64, 3), **options)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    params, collections = jax.jit(lambda key: model.init(key, images))(jax.random.key(0))
    params["pool"]["mean_position"] = jnp.zeros_like(params["pool"]["mean_position"])
    params["pool"]["position_embedding"] = jnp.zeros_like(params["pool"]["position_embedding"])
    apply = jax.jit(lambda x: model.apply(params, collections, x, keys=None, train=False)[:2])
    output, features = apply(jax.random.normal(jax.random.key(1), (2, 32, 32, 3)))
    pixel = np.asarray(features["block03"])[:, 0, 0]  # 32 pixels leave one, which is its own mean
    pool = params["pool"]
    value = pixel @ pool["key_value"]["kernel"][:, 1] + pool["key_value"]["bias"][1]
    np.testing.assert_allclose(output, value @ pool["out"]["kernel"] + pool["out"]["bias"], atol=1e-5)


def test_positions_for_images_of_another_size_are_resized_or_refused():
    fixed = models.build("clip_resnet/50", num_classes=0, image_shape=(64, 64, 3), **SMALL)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    params, collections = jax.eval_shape(lambda key: fixed.init(key, images), jax.random.key(0))
    larger = jax.ShapeDtypeStruct((1, 96, 64, 3), jnp.float32)
    apply = lambda model: jax.eval_shape(  # noqa: E731
        lambda *given: model.apply(*given, keys=None, train=False)[0], params, collections, larger
    )
    with pytest.raises(ValueError, match="built for images of 64x64x3"):
        apply(fixed)
    free = models.build("clip_resnet/50", num_classes=0, image_shape=(64, 64, 3), resize_positions=True, **SMALL)
    assert apply(free).shape == (1, 8)
    with pytest.raises(ConfigError, match="multiples of 32 pixels, the images have 60x64"):
        models.build("clip_resnet/50", num_classes=0, image_shape=(60, 64, 3))


def test_the_image_tower_starts_from_the_deviations_of_clip():
    options = {"patch_size": 4, "width": 64, "depth": 2, "num_heads": 2, "mlp_dim": 256}
    model = models.build("vit/B32_clip", num_classes=0, image_shape=(16, 16, 3), **options)
    images = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    params, _ = jax.jit(lambda key: model.init(key, images))(jax.random.key(0))
    assert "bias" not in params["patch_embedding"]
    block = params["encoder"]["block01"]
    for leaf, deviation in (
        (params["position_embedding"], 64**-0.5),
        (params["class_token"], 64**-0.5),
        (block["attention"]["qkv"]["kernel"], 64**-0.5),
        (block["attention"]["out"]["kernel"], 64**-0.5 / 2),
        (block["mlp"]["out"]["kernel"], 64**-0.5 / 2),
        (block["mlp"]["hidden"]["kernel"], 128**-0.5),
    ):
        assert np.std(leaf) == pytest.approx(deviation, rel=0.3 if leaf.size < 100 else 0.06)
