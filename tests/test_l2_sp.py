"""L2-SP pulls towards where training started, and a resumed run is pulled to the same place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Killed, killed, tiny

from vision import models
from vision.config.loading import plain
from vision.errors import ConfigError
from vision.objectives import OBJECTIVES
from vision.objectives.l2_sp import with_l2_sp
from vision.training.assemble import assemble
from vision.training.checkpoint import load_arrays
from vision.training.loop import train
from vision.training.schema import resolve

ALPHA, BETA = 0.3, 0.07


def test_loss_and_gradient_are_those_of_the_formula():
    model = models.build("mlp/128", num_classes=4, image_shape=(3, 3, 1), hidden_sizes=(5,))
    base = OBJECTIVES["classify"](model)
    pulled = with_l2_sp(base, alpha=ALPHA, beta=BETA)
    batch = {"image": jax.random.normal(jax.random.key(1), (6, 3, 3, 1)), "label": jnp.arange(6) % 4}
    start, extra = pulled.init(jax.random.key(0), jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch))
    params = jax.tree.map(lambda x: x + 0.1, start)

    def value(objective):
        def loss(params):
            outputs, new = objective.forward(params, extra, batch, None, False)
            return objective.loss(params, outputs, new, batch, jnp.int32(0))[0]

        return jax.value_and_grad(loss)(params)

    (plain_loss, plain_gradient), (loss, gradient) = value(base), value(pulled)
    count = sum(leaf.size for name, part in params.items() if name != "head" for leaf in part.values())
    head = sum(float(np.sum(np.square(leaf))) for leaf in params["head"].values())
    np.testing.assert_allclose(loss - plain_loss, ALPHA / 2 * count * 0.01 + BETA / 2 * head, rtol=1e-4)
    added = jax.tree.map(lambda a, b: np.asarray(a - b), gradient, plain_gradient)
    np.testing.assert_allclose(added["hidden_0"]["kernel"], ALPHA * 0.1, rtol=1e-3)
    np.testing.assert_allclose(added["head"]["kernel"], BETA * params["head"]["kernel"], rtol=1e-3, atol=1e-6)


def test_the_pull_is_to_the_weights_that_training_starts_from_and_a_resumed_run_keeps_it(tmp_path):
    first = plain(tiny()) | {"ema": None, "evals": {}, "duration": {"steps": 4}, "checkpoint": {}}
    train(first, tmp_path / "first")
    given = load_arrays(tmp_path / "first", 4)[1]
    made = first | {"init_from": str(tmp_path / "first"), "l2_sp": {"alpha": ALPHA, "beta": BETA}, "seed": 5}
    made |= {"checkpoint": {"every": {"steps": 2}}}
    train(made, tmp_path / "straight")
    final = load_arrays(tmp_path / "straight", 4)[1]
    start = {path.removeprefix("extra/start/"): leaf for path, leaf in final.items() if path.startswith("extra/start/")}
    assert set(start) == {"hidden_0/kernel", "hidden_0/bias"}
    assert all(np.array_equal(leaf, given[f"params/{path}"]) for path, leaf in start.items())
    assert not np.array_equal(final["params/hidden_0/kernel"], given["params/hidden_0/kernel"])

    with pytest.raises(Killed):
        train(made, tmp_path / "resumed", at_step={2: killed})
    train(made, tmp_path / "resumed")
    resumed = load_arrays(tmp_path / "resumed", 4)[1]
    assert all(resumed[path].tobytes() == leaf.tobytes() for path, leaf in final.items())


@pytest.mark.parametrize("weights", [{"alpha": -0.1, "beta": 0.0}, {"alpha": 0.0, "beta": float("inf")}])
def test_weights_that_cannot_be_are_refused(weights):
    made = plain(tiny()) | {"init_from": "somewhere", "l2_sp": weights}
    with pytest.raises(ConfigError, match="config.l2_sp: .* must be a number >= 0"):
        assemble(resolve(made))
