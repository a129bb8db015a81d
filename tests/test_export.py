"""An exported model runs where this code is not, with the numbers that it has here."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_convert_weights import LENET, SMALL, run_like
from test_interop_match import built, drawn

from tools.export_model import main
from vision import models
from vision.data.prepare import normalize
from vision.errors import UserError
from vision.interop.export import export, predictor
from vision.interop.preprocessing import Preprocessing
from vision.interop.trees import nested

# Reloads a file in a process that refuses to import anything of this code, Flax or Orbax.
ELSEWHERE = """
import sys

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("vision", "tools", "configs", "experiments", "flax", "orbax"):
            raise ImportError(f"{name} is out of reach here")

sys.meta_path.insert(0, Guard())
import numpy as np
from jax import export

for folder in sys.argv[1:]:
    run = export.deserialize(bytearray(open(f"{folder}/model.jax", "rb").read()))
    images = np.load(f"{folder}/images.npy")
    np.save(f"{folder}/out.npy", np.concatenate([np.asarray(run.call(images)), np.asarray(run.call(images[:1]))]))
assert not any(name.split(".")[0] in ("vision", "flax") for name in sys.modules)
"""


NETWORKS = {
    "vit/B16": ({**SMALL, "num_registers": 2}, 16),
    "resnet/18": ({"stage_sizes": (1, 1), "width": 4}, 32),
}
PREPROCESSING = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def random_network(name, options, side):
    _, wanted = built(name, options, side, 3)
    arrays = drawn(wanted)
    arrays |= {path: np.abs(array) for path, array in arrays.items() if path.endswith("/var")}
    return models.build(name, num_classes=5, image_shape=(side, side, 3), **options), arrays


def test_a_fresh_process_without_this_code_gives_the_same_numbers(tmp_path):
    """For two batch sizes from one file; raw images are normalised inside."""
    expected = {}
    for number, (name, (options, side)) in enumerate(NETWORKS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        model, arrays = random_network(name, options, side)
        (folder / "model.jax").write_bytes(
            export(predictor(model, arrays, preprocessing=PREPROCESSING), (side, side, 3))
        )
        images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
        np.save(folder / "images.npy", images)
        params, collections = nested({path: jnp.asarray(array) for path, array in arrays.items()})
        ready = normalize(jnp.asarray(images), PREPROCESSING.mean, PREPROCESSING.std)
        apply = jax.jit(lambda x, m=model, p=params, c=collections: m.apply(p, c, x, keys=None, train=False)[0])
        expected[folder] = np.asarray(apply(ready))
    done = subprocess.run(
        # Not from the repository, into which Python would look.
        [sys.executable, "-c", ELSEWHERE, *map(str, expected)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for folder, output in expected.items():
        assert output.std() > 1e-2
        found = np.load(folder / "out.npy")
        np.testing.assert_allclose(found, np.concatenate([output, output[:1]]), rtol=1e-4, atol=1e-5)


def test_a_feature_and_a_fixed_batch_size():
    model, arrays = random_network("vit/B16", SMALL, 16)
    function = predictor(model, arrays, feature="pre_logits")
    content = export(function, (16, 16, 3), dtype="float32", batch_size=2, platforms=("cpu",))
    run = jax.export.deserialize(bytearray(content))
    images = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(run.call(images), jax.jit(function)(images), rtol=1e-5, atol=1e-6)
    assert run.platforms == ("cpu",)
    with pytest.raises(ValueError, match="shape"):
        run.call(images[:1])
    with pytest.raises(UserError, match="no feature 'block99'; it has block00, block00/class_token, class_token"):
        export(predictor(model, arrays, feature="block99"), (16, 16, 3), dtype="float32", batch_size=1)


def test_a_file_that_jax_could_not_read_is_not_written(monkeypatch):
    monkeypatch.setattr("vision.interop.export._LARGEST", 100)
    with pytest.raises(UserError, match="up to 2 GiB"):
        export(lambda images: images, (2, 2, 1), platforms=("cpu",))


def test_the_program_exports_a_run(tmp_path, capsys):
    _, wanted = built("lenet/5", LENET, 28, 1)
    run_like(tmp_path / "run", drawn(wanted))
    out = tmp_path / "x.jax"
    words = ["--out", str(out), "--platforms", "cpu"]
    assert main([str(tmp_path / "run"), *words, "--function", "encode", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["feature"] == "pre_logits"
    assert "[batch, 28, 28, 1] of uint8" in printed.err
    run = jax.export.deserialize(bytearray(out.read_bytes()))
    assert [each.shape[1:] for each in run.out_avals] == [(3,)]
    with pytest.raises(UserError, match="No such file"):
        main([str(tmp_path / "run"), "--out", str(tmp_path / "none" / "x"), "--platforms", "cpu"])
    with pytest.raises(UserError, match="is no run"):
        main([str(tmp_path / "rum"), *words])


def test_raw_images_need_a_known_preprocessing(tmp_path):
    _, wanted = built("lenet/5", LENET, 28, 1)
    metadata = {"config": {}, "model": {"name": "lenet/5", **LENET}, "image_shape": [28, 28, 1]}
    run_like(tmp_path / "run", drawn(wanted), **metadata)
    with pytest.raises(UserError, match="--input float32"):
        main([str(tmp_path / "run"), "--out", str(tmp_path / "x")])
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("words", [["--feature", "stem"], ["--batch_size", "0"], ["--input", "int4"]])
def test_flags_that_cannot_be(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["run", "--out", "x", *words])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
