"""The forms that convolutions take on a CPU give what XLA's convolution gives, and their gradients do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vision import models
from vision.models import few_channels
from vision.models.convolution import conv
from vision.models.platform import compiled_for

LAYOUT = ("NHWC", "HWIO", "NHWC")


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


def with_gradients(function, images, kernels):
    """The result, and the gradients of a weighted sum of it."""
    out = function(images, kernels)
    weights = drawn(*out.shape)
    return out, *jax.grad(lambda x, w: (function(x, w) * weights).sum(), (0, 1))(images, kernels)


@pytest.mark.parametrize(
    ("image", "kernel", "padding"),
    [
        ((28, 28, 1), (5, 5, 1, 6), ((2, 2), (2, 2))),
        ((14, 14, 6), (5, 5, 6, 16), ((0, 0), (0, 0))),
        ((9, 12, 2), (3, 4, 2, 3), ((1, 0), (2, 1))),
        ((5, 5, 1), (5, 5, 1, 1), ((0, 0), (0, 0))),
    ],
)
def test_the_banded_product_is_the_convolution(image, kernel, padding):
    images, kernels = drawn(3, *image), drawn(*kernel)
    plain = lambda x, w: lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=LAYOUT)  # noqa: E731
    banded = lambda x, w: few_channels.banded(x, w, padding)  # noqa: E731
    for found, expected in zip(
        with_gradients(banded, images, kernels), with_gradients(plain, images, kernels), strict=True
    ):
        scale = float(jnp.abs(expected).max())
        np.testing.assert_allclose(found, expected, atol=1e-6 * max(scale, 1.0) * kernel[0] * kernel[1])


@pytest.mark.parametrize(("size", "stride"), [(8, 2), (7, 2), (9, 3)])
def test_single_pixels_are_picked_before_they_are_weighed(size, stride):
    layer = conv(5, 1, stride=stride, dtype=jnp.dtype("float32"), param_dtype=jnp.dtype("float32"), name="layer")
    images, kernels = drawn(2, size, size, 4), drawn(1, 1, 4, 5)
    plain = lambda x, w: lax.conv_general_dilated(x, w, (stride,) * 2, "VALID", dimension_numbers=LAYOUT)  # noqa: E731
    ours = lambda x, w: layer.apply({"params": {"kernel": w}}, x)  # noqa: E731
    found, expected = (with_gradients(each, images, kernels) for each in (ours, plain))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    assert "window_strides=(1, 1)" in str(jax.make_jaxpr(ours)(images, kernels))


def test_it_is_chosen_for_few_channels_of_small_images_only():
    none, two = ((0, 0), (0, 0)), ((2, 2), (2, 2))
    assert few_channels.pays((128, 28, 28, 1), (5, 5, 1, 6), two)
    assert few_channels.pays((128, 14, 14, 6), (5, 5, 6, 16), none)
    assert not few_channels.pays((128, 32, 32, 3), (3, 3, 3, 64), ((1, 1), (1, 1)))
    assert not few_channels.pays((128, 14, 14, 8), (5, 5, 8, 8), two)
    assert not few_channels.pays((128, 64, 64, 1), (5, 5, 1, 6), none)


def test_lenet_is_made_of_it_on_a_cpu_and_of_convolutions_elsewhere():
    model = models.build("lenet/5", num_classes=10, image_shape=(28, 28, 1))
    images = drawn(2, 28, 28, 1)
    params, collections = model.init(jax.random.key(0), jax.ShapeDtypeStruct(images.shape, images.dtype))
    outputs = []
    for platform, count in (("cpu", 0), ("tpu", 2)):
        with compiled_for(platform):
            predict = lambda x: model.apply(params, collections, x, keys=None, train=False)[0]  # noqa: E731
            assert str(jax.make_jaxpr(predict)(images)).count("conv_general_dilated[") == count
            outputs.append(predict(images))
    np.testing.assert_allclose(*outputs, atol=1e-5)
