"""Gradients through ReLUs by three rules: what a hand-written backward pass gives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision import models
from vision.analysis.guided import other_activations, relus, through_relus
from vision.analysis.programs import traced

RNG = np.random.default_rng(3)
FIRST, SECOND = RNG.normal(size=(6, 5)).astype(np.float32), RNG.normal(size=(5, 4)).astype(np.float32)
LAST = RNG.normal(size=4).astype(np.float32)
X = jnp.asarray(RNG.normal(size=6), jnp.float32)
RULES = {
    "gradient": lambda g, x: g * (x > 0),
    "deconvnet": lambda g, x: g * (g > 0),
    "guided": lambda g, x: g * (x > 0) * (g > 0),
}


def net(x):
    return nn.relu(nn.relu(x @ FIRST) @ SECOND) @ LAST


@pytest.mark.parametrize("rule", RULES)
def test_a_small_network_goes_back_as_by_hand(rule):
    first = np.asarray(X) @ FIRST
    second = np.maximum(first, 0) @ SECOND
    expected = FIRST @ RULES[rule](SECOND @ RULES[rule](LAST, second), first)
    ruled = through_relus(net, rule)
    assert ruled(X) == pytest.approx(float(net(X)), rel=1e-6), "forwards nothing changes"
    np.testing.assert_allclose(jax.grad(ruled)(X), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.grad(ruled))(X), expected, rtol=1e-5)
    assert np.abs(expected).max() > 0.1
    others = [FIRST @ each(SECOND @ each(LAST, second), first) for name, each in RULES.items() if name != rule]
    assert not any(np.allclose(expected, other) for other in others), "the rules differ on this input"


def test_a_convolution_and_a_pooling_go_back_through_the_maximum():
    kernel = np.array([[1.0, -2.0], [0.5, 1.0]], np.float32).reshape(2, 2, 1, 1)
    image = RNG.normal(size=(1, 5, 5, 1)).astype(np.float32)

    def unit(images):
        maps = jax.lax.conv_general_dilated(images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return -nn.max_pool(nn.relu(maps), (4, 4))[0, 0, 0, 0]

    maps = np.array(
        [[np.sum(image[0, i : i + 2, j : j + 2, 0] * kernel[..., 0, 0]) for j in range(4)] for i in range(4)]
    )
    row, column = np.unravel_index(maps.argmax(), maps.shape)
    expected = np.zeros((5, 5), np.float32)
    expected[row : row + 2, column : column + 2] = -kernel[..., 0, 0]
    plain, guided = (
        jax.grad(through_relus(unit, rule))(jnp.asarray(image))[0, ..., 0] for rule in ("gradient", "guided")
    )
    np.testing.assert_allclose(plain, expected, rtol=1e-5)
    assert not np.any(guided), "a unit that lowers the output is not shown"


def test_relus_inside_jitted_and_recomputed_parts_are_found():
    inner = jax.jit(lambda x: nn.relu(x))
    outer = lambda x: -jnp.sum(jax.checkpoint(inner)(x) + nn.relu(x))  # noqa: E731
    assert relus(jax.make_jaxpr(outer)(X)) == 2
    x = X
    np.testing.assert_array_equal(jax.grad(outer)(x), -2 * (x > 0))
    assert not np.any(jax.grad(through_relus(outer, "guided"))(x))


def test_networks_without_relus_or_with_hidden_ones_are_refused():
    gelu = lambda x: jnp.sum(nn.gelu(x, approximate=False))  # noqa: E731
    with pytest.raises(ValueError, match="no ReLU"):
        through_relus(gelu, "guided")(X)
    np.testing.assert_array_equal(jax.grad(through_relus(gelu, "gradient"))(X), jax.grad(gelu)(X))
    looped = lambda x: jax.lax.fori_loop(0, 3, lambda _, y: nn.relu(y), x).sum()  # noqa: E731
    with pytest.raises(ValueError, match="inside scan|inside while"):
        through_relus(looped, "guided")(X)
    program = jax.make_jaxpr(lambda x: nn.relu(jnp.tanh(x)) + nn.relu6(x))(X)
    assert relus(program) == 1, "what is cut off above has another derivative"
    assert other_activations(program) == ("tanh",)


@pytest.mark.parametrize(("name", "count"), [("lenet/5", 4), ("resnet/20", 19)])
def test_the_relus_of_networks_are_found_on_every_platform(name, count):
    """Two of each block and one behind the stem: 1 + 2 * 9; LeNet-5 has one behind each layer but the last."""
    model = models.build(name, num_classes=10, image_shape=(32, 32, 3))
    spec = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = model.init(jax.random.key(0), spec)

    def logit(image):
        return model.apply(*variables, image, keys=None, train=False)[0][0, 0]

    assert relus(traced(logit)(spec)) == count
    image = jnp.asarray(RNG.normal(size=spec.shape), jnp.float32)
    plain, guided = (jax.grad(through_relus(logit, rule))(image) for rule in ("gradient", "guided"))
    assert np.any(guided)
    assert not np.allclose(plain, guided)
