"""Checkpoints of trainings of DINO and DINOv2 give the backbone of the teacher or the student, and say what is left."""

import re

import numpy as np
import pytest
from test_convert_weights import OPTIONS, SMALL
from test_interop_match import DINOV2, built, drawn, flat_of, load, same
from test_interop_pickles import fake_torch

from tools.convert_weights import main
from vision.errors import UserError
from vision.interop.branches import without_heads
from vision.interop.files import read_weights
from vision.interop.match import to_theirs
from vision.interop.namings import NAMINGS
from vision.interop.tensors import write_safetensors
from vision.training.checkpoint import load_arrays

HEAD = {"mlp.0.weight": (6, 16), "mlp.0.bias": (6,), "last_layer.weight_g": (8, 1), "last_layer.weight_v": (8, 6)}


def with_heads(theirs, wrapper, *heads):
    """A backbone's arrays as DINO's multi-crop wrapper names them, and projection heads beside it."""
    arrays = {f"{wrapper}backbone.{name}": array for name, array in theirs.items()}
    return arrays | {
        f"{wrapper}{head}.{name}": np.zeros(shape, np.float32) for head in heads for name, shape in HEAD.items()
    }


@pytest.fixture
def dino():
    """Our module, and the arrays of a student and a teacher under DINO's names."""
    module, wanted = built("vit/S16_dino", SMALL, 16, 3, num_classes=0)
    networks = {name: drawn(wanted, seed) for seed, name in enumerate(("student", "teacher"))}
    return (
        module,
        wanted,
        {name: (ours, to_theirs(ours, NAMINGS["dino/vit"], module)) for name, ours in networks.items()},
    )


@pytest.mark.parametrize("branch", ["teacher", "student"])
def test_the_full_checkpoint_of_dino_as_pytorch_has_it(dino, branch, tmp_path, monkeypatch):
    module, wanted, networks = dino
    held = {}
    tensor = fake_torch(monkeypatch, lambda path, **options: held)
    for name, wrapper in (("student", "module."), ("teacher", "")):
        arrays = with_heads(networks[name][1], wrapper, "head")
        held[name] = {key: tensor(array) for key, array in arrays.items()}
    held |= {"dino_loss": {"center": tensor(np.zeros((1, 8), np.float32))}, "optimizer": {"state": {}}, "epoch": 3}
    path = tmp_path / "x.pth"
    path.write_bytes(b"\x80\x02...")
    notes = []
    read = read_weights(path, branch=None if branch == "teacher" else branch, note=notes.append)
    assert notes[-1] == "x.pth holds a backbone and its projection: head (4 arrays) is left out"
    assert same(flat_of(load(read, module, wanted)), networks[branch][0])


def test_the_full_checkpoint_of_dino_is_converted(dino, tmp_path, capsys):
    _, _, networks = dino
    arrays = {"dino_loss.center": np.zeros((1, 8), np.float32)}
    for name, wrapper in (("student", "student.module."), ("teacher", "teacher.")):
        arrays |= with_heads(networks[name][1], wrapper, "head")
    path = tmp_path / "x.safetensors"
    write_safetensors(path, arrays, {})
    flags = ["--to", "vit/S16_dino", "--image_size", "16", *OPTIONS, "--out", str(tmp_path / "out")]
    assert main([str(path), *flags]) == 0
    told = capsys.readouterr().err
    assert "x.safetensors holds teacher, student: teacher is taken" in told
    assert "head (4 arrays) is left out" in told
    assert same(load_arrays(str(tmp_path / "out"), None)[1], networks["teacher"][0])


@pytest.mark.parametrize("chunks", [None, 2])
def test_the_teacher_of_dinov2_has_two_heads_and_may_have_its_blocks_in_chunks(chunks, tmp_path):
    options = {**DINOV2, "depth": 4}
    module, wanted = built("vit/S14_dinov2_reg4", options, 16, 3, num_classes=0)
    ours = drawn(wanted)
    theirs = to_theirs(ours, NAMINGS["dinov2/vit"], module)
    if chunks:
        # Two blocks a chunk; what stands for earlier blocks in the second chunk holds no arrays.
        theirs = {
            re.sub(r"^blocks\.(\d)", lambda found: f"blocks.{int(found[1]) // chunks}.{found[1]}", name): array
            for name, array in theirs.items()
        }
        assert "blocks.1.3.norm1.weight" in theirs
    path = tmp_path / "teacher.safetensors"
    arrays = with_heads(theirs, "", "dino_head", "ibot_head")
    write_safetensors(path, {f"teacher.{name}": array for name, array in arrays.items()}, {})
    notes = []
    loaded = load(read_weights(path, note=notes.append), module, wanted)
    assert notes[-1].endswith("dino_head (4 arrays), ibot_head (4 arrays) are left out")
    assert loaded.facts["naming"] == "dinov2/vit"
    assert same(flat_of(loaded), ours)


def test_heads_alone_and_heads_of_other_networks_stay():
    notes = []
    for names in (
        ["head.mlp.0.weight", "head.last_layer.weight_g"],  # no backbone
        ["backbone.norm.weight", "head.weight", "head.mlp.fc1.weight"],  # a classifier, and SigLIP's pooling
    ):
        assert set(without_heads(dict.fromkeys(names), source="x", note=notes.append)) == set(names)
    assert not notes


def test_a_block_that_two_chunks_name_is_not_taken_twice():
    module, wanted = built("vit/B16", {**SMALL, "depth": 2}, 16, 3, num_classes=0)
    theirs = to_theirs(drawn(wanted), NAMINGS["timm/vit"], module)
    chunked = {re.sub(r"^blocks\.(\d)", r"blocks.0.\1", name): array for name, array in theirs.items()}
    chunked["blocks.1.1.norm1.weight"] = np.zeros(16, np.float32)
    with pytest.raises(UserError, match=r"only in the file: blocks\.[01]\.1\.norm1\.weight \[16\]"):
        load(chunked, module, wanted)
