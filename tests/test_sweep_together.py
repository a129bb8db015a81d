"""Runs trained together are the runs that each of them is alone: same data, same keys, same numbers at the end."""

import os
import signal

import numpy as np
import pytest
from conftest import tiny

from vision.config.loading import plain
from vision.errors import ConfigError, Stopped
from vision.studies.sweep import together as module
from vision.studies.sweep.together import NotTogether, Together, check_alone
from vision.studies.sweep.traced import static_part
from vision.training.loop import train
from vision.training.schema import resolve

SETTINGS = (
    {"learning_rate": 1e-2, "weight_decay": 0.5, "label_smoothing": 0.0, "schedule": {"name": "cosine", "final": 1e-3}},
    {"learning_rate": 3e-3, "weight_decay": 0.0, "label_smoothing": 0.2, "schedule": {"name": "constant"}},
)


def config_of(setting, seed=0, **changes):
    """A short run; what is traced differs by setting, all else is there to be told apart from other runs' by seed."""
    config = plain(tiny())
    config["seed"] = seed
    config["duration"] = {"steps": 6}
    config["optimizer"] |= {key: value for key, value in setting.items() if key != "label_smoothing"}
    config["optimizer"] |= {"warmup": {"steps": 2}, "rules": ((r"bias$", {"weight_decay": 0.1}),)}
    config["objective"]["label_smoothing"] = setting["label_smoothing"]
    config["evals"] = {
        "validation": {"name": "classification", "split": "train[80%:]", "batch_size": 512, "every": None}
    }
    config["data"]["split"] = "train[:80%]"
    config["logging"]["progress"] = False
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return config


def trained(configs, seeds, **options):
    resolved = [resolve(config) for config in configs]
    return Together(resolved[0], **options).train(resolved, seeds, note=lambda line: None)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("side_by_side", "pairs"),
    [(False, ((1, 7),)), pytest.param(False, ((0, 7), (1, 3)), marks=SLOW), pytest.param(True, ((0, 7),), marks=SLOW)],
)
def test_the_metrics_are_those_of_runs_alone(tmp_path, side_by_side, pairs):
    """Some of the four runs, each ``(setting, seed)``, by the trainer itself."""
    alone = {pair: train(config_of(SETTINGS[pair[0]], pair[1]), tmp_path / str(pair))["validation"] for pair in pairs}
    found = trained([config_of(setting) for setting in SETTINGS], (3, 7), side_by_side=side_by_side)
    assert {frozenset(run["validation"]) for of_setting in found for run in of_setting} == {
        frozenset({"accuracy", "top5_accuracy", "loss", "calibration_error"})
    }
    losses = [run["validation"]["loss"] for of_setting in found for run in of_setting]
    assert len({round(loss, 4) for loss in losses}) == 4, "runs that differ end differently"
    for (setting, seed), metrics in alone.items():
        run = found[setting][(3, 7).index(seed)]["validation"]
        assert run == pytest.approx(metrics, rel=0, abs=1e-5)
        if not side_by_side:
            assert run["loss"] == pytest.approx(metrics["loss"], rel=0, abs=1e-6)


@pytest.mark.slow
def test_a_run_that_is_not_finite_fails_alone(monkeypatch):
    good, bad = SETTINGS[1], {**SETTINGS[1], "learning_rate": 1e30}
    changes = {"objective": {"name": "regress"}, "optimizer": {"name": "sgd"}, "ema": None}
    configs = [config_of(setting, **changes) for setting in (good, bad)]
    for config in configs:
        del config["objective"]["label_smoothing"]
        config["evals"]["validation"]["name"] = "regression"
    monkeypatch.setattr(module, "free_bytes", lambda: 1)
    with pytest.raises(NotTogether, match="1 runs need .* GiB"):
        trained(configs, (0,))
    monkeypatch.undo()
    ((fine,), (failed,)) = trained(configs, (0,))
    assert all(np.isfinite(value) for value in fine["validation"].values())
    assert "not finite" in failed


def test_what_is_traced_shares_a_program_and_nothing_else_does():
    base = resolve(config_of(SETTINGS[0]))
    same = [resolve(config_of(SETTINGS[1], seed=5))]
    other = [
        resolve(config_of(SETTINGS[0], model={"hidden_sizes": (8,)})),
        resolve(config_of(SETTINGS[0], model={"dropout": 0.5})),
        resolve(config_of(SETTINGS[0], optimizer={"name": "adam"})),
        resolve(config_of(SETTINGS[0], optimizer={"b1": 0.8})),
        resolve(config_of(SETTINGS[0], data={"split": "train[20%:]"})),
        resolve(config_of(SETTINGS[0], duration={"steps": 7})),
    ]
    assert {static_part(config) for config in same} == {static_part(base)}
    assert len({static_part(config) for config in [base, *other]}) == len(other) + 1


def test_what_has_to_be_alone_says_why():
    for key, value in (("early_stopping", {"metric": "test/loss", "patience": 1}), ("init_from", "w"), ("resume", "w")):
        with pytest.raises(NotTogether, match=key):
            check_alone({key: value})
    for changes in (
        {"freeze": {"blocks": 1}},
        {"teacher": {"model": {}}},
        {"data": {"progressive": ((4, {"steps": 1}),)}},
    ):
        with pytest.raises(NotTogether):
            check_alone(config_of(SETTINGS[0]) | changes)
    with pytest.raises(NotTogether, match="frozen"):
        check_alone({"optimizer": {"rules": (("kernel", {"freeze": True}),)}})
    with pytest.raises(NotTogether, match="no steps"):
        check_alone({"estimator": {"name": "knn"}})
    check_alone(config_of(SETTINGS[0]))


@pytest.mark.slow
def test_data_and_models_that_cannot_be_together_say_why():
    with pytest.raises(NotTogether, match="do not live on the device"):
        Together(resolve(config_of(SETTINGS[0], data={"residency": "host"})))
    with pytest.raises(NotTogether, match="convolves"):
        Together(resolve({**config_of(SETTINGS[0]), "model": {"name": "lenet/5"}}))


@pytest.mark.slow
def test_a_number_that_cannot_be_is_refused_as_in_a_run_of_its_own():
    config = resolve(config_of({**SETTINGS[0], "weight_decay": -1.0}))
    with pytest.raises(ConfigError, match="config.optimizer.weight_decay: must be >= 0"):
        Together(config).train([config], (0, 1), note=print)


@pytest.mark.slow
def test_a_signal_ends_it_between_two_dispatches():
    config = resolve(config_of(SETTINGS[0], duration={"steps": 400}))
    told = []

    def note(line):
        told.append(line)
        os.kill(os.getpid(), signal.SIGINT)

    module_seconds, module._SECONDS_BETWEEN_LINES = module._SECONDS_BETWEEN_LINES, 0.0
    try:
        with pytest.raises(Stopped, match="stopped at step 100 of 400") as caught:
            Together(config).train([config], (0, 1), note=note)
    finally:
        module._SECONDS_BETWEEN_LINES = module_seconds
    assert caught.value.exit_code == 130
    assert len(told) == 1


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"microbatches": 4}, {"data": {"mix": {"name": "mixup"}}}, {"rmsprop": True}])
def test_quickstart_agrees_with_single_runs_to_the_last_step(tmp_path, changes):
    """The example at its own width, and steps of other kinds."""
    from vision.config.loading import load

    config = load("configs/quickstart.py", ["--config.duration.steps=100", "--config.batch_size=64"])
    config["evals"] = {"validation": {"name": "classification", "split": "train[80%:]", "batch_size": 64}}
    config["data"]["split"] = "train[:80%]"
    if changes.pop("rmsprop", False):
        config["optimizer"]["name"] = "rmsprop"
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    rates, seeds = (1e-3, 1e-2), (0, 1)
    configs = [{**config, "optimizer": {**config["optimizer"], "learning_rate": rate}} for rate in rates]
    found = trained(configs, seeds)
    for setting, one in enumerate(configs):
        for place, seed in enumerate(seeds):
            run = tmp_path / f"{setting}-{seed}"
            metrics = train({**one, "seed": seed}, run)["validation"]
            assert found[setting][place]["validation"] == pytest.approx(metrics, rel=0, abs=1e-5)
