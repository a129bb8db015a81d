"""A run ends where it should, resumes to the same bits, and refuses what it cannot do."""

import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import Killed, killed, tiny

from vision.config.loading import plain
from vision.errors import ConfigError, TrainingFailed, UserError
from vision.training import loop, workdir
from vision.training.checkpoint import load_arrays
from vision.training.compare import compare, compare_metrics, table
from vision.training.logging import read_metrics
from vision.training.loop import train


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """One undisturbed run that several tests look at."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    return folder, train(tiny(), folder)


def test_a_run_leaves_everything_behind(straight):
    folder, result = straight
    assert result["step"] == result["steps"] == 12
    assert 0 <= result["test"]["accuracy"] <= 1
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "log.txt",
        "report.html",
        "summary.json",
        "checkpoints",
    } <= names
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["jax"] == jax.__version__
    assert environment["device_count"] == jax.device_count()
    assert len(environment["data_fingerprint"]) == 16
    assert json.loads((folder / "summary.json").read_text())["test"] == result["test"]
    evaluation = json.loads((folder / "evaluations" / "test.json").read_text())
    assert np.sum(evaluation["arrays"]["confusion"]) == 360


def test_metrics_have_a_line_where_they_should(straight):
    lines = read_metrics(straight[0] / "metrics.jsonl")
    assert [line["step"] for line in lines if "train/loss" in line] == [5, 10, 12]
    assert [line["step"] for line in lines if "test/accuracy" in line] == [6, 12]
    for name in ("train/accuracy", "train/gradient_norm", "train/learning_rate", "speed/examples_per_second"):
        assert name in lines[0]


def test_checkpoint_holds_config_environment_and_the_whole_state(straight):
    step, arrays, metadata = load_arrays(straight[0])
    assert step == 12
    assert {path.split("/")[0] for path in arrays} == {"step", "params", "extra", "opt_state"}
    assert metadata["config"]["seed"] == 0
    assert metadata["environment"]["data_fingerprint"]


@pytest.mark.parametrize("at", [1, 4, 7, 11])
def test_left_at_any_step_and_resumed_it_is_the_straight_run_bit_for_bit(straight, tiny_config, tmp_path, at):
    with pytest.raises(Killed):
        train(tiny_config, tmp_path / "run", at_step={at: killed})
    result = train(tiny_config, tmp_path / "run")
    rows = compare(straight[0], tmp_path / "run")
    assert [row.path for row in rows if not row.equal] == []
    assert compare_metrics(straight[0], tmp_path / "run") == []
    assert result["test"] == straight[1]["test"]


def test_several_steps_per_dispatch_give_the_same_run(straight, tiny_config, tmp_path):
    tiny_config.steps_per_dispatch = 2
    train(tiny_config, tmp_path / "run")
    assert [row.path for row in compare(straight[0], tmp_path / "run") if not row.equal] == []
    assert compare_metrics(straight[0], tmp_path / "run") == []


def test_complete_run_says_so_and_is_left_alone(straight, tiny_config, capsys):
    before = (straight[0] / "metrics.jsonl").read_text()
    again = train(tiny_config, straight[0])
    assert again["test"] == straight[1]["test"]
    assert "complete" in capsys.readouterr().err
    assert (straight[0] / "metrics.jsonl").read_text() == before


def test_another_config_in_the_same_folder_is_refused_naming_the_keys(straight, tiny_config):
    tiny_config.seed = 5
    tiny_config.optimizer.learning_rate = 0.5
    with pytest.raises(
        UserError, match=r"config.optimizer.learning_rate: 0.01 there, 0.5 here; config.seed: 0 there, 5"
    ):
        train(tiny_config, straight[0])


def test_keys_that_do_not_change_what_is_learned_are_free(straight, tiny_config, tmp_path):
    with pytest.raises(Killed):
        train(tiny_config, tmp_path / "run", at_step={9: killed})
    tiny_config.checkpoint = {"every": {"steps": 5}, "keep": 1}
    tiny_config.evals = {}
    tiny_config.mesh = {"data": 4, "fsdp": 2}
    tiny_config.sharding = (("params/.*kernel", "fsdp(fsdp)"),)
    train(tiny_config, tmp_path / "run")
    losses = [
        [line["train/loss"] for line in read_metrics(run / "metrics.jsonl") if "train/loss" in line]
        for run in (straight[0], tmp_path / "run")
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_other_data_under_the_same_name_are_refused(tiny_config, tmp_path, monkeypatch):
    from vision.data.source import Subset
    from vision.data.sources import Opener

    with pytest.raises(Killed):
        train(tiny_config, tmp_path / "run", at_step={9: killed})
    moved = tmp_path / "moved"
    shutil.copytree(Path(os.environ["TFDS_DATA_DIR"]) / "digits", moved / "digits")
    tiny_config.data.data_dir = str(moved)
    opened = Opener.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Opener, "__call__", lambda self, split: Subset(opened(self, split), np.arange(300)))
        with pytest.raises(UserError, match=r"training data are not those of the checkpoint of step \d+"):
            train(tiny_config, tmp_path / "run")
    assert train(tiny_config, tmp_path / "run")["step"] == 12, "another folder with the same data is free"


def test_before_the_first_checkpoint_another_config_may_take_the_folder(tiny_config, tmp_path):
    with pytest.raises(Killed):
        train(tiny_config, tmp_path / "run", at_step={2: killed})
    tiny_config.seed = 1
    tiny_config.duration = {"steps": 2}
    assert train(tiny_config, tmp_path / "run")["step"] == 2


def test_second_job_on_the_same_folder_is_refused(tiny_config, tmp_path):
    with workdir.locked(tmp_path), pytest.raises(UserError, match=r"in use by process \d+"):
        train(tiny_config, tmp_path)


def test_best_checkpoint_is_kept(tiny_config, tmp_path):
    tiny_config.checkpoint = {"keep": 1, "best": "test/accuracy", "every": {"steps": 5}}
    tiny_config.evals.test.every = {"steps": 3}
    train(tiny_config, tmp_path)
    accuracy = {
        line["step"]: line["test/accuracy"]
        for line in read_metrics(tmp_path / "metrics.jsonl")
        if "test/accuracy" in line
    }
    best = max(accuracy, key=lambda step: accuracy[step])
    kept = {int(path.name) for path in (tmp_path / "checkpoints").glob("[0-9]*")}
    assert set(accuracy) == {3, 6, 9, 12}
    assert 12 in kept
    assert max(accuracy[step] for step in kept if step in accuracy) == accuracy[best]
    assert kept <= {12, *(step for step in accuracy if accuracy[step] == accuracy[best])}


def test_best_of_an_unknown_metric_names_the_nearest(tiny_config, tmp_path):
    tiny_config.checkpoint.best = "test/acuracy"
    with pytest.raises(ConfigError, match="did you mean 'test/accuracy'"):
        train(tiny_config, tmp_path)


def test_resume_takes_another_run_s_state(straight, tiny_config, tmp_path):
    tiny_config.resume = str(straight[0])
    tiny_config.duration = {"steps": 14}
    result = train(tiny_config, tmp_path)
    assert result["step"] == 14
    for run, steps in ((straight[0], 12), (tmp_path, 14)):
        counts = {int(array) for path, array in load_arrays(run)[1].items() if path.endswith("count")}
        assert counts == {steps}, "the optimizer goes on too"
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl") if "train/loss" in line] == [14]


def test_loss_that_is_not_finite_stops_naming_the_step_and_the_last_checkpoint(tiny_config, tmp_path):
    tiny_config.optimizer = {"name": "sgd", "learning_rate": 1e4}
    tiny_config.objective = {"name": "regress"}
    tiny_config.evals = {}
    tiny_config.checkpoint = {"every": {"steps": 1}}
    with pytest.raises(
        TrainingFailed, match=r"step (\d+) is not finite; the last good checkpoint is step (\d+)"
    ) as caught:
        train(tiny_config, tmp_path)
    step, good = (int(word) for word in str(caught.value).split() if word.isdigit())
    assert good == step - 1
    saved, arrays, _ = load_arrays(tmp_path)
    assert saved == good
    assert all(np.isfinite(array).all() for array in arrays.values() if array.dtype == np.float32)
    assert caught.value.exit_code == 1
    assert (tmp_path / "report.html").exists()


def test_skipping_steps_that_are_not_finite_goes_on_and_counts(tiny_config, tmp_path):
    tiny_config.optimizer = {"name": "sgd", "learning_rate": 1e30}
    tiny_config.objective = {"name": "regress"}
    tiny_config.ema = None
    tiny_config.on_nonfinite = "skip"
    tiny_config.evals = {}
    assert train(tiny_config, tmp_path)["step"] == 12
    skipped = [line["train/skipped_steps"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert sum(skipped) > 5


def test_final_state_is_saved_before_the_final_evaluation(tiny_config, tmp_path, monkeypatch):
    from vision.training import loop as module

    def broken(experiment, **options):
        def run(state):
            raise Killed
            yield

        return {"test": module_evaluators(experiment)["test"].__class__(run, ("accuracy",))}

    module_evaluators = module.make_evaluators
    monkeypatch.setattr(module, "make_evaluators", broken)
    tiny_config.evals.test.every = None
    with pytest.raises(Killed):
        train(tiny_config, tmp_path)
    assert load_arrays(tmp_path)[0] == 12


def test_killed_between_the_last_checkpoint_and_the_summary(straight, tiny_config, tmp_path):
    import shutil

    shutil.copytree(straight[0], tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    assert train(tiny_config, tmp_path / "run")["test"] == straight[1]["test"]
    assert compare_metrics(straight[0], tmp_path / "run") == []


@pytest.mark.parametrize("key", ["logging", "checkpoint", "evals.test", "duration"])
def test_every_zero_steps_is_refused(tiny_config, tmp_path, key):
    if key == "duration":
        tiny_config.duration = {"steps": 0}
    else:
        section = tiny_config
        for word in key.split("."):
            section = section[word]
        section.every = {"steps": 0}
    with pytest.raises(ConfigError, match=rf"config.{key}(.every)?: must be more than 0"):
        train(tiny_config, tmp_path)


@pytest.mark.parametrize("content", ["[]", "{", "{}"])
def test_broken_config_of_a_run_is_one_line(straight, tiny_config, tmp_path, content):
    import shutil

    shutil.copytree(straight[0], tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(content)
    with pytest.raises(UserError, match="config.json|belongs to another config"):
        train(tiny_config, tmp_path / "run")


def test_run_from_before_a_key_existed_is_still_its_own(straight, tiny_config, tmp_path):
    import shutil

    shutil.copytree(straight[0], tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    old = json.loads(path.read_text())
    del old["optimizer"]["eps"]
    path.write_text(json.dumps(old))
    assert train(tiny_config, tmp_path / "run")["step"] == 12


def test_strange_lines_in_metrics_are_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "train/loss": 2.0}\n3\n{"a": 1}\n\xff\n{"step": 2, "tra')
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "train/loss": 2.0}]


def test_measured_speed_leaves_evaluations_out(monkeypatch):
    from vision.training import meter as module

    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    meter = module.Meter({}, step=0, batch_size=10)
    one = np.ones(())
    for step in range(50):
        meter.add(step, {name: (one, one) for name in ("loss", "gradient_norm", "parameter_norm")})
        now[0] += 1.0
        if step == 29:
            now[0] += 500.0
            meter.leave_out(500.0)
    meter.end_line(50)
    (line,) = meter.lines()
    assert line.values["speed/examples_per_second"] == pytest.approx(10.0)


def test_config_errors_come_before_the_folder_is_touched(tiny_config, tmp_path):
    tiny_config.model.name = "mpl/128"
    with pytest.raises(ConfigError):
        train(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tensorboard_events_hold_the_metrics(tiny_config, tmp_path):
    tiny_config.logging.tensorboard = True
    tiny_config.duration = {"steps": 2}
    train(tiny_config, tmp_path)
    (events,) = tmp_path.glob("events.*")
    assert b"train/loss" in events.read_bytes()
    assert b"test/accuracy" in events.read_bytes()


def test_wandb_that_is_not_installed_says_how_to_install_it(tiny_config, tmp_path):
    tiny_config.logging.wandb = "project"
    with pytest.raises(UserError, match=r"pip install -e '.\[wandb\]'"):
        train(tiny_config, tmp_path)


def test_files_that_cannot_be_written_are_named(tiny_config, tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match="metrics.jsonl"):
        train(tiny_config, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--workdir"):
        train(tiny_config, tmp_path / "file" / "run")


def test_comparison_names_every_kind_of_difference():
    from vision.training.compare import compare_arrays

    a = {
        "same": np.zeros(2),
        "value": np.zeros(2, np.float32),
        "shape": np.zeros(2),
        "gone": np.zeros(1),
        "nan": np.array([np.nan]),
    }
    b = {
        "same": np.zeros(2),
        "value": np.array([0, -0.0], np.float32),
        "shape": np.zeros(3),
        "new": np.zeros(1),
        "nan": np.array([np.nan]),
    }
    rows = {row.path: row for row in compare_arrays(a, b)}
    assert {path for path, row in rows.items() if row.equal} == {"same", "nan"}, (
        "bits count: -0.0 is not 0.0, a NaN is itself"
    )
    assert "only in the first" in table(list(rows.values()))


def test_the_train_step_of_a_run_is_traced_once(tiny_config, tmp_path, monkeypatch):
    import chex

    from vision.training import assemble as module

    make = module.make_train_step
    monkeypatch.setattr(module, "make_train_step", lambda *a, **k: chex.assert_max_traces(make(*a, **k), n=1))
    chex.clear_trace_counter()
    assert loop.train(plain(tiny_config), tmp_path)["step"] == 12
