"""Every file in configs/ resolves, builds and steps at a tiny size, and says how to run it and what to expect."""

import ast
import inspect
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import REPOSITORY

from vision.config.loading import load
from vision.data.source import ArraySource
from vision.data.sources import Opener
from vision.training import assemble as module
from vision.training.schema import resolve

CONFIGS = sorted(path for path in (REPOSITORY / "configs").glob("*.py") if path.name != "__init__.py")
# What stands in for data that may not be there: shape of an image and number of classes.
KNOWN = {
    "digits": ((8, 8, 1), 10),
    "mnist": ((28, 28, 1), 10),
    "fashion_mnist": ((28, 28, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "shapes": ((64, 64, 3), 64),
    "folder:images": ((32, 24, 3), 5),
}


@pytest.fixture
def stand_in(monkeypatch):
    def make(opener, split):
        shape, classes = KNOWN[opener.name]
        generator = np.random.default_rng(len(split or ""))
        images = generator.integers(0, 256, (40, *shape), dtype=np.uint8)
        return ArraySource({"image": images, "label": generator.integers(0, classes, 40).astype(np.int32)}, classes)

    monkeypatch.setattr(Opener, "__call__", make)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_builds_and_steps_at_tiny_size(path: Path, stand_in):
    config = resolve(load(str(path)))
    config["batch_size"] = 16
    for section in config["evals"].values():
        section["batch_size"] = 16
    experiment = module.assemble(resolve(config))
    state = experiment.init(experiment.constants.keys.init)
    before = jax.device_get(state.params)
    for step in range(2):
        state, metrics = experiment.step(state, experiment.pipeline.batch(step), experiment.constants)
        assert np.isfinite(float(metrics["loss"][0]))
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, jax.device_get(state.params))
    assert any(jax.tree.leaves(moved))
    for evaluator in module.make_evaluators(experiment).values():
        assert all(np.isfinite(value).all() for _, value in evaluator.run(state))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_docstring_has_the_command_and_the_expected_result(path: Path):
    text = inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text())) or "")
    assert f"python -m experiments.train --config configs/{path.name}" in text
    assert "Expected:" in text
