"""The one train step: traced once, the same bits in one dispatch as in many, unharmed by a loss that is not finite."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import mesh_of
from infonce import infonce

from vision import models
from vision.data.host import HostPart
from vision.data.order import Shuffled
from vision.data.pipeline import make_pipeline
from vision.data.prepare import make_prepare
from vision.data.source import ArraySource
from vision.objectives import OBJECTIVES
from vision.objectives.ema import with_ema
from vision.training import state
from vision.training.sharding import batch_sharding, replicated
from vision.training.step import Constants, make_steps, make_train_step

MODEL = models.build("mlp/128", num_classes=5, hidden_sizes=(16, 16), dropout=0.2)
OBJECTIVE = {
    "linear": OBJECTIVES["classify"](models.build("linear", num_classes=5)),
    "mlp": with_ema(OBJECTIVES["classify"](MODEL), decay=0.9),
    "regress": OBJECTIVES["regress"](MODEL),
    "infonce": infonce(MODEL),
}


def setup(objective, *, devices=1, seed=0, residency="device", learning_rate=1e-2, optimizer=None, **options):
    images = np.random.default_rng(0).integers(0, 255, (50, 6, 6, 1)).astype(np.uint8)
    source = ArraySource({"image": images, "label": np.arange(50, dtype=np.int32) % 5}, 5)
    sharding = batch_sharding(mesh_of(devices))
    order, part = Shuffled(50, 16, seed), HostPart((6, 6), 1)
    pipeline = make_pipeline(source, order, part, sharding=sharding, residency=residency)
    prepare = make_prepare(mean=(0.5,), std=(0.25,), augmentation=None, channels=1)
    optimizer = optimizer or optax.adamw(learning_rate)
    step = make_train_step(objective, optimizer, lambda k: learning_rate, prepare, **options)
    keys = state.make_keys(seed)
    spec = jax.eval_shape(prepare, pipeline.batch(0), pipeline.resident, keys.augment, 0)
    everywhere = replicated(sharding.mesh)
    create = jax.jit(lambda key: state.create(objective, optimizer, spec, key), out_shardings=everywhere)
    return step, create(keys.init), pipeline, Constants(jax.device_put(keys, everywhere), pipeline.resident)


def run(step, start, pipeline, constants, count):
    metrics = []
    for k in range(count):
        start, values = step(start, pipeline.batch(k), constants)
        metrics.append(values)
    return jax.device_get((start, metrics))


def different(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return [x.shape for x, y in pairs if np.asarray(x).tobytes() != np.asarray(y).tobytes()]


@pytest.mark.parametrize("name", OBJECTIVE)
def test_training_learns_and_is_traced_once(name):
    step, start, pipeline, constants = setup(OBJECTIVE[name])
    chex.clear_trace_counter()
    jitted = jax.jit(chex.assert_max_traces(step, n=1), donate_argnums=0)
    final, metrics = run(jitted, start, pipeline, constants, 60)
    losses = [float(m["loss"][0] / m["loss"][1]) for m in metrics]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    assert int(final.step) == 60


@pytest.mark.parametrize("name", OBJECTIVE)
@pytest.mark.parametrize("microbatches", [1, 2])
def test_many_steps_in_one_dispatch_give_the_bits_of_single_steps(name, microbatches):
    step, start, pipeline, constants = setup(OBJECTIVE[name], microbatches=microbatches)
    # Bits are promised for programs as they are compiled outside of tests.
    as_programs_have_it = {"xla_backend_optimization_level": 3}
    single, metrics = run(jax.jit(step, compiler_options=as_programs_have_it), start, pipeline, constants, 10)
    batches = pipeline.stacked(0, 5)
    steps = jax.jit(make_steps(step), compiler_options=as_programs_have_it)
    middle, first = steps(start, batches, constants)
    final, second = steps(middle, pipeline.stacked(5, 5), constants)
    assert different(jax.device_get(final), single) == []
    stacked = jax.tree.map(lambda *parts: np.concatenate(parts), *jax.device_get((first, second)))
    assert different(stacked, jax.tree.map(lambda *parts: np.stack(parts), *metrics)) == []


@pytest.mark.parametrize("name", OBJECTIVE)
def test_two_runs_of_one_seed_are_equal_and_another_seed_differs(name):
    results = []
    for seed in (0, 0, 1):
        step, start, pipeline, constants = setup(OBJECTIVE[name], seed=seed)
        results.append(run(jax.jit(step), start, pipeline, constants, 5)[0])
    assert different(results[0], results[1]) == []
    assert different(results[0].params, results[2].params)


def test_every_seed_runs_the_same_program():
    texts = []
    for seed in (0, 1):
        step, start, pipeline, constants = setup(OBJECTIVE["mlp"], seed=seed)
        texts.append(jax.jit(step).lower(start, pipeline.batch(0), constants).as_text())
    assert texts[0] == texts[1], "a seed baked into the program would be compiled anew each time"


def test_the_data_set_is_an_argument_and_no_constant_of_the_program():
    step, start, pipeline, constants = setup(OBJECTIVE["mlp"])
    text = jax.jit(step).lower(start, pipeline.batch(0), constants).as_text()
    assert 'dense<"0x' not in text


@pytest.mark.parametrize("residency", ["device", "host"])
def test_device_count_changes_rounding_only(residency):
    results = {}
    for devices in (1, 2, 8):
        step, start, pipeline, constants = setup(OBJECTIVE["mlp"], devices=devices, residency=residency)
        results[devices] = run(jax.jit(step), start, pipeline, constants, 6)[1]
    for devices in (2, 8):
        for one, other in zip(results[1], results[devices], strict=True):
            np.testing.assert_allclose(one["loss"], other["loss"], rtol=2e-5)


def test_dropout_masks_are_the_same_on_any_number_of_devices():
    """A linear read-out of the mask itself: parameters of one, images of one, so outputs count what was kept."""
    model = models.build("mlp/128", num_classes=1, hidden_sizes=(64,), dropout=0.5)
    spec = jax.ShapeDtypeStruct((16, 2, 2, 1), jnp.float32)
    params = jax.tree.map(jnp.ones_like, model.init(jax.random.key(0), spec)[0])
    images = jnp.ones(spec.shape)

    def outputs(devices):
        sharding = batch_sharding(mesh_of(devices))
        keys = jax.jit(lambda: jax.random.split(jax.random.key(3), 16), out_shardings=sharding)()
        apply = jax.jit(lambda images, keys: model.apply(params, {}, images, keys=keys, train=True)[0])
        return np.asarray(apply(jax.device_put(images, sharding), keys))

    assert len(np.unique(outputs(1))) > 5
    np.testing.assert_array_equal(outputs(1), outputs(2))
    np.testing.assert_array_equal(outputs(1), outputs(8))


def poisoned(objective, at):
    def loss(params, outputs, extra, batch, step):
        value, rest = objective.loss(params, outputs, extra, batch, step)
        return jnp.where(step == at, jnp.nan, 1.0) * value, rest

    return objective._replace(loss=loss)


def test_skip_changes_nothing_but_the_step_and_counts():
    step, start, pipeline, constants = setup(poisoned(OBJECTIVE["mlp"], at=2), on_nonfinite="skip")
    jitted = jax.jit(step)
    before, _ = run(jitted, start, pipeline, constants, 2)
    after, metrics = jax.device_get(jitted(before, pipeline.batch(2), constants))
    assert int(after.step) == 3
    assert different(after.replace(step=before.step), before) == []
    assert float(metrics["skipped_steps"][0]) == 1.0
    assert float(metrics["loss"][1]) == 0.0, "a skipped loss enters no mean"
    final, later = jax.device_get(jitted(after, pipeline.batch(3), constants))
    assert different(final.params, after.params)
    assert float(later["skipped_steps"][0]) == 0.0


def test_the_learning_rate_after_a_skipped_step_is_the_schedule_s():
    """Plain SGD moves by learning rate times gradient, so the rate that was applied can be read off."""
    schedule = optax.linear_schedule(1.0, 0.0, 10)
    step, start, pipeline, constants = setup(
        poisoned(OBJECTIVE["linear"], at=1), on_nonfinite="skip", optimizer=optax.sgd(schedule)
    )
    jitted, plain_gradient = jax.jit(step), jax.jit(setup(OBJECTIVE["linear"], optimizer=optax.sgd(1.0))[0])
    state, _ = run(jitted, start, pipeline, constants, 4)
    after, _ = jax.device_get(jitted(state, pipeline.batch(4), constants))
    fresh = state.replace(opt_state=optax.sgd(1.0).init(state.params))
    moved, _ = jax.device_get(plain_gradient(fresh, pipeline.batch(4), constants))
    applied = np.linalg.norm(after.params["head"]["bias"] - state.params["head"]["bias"])
    full = np.linalg.norm(moved.params["head"]["bias"] - state.params["head"]["bias"])
    assert np.isclose(applied / full, schedule(4), rtol=1e-4)


def test_many_steps_in_one_dispatch_name_the_step_that_is_not_finite():
    from vision.errors import TrainingFailed
    from vision.training.meter import Meter

    step, start, pipeline, constants = setup(poisoned(OBJECTIVE["mlp"], at=6))
    _, metrics = jax.jit(make_steps(step))(start, pipeline.stacked(0, 10), constants)
    meter = Meter({}, step=0, batch_size=16)
    meter.add(0, metrics)
    meter.end_line(10)
    with pytest.raises(TrainingFailed, match="loss of step 7 is not finite"):
        list(meter.lines())


def test_parameters_that_are_not_finite_are_noticed_at_the_step_that_made_them():
    step, start, pipeline, constants = setup(OBJECTIVE["mlp"], learning_rate=float("inf"))
    _, metrics = run(jax.jit(step), start, pipeline, constants, 1)
    assert np.isfinite(metrics[0]["loss"][0])
    assert not np.isfinite(metrics[0]["parameter_norm"][0])


def test_without_skip_a_nan_reaches_the_metrics():
    step, start, pipeline, constants = setup(poisoned(OBJECTIVE["mlp"], at=1))
    _, metrics = run(jax.jit(step), start, pipeline, constants, 2)
    assert np.isfinite(metrics[0]["loss"][0])
    assert np.isnan(metrics[1]["loss"][0])


def test_streams_of_randomness_are_distinct():
    keys = state.make_keys(0)
    data = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for seed in range(3) for key in state.make_keys(seed)}
    assert len(data) == 9
    assert str(jax.random.key_impl(keys.init)) == "fry" or "threefry" in str(jax.random.key_impl(keys.init))
