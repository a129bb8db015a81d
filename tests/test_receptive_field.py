"""Which pixels a unit sees: the closed form of stacks of convolutions, and no pixel more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision import models
from vision.analysis.receptive_field import box, receptive_fields


def field(name, feature, shape, place, **options):
    model = models.build(name, num_classes=3, image_shape=shape, **options)
    spec = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0))
    apply = lambda variables, images: model.apply(*variables, images, keys=None, train=False)[1][feature]  # noqa: E731
    columns = jax.eval_shape(apply, variables, spec).shape[2]
    return receptive_fields(apply, variables, spec, np.array([place[0] * columns + place[1]]))[0]


def ends(layers, side, place):
    """First and last pixel of an axis, from the last ``(kernel, stride, padding)`` to the first, cut at each border."""
    sides = [side]
    for kernel, stride, padding in layers:
        sides.append((sides[-1] + 2 * padding - kernel) // stride + 1)
    first = last = place
    for (kernel, stride, padding), before in zip(reversed(layers), reversed(sides[:-1]), strict=True):
        first, last = max(first * stride - padding, 0), min(last * stride - padding + kernel - 1, before - 1)
    return first, last


CONV, POOL = (3, 1, 1), (2, 2, 0)
CIFAR = {"stage_sizes": (2, 2, 2), "width": 2}
# Model, options, image, feature, and the layers on the longest path to it.
STACKS = {
    "vgg": (
        "vgg/16",
        {"widths": (2, 2, 2), "block_depths": (2, 2, 3)},
        32,
        "block02",
        [CONV, CONV, POOL] * 2 + [CONV] * 3 + [POOL],
    ),
    "plain": ("plain/20", CIFAR, 32, "block03", [CONV] * 5 + [(3, 2, 1)] + [CONV] * 3),
    "resnet": ("resnet/20", CIFAR, 32, "block04", [CONV] * 5 + [(3, 2, 1)] + [CONV] * 3 + [(3, 2, 1), CONV]),
    "resnet_imagenet": (
        "resnet/50",
        {"stage_sizes": (1, 1), "width": 2},
        64,
        "block01",
        [(7, 2, 3), (3, 2, 1), (3, 1, 1), (3, 2, 1)],
    ),
    "alexnet": ("alexnet/2014", {"hidden_sizes": (4,)}, 67, "block01", [(11, 4, 2), (3, 2, 0), (5, 1, 2), (3, 2, 0)]),
    "convnext": (
        "convnext/T",
        {"stage_sizes": (1, 1), "widths": (4, 4)},
        32,
        "block01",
        [(4, 4, 0), (7, 1, 3), (2, 2, 0), (7, 1, 3)],
    ),
}
QUICK = ["vgg", "resnet", "alexnet"]


@pytest.mark.parametrize(
    "family", QUICK + [pytest.param(each, marks=pytest.mark.slow) for each in STACKS if each not in QUICK]
)
def test_the_field_is_the_closed_form_clipped_at_the_border(family):
    name, options, side, feature, layers = STACKS[family]
    for place in ((1, 1), (0, 2)):
        found = field(name, feature, (side, side, 3), place, **options)
        expected = np.zeros((side, side), bool)
        rows, columns = (slice(first, last + 1) for first, last in (ends(layers, side, each) for each in place))
        expected[rows, columns] = True
        np.testing.assert_array_equal(found, expected, err_msg=f"{family} at {place}")
        assert box(found) == (rows, columns)


def test_many_layers_do_not_lose_the_corner():
    """Kernels of ones would overflow, means of them vanish: of 9^50 paths one leads to the corner of the field."""
    layout = ("NHWC", "HWIO", "NHWC")

    def deep(kernel, images):
        for _ in range(50):
            images = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=layout)
        return images

    spec = jax.ShapeDtypeStruct((1, 110, 110, 1), jnp.float32)
    (found,) = receptive_fields(deep, np.ones((3, 3, 1, 1), np.float32), spec, np.array([55 * 110 + 55]))
    assert box(found) == (slice(5, 106), slice(5, 106))
    assert found[5:106, 5:106].all()


def test_attention_sees_everything_and_an_embedded_patch_itself():
    options = {"patch_size": 4, "width": 8, "depth": 1, "num_heads": 2, "mlp_dim": 8}
    assert field("vit/B16", "block00", (8, 8, 1), (0, 3), **options).all()

    def embedded(weights, images):
        patches = images.reshape(1, 2, 4, 2, 4, 1).transpose(0, 1, 3, 2, 4, 5).reshape(1, 4, 16)
        return patches @ weights

    fields = receptive_fields(
        embedded, np.ones((16, 5)), jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32), np.array([1, 2, 1])
    )
    assert fields.shape == (3, 8, 8)
    assert [box(each) for each in fields] == [
        (slice(0, 4), slice(4, 8)),
        (slice(4, 8), slice(0, 4)),
        (slice(0, 4), slice(4, 8)),
    ]
    assert fields.sum() == 3 * 16


def test_what_is_not_known_counts_as_everything_and_what_sees_nothing_as_nothing():
    spec = jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32)
    summed = receptive_fields(lambda _, images: jnp.cumsum(images, axis=1), (), spec, np.array([0]))
    assert summed.all()
    blind = receptive_fields(lambda _, images: jnp.ones((1, 2, 3)), (), spec, np.array([1]))
    assert not blind.any()
    assert box(blind[0]) == (slice(0, 0), slice(0, 0))
