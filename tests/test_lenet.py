"""LeNets are the networks of their papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from vision import models
from vision.errors import ConfigError
from vision.models.digit_codes import digit_codes
from vision.models.lenet_1998 import SparseConv, TrainablePool, scaled_tanh


def drawn(model):
    """Parameters for 28x28 grey images, drawn with NumPy, which needs no compilation."""
    spec = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
    shapes, _ = jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0))
    numbers = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(numbers.normal(scale=0.2, size=leaf.shape), jnp.float32), shapes)


def test_layers_of_the_lenet_of_1998_have_the_paper_s_numbers_of_parameters():
    """Section II-B: the text gives the number of every layer."""
    shapes = jax.eval_shape(lambda: drawn(models.build("lenet/5_1998", num_classes=10)))
    numbers = {name: sum(leaf.size for leaf in jax.tree.leaves(layer)) for name, layer in shapes.items()}
    layers = ("conv_0", "pool_0", "conv_1", "pool_1", "hidden_0", "hidden_1")
    assert numbers == dict(zip(layers, (156, 12, 1_516, 32, 48_120, 10_164), strict=True))


# Table I of LeCun et al. 1998: rows are maps of S2, columns maps of C3.
TABLE = """
X . . . X X X . . X X X X . X X
X X . . . X X X . . X X X X . X
X X X . . . X X X . . X . X X X
. X X X . . X X X X . . X . X X
. . X X X . . X X X X . X X . X
. . . X X X . . X X X X . X X X
"""


def test_the_third_layer_of_1998_sees_what_its_table_says():
    connected = np.array([line.split() for line in TABLE.split("\n") if line]) == "X"
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(1, 6, 7, 6)).astype(np.float32)
    layer = SparseConv(jnp.dtype("float32"), jnp.dtype("float32"))
    params = {"kernel": jnp.asarray(numbers.normal(size=(5, 5, 60)), jnp.float32), "bias": jnp.arange(16.0)}
    apply = jax.jit(lambda x: layer.apply({"params": params}, x))
    expected, following = np.zeros((2, 3, 16)) + np.arange(16), iter(np.moveaxis(np.asarray(params["kernel"]), -1, 0))
    for here in range(16):
        for seen in np.flatnonzero(connected[:, here]):
            expected[..., here] += correlate2d(x[0, ..., seen], next(following), "valid")
    np.testing.assert_allclose(apply(x)[0], expected, atol=1e-4)


def test_pooling_and_activation_of_1998():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    pool = TrainablePool(jnp.dtype("float32"), jnp.dtype("float32"))
    y = pool.apply({"params": {"coefficient": jnp.asarray([0.5]), "bias": jnp.asarray([1.0])}}, x)
    np.testing.assert_allclose(y.ravel(), 0.5 * np.array([10, 18, 42, 50]) + 1)
    np.testing.assert_allclose(scaled_tanh(jnp.asarray([-1.0, 0.0, 1.0])), [-1, 0, 1], atol=1e-4)  # appendix A


def test_the_output_of_1998_is_minus_the_squared_distance_to_pictures_of_the_digits():
    codes = digit_codes()
    assert codes.shape == (10, 7 * 12)
    assert set(np.unique(codes)) == {-1.0, 1.0}
    unlike = (codes[:, None] != codes).sum(-1)
    assert (unlike + 84 * np.eye(10) >= 5).all(), "no two digits look the same"
    model = models.build("lenet/5_1998", num_classes=7)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(3, 28, 28, 1)), jnp.float32)
    params = drawn(model)
    run = jax.jit(lambda p: model.apply(p, {}, images, keys=None, train=False))
    output, features, _ = run(params)
    distances = np.square(np.asarray(features["pre_logits"])[:, None] - codes[:7]).sum(-1)
    np.testing.assert_allclose(output, -distances, rtol=1e-4)
    # A network whose F6 is the picture of the four answers 4.
    last = {"kernel": jnp.zeros((120, 84)), "bias": jnp.arctanh(codes[4] / 1.7159) * 1.5}
    output, _, _ = run({**params, "hidden_1": last})
    assert output.argmax(-1).tolist() == [4, 4, 4]
    np.testing.assert_allclose(output[:, 4], 0, atol=1e-6)
    with pytest.raises(ConfigError, match="picture of each of the ten digits, not of 11 classes"):
        models.build("lenet/5_1998", num_classes=11)


def test_small_images_stand_in_the_middle_of_lenet_s_field():
    model, bare = models.build("lenet/5", num_classes=10), models.build("lenet/5", num_classes=10, field=0)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 28, 28, 1)), jnp.float32)
    params = drawn(model)
    padded = jnp.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    run = lambda model, x: jax.jit(lambda x: model.apply(params, {}, x, keys=None, train=False)[0])(x)  # noqa: E731
    np.testing.assert_allclose(run(model, images), run(bare, padded), rtol=1e-5)
