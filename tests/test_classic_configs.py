"""Every file in configs/classic/ resolves, fits at a tiny size, and says how to run it and what to expect."""

import ast
import inspect

import numpy as np
import pytest
from conftest import REPOSITORY

from vision.config.loading import load
from vision.training.fit import fit
from vision.training.fit_schema import resolve

CONFIGS = sorted(path for path in (REPOSITORY / "configs" / "classic").glob("*.py") if path.name != "__init__.py")
# What stands behind the colon of `configs/classic/x.py:argument`; the first is the default.
ARGUMENTS = {
    "hog_cifar10": ("svm", "knn"),
    "knn_cifar10": ("1,l2", "5,l2", "10,l2", "1,l1"),
    "logistic_features": ("features/digits", "runs/vit/features"),
    "patch_kmeans_cifar10": ("1600",),
    "table_fashion_mnist": ("forest", "svm", "boosting", "exact_boosting", "knn", "logistic"),
}
SPECS = [f"{path.stem}:{each}" for path in CONFIGS for each in ARGUMENTS.get(path.stem, ("",))]
SHAPES = {"features": (8, 8, 1), "digits": (8, 8, 1), "cifar10": (32, 32, 3), "fashion_mnist": (28, 28, 1)}


def loaded(spec):
    stem, _, argument = spec.partition(":")
    return load(f"{REPOSITORY / 'configs' / 'classic' / stem}.py{f':{argument}' if argument else ''}")


@pytest.mark.parametrize("spec", SPECS)
def test_resolves(spec):
    assert resolve(loaded(spec))["evals"]["test"]["split"] == "test"


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS)
def test_fits_at_a_tiny_size(spec, tmp_path):
    config = loaded(spec)
    shape = SHAPES[config["data"]["name"].partition(":")[0]]
    config["data"] = {"name": "arrays", "split": "train"}
    for section in config["features"]:
        if section["name"] == "patch_kmeans":
            section |= {"centroids": 8, "patches": 500}
    if config["estimator"]["name"] == "exact_gradient_boosting":
        config["estimator"] |= {"num_rounds": 2, "max_depth": 2}
    generator = np.random.default_rng(0)
    label = np.arange(60, dtype=np.int32) % 3
    # Three brightnesses under noise: whatever looks at the pixels or their edges can tell them apart somewhat.
    images = (60 * label[:, None, None, None] + generator.integers(0, 60, (60, *shape))).astype(np.uint8)
    split = {"image": images, "label": label}
    result = fit(config, tmp_path / "run", sources={"train": split, "test": split})
    assert result["test"]["accuracy"] > 0.5


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_docstring_has_the_command_and_the_expected_result(path):
    text = inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text())) or "")
    assert f"python -m experiments.train --config configs/classic/{path.name}" in text
    assert "Expected" in text


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_arguments_are_tested(path):
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    takes_one = any(node.args.args for node in functions if node.name == "get_config")
    assert takes_one == (path.stem in ARGUMENTS)


@pytest.mark.parametrize("stem", ARGUMENTS)
def test_the_first_argument_is_the_default(stem):
    assert loaded(f"{stem}:") == loaded(f"{stem}:{ARGUMENTS[stem][0]}")
