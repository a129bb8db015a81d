"""The masked autoencoder is that of the released code, sees only what it may, and is judged on the rest."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of

from tools.golden_cases import weights
from vision import models
from vision.objectives.masked_autoencoder import masked_autoencoder, num_kept, patch_targets, random_order
from vision.training.accumulate import loss_and_gradients
from vision.training.sharding import batch_sharding

MODULE = importlib.import_module("vision.objectives.masked_autoencoder")  # the package has the function by this name
TINY = {"width": 16, "depth": 1, "num_heads": 2, "mlp_dim": 64, "patch_size": 4, "positions": "sincos2d"}
DECODER = {"decoder_width": 8, "decoder_depth": 1, "decoder_num_heads": 2}
SHAPE = (12, 12, 3)
SPEC = {"image": jax.ShapeDtypeStruct((2, *SHAPE), jnp.float32)}
IMAGES = weights.images((2, 3, 12, 12)).transpose(0, 2, 3, 1)
# What hides patches in the reference: the patches of each image in the order of these numbers, the first two are seen.
NOISE = np.array(
    [[0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6], [0.2, 0.8, 0.4, 0.6, 0.1, 0.9, 0.7, 0.3, 0.5]], np.float32
)
# github.com/facebookresearch/mae, models_mae.py, MaskedAutoencoderViT of this size (timm 1.0.31, PyTorch 2.14) with
# the weights and images of tools/golden_cases/weights.py, NOISE for torch.rand, and the positions of sincos_2d written
# out: the loss, and products of `on_direction` with the prediction and with gradients under the names there.
PREDICTION = 23.07709988794237
LOSS = {True: 1.434501051902771, False: 1.480687141418457}
GRADIENTS = {
    "cls_token": 0.057866454124450684,
    "mask_token": 0.26749616861343384,
    "patch_embed.proj.weight": 0.20886550843715668,
    "blocks.0.attn.qkv.weight": -0.43561920523643494,
    "norm.weight": 0.11101685464382172,
    "decoder_embed.weight": 0.5078170299530029,
    "decoder_blocks.0.mlp.fc1.weight": -0.35439518094062805,
    "decoder_pred.bias": 0.09498371183872223,
}
_PARTS = {
    "attention/out": "attn.proj",
    "attention/qkv": "attn.qkv",
    "attention_norm": "norm1",
    "mlp/hidden": "mlp.fc1",
    "mlp/out": "mlp.fc2",
    "mlp_norm": "norm2",
    "backbone/norm": "norm",
    "backbone/patch_embedding": "patch_embed.proj",
    "head/embedding": "decoder_embed",
    "head/norm": "decoder_norm",
    "head/pixels": "decoder_pred",
}


def build(**options):
    return models.build("vit/B16", num_classes=0, **{"image_shape": SHAPE, **TINY, **options})


def their_name(path):
    """The reference's name of one of our arrays."""
    if path.endswith("_token"):
        return {"backbone/class_token": "cls_token", "head/mask_token": "mask_token"}[path]
    for ours, theirs in (("backbone/encoder/block0", "blocks."), ("head/blocks/block0", "decoder_blocks.")):
        path = path.replace(ours, theirs)
    part, _, leaf = path.rpartition("/")
    prefix, _, rest = part.partition("/") if "blocks." in part else ("", "", part)
    return ".".join(filter(None, [prefix, _PARTS[rest], "bias" if leaf == "bias" else "weight"]))


def to_theirs(path, array):
    """One of our arrays in the reference's layout; kernels of ours have the inputs first."""
    if "qkv" in path:
        return array.reshape(array.shape[0], -1).T if path.endswith("kernel") else array.reshape(-1)
    if path.endswith("patch_embedding/kernel"):
        return array.reshape(4, 4, 3, -1).transpose(3, 2, 0, 1)
    if path.endswith("_token"):
        return array.reshape(1, 1, -1)
    return array.T if path.endswith("kernel") else array


def as_drawn(path, shape):
    """The reference's weights in our layout."""
    place = to_theirs(path, np.arange(np.prod(shape)).reshape(shape))
    drawn = weights.drawn(their_name(path), place.shape)
    ours = np.empty(int(np.prod(shape)), np.float32)
    ours[place.reshape(-1)] = drawn.reshape(-1)
    return ours.reshape(shape)


def path_of(path):
    return jax.tree_util.keystr(path, simple=True, separator="/")


@functools.cache
def drawn_params():
    objective = masked_autoencoder(build(), **DECODER)
    shapes, _ = jax.eval_shape(lambda key: objective.init(key, SPEC), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: as_drawn(path_of(path), leaf.shape), shapes)


@functools.cache
def compiled():
    """``(params, images, order) -> ((loss, outputs), gradients)`` with the patches in a given order."""
    objective = masked_autoencoder(build(), **DECODER)

    def loss(params, images, order):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MODULE, "random_order", lambda keys, batch, grid: order)
            outputs, extra = objective.forward(params, {"collections": {}}, {"image": images}, None, True)
        return objective.loss(params, outputs, extra, {"image": images}, 0)[0], outputs

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def run(images=IMAGES):
    return compiled()(drawn_params(), images, np.argsort(NOISE, axis=1))


def test_losses_and_prediction_are_those_of_the_released_code():
    (loss, outputs), _ = run()
    assert float(loss) == pytest.approx(LOSS[True], rel=1e-5)
    plain = masked_autoencoder(build(), normalise_pixels=False, **DECODER)
    assert float(plain.loss({}, outputs, {}, {"image": jnp.asarray(IMAGES)}, 0)[0]) == pytest.approx(
        LOSS[False], rel=1e-5
    )
    product = weights.on_direction("prediction", np.asarray(outputs["predicted"]))
    assert product == pytest.approx(PREDICTION, rel=1e-4)


def test_gradients_are_those_of_the_released_code():
    _, gradients = run()
    flat = {path_of(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(gradients)[0]}
    found = {their_name(path): weights.on_direction(their_name(path), to_theirs(path, g)) for path, g in flat.items()}
    for name, expected in GRADIENTS.items():
        assert found[name] == pytest.approx(expected, rel=1e-3, abs=1e-6), name


def test_size_is_the_released_one():
    """mae_vit_base_patch16 of models_mae.py without its fixed positions has 111,655,680 parameters."""
    model = models.build("vit/B16", num_classes=0, positions="sincos2d")
    spec = {"image": jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)}
    params, _ = jax.eval_shape(lambda key: masked_autoencoder(model).init(key, spec), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 111_655_680


def test_hidden_pixels_change_no_prediction_and_seen_ones_do():
    (_, outputs), _ = run()
    hidden = np.argsort(np.argsort(NOISE, axis=1), axis=1) >= 2
    np.testing.assert_array_equal(outputs["hidden"], hidden)
    patches = IMAGES.reshape(2, 3, 4, 3, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 9, 48)

    def predicted(where):
        changed = patches + where[..., None]
        images = changed.reshape(2, 3, 3, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(IMAGES.shape)
        return np.asarray(run(images)[0][1]["predicted"])

    np.testing.assert_array_equal(predicted(hidden), outputs["predicted"])
    assert np.abs(predicted(~hidden) - outputs["predicted"]).max() > 1e-2


def test_loss_is_of_hidden_patches_alone():
    objective = masked_autoencoder(build(), **DECODER)
    targets = np.asarray(patch_targets(jnp.asarray(IMAGES), 4, normalise=True))
    hidden = np.zeros((2, 9), np.float32)
    hidden[:, [1, 5]] = 1.0
    predicted = np.where(hidden[..., None] > 0, targets + 0.5, 100.0)
    outputs = {"predicted": jnp.asarray(predicted), "hidden": jnp.asarray(hidden)}
    loss, _ = objective.loss({}, outputs, {}, {"image": jnp.asarray(IMAGES)}, 0)
    assert float(loss) == pytest.approx(0.25, rel=1e-5)


def test_targets_are_patches_row_by_row_normalised_each_on_its_own():
    plain, normal = (np.asarray(patch_targets(jnp.asarray(IMAGES), 4, normalise=each)) for each in (False, True))
    for row, column in ((0, 0), (1, 2), (2, 1)):
        patch = IMAGES[1, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].reshape(-1)
        np.testing.assert_array_equal(plain[1, 3 * row + column], patch)
        expected = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
        np.testing.assert_allclose(normal[1, 3 * row + column], expected, rtol=1e-4, atol=1e-5)


def test_what_is_hidden_belongs_to_the_example_and_is_uniform():
    keys = jax.random.split(jax.random.key(3), 3000)
    draw = jax.jit(lambda keys: random_order(keys, len(keys), (3, 3)))
    order = np.asarray(draw(keys))
    assert (np.sort(order, axis=1) == np.arange(9)).all()
    np.testing.assert_array_equal(order[1::2], draw(keys[1::2]))
    seen = np.bincount(order[:, :2].reshape(-1), minlength=9) / len(keys)
    assert np.abs(seen - 2 / 9).max() < 4 * np.sqrt(2 / 9 * 7 / 9 / len(keys))
    # Without keys, as where only shapes are asked for, all examples have one order.
    assert len(np.unique(random_order(None, 4, (3, 3)), axis=0)) == 1


def test_three_quarters_are_hidden():
    assert num_kept((224, 224, 3), 16, 0.75) == 49  # of 196; He et al. 2022, section 3
    with pytest.raises(ValueError, match="1x2 patches leaves 0"):
        num_kept((4, 8, 3), 4, 0.75)


def applied(**options):
    model = build(image_shape=(8, 12, 3), **options)
    spec = jax.ShapeDtypeStruct((1, 8, 12, 3), jnp.float32)
    params = jax.jit(lambda key: jax.tree.map(lambda p: 5 * p, model.init(key, spec)[0]))(jax.random.key(0))
    return jax.jit(lambda x, kept: model.apply(params, {}, x, keys=None, train=False, kept=kept)[1])


def test_kept_patches_keep_their_positions():
    """All patches in another order give the class token of all in order: a patch carries its own position."""
    apply = applied(positions="rotary", num_registers=1)
    images = IMAGES[:, :8]
    whole = apply(images, None)
    order = np.array([[3, 0, 5, 1, 4, 2], [5, 4, 3, 2, 1, 0]])
    moved = apply(images, order)
    np.testing.assert_allclose(moved["class_token"], whole["class_token"], rtol=1e-4, atol=1e-5)
    tokens = np.take_along_axis(np.asarray(whole["patch_tokens"]), order[..., None], axis=1)
    np.testing.assert_allclose(moved["patch_tokens"], tokens, rtol=1e-4, atol=1e-4)


def test_encoding_uses_all_patches():
    objective = masked_autoencoder(build(), **DECODER)
    features = jax.jit(objective.encode)(
        {"backbone": drawn_params()["backbone"]}, {"collections": {}}, {"image": IMAGES}
    )
    assert features["patch_tokens"].shape == (2, 9, 16)
    np.testing.assert_array_equal(features["output"], features["class_token"])


@functools.cache
def gradients(microbatches, devices):
    objective = masked_autoencoder(build(dropout=0.2), **DECODER)
    batch = {"image": jax.random.normal(jax.random.key(8), (32, *SHAPE))}
    batch, keys = jax.device_put((batch, jax.random.split(jax.random.key(9), 32)), batch_sharding(mesh_of(devices)))

    @jax.jit
    def run(params, batch, keys):
        extra = {"collections": {}}
        return loss_and_gradients(objective, params, extra, batch, keys, jnp.int32(0), microbatches=microbatches)[:2]

    return jax.device_get(run(drawn_params(), batch, keys))


@pytest.mark.slow
@pytest.mark.parametrize(("microbatches", "devices"), [(4, 1), (1, 8), (4, 8)])
def test_gradients_are_the_same_in_parts_and_on_eight_devices(microbatches, devices):
    (loss, whole), (other, parts) = gradients(1, 1), gradients(microbatches, devices)
    assert float(other) == pytest.approx(float(loss), rel=1e-6)
    size = max(np.abs(leaf).max() for leaf in jax.tree.leaves(whole))
    for one, two in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        assert np.abs(one - two).max() < 5e-6 * size


def test_a_model_without_a_class_token_is_decoded_from_patches_alone():
    objective = masked_autoencoder(build(class_token=False, pool="gap"), **DECODER)

    def forward(key):
        params, extra = objective.init(key, SPEC)
        return objective.forward(params, extra, {"image": jnp.asarray(IMAGES)}, None, True)[0]

    assert jax.eval_shape(forward, jax.random.key(0))["predicted"].shape == (2, 9, 48)


def test_other_models_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^masked_autoencoder hides patches of a vit/\S+, this model is a ResNet$"):
        masked_autoencoder(models.build("resnet/20", num_classes=0))


@pytest.mark.parametrize(
    ("options", "of_model", "match"),
    [
        ({"mask_ratio": 1.0}, {}, "mask_ratio"),
        ({"mask_ratio": 0.95}, {}, "3x3 patches leaves 0"),
        ({"decoder_depth": 0}, {}, "decoder_depth"),
        ({"decoder_width": 12, "decoder_num_heads": 5}, {}, "decoder_num_heads"),
        ({"decoder_width": 10, "decoder_num_heads": 2}, {}, "multiple of 4"),
        ({}, {"patch_dropout": 0.5}, "patch_dropout=0"),
        ({}, {"patch_size": 1}, "more than one pixel"),
    ],
)
def test_impossible_options_are_refused(options, of_model, match):
    with pytest.raises(ValueError, match=match):
        masked_autoencoder(build(**of_model), **options)
