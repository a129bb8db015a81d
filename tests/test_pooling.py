"""Convolutions, poolings and normalisations compute what their formulas say."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from scipy.signal import convolve2d, correlate2d

from vision.models.convolution import conv, framed, output_size
from vision.models.depthwise import depthwise
from vision.models.normalization import batch_norm, local_response_norm, normalized
from vision.models.platform import compiled_for
from vision.models.pooling import adaptive_average_pool, average_pool, global_average_pool, max_pool, maxout

FLOAT32 = {"dtype": jnp.dtype("float32"), "param_dtype": jnp.dtype("float32")}
NUMBERS = np.random.default_rng(0)


def drawn(*shape):
    return NUMBERS.normal(size=shape).astype(np.float32)


def run(function, *arrays, **options):
    return np.asarray(jax.jit(partial(function, **options))(*arrays))


def convolved(images, kernel, **options):
    layer = conv(kernel.shape[-1], len(kernel), **options, **FLOAT32, name="conv")
    return np.asarray(jax.jit(lambda x, k: layer.apply({"params": {"kernel": k}}, x))(images, kernel))


def of_scipy(function, images, kernel, padding, groups=1):
    """Each output channel as a sum over the input channels of its group."""
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    size, outputs = kernel.shape[2:]

    def of_channel(image, out):
        first = out // (outputs // groups) * size
        return sum(function(image[..., first + i], kernel[..., i, out], "valid") for i in range(size))

    return np.stack([np.stack([of_channel(image, out) for out in range(outputs)], -1) for image in padded])


def test_a_layer_correlates_and_convolves_with_the_flipped_kernel():
    images, kernel = drawn(2, 7, 9, 3), drawn(3, 3, 3, 4)
    np.testing.assert_allclose(convolved(images, kernel), of_scipy(correlate2d, images, kernel, 1), atol=1e-5)
    flipped = kernel[::-1, ::-1]
    np.testing.assert_allclose(convolved(images, flipped), of_scipy(convolve2d, images, kernel, 1), atol=1e-5)


def test_a_stride_keeps_every_second_window_from_the_first_on_and_not_those_of_xla_s_same():
    images, kernel = drawn(1, 8, 8, 2), drawn(3, 3, 2, 2)
    whole = of_scipy(correlate2d, images, kernel, 1)
    np.testing.assert_allclose(convolved(images, kernel, stride=2), whole[:, ::2, ::2], atol=1e-5)
    same = lax.conv_general_dilated(images, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(same[:, :-1, :-1], whole[:, 1:-1:2, 1:-1:2], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        (224, {"kernel": 7, "stride": 2, "padding": 3}, 112),  # ResNet, stem
        (112, {"kernel": 3, "stride": 2, "padding": 1}, 56),  # ResNet, pooling
        (227, {"kernel": 11, "stride": 4}, 55),  # AlexNet
        (224, {"kernel": 11, "stride": 4}, 54),  # AlexNet as the paper has it, which is not its 55
        (224, {"kernel": 11, "stride": 4, "padding": 2}, 55),
        (55, {"kernel": 3, "stride": 2}, 27),
        (28, {"kernel": 5, "padding": 2}, 28),
        (5, {"kernel": 3, "dilation": 2}, 1),
        (4, {"kernel": 3, "dilation": 2}, 0),
        (4, {"kernel": 7}, 0),
    ],
)
def test_output_sizes(size, options, expected):
    assert output_size(size, **options) == expected


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
def test_layers_and_poolings_have_the_output_size_of_the_formula(kernel):
    for size, stride, padding in ((7, 1, 0), (8, 2, 1), (9, 3, 0), (11, 4, 1)):
        spec = jax.ShapeDtypeStruct((1, size, size + 1, 2), jnp.float32)
        layer = conv(3, kernel, stride=stride, padding=padding, **FLOAT32, name="conv")
        of = partial(output_size, kernel=kernel, stride=stride, padding=padding)
        pooled = jax.eval_shape(partial(max_pool, size=kernel, stride=stride, padding=padding), spec)
        convolved, _ = jax.eval_shape(layer.init_with_output, jax.random.key(0), spec)
        assert convolved.shape == (1, of(size), of(size + 1), 3)
        assert pooled.shape == (1, of(size), of(size + 1), 2)


def test_groups_do_not_see_each_other():
    images, kernel = drawn(2, 6, 5, 4), drawn(3, 3, 2, 6)
    expected = of_scipy(correlate2d, images, kernel, 1, groups=2)
    np.testing.assert_allclose(convolved(images, kernel, groups=2), expected, atol=1e-5)
    stepped = convolved(images, kernel, groups=2, stride=2)
    np.testing.assert_allclose(stepped, expected[:, ::2, ::2], atol=1e-5)


def test_a_group_for_each_channel():
    images, kernel = drawn(2, 6, 5, 3), drawn(5, 5, 1, 3)
    expected = of_scipy(correlate2d, images, kernel, 2, groups=3)
    np.testing.assert_allclose(convolved(images, kernel, groups=3), expected, atol=1e-5)
    np.testing.assert_allclose(convolved(images, kernel, groups=3, stride=2), expected[:, ::2, ::2], atol=1e-5)


def test_derivatives_of_the_convolution_of_each_channel_in_all_orders_of_differentiation():
    images, kernel = drawn(2, 5, 4, 2), drawn(3, 3, 1, 2)
    padding = ((1, 1), (0, 2))

    def xla(x, k):
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, k, (1, 1), padding, dimension_numbers=layout, feature_group_count=2)

    def derivatives(function):
        loss = lambda x, k: jnp.sin(function(x, k)).sum()  # noqa: E731
        gradient = jax.grad(loss, argnums=(0, 1))
        forward = jax.jvp(function, (images, kernel), (images + 1, kernel - 1))
        forward_over_reverse = jax.jvp(gradient, (images, kernel), (images, kernel))[1]
        reverse_over_reverse = jax.grad(lambda k: jnp.square(gradient(images, k)[0]).sum())(kernel)
        return forward, gradient(images, kernel), forward_over_reverse, reverse_over_reverse

    ours = jax.jit(lambda: derivatives(partial(depthwise, padding=padding)))()
    theirs = jax.jit(lambda: derivatives(xla))()
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), ours, theirs)


def test_an_image_is_framed_by_zeros_all_around():
    images = drawn(1, 28, 27, 1)
    np.testing.assert_array_equal(run(framed, images, field=32), np.pad(images, ((0, 0), (2, 2), (2, 3), (0, 0))))
    np.testing.assert_array_equal(run(framed, images, field=20), images)


def windows(x, size, stride, padding, reduce):
    """The definition, window by window."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=-np.inf)
    rows, columns = ((length - size) // stride + 1 for length in x.shape[1:3])
    pick = lambda i, j: x[:, i * stride : i * stride + size, j * stride : j * stride + size]  # noqa: E731
    return np.stack([np.stack([reduce(pick(i, j), axis=(1, 2)) for j in range(columns)], 1) for i in range(rows)], 1)


@pytest.mark.parametrize("compiled_for_platform", ["cpu", "tpu"])
@pytest.mark.parametrize(("size", "stride", "padding"), [(2, None, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0)])
def test_max_pooling(size, stride, padding, compiled_for_platform):
    x = drawn(2, 8, 9, 3) - 5  # a padding of zeros would win
    expected = windows(x, size, stride or size, padding, np.max)
    with compiled_for(compiled_for_platform):
        np.testing.assert_array_equal(run(max_pool, x, size=size, stride=stride, padding=padding), expected)


@pytest.mark.parametrize("compiled_for_platform", ["cpu", "tpu"])
def test_the_gradient_of_max_pooling_goes_to_the_largest_pixel_of_each_window(compiled_for_platform):
    x = NUMBERS.permutation(35).reshape(1, 5, 7, 1).astype(np.float32)
    expected = np.zeros_like(x)
    for i in (0, 2):
        for j in (0, 2, 4):
            row, column = np.unravel_index(x[0, i : i + 3, j : j + 3, 0].argmax(), (3, 3))
            expected[0, i + row, j + column] += 1
    with compiled_for(compiled_for_platform):
        gradient = jax.jit(jax.grad(lambda x: max_pool(x, 3, stride=2).sum()))(x)
    np.testing.assert_array_equal(gradient, expected)


def test_average_pooling_leaves_out_what_fills_no_window():
    x = drawn(2, 7, 6, 3)
    np.testing.assert_allclose(run(average_pool, x, size=2), windows(x, 2, 2, 0, np.mean), atol=1e-6)
    np.testing.assert_allclose(run(global_average_pool, x), x.mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize("shape", [(14, 7), (13, 9), (7, 7), (1, 1), (3, 20), (8, 224)])
def test_adaptive_average_pooling_reaches_seven_pixels_from_any_size(shape):
    x = drawn(2, *shape, 3)
    expected = np.empty((2, 7, 7, 3))
    for i in range(7):
        for j in range(7):
            rows, columns = (
                slice(int(np.floor(k * n / 7)), int(np.ceil((k + 1) * n / 7)))
                for k, n in zip((i, j), shape, strict=True)
            )
            expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(run(adaptive_average_pool, x, size=7), expected, atol=1e-5)


def test_maxout_takes_the_largest_of_neighbouring_channels():
    x = jnp.asarray([[1.0, 5, 2, -7, -3, -4]])
    np.testing.assert_array_equal(maxout(x, 2), [[5, 2, -3]])
    np.testing.assert_array_equal(maxout(x, 3), [[5, -3]])
    with pytest.raises(ValueError, match="6 channels cannot be cut into groups of 4"):
        maxout(x, 4)


def test_local_response_normalisation_is_the_paper_s_formula():
    x, size, scale = drawn(1, 2, 2, 7) * 30, 5, 1e-4
    expected = np.empty_like(x)
    for i in range(7):
        neighbours = x[..., max(0, i - size // 2) : min(6, i + size // 2) + 1]
        expected[..., i] = x[..., i] / (2 + scale * np.square(neighbours).sum(-1)) ** 0.75
    np.testing.assert_allclose(run(local_response_norm, x), expected, rtol=1e-5)
    assert np.abs(expected - x * 2**-0.75).max() > 0.1, "the neighbours count"


def test_normalisation_stands_before_or_after_the_activation():
    x, norm = jnp.asarray([-2.0, 3.0]).reshape(1, 1, 1, 2), lambda x: 1 - x
    np.testing.assert_array_equal(normalized(x, norm, "before").ravel(), [3, 0])
    np.testing.assert_array_equal(normalized(x, norm, "after").ravel(), [1, -2])


def normed(x, **options):
    norm: Any = batch_norm(train=True, **{**FLOAT32, **options}, name="norm")
    apply = partial(norm.func.apply, **norm.keywords)
    start = {"params": {"scale": jnp.ones(x.shape[-1]), "bias": jnp.zeros(x.shape[-1])}}
    start["batch_stats"] = {"mean": jnp.zeros(x.shape[-1]), "var": jnp.ones(x.shape[-1])}
    return jax.jit(lambda x: apply(start, x, mutable=["batch_stats"]))(x)


def test_batch_statistics_are_those_of_the_global_batch_on_eight_devices():
    x = drawn(16, 2, 3, 4) * (1 + np.arange(16, dtype=np.float32).reshape(-1, 1, 1, 1)) + 2
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    sharding = NamedSharding(mesh_of(8), PartitionSpec("data"))
    y, after = normed(jax.device_put(x, sharding))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-5)
    np.testing.assert_allclose(after["batch_stats"]["mean"], 0.1 * mean, rtol=1e-5)
    # Biased: PyTorch's would be 96 / 95 of the variance.
    np.testing.assert_allclose(after["batch_stats"]["var"], 0.9 + 0.1 * variance, rtol=1e-5)


def test_batch_statistics_survive_a_mean_far_from_zero_and_half_precision():
    x = drawn(64, 4, 4, 2) + np.float32(1000)
    y, _ = normed(x)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, atol=1e-3)
    half = jnp.asarray(drawn(64, 8, 8, 2) + 3, jnp.bfloat16)
    _, after = normed(half, dtype=jnp.dtype("bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {jnp.dtype("float32")}
    exact = np.asarray(half, np.float64)
    np.testing.assert_allclose(after["batch_stats"]["mean"], 0.1 * exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(after["batch_stats"]["var"], 0.9 + 0.1 * exact.var((0, 1, 2)), rtol=1e-5)


def test_kernels_start_with_the_deviation_of_he_over_the_outputs():
    layer = conv(64, 3, **FLOAT32, name="conv")
    kernel = layer.init(jax.random.key(0), jnp.zeros((1, 1, 1, 32)))["params"]["kernel"]
    assert float(kernel.std()) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.03)
    assert float(jnp.abs(kernel).max()) > 3 * float(kernel.std()), "normal and not truncated"
