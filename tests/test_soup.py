"""Averages of weights: exact, of one architecture, greedy by the paper's recipe, and read wherever weights are."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny

from experiments import soup as program
from vision import models
from vision.config.loading import plain
from vision.errors import UserError
from vision.models.precision import FLOAT32
from vision.training.checkpoint import Checkpoints
from vision.training.pretrained import load_pretrained
from vision.training.schema import resolve
from vision.training.soup import average, greedy, recalibrated, same_in_all
from vision.training.state import TrainState

SHAPE = (8, 8, 1)


def state(params, **collections):
    return TrainState(0, params, {"collections": collections}, ())


def one(value, dtype=np.float32):
    return state({"head": {"kernel": np.asarray([value], dtype)}})


def value_of(a_state):
    return float(a_state.params["head"]["kernel"][0])


def test_the_mean_is_not_lost_in_the_type_of_the_weights():
    """In float32 the sum of these three is 0 or 2 by the order, in bfloat16 a hundredth is lost beside 4."""
    assert value_of(average([one(1e8), one(1.0), one(-1e8)], "abc")) == pytest.approx(1 / 3)
    averaged = average([one(4.0, jnp.bfloat16)] * 99 + [one(-396.0, jnp.bfloat16)], "a" * 100)
    assert averaged.params["head"]["kernel"].dtype == jnp.bfloat16
    assert value_of(averaged) == 0.0


def test_statistics_are_averaged_too_and_the_optimizers_memory_is_left():
    states = [state({"w": np.ones(2)}, batch_stats={"mean": np.full(3, n)}).replace(opt_state=(n,)) for n in (1.0, 2.0)]
    soup = average(states, "ab")
    np.testing.assert_array_equal(soup.extra["collections"]["batch_stats"]["mean"], np.full(3, 1.5))
    assert soup.opt_state == ()


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            {"head": {"kernel": np.zeros((2, 3), np.float32)}},
            r"other: head/kernel \(float32\[1\] and float32\[2, 3\]\)",
        ),
        ({"head": {"kernel": np.zeros(1, np.float16)}}, r"float32\[1\] and float16\[1\]"),
        ({"head": {"weight": np.zeros(1, np.float32)}}, "only in runs/a: head/kernel; only in runs/b: head/weight"),
    ],
)
def test_another_architecture_is_refused_with_both_sides_named(other, told):
    with pytest.raises(UserError, match=f"runs/a and runs/b are of different architectures; .*{told}"):
        average([one(1.0), state(other)], ["runs/a", "runs/b"])


def test_whole_numbers_that_differ_have_no_mean():
    counters = [state({"w": np.ones(1)}, count={"steps": np.int32(n)}) for n in (3, 3, 4)]
    assert average(counters[:2], "ab").extra["collections"]["count"]["steps"] == 3
    with pytest.raises(UserError, match="count/steps holds whole numbers.*differs in a and c"):
        average(counters, "abc")


@pytest.mark.parametrize("more_is_better", [True, False])
def test_greedy_is_recipe_one_of_the_paper(more_is_better):
    """By hand: 1 is nearest to 0; with -1.2 the mean is -0.1; with 2.5 it would be 0.77, with -3 it would be -1.07."""
    sign = -1 if more_is_better else 1
    found = greedy(
        [one(2.5), one(-1.2), one(1.0), one(-3.0)],
        ["a", "b", "c", "d"],
        lambda each: sign * abs(value_of(each)),
        more_is_better=more_is_better,
    )
    assert found.kept == (2, 1)
    assert value_of(found.state) == pytest.approx(-0.1)
    assert found.alone == pytest.approx([sign * 2.5, sign * 1.2, sign * 1.0, sign * 3.0])
    assert found.value == pytest.approx(sign * 0.1)


def test_an_ingredient_that_changes_nothing_stays_and_one_that_harms_does_not():
    """The paper keeps what is at least as good; a soup is never worse than its best ingredient on the held-out data."""
    assert greedy([one(1.0), one(2.0)], "ab", lambda each: 0.5).kept == (0, 1)
    found = greedy([one(1.0), one(50.0)], "ab", lambda each: -value_of(each))
    assert (found.kept, value_of(found.state), found.value) == ((0,), 1.0, -1.0)


def mlp(hidden_sizes=(4, 3), **options):
    model = models.build(
        "mlp/128", num_classes=10, image_shape=SHAPE, precision=FLOAT32, hidden_sizes=hidden_sizes, **options
    )
    return model, jax.eval_shape(
        lambda key: model.init(key, jax.ShapeDtypeStruct((1, *SHAPE), np.float32)), jax.random.key(0)
    )


def filled(shapes, seed):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: generator.normal(size=leaf.shape).astype(leaf.dtype), shapes)


def test_statistics_taken_anew_are_the_means_of_those_of_the_batches():
    """Numpy knows what the first layer sees; the running statistics that were there have no say."""
    model, shapes = mlp(batch_norm=True)
    params, collections = filled(shapes, 0)
    images = [np.random.default_rng(n).normal(2.0, 3.0, (16, *SHAPE)).astype(np.float32) for n in range(3)]
    found = recalibrated(model, state(params, **collections), iter(images)).extra["collections"]["batch_stats"]
    seen = [each.reshape(16, -1) @ params["hidden_0"]["kernel"] + params["hidden_0"]["bias"] for each in images]
    np.testing.assert_allclose(found["norm_0"]["mean"], np.mean([each.mean(0) for each in seen], 0), rtol=1e-3)
    np.testing.assert_allclose(found["norm_0"]["var"], np.mean([each.var(0) for each in seen], 0), rtol=1e-3)


def test_statistics_of_frozen_layers_stay():
    model, shapes = mlp(batch_norm=True)
    params, collections = filled(shapes, 0)
    moved = {**params, "hidden_1": filled(shapes, 1)[0]["hidden_1"], "norm_1": filled(shapes, 1)[0]["norm_1"]}
    frozen = same_in_all([state(params), state(moved)])
    assert {"hidden_0/kernel", "norm_0/scale"} <= frozen
    assert not {path for path in frozen if path.startswith(("hidden_1", "norm_1"))}
    images = [jnp.ones((4, *SHAPE)) * jnp.arange(4.0)[:, None, None, None]]
    found = recalibrated(model, state(params, **collections), images, frozen=frozen).extra["collections"]["batch_stats"]
    before = collections["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, found["norm_0"], before["norm_0"])
    assert not np.array_equal(found["norm_1"]["mean"], before["norm_1"]["mean"])


def test_without_batch_normalisation_or_batches_there_is_nothing_to_take_anew():
    model, shapes = mlp()
    with pytest.raises(UserError, match="no batch normalisation"):
        recalibrated(model, state(filled(shapes, 0)[0]), [])
    model, shapes = mlp(batch_norm=True)
    params, collections = filled(shapes, 0)
    with pytest.raises(UserError, match="at least one batch"):
        recalibrated(model, state(params, **collections), [])


def written_run(folder, seed, hidden_sizes=(16,)):
    """A run's checkpoint with a moving average of the parameters, without the training."""
    config = tiny()
    config.model.hidden_sizes = hidden_sizes
    params, _ = filled(mlp(hidden_sizes)[1], seed)
    averages = jax.tree.map(lambda leaf: leaf + 1, params)
    checkpoints = Checkpoints(folder / "checkpoints", note=str)
    metadata = {"step": 12, "config": plain(resolve(plain(config))), "image_shape": list(SHAPE)}
    checkpoints.save(12, {"params": params, "extra": {"collections": {}, "ema": averages}}, metadata)
    checkpoints.wait()
    checkpoints.close()
    return params


def test_the_program_averages_moving_averages_and_its_folder_is_read_like_weights(tmp_path, capsys):
    runs = [tmp_path / name for name in "ab"]
    kernels = [written_run(run, seed)["hidden_0"]["kernel"] for seed, run in enumerate(runs)]
    command = ["--workdir", *map(str, runs), "--json"]
    assert program.main([*command, "--out", str(tmp_path / "soup"), "--split", "train[90%:]"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result["alone"]) == set(map(str, runs))
    soup = load_pretrained(str(tmp_path / "soup"), note=str)
    np.testing.assert_allclose(soup.params["hidden_0"]["kernel"], (kernels[0] + kernels[1]) / 2 + 1, atol=1e-6)
    assert (soup.name, soup.image_shape, soup.loss) == ("mlp/128", SHAPE, "softmax")
    program.main([*command, "--out", str(tmp_path / "trained"), "--no_average"])
    trained = load_pretrained(str(tmp_path / "trained"), note=str)
    np.testing.assert_allclose(trained.params["hidden_0"]["kernel"], (kernels[0] + kernels[1]) / 2, atol=1e-6)
    with pytest.raises(UserError, match="exists already"):
        program.main([*command, "--out", str(tmp_path / "soup")])


def test_the_program_refuses_what_it_cannot_average(tmp_path):
    runs = [str(tmp_path / name) for name in "ab"]
    written_run(tmp_path / "a", 0)
    written_run(tmp_path / "b", 0, hidden_sizes=(8,))
    out = ["--out", str(tmp_path / "soup")]
    with pytest.raises(UserError, match=r"hidden_sizes \(16,\) and \(8,\)"):
        program.main(["--workdir", *runs, *out])
    for arguments, told in (
        (["--workdir", runs[0]], "at least two"),
        (["--workdir", runs[0], runs[0]], "there twice"),
        (["--workdir", *runs, "--greedy"], "say which with --split"),
    ):
        with pytest.raises(UserError, match=told):
            program.main([*arguments, *out])
    assert not (tmp_path / "soup").exists()
