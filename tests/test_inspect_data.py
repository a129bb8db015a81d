"""tools.inspect_data tells what is there, measured against NumPy, and draws what a model is given."""

import json

import batches
import numpy as np
import pytest
from PIL import Image

from vision.data.augment import AUGMENTATIONS
from vision.data.augment.mix import MIXES


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    batches.write(folder)
    return folder


@pytest.mark.slow
def test_numbers_of_a_folder_and_its_sheets(root, tmp_path, program):
    arguments = ["--config", "configs/folder.py", f"--config.data.name=npz:{root / 'arrays.npz'}", "--json"]
    arguments += ["--config.batch_size=16", "--config.evals.val.batch_size=8", "--batches=2"]
    done = program("tools.inspect_data", *arguments, "--out", tmp_path / "sheet.png")
    result = json.loads(done.stdout.splitlines()[-1])
    with np.load(root / "arrays.npz") as file:
        pixels, labels = file["x_train"] / 255.0, file["y_train"]
    np.testing.assert_allclose(result["mean"], pixels.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(result["std"], pixels.std((0, 1, 2)), atol=1e-4)
    assert result["examples"] == 40
    assert result["evals"] == {"val": 9}
    assert list(result["class_balance"].values()) == np.bincount(labels).tolist()
    assert result["element"] == {"image": "uint8 [20, 24, 3]", "label": "int32 []"}
    assert result["batch"]["image"] == "float32 [16, 20, 24, 3]"
    assert all(rate > 0 for rate in result["images_per_second"].values())
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 1000
    for part in ("fingerprint", "mean, std", "images/s", "live on the device"):
        assert part in done.stdout + done.stderr


@pytest.mark.slow
def test_a_sheet_of_every_augmentation(root, tmp_path, program):
    arguments = ["--config", "configs/folder.py", f"--config.data.name=npz:{root / 'arrays.npz'}", "--batches=1"]
    arguments += ["--config.batch_size=16", "--config.evals={}", "--out", tmp_path / "a.png"]
    program("tools.inspect_data", *arguments, "--augmentations", tmp_path / "all")
    sheets = sorted((tmp_path / "all").glob("*.png"))
    assert [path.stem for path in sheets] == sorted([*AUGMENTATIONS, *MIXES])
    for path in sheets:
        with Image.open(path) as sheet:
            assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 1000, path


@pytest.mark.slow
def test_views_and_captions_are_drawn_too(root, tmp_path, program):
    path = tmp_path / "views.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "from configs.folder import get_config as folder\n"
        "def get_config():\n"
        "    config = folder()\n"
        "    crop = lambda size: ({'name': 'random_resized_crop', 'size': size},)\n"
        "    config.data['views'] = {'global': (crop(24),) * 2, 'local': (crop(12),) * 2}\n"
        "    return config\n"
    )
    command = ["--config", path, f"--config.data.name=captions:{root / 'table.jsonl'}", "--config.batch_size=8"]
    command += ["--config.data.image_size=24", "--config.evals={}", "--batches=1", "--json"]
    result = json.loads(program("tools.inspect_data", *command, "--out", tmp_path / "a.png").stdout.splitlines()[-1])
    assert result["batch"]["global"] == "float32 [8, 2, 24, 24, 3]"
    assert result["batch"]["local"] == "float32 [8, 2, 12, 12, 3]"
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--config.data.name=folder:no/such/place"], "no/such/place"),
        (["--config.data.name=flder:x"], "did you mean 'folder'"),
        (["--config.data.name=digits", "--out", "/proc/no/sheet.png", "--batches=1"], "/proc/no/sheet.png"),
        (["--batches=0"], "--batches"),
    ],
)
def test_mistakes_are_one_line(program, arguments, part):
    done = program("tools.inspect_data", "--config", "configs/folder.py", *arguments, check=2)
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert part in line
    assert "Traceback" not in done.stderr
