"""The house keeps its rules: style, types, small rooms, imports that point one way."""

import ast
import subprocess
import sys

import pytest
from conftest import REPOSITORY

SOURCES = [
    path for folder in ("vision", "experiments", "tools", "configs") for path in (REPOSITORY / folder).rglob("*.py")
]
# Each layer may import what stands above it in this list, and itself.
LAYERS = (
    "errors",
    "config",
    "data",
    "models",
    "interop",
    "objectives",
    "evaluation",
    "classic",
    "analysis",
    "training",
    "studies",
)


def check(*command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint():
    check("ruff", "check", ".")


def test_format():
    check("ruff", "format", "--check", ".")


def test_types():
    check("mypy")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_rooms_are_small(path):
    assert len(path.read_text().splitlines()) <= 400
    assert path.name not in ("utils.py", "helpers.py", "common.py")


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", [path for path in SOURCES if "vision" in path.parts], ids=lambda path: path.stem)
def test_imports_point_down_only(path):
    parts = path.relative_to(REPOSITORY / "vision").with_suffix("").parts
    layer = parts[0]
    for name in imports_of(path):
        words = name.split(".")
        assert words[0] not in ("experiments", "tools", "configs", "tests"), f"{path} imports a program: {name}"
        if words[0] == "vision" and len(words) > 1 and words[1] in LAYERS and layer in LAYERS:
            assert LAYERS.index(words[1]) <= LAYERS.index(layer), f"{path} imports upwards: {name}"
        if name.startswith("flax.linen"):
            assert layer == "models", f"{path}: Linen belongs to models"


def test_no_circle_between_modules():
    graph = {}
    names = [".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]
    modules = dict(zip(names, SOURCES, strict=True))
    for name, path in modules.items():
        found = {found for found in imports_of(path) if found in modules and found != name}
        # "from package import module" needs the module; of the package only what its __init__ has been through.
        graph[name] = {each for each in found if not any(other.startswith(f"{each}.") for other in found)}
    done, open_ = set(), []

    def visit(name):
        assert name not in open_, f"circle: {' -> '.join([*open_[open_.index(name) :], name])}"
        if name not in done:
            open_.append(name)
            for other in graph.get(name, ()):
                visit(other)
            open_.pop()
            done.add(name)

    for name in graph:
        visit(name)


@pytest.mark.parametrize("name", ["step", "accumulate", "loop", "state"])
def test_the_trainer_names_no_model_and_no_data_set(name):
    text = (REPOSITORY / "vision" / "training" / f"{name}.py").read_text()
    for word in ("digits", "mlp", "Linear", "softmax", "cifar", "vit"):
        assert word not in text


def test_constraints_name_every_dependency_with_one_version():
    import tomllib
    from importlib import metadata

    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split(";")[0].strip().split("==") for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {requirement.split(">=")[0].strip().lower().replace("_", "-") for requirement in wanted}
    assert names <= {name.lower().replace("_", "-") for name in pinned}
    assert metadata.version("functional-vision") == project["version"]


def test_the_trainer_imports_no_library_that_only_some_runs_use():
    """Each takes from a tenth of a second to two; a run that evaluates by one of them imports it then."""
    heavy = {
        "tensorflow",
        "tensorflow_datasets",
        "tensorboardX",
        "matplotlib",
        "sklearn",
        "scipy",
        "cv2",
        "grain",
        "torch",
    }
    heavy |= {"pandas", "wandb", "transformers", "huggingface_hub"}
    code = f"import sys, vision.training.loop; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
