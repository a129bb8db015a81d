"""A mistake in a config is one readable line that names the key and the cure."""

import pytest
from ml_collections import ConfigDict

from vision.config.duration import steps_of
from vision.config.loading import load, plain
from vision.errors import ConfigError
from vision.training.schema import resolve

FILE = """
from ml_collections import ConfigDict
def get_config(size="small"):
    c = ConfigDict({"batch_size": 8, "duration": {"epochs": 2}, "model": {"name": "mlp/128"}, "size": size})
    return c
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "some.py"
    path.write_text(FILE)
    return str(path)


def refused(function, *arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_file_argument_reaches_get_config(config_file):
    assert load(config_file)["size"] == "small"
    assert load(f"{config_file}:large")["size"] == "large"


@pytest.mark.parametrize(
    ("text", "value"),
    [("3e-4", 3e-4), ("12", 12), ("True", True), ("false", False), ("None", None), ("(1, 2)", (1, 2)), ("[1]", (1,)),
     ("adamw", "adamw"), ("'7'", "7"), ("a=b", "a=b"), ("train[:90%]", "train[:90%]")],
)  # fmt: skip
def test_override_reads_literals_and_text(config_file, text, value):
    assert load(config_file, [f"--config.model.option={text}"])["model"]["option"] == value


def test_override_of_a_duration_replaces_its_other_unit(config_file):
    assert load(config_file, ["--config.duration.steps=5"])["duration"] == {"steps": 5}


def test_override_inside_a_value_is_refused(config_file):
    assert "config.batch_size holds 8" in refused(load, config_file, ["--config.batch_size.x=1"])


def test_override_without_value_is_refused(config_file):
    assert "--config.section.key=value" in refused(load, config_file, ["--config.batch_size"])


def test_missing_file_names_the_nearest(config_file):
    assert "some.py" in refused(load, config_file.replace("some", "sone"))


@pytest.mark.parametrize(
    "body", ["x = (", "import not_there", "y = 1", "def get_config(): return {}", "def get_config(): return 1/0"]
)
def test_broken_file_is_one_line(tmp_path, body):
    path = tmp_path / "broken.py"
    path.write_text(body)
    assert str(path) in refused(load, str(path))


def test_quickstart_resolves_and_resolving_twice_changes_nothing():
    config = resolve(load("configs/quickstart.py"))
    assert resolve(config) == config
    assert config["optimizer"]["b2"] == 0.999, "defaults are filled in"


WRONG = {
    "optimizer.learningrate=0.1": ["config.optimizer.learningrate", "'learning_rate'"],
    "batchsize=3": ["config.batchsize", "'batch_size'"],
    "optimizer.name=adamm": ["config.optimizer.name", "'adam", "lion"],
    "optimizer.learning_rate=fast": ["config.optimizer.learning_rate", "float", "'fast'"],
    "optimizer.learning_rate=-1": ["config.optimizer.learning_rate", ">= 0"],
    "optimizer.learning_rate=true": ["config.optimizer.learning_rate", "True"],
    "model.name=mlp/257-256": ["config.model.name", "'mlp/256-256'", "linear"],
    "model.hidden_size=(3,)": ["config.model.hidden_size", "'hidden_sizes'"],
    "model.hidden_sizes=3": ["config.model.hidden_sizes", "tuple[int, ...]"],
    "model.hidden_sizes=(1,2,3,4,5,6,7,8,9,'a')": ["config.model.hidden_sizes[9]", "int", "'a'"],
    "model.hidden_sizes=(True,)": ["config.model.hidden_sizes[0]", "True"],
    "model.name={'a': 1}": ["config.model.name"],
    "optimizer.learning_rate=1e400": ["config.optimizer.learning_rate", "inf"],
    "data.mean=(0.1, 'x')": ["config.data.mean[1]", "'x'"],
    "data.augment=(3,)": ["config.data.augment[0]", "section"],
    "evals.step.name=classification": ["config.evals.step"],
    "evals.test.batch_size=0": ["config.evals.test.batch_size", ">= 1"],
    "objective.loss=softmex": ["config.objective.loss", "'softmax'", "'sigmoid'"],
    "on_nonfinite=ignore": ["config.on_nonfinite", "'stop'", "'skip'"],
    "data.residency=gpu": ["config.data.residency", "'device'", "'host'"],
    "data.augment=({'name': 'random_shft'},)": ["config.data.augment[0].name", "'random_shift'"],
    "data.augment=({'name': 'random_shift', 'pixel': 1},)": ["config.data.augment[0].pixel", "'pixels'"],
    "batch_size=0": ["config.batch_size", ">= 1"],
    "batch_size=8.5": ["config.batch_size", "int", "8.5"],
    "seed=-1": ["config.seed"],
    "precision=bfloat16": ["config.precision", "params=float32"],
    "evals.test.every.step=3": ["config.evals.test.every", "steps"],
    "checkpoint.best=val/accuracy": ["config.checkpoint.best", "test"],
    "checkpoint.keep=0": ["config.checkpoint.keep"],
    "model=3": ["config.model", "section", "3"],
    "optimizer.schedule.name=cosin": ["config.optimizer.schedule.name", "'cosine'"],
    "ema.decays=0.9": ["config.ema.decays", "'decay'"],
    "unknown.section=1": ["config.unknown"],
}


@pytest.mark.parametrize("override", WRONG)
def test_wrong_key_or_value_is_named_with_its_cure(override):
    message = refused(lambda: resolve_and_check(load("configs/quickstart.py", [f"--config.{override}"])))
    for part in WRONG[override]:
        assert part in message


def resolve_and_check(config):
    full = resolve(config)
    for name, section in full["evals"].items():
        steps_of(section["every"], f"config.evals.{name}.every", batch_size=8, num_examples=80)


def test_key_that_no_code_reads_is_an_error_in_a_file_too(tiny_config):
    tiny_config.optimizer.warm_up = {"steps": 3}
    assert "'warmup'" in refused(resolve, plain(tiny_config))


def test_missing_section_is_named():
    assert "config.data: missing" in refused(resolve, {"batch_size": 3})


def test_whole_numbers_are_floats_where_floats_are_asked_for(tiny_config):
    tiny_config.optimizer = ConfigDict({"name": "sgd", "learning_rate": 1})
    value = resolve(plain(tiny_config))["optimizer"]["learning_rate"]
    assert value == 1.0
    assert isinstance(value, float)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ({"steps": 7}, 7),
        ({"epochs": 2}, 20),
        ({"epochs": 0.5}, 5),
        ({"examples": 250}, 25),
        ({"epochs": 0.001}, 1),
        ({"steps": 0}, 0),
    ],
)
def test_durations_in_every_unit(duration, steps):
    assert steps_of(duration, "config.duration", batch_size=10, num_examples=100) == steps


@pytest.mark.parametrize(
    "duration",
    [
        {},
        {"steps": 1, "epochs": 1},
        {"step": 1},
        {"steps": -1},
        {"steps": 1.5},
        {"epochs": "two"},
        3,
        {"steps": True},
        {"epochs": float("nan")},
    ],
)
def test_impossible_durations_are_refused(duration):
    assert "config.duration" in refused(lambda: steps_of(duration, "config.duration", batch_size=10, num_examples=100))
