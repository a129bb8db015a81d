"""A sweep tries what its file says, chooses on no test data, fails trial by trial, and goes on where it stopped."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import REPOSITORY, child_environment

from vision.errors import ConfigError, Stopped, TrainingFailed, UserError
from vision.studies.sweep import drive, processes
from vision.studies.sweep.folds import folds_of
from vision.studies.sweep.plan import make_plan, resolve_any
from vision.studies.sweep.search import bayesian, random
from vision.studies.sweep.space import product, sample, space_of

DIGITS = {"data": {"split": "train"}, "evals": {"test": {"split": "test"}}}
RATES = {"key": "optimizer.learning_rate", "log_uniform": (1e-4, 1e-1)}


def write_sweep(folder, **sections):
    """A sweep file with these sections; two learning rates on a fifth of the training split unless they say else."""
    sections = {
        "parameters": ({"key": "optimizer.learning_rate", "values": (1e-3, 1e-2)},),
        "validation": {"fraction": 0.2},
        **sections,
    }
    path = folder / "sweep.py"
    path.write_text(
        f"from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({sections!r})\n"
    )
    return str(path)


def planned(folder, *overrides, **sections):
    return make_plan("configs/quickstart.py", overrides, write_sweep(folder, **sections))


def finish(search, value):
    """Every batch of a search whose settings have the value that a function gives."""
    batches, settings = [], next(search)
    while True:
        batches.append(settings)
        try:
            settings = search.send([value(setting) for setting in settings])
        except StopIteration:
            return batches


def test_a_grid_is_every_combination_and_the_last_key_changes_fastest():
    space = space_of(({"key": "a", "values": (1, 2)}, {"key": "b", "values": ("x", "y")}), "sweep.parameters")
    assert product(space) == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]


def test_ranges_are_drawn_evenly_on_their_own_scale():
    space = space_of(
        (
            RATES,
            {"key": "u", "uniform": (-1.0, 3.0)},
            {"key": "n", "integers": (2, 5)},
            {"key": "v", "values": ("a", "b")},
        ),
        "sweep.parameters",
    )
    generator = np.random.default_rng(0)
    drawn = [sample(space, generator) for _ in range(2000)]
    logs = [math.log10(each["optimizer.learning_rate"]) for each in drawn]
    assert np.histogram(logs, bins=3, range=(-4, -1))[0] == pytest.approx([667] * 3, abs=80)
    assert np.mean([each["u"] for each in drawn]) == pytest.approx(1.0, abs=0.1)
    for key, values in (("n", [2, 3, 4, 5]), ("v", ["a", "b"])):
        counts = [sum(each[key] == value for each in drawn) for value in values]
        assert sum(counts) == 2000
        assert counts == pytest.approx([2000 / len(values)] * len(values), abs=120)


def test_a_search_started_again_yields_the_same_settings():
    space = space_of((RATES,), "sweep.parameters")
    value = lambda setting: -abs(math.log10(setting["optimizer.learning_rate"]) + 2)  # noqa: E731
    for make in (
        lambda seed: random(space, "max", trials=6, seed=seed),
        lambda seed: bayesian(space, "max", trials=14, seed=seed, at_once=4),
    ):
        assert finish(make(1), value) == finish(make(1), value) != finish(make(2), value)


def test_the_bayesian_search_goes_where_values_are_good():
    """After ten random settings it comes nearer to the optimum, a rate of 0.01, than chance: 5/6 of a decade away."""
    space = space_of((RATES,), "sweep.parameters")
    distance = lambda setting: abs(math.log10(setting["optimizer.learning_rate"]) + 2)  # noqa: E731
    for mode, sign in (("min", 1.0), ("max", -1.0)):
        batches = finish(bayesian(space, mode, trials=40), lambda s, sign=sign: sign * distance(s))
        tried = [distance(setting) for batch in batches for setting in batch]
        assert np.mean(tried[20:]) < 0.5 * 5 / 6
    failing = finish(bayesian(space, "max", trials=12), lambda setting: None)
    assert sum(map(len, failing)) == 12, "failed trials do not end it"


@pytest.mark.parametrize("count", [2, 3, 5])
def test_folds_validate_on_every_example_once_and_never_on_what_they_train_on(count):
    from vision.data.sources.splits import positions_of

    parts = folds_of({"folds": count}, DIGITS, "sweep.validation")
    splits = {"train": np.arange(1437)}
    validated = [positions_of(fold.validation, splits, "digits") for fold in parts]
    assert np.array_equal(np.sort(np.concatenate(validated)), splits["train"])
    for fold, held in zip(parts, validated, strict=True):
        trained = positions_of(fold.train, splits, "digits")
        assert np.array_equal(np.sort(np.concatenate([trained, held])), splits["train"])
        assert len(held) == pytest.approx(1437 / count, rel=0.05)


REFUSED = [
    ({"split": "test"}, DIGITS, "'test', which config.evals.test tests on"),
    ({"split": "test[:50%]"}, {"data": {"split": "train"}, "evals": {}}, "the split 'test'"),
    ({"split": "val"}, {**DIGITS, "evals": {"my_test": {"split": "val"}}}, "config.evals.my_test tests on"),
    ({"fraction": 0.2}, {**DIGITS, "data": {"split": "test"}}, "the split 'test'"),
    ({"split": "val", "train": "train+test"}, DIGITS, "the split 'test'"),
    ({"split": "train[80%:]"}, DIGITS, "part of what is trained on"),
    ({"folds": 3}, {**DIGITS, "data": {"split": "train[:50%]"}}, "only a plain split can be divided"),
    ({}, DIGITS, "exactly one of fraction, folds and split"),
    ({"fraction": 1.0}, DIGITS, "fraction must be in"),
    ({"folds": 1}, DIGITS, "folds must be in"),
    ({"fractoin": 0.1}, DIGITS, "did you mean 'fraction'"),
]


@pytest.mark.parametrize(("section", "config", "message"), REFUSED)
def test_what_settings_must_not_be_compared_on_is_refused(section, config, message):
    with pytest.raises(ConfigError, match=message) as caught:
        folds_of(section, config, "sweep.validation")
    assert len(str(caught.value).splitlines()) == 1


WRONG = [
    ({"parameters": ({"key": "optimizer.learningrate", "values": (1,)},)}, "did you mean 'learning_rate'"),
    ({"parameters": ({"key": "optimizer.learning_rate", "values": (1e-3, "fast")},)}, "config.optimizer.learning_rate"),
    ({"parameters": (RATES,)}, "a grid needs values for optimizer.learning_rate"),
    (
        {
            "parameters": ({"key": "batch_size", "uniform": (8.0, 64.0)},),
            "search": {"name": "random", "trials": 2},
        },
        "config.batch_size: expected int",
    ),
    ({"parameters": ({"key": "seed", "values": (1, 2)},)}, "the sweep sets it itself"),
    ({"parameters": ({"key": "evals.test.split", "values": ("test",)},)}, "the sweep sets it itself"),
    ({"parameters": ({"key": "a", "values": (1,)}, {"key": "a", "values": (2,)})}, "a comes twice"),
    ({"parameters": ({"key": "a", "values": (1,), "uniform": (0.0, 1.0)},)}, "exactly one of values"),
    ({"parameters": ({"key": "a", "log_uniform": (0.0, 1.0)},)}, "begins above 0"),
    ({"parameters": ({"key": "a", "integers": (3, 3)},)}, "from low to high"),
    ({"parameters": ()}, "empty"),
    ({"search": {"name": "gird"}}, "did you mean 'grid'"),
    ({"search": {"name": "random", "trials": 0}}, "trials must be >= 1"),
    ({"seeds": 0}, "sweep.seeds"),
    ({"validation": {"split": "test"}}, "config.evals.test tests on"),
    ({"metrics": "loss"}, "did you mean 'metric'"),
]


@pytest.mark.parametrize(("sections", "message"), WRONG)
def test_what_cannot_be_is_one_line_before_anything_runs(tmp_path, sections, message):
    with pytest.raises(ConfigError, match=message) as caught:
        planned(tmp_path, **sections)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_sweep_file_is_named_with_its_flag():
    with pytest.raises(ConfigError, match=r"--sweep configs/sweeps/quickstart_serch.py: no such file; did you mean"):
        make_plan("configs/quickstart.py", [], "configs/sweeps/quickstart_serch.py")


def test_the_config_of_a_run_is_that_of_its_command_and_knows_no_test(tmp_path):
    overrides = ["--config.checkpoint.best=test/loss", "--config.batch_size=64"]
    plan = planned(tmp_path, *overrides, seeds=2, validation={"folds": 2})
    setting = {"optimizer.learning_rate": 1e-3, "model.hidden_sizes": (8, 8), "optimizer.schedule": {"name": "linear"}}
    run = plan.runs_of(0, setting)[3]
    config = resolve_any(plan.load(run))
    assert (config["seed"], config["data"]["split"], run.fold) == (1, "train[:50%]", 1)
    assert config["evals"]["validation"]["split"] == "train[50%:]"
    assert list(config["evals"]) == ["validation"]
    assert config["checkpoint"]["best"] == "validation/loss"
    assert (config["optimizer"]["learning_rate"], config["model"]["hidden_sizes"]) == (1e-3, (8, 8))
    assert config["optimizer"]["schedule"]["name"] == "linear"
    assert config["batch_size"] == 64
    assert [word for word in plan.command(run, "w") if word.startswith("--config.")] == list(run.overrides)
    assert "test" in resolve_any(plan.load(plan.tests_of(0, setting)[0]))["evals"]


def test_stopping_the_final_training_by_its_test_is_refused(tmp_path):
    plan = planned(tmp_path, "--config.early_stopping={'metric': 'test/loss', 'patience': 2}")
    assert resolve_any(plan.load(plan.runs_of(0, {})[0]))["early_stopping"]["metric"] == "validation/loss"
    with pytest.raises(ConfigError, match="config.early_stopping.metric: 'test/loss' would stop"):
        plan.tests_of(0, {})


class Trained:
    """Stands for processes: a run's value is a function of its learning rate and seed, and what ran is counted."""

    def __init__(self, monkeypatch, value, stop_after=None):
        self.commands, self._value, self._stop_after = [], value, stop_after
        monkeypatch.setattr(processes, "run_all", self.run_all)
        monkeypatch.setattr(drive, "check_alone", self.alone)

    def alone(self, config):
        raise drive.NotTogether("a test")

    def run_all(self, commands, *, jobs, done):
        for number, command in enumerate(commands):
            if self._stop_after is not None and len(self.commands) >= self._stop_after:
                raise Stopped("stopped", signal_number=signal.SIGINT)
            self.commands.append(command)
            options = dict(word.removeprefix("--config.").split("=", 1) for word in command if "=" in word)
            rate, seed = float(options["optimizer.learning_rate"]), int(options["seed"])
            name = "validation" if "validation" in options.get("evals", "") else "test"
            value = self._value(rate, seed)
            done(number, value if isinstance(value, str) else {name: {"accuracy": value}, "step": 1})


def test_the_best_mean_wins_and_a_failed_trial_is_recorded(tmp_path, monkeypatch, capsys):
    values = {(0.1, 0): 0.8, (0.1, 1): 0.6, (0.2, 0): 0.75, (0.2, 1): 0.73}
    trained = Trained(monkeypatch, lambda rate, seed: values.get((rate, seed), "exit code 1: the loss is not finite"))
    parameters = ({"key": "optimizer.learning_rate", "values": (0.1, 0.2, 0.3)},)
    plan = planned(tmp_path, parameters=parameters, seeds=2)
    result = drive.sweep(plan, tmp_path / "w", evaluate_test=True)
    assert (result["trials"], result["failed"], result["best"]["number"]) == (3, 1, 1)
    assert result["best"]["mean"] == pytest.approx(0.74)
    assert result["best"]["spread"] == pytest.approx(0.02 / math.sqrt(2))
    assert result["test"]["test/accuracy"]["mean"] == pytest.approx(0.74)
    assert "--config.optimizer.learning_rate=0.2 " in result["command"]
    record = json.loads((tmp_path / "w" / "sweep.json").read_text())
    assert [trial["state"] for trial in record["trials"]] == ["complete", "complete", "failed"]
    assert record["trials"][2]["error"] == "exit code 1: the loss is not finite"
    page = (tmp_path / "w" / "sweep.html").read_text()
    for part in ("<svg", "--config.optimizer.learning_rate=0.2", "failed", "accuracy"):
        assert part in page
    assert page.count("aria-label='2 settings and their accuracy'") == 1
    told = capsys.readouterr().err
    assert told.index("0.7400") < told.index("0.7000") < told.index("failed  ")
    count = len(trained.commands)
    assert count == 8, "6 runs, and 2 that tell the test"
    assert drive.sweep(plan, tmp_path / "w", evaluate_test=True) == result
    assert len(trained.commands) == count, "nothing is trained again, and the test is told once"


def test_runs_that_cannot_be_together_have_processes(tmp_path, monkeypatch, capsys):
    trained = Trained(monkeypatch, lambda rate, seed: rate)
    monkeypatch.setattr(drive, "check_alone", lambda config: None)
    groups = []

    def refused(config):
        groups.append(config)
        raise ConfigError("config.optimizer.weight_decay: must be >= 0")

    monkeypatch.setattr(drive, "Together", refused)
    result = drive.sweep(planned(tmp_path), tmp_path / "w")
    assert (len(groups), len(trained.commands), result["failed"]) == (1, 2, 0)
    assert "a process for each run: config.optimizer.weight_decay" in capsys.readouterr().err


@pytest.mark.parametrize("search", [{"name": "grid"}, {"name": "bayesian", "trials": 6, "at_once": 2}])
def test_stopped_it_goes_on_with_the_runs_that_are_missing(tmp_path, monkeypatch, search):
    value = lambda rate, seed: 1.0 - abs(rate - 0.05) + 0.01 * seed  # noqa: E731
    values = {"values": tuple(0.01 * n for n in range(1, 7))} if search["name"] == "grid" else {"uniform": (0.01, 0.1)}
    options = {"parameters": ({"key": "optimizer.learning_rate", **values},), "search": search, "seeds": 2}
    plan = planned(tmp_path, **options)
    straight = Trained(monkeypatch, value)
    drive.sweep(plan, tmp_path / "straight")
    first = Trained(monkeypatch, value, stop_after=5)
    with pytest.raises(Stopped, match="5 runs of this start are kept in .*; the same command goes on") as caught:
        drive.sweep(plan, tmp_path / "stopped")
    assert caught.value.exit_code == 130
    assert "trials are not finished" in (tmp_path / "stopped" / "sweep.html").read_text()
    second = Trained(monkeypatch, value)
    drive.sweep(plan, tmp_path / "stopped")
    folders = {str(tmp_path / name): "" for name in ("straight", "stopped")}
    without = lambda command: [w for w in command if w not in folders and not w.startswith(str(tmp_path))]  # noqa: E731
    assert [without(c) for c in first.commands + second.commands] == [without(c) for c in straight.commands]
    trials = [json.loads((tmp_path / name / "sweep.json").read_text())["trials"] for name in ("straight", "stopped")]
    assert trials[0] == trials[1]


def test_another_sweep_in_the_same_folder_is_refused_naming_the_keys(tmp_path, monkeypatch):
    Trained(monkeypatch, lambda rate, seed: rate)
    drive.sweep(planned(tmp_path), tmp_path / "w")
    with pytest.raises(UserError, match=r"config.batch_size: 128 there, 64 here; sweep.seeds|config.batch_size: 128"):
        drive.sweep(planned(tmp_path, "--config.batch_size=64"), tmp_path / "w")
    with pytest.raises(UserError, match=r"sweep.seeds: 1 there, 3 here"):
        drive.sweep(planned(tmp_path, seeds=3), tmp_path / "w")


def test_no_result_at_all_is_exit_code_1_and_a_wrong_metric_names_the_nearest(tmp_path, monkeypatch):
    Trained(monkeypatch, lambda rate, seed: "exit code 2: no data")
    with pytest.raises(TrainingFailed, match="no trial has a result; the first failed: exit code 2: no data"):
        drive.sweep(planned(tmp_path), tmp_path / "a")
    Trained(monkeypatch, lambda rate, seed: math.nan)
    with pytest.raises(TrainingFailed, match="accuracy is nan"):
        drive.sweep(planned(tmp_path), tmp_path / "b")
    Trained(monkeypatch, lambda rate, seed: 0.5)
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        drive.sweep(planned(tmp_path, metric="acuracy"), tmp_path / "c")


@pytest.mark.slow
def test_children_that_fail_are_told_and_the_others_go_on():
    found = {}
    commands = [
        ["-c", "print('{\"a\": 1}')"],
        ["-c", "import sys; print('note', file=sys.stderr); sys.exit('error: no such thing')"],
        ["-c", "import os; os.kill(os.getpid(), 9)"],
        ["-c", "pass"],
    ]
    processes.run_all(commands, jobs=2, done=found.__setitem__)
    assert found == {
        0: {"a": 1},
        1: "exit code 1: no such thing",
        2: "signal 9: it said nothing",
        3: "exit code 0: it said nothing",
    }


TINY = [
    "--config.duration.steps=20",
    "--config.steps_per_dispatch=1",
    "--config.model.hidden_sizes=(8,)",
    "--config.checkpoint={}",
    "--config.logging.tensorboard=False",
]


@pytest.mark.slow
def test_widths_have_processes_and_seeds_are_trained_together(program, tmp_path):
    parameters = ({"key": "model.hidden_sizes", "values": ((8,), (16,))},)
    sweep = write_sweep(tmp_path, parameters=parameters, metric="loss")
    command = ["experiments.sweep", "--config", "configs/quickstart.py", "--sweep", sweep, *TINY, "--json"]
    done = program(*command, "--workdir", tmp_path / "alone", "--jobs", 2)
    result = json.loads(done.stdout.splitlines()[-1])
    record = json.loads((tmp_path / "alone" / "sweep.json").read_text())
    assert [row["how"] for trial in record["trials"] for row in trial["runs"]] == ["process"] * 2
    assert (tmp_path / "alone" / "trials" / "000" / "fold0-seed0" / "report.html").exists()
    assert result["best"]["mean"] == min(trial["mean"] for trial in record["trials"])
    together = write_sweep(tmp_path, parameters=parameters, metric="loss", seeds=2)
    command[4] = together
    program(*command, "--workdir", tmp_path / "together")
    both = json.loads((tmp_path / "together" / "sweep.json").read_text())
    for one, other in zip(record["trials"], both["trials"], strict=True):
        assert [row["how"] for row in other["runs"]] == ["together"] * 2
        assert other["runs"][0]["validation"] == pytest.approx(one["runs"][0]["validation"], abs=1e-5)


@pytest.mark.slow
def test_a_fitted_estimator_is_swept_by_processes(program, tmp_path):
    (tmp_path / "config.py").write_text(
        "from ml_collections import ConfigDict\n\n\ndef get_config():\n"
        "    return ConfigDict({'data': {'name': 'digits'}, 'estimator': {'name': 'knn', 'k': 1},\n"
        "                       'evals': {'test': {'split': 'test'}}})\n"
    )
    sweep = write_sweep(tmp_path, parameters=({"key": "estimator.k", "values": (1, 400)},))
    done = program(
        "experiments.sweep", "--config", tmp_path / "config.py", "--sweep", sweep, "--workdir", tmp_path / "w",
        "--evaluate_test", "--json",
    )  # fmt: skip
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["best"]["params"] == {"estimator.k": 1}
    assert result["test"]["test/accuracy"]["mean"] > 0.95


@pytest.mark.slow
def test_ctrl_c_lets_the_children_save_and_the_same_command_goes_on(tmp_path):
    parameters = ({"key": "model.hidden_sizes", "values": ((8,), (16,))},)
    sweep = write_sweep(tmp_path, parameters=parameters)
    long = ["--config.duration.steps=3000", *TINY[1:]]
    command = [sys.executable, "-m", "experiments.sweep", "--config", "configs/quickstart.py", "--sweep", sweep, *long]
    command += ["--workdir", str(tmp_path / "w")]
    child = subprocess.Popen(
        command, cwd=REPOSITORY, env=child_environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    log = tmp_path / "w" / "trials" / "000" / "fold0-seed0" / "metrics.jsonl"
    while not (log.exists() and log.read_text()):
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.1)
    os.killpg(child.pid, signal.SIGINT)
    _, told = child.communicate(timeout=120)
    assert child.returncode == 130, told
    assert "the same command goes on" in told
    first = tmp_path / "w" / "trials" / "000" / "fold0-seed0"
    assert [path.name for path in (first / "checkpoints").glob("[0-9]*")]
    assert not (first / "summary.json").exists()
    subprocess.run(command, cwd=REPOSITORY, env=child_environment(), check=True, capture_output=True)
    assert "resumed at step" in (first / "log.txt").read_text()
    assert json.loads((tmp_path / "w" / "sweep.json").read_text())["complete"]
