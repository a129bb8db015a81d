"""A run with patience stops where it should, ends on its best state, and does so when killed and resumed too."""

import json

import pytest
from conftest import tiny

from vision.errors import ConfigError
from vision.training import loop as module
from vision.training.checkpoint import Checkpoints, load_arrays
from vision.training.compare import compare, compare_metrics
from vision.training.early_stopping import Patience
from vision.training.logging import read_metrics
from vision.training.loop import train
from vision.training.schema import resolve


class Killed(Exception):
    """Leaves the loop at once, as a crash would."""


def killed(*arguments):
    raise Killed


def patient(**section):
    """A run whose loss is to rise, though it falls: its first evaluation, at step 2, is its best."""
    config = tiny()
    config.evals.test.every = {"steps": 2}
    config.early_stopping = {"metric": "test/loss", "mode": "max", "patience": 2, **section}
    config.checkpoint = {"every": {"steps": 5}, "keep": 2}
    return config


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """One run that stops early, killed on its way and resumed."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    with pytest.raises(Killed):
        train(patient(), folder, at_step={5: killed})
    return folder, train(patient(), folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The same training to its end, with every checkpoint kept."""
    config = tiny()
    config.evals.test.every = {"steps": 2}
    config.checkpoint = {"every": {"steps": 2}, "keep": 10}
    folder = tmp_path_factory.mktemp("runs") / "plain"
    train(config, folder)
    return folder


SEQUENCES = [
    # values, patience, min_delta, mode -> (evaluation that ends it, from 1; None for none), the best evaluation
    ([3, 2, 1, 2, 3], 2, 0.0, "min", 5, 3),
    ([3, 2, 1, 2, 0], 2, 0.0, "min", None, 5),
    ([1, 2, 3, 3, 3], 2, 0.0, "max", 5, 5),
    ([1.0, 0.95, 0.9, 0.84, 0.5], 3, 0.15, "min", None, 5),
    ([1.0, 0.95, 0.9, 0.5], 2, 0.15, "min", 3, 3),
    ([5, 6], 1, 0.0, "min", 2, 1),
    ([float("nan"), 4, float("nan")], 2, 0.0, "min", None, 2),
    ([float("nan"), float("nan"), 1], 1, 0.0, "max", 2, 2),
]


@pytest.mark.parametrize(("values", "patience", "min_delta", "mode", "end", "best"), SEQUENCES)
def test_patience_counts_evaluations_without_an_improvement(values, patience, min_delta, mode, end, best):
    section = {"metric": "test/loss", "patience": patience, "min_delta": min_delta, "mode": mode}
    state, ended_at = Patience(), None
    for number, value in enumerate(values, start=1):
        state = Patience.read(json.loads(json.dumps(state.after(10 * number, float(value), section).record())))
        assert state.after(10 * number, float("inf"), section) == state, "the same evaluation counts once"
        if state.ended(section):
            ended_at = number
            break
    assert ended_at == end
    assert state.best_step == 10 * best


def test_it_stops_and_ends_on_its_best_state(stopped, plain):
    folder, result = stopped
    assert (result["step"], result["stopped_at"], result["steps"]) == (2, 6, 12)
    lines = {line["step"]: line for line in read_metrics(plain / "metrics.jsonl") if "test/loss" in line}
    assert result["test"]["loss"] == lines[2]["test/loss"] != lines[6]["test/loss"]
    assert json.loads((folder / "summary.json").read_text()) == {**result, "complete": True}
    assert json.loads((folder / "evaluations" / "test.json").read_text())["step"] == 2


def test_its_newest_checkpoint_is_the_best_state_bit_for_bit(stopped, plain):
    step, _, metadata = load_arrays(stopped[0])
    assert step == metadata["step"] == 2
    assert [row.path for row in compare(stopped[0], plain, step_b=2) if not row.equal] == []
    assert [row.path for row in compare(stopped[0], plain, step_b=6) if not row.equal]


def test_its_curves_go_on_to_where_it_stopped(stopped):
    lines = read_metrics(stopped[0] / "metrics.jsonl")
    assert [line["step"] for line in lines if "train/loss" in line] == [5, 6]
    assert [line["step"] for line in lines if "test/loss" in line] == [2, 4, 6, 2]
    assert all("train/loss" in line or "test/loss" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("at", [None, 1, 6])
def test_killed_and_resumed_it_stops_at_the_same_step_with_the_same_bits(stopped, tmp_path, at):
    if at is not None:
        with pytest.raises(Killed):
            train(patient(), tmp_path / "run", at_step={at: killed})
    check_same(stopped, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["before the newer checkpoints are deleted", "before the summary"])
def test_killed_at_its_end_it_ends_the_same(stopped, tmp_path, monkeypatch, where):
    with monkeypatch.context() as patch:
        if where == "before the summary":
            write = module.folder.write_json
            patch.setattr(
                module.folder, "write_json", lambda p, v: killed() if p.name == "summary.json" else write(p, v)
            )
        else:
            patch.setattr(Checkpoints, "drop_after", killed)
        with pytest.raises(Killed):
            train(patient(), tmp_path / "run")
    check_same(stopped, tmp_path / "run")


def check_same(stopped, folder):
    result = train(patient(), folder)
    assert {**result, "workdir": ""} == {**stopped[1], "workdir": ""}
    assert [row.path for row in compare(stopped[0], folder) if not row.equal] == []
    assert compare_metrics(stopped[0], folder) == []


def test_complete_it_says_so_and_is_left_alone(stopped, capsys):
    before = (stopped[0] / "metrics.jsonl").read_text()
    assert train(patient(), stopped[0])["test"] == stopped[1]["test"]
    assert "stopped early at step 6 of 12, its best is step 2" in capsys.readouterr().err
    assert (stopped[0] / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_with_enough_patience_it_trains_to_the_end_and_takes_the_best(tmp_path, stopped, capsys):
    result = train(patient(patience=100), tmp_path)
    assert (result["step"], result["stopped_at"]) == (2, 12)
    assert result["test"] == stopped[1]["test"]
    assert load_arrays(tmp_path)[0] == 2
    assert train(patient(patience=100), tmp_path)["step"] == 2
    assert "complete: " in capsys.readouterr().err


WRONG = [
    ({"early_stopping.metric": "tset/loss"}, "config.early_stopping.metric: 'tset/loss' is not eval/metric"),
    ({"early_stopping.patience": 0}, "config.early_stopping: patience must be >= 1"),
    ({"early_stopping.min_delta": -1.0}, "config.early_stopping: min_delta"),
    ({"early_stopping.patiense": 3}, "did you mean 'patience'"),
    ({"evals.test.every": None}, "config.evals.test.every: missing"),
    ({"checkpoint.best": "test/accuracy"}, "config.checkpoint.best: 'test/accuracy', but"),
    ({"checkpoint.best_mode": "min"}, "config.checkpoint.best_mode: 'min', but"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_cannot_be_is_one_line(changes, message):
    from vision.config.loading import plain

    config = plain(patient())
    for key, value in changes.items():
        section, name = key.split(".")[:-1], key.split(".")[-1]
        target = config
        for word in section:
            target = target[word]
        target[name] = value
    with pytest.raises(ConfigError, match=message):
        resolve(config)


@pytest.mark.slow
def test_unknown_metric_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"config.early_stopping.metric: no metric 'test/los'; did you mean"):
        train(patient(metric="test/los"), tmp_path)


@pytest.mark.slow
def test_killed_by_a_signal_and_resumed_in_another_process(program, tmp_path):
    (tmp_path / "config.py").write_text(
        "import sys\nsys.path.insert(0, 'tests')\nfrom test_early_stopping import patient\n\n\n"
        "def get_config():\n    return patient(patience=3)\n"
    )
    done = program(
        "experiments.reproduce", "--config", tmp_path / "config.py", "--steps", 12, "--interrupt", 5, "--json"
    )
    assert json.loads(done.stdout.splitlines()[-1])["equal"]
