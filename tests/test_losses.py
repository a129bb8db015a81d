"""Losses and their gradients are PyTorch's, and closed forms where there are any."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision import models
from vision.config.calling import call
from vision.errors import ConfigError
from vision.objectives import OBJECTIVES

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "losses.json").read_text())
CLASSES = 7


def value_and_gradient(objective: str, logits, batch, **options):
    """The loss of a batch whose model gave ``logits``, and its gradient in them."""
    frame = OBJECTIVES[objective](models.build("linear", num_classes=CLASSES), **options)

    def loss(logits):
        return frame.loss({}, {"output": logits}, {}, batch, jnp.zeros((), jnp.int32))[0]

    return jax.value_and_grad(loss)(jnp.asarray(logits, jnp.float32))


def of(objective: str, logits, label, **options) -> float:
    return float(value_and_gradient(objective, logits, {"label": jnp.asarray(label)}, **options)[0])


def metrics(objective: str, logits, batch, **options) -> dict[str, float]:
    frame = OBJECTIVES[objective](models.build("linear", num_classes=CLASSES), **options)
    _, (_, pairs) = frame.loss({}, {"output": jnp.asarray(logits)}, {}, batch, jnp.zeros((), jnp.int32))
    return {name: float(total / count) for name, (total, count) in pairs.items()}


@pytest.fixture
def logits():
    return 3.0 * jax.random.normal(jax.random.key(0), (4, CLASSES))


def typed(batch) -> dict:
    return {key: jnp.asarray(value, jnp.int32 if np.ndim(value) == 1 else jnp.float32) for key, value in batch.items()}


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_loss_and_gradient_are_those_of_pytorch(case):
    logits = GOLDEN["logits"][case["logits"]]
    value, gradient = value_and_gradient(case["objective"], logits, typed(case["batch"]), **case["options"])
    np.testing.assert_allclose(value, case["value"], rtol=1e-5)
    np.testing.assert_allclose(gradient, case["gradient"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_of_a_model_that_knows_nothing_is_the_logarithm_of_the_classes(smoothing):
    assert of("classify", jnp.zeros((3, CLASSES)), [0, 3, 6], label_smoothing=smoothing) == pytest.approx(
        math.log(CLASSES), rel=1e-6
    )


def test_sigmoid_of_a_model_that_knows_nothing_is_a_bit_for_every_class():
    assert of("classify", jnp.zeros((3, CLASSES)), [0, 3, 6], loss="sigmoid") == pytest.approx(CLASSES * math.log(2))


def test_squared_error_is_summed_over_outputs_and_averaged_over_examples():
    output = jnp.array([[1.0, 2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 3]])
    value, gradient = value_and_gradient("regress", output, {"target": jnp.zeros((2, CLASSES))})
    assert value == (1 + 4 + 9) / 2
    np.testing.assert_array_equal(gradient, output)  # 2 (output - target) / batch


def test_smoothing_adds_a_share_of_the_mean_over_all_classes(logits):
    label, share = jnp.array([0, 6, 2, 2]), 0.3
    uniform = float(-jnp.mean(jax.nn.log_softmax(logits)))
    hard = of("classify", logits, label)
    smoothed = of("classify", logits, label, label_smoothing=share)
    assert smoothed == pytest.approx((1 - share) * hard + share * uniform, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"loss": "sigmoid"}], ids=str)
def test_loss_of_a_mixed_target_is_the_mixture_of_the_losses(logits, options):
    one, other, share = jnp.array([0, 6, 2, 2]), jnp.array([3, 1, 5, 0]), 0.7
    mixed = share * jax.nn.one_hot(one, CLASSES) + (1 - share) * jax.nn.one_hot(other, CLASSES)
    expected = share * of("classify", logits, one, **options) + (1 - share) * of("classify", logits, other, **options)
    assert of("classify", logits, mixed, **options) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"loss": "sigmoid"}], ids=str)
def test_a_class_index_is_its_one_hot_vector(logits, options):
    label = jnp.array([0, 6, 2, 2])
    assert of("classify", logits, label, **options) == of("classify", logits, jax.nn.one_hot(label, CLASSES), **options)


@pytest.mark.parametrize("objective", ["classify", "regress"])
def test_every_class_and_every_example_counts(logits, objective):
    label = jnp.array([0, 6, 2, 3])
    each = [of(objective, logits[i : i + 1], label[i : i + 1]) for i in range(4)]
    assert min(each) > 0.0
    assert of(objective, logits, label) == pytest.approx(sum(each) / 4, rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"loss": "sigmoid"}], ids=str)
def test_extreme_logits_give_finite_losses_and_gradients(options):
    extreme = jnp.array([[1e4, -1e4, 0, 0, 0, 0, 0], [-1e4, 1e4, 0, 0, 0, 0, 0]])
    value, gradient = value_and_gradient("classify", extreme, {"label": jnp.array([1, 1])}, **options)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))
    assert value > 1e3


def test_loss_is_computed_in_float32_whatever_the_model_gives(logits):
    half = logits.astype(jnp.bfloat16)
    frame = OBJECTIVES["classify"](models.build("linear", num_classes=CLASSES))
    loss, _ = frame.loss({}, {"output": half}, {}, {"label": jnp.array([0, 6, 2, 2])}, jnp.zeros((), jnp.int32))
    assert loss.dtype == jnp.float32
    assert float(loss) == of("classify", half.astype(jnp.float32), [0, 6, 2, 2])


def test_l2_weighs_the_squared_norm_of_kernels_and_not_of_biases(logits):
    params = {"head": {"kernel": jnp.array([[1.0, 2.0], [0.0, -2.0]]), "bias": jnp.array([100.0])}}
    batch, step = {"label": jnp.array([0, 6, 2, 2])}, jnp.zeros((), jnp.int32)
    for objective in ("classify", "regress"):
        free, bound = (
            OBJECTIVES[objective](models.build("linear", num_classes=CLASSES), l2=l2).loss(
                params, {"output": logits}, {}, batch, step
            )[0]
            for l2 in (0.0, 0.5)
        )
        assert float(bound - free) == pytest.approx(0.5 * 9.0, rel=1e-5)


def test_accuracy_counts_the_largest_logit_against_the_most_probable_class():
    logits = jnp.eye(CLASSES)[jnp.array([0, 1, 2, 3])]
    label = jnp.array([0, 1, 2, 5])
    assert metrics("classify", logits, {"label": label})["accuracy"] == 0.75
    soft = 0.6 * jax.nn.one_hot(label, CLASSES) + 0.4 * jax.nn.one_hot(jnp.array([4, 4, 4, 3]), CLASSES)
    assert metrics("classify", logits, {"label": soft})["accuracy"] == 0.75
    assert metrics("regress", logits, {"label": label}) == {"accuracy": 0.75, "squared_error": 0.5}
    assert set(metrics("regress", logits, {"target": logits})) == {"squared_error"}


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        ("classify", {"label_smoothing": 1.0}, "label_smoothing must be in"),
        ("classify", {"label_smoothing": -0.1}, "label_smoothing must be in"),
        ("classify", {"l2": -1.0}, "l2 must be"),
        ("classify", {"l2": math.nan}, "l2 must be"),
        ("regress", {"l2": -1.0}, "l2 must be"),
    ],
)
def test_impossible_value_is_refused_by_name(objective, options, message):
    with pytest.raises(ConfigError, match=f"config.objective: {message}"):
        call(OBJECTIVES[objective], options, "config.objective", model=models.build("linear", num_classes=CLASSES))
