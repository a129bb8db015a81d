"""Files of PyTorch are read in its mode that runs nothing, or not at all; their branches are followed."""

import pickle
import sys
import types
import zipfile
from contextlib import nullcontext

import numpy as np
import pytest
from refusals import refused

from vision.errors import UserError
from vision.interop.branches import enter, pick
from vision.interop.files import read_weights


class Evil:
    """Its pickle would call a function."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


def fake_torch(monkeypatch, load):
    """Stands in for PyTorch, which the tests do without; ``load`` is its torch.load."""

    class Tensor:
        dtype = "float32"

        def __init__(self, array):
            self.array = array

        detach = contiguous = lambda self: self

        def numpy(self):
            return self.array

    torch = types.ModuleType("torch")
    torch.Tensor, torch.bfloat16, torch.load = Tensor, "bfloat16", load
    torch.serialization = types.SimpleNamespace(safe_globals=lambda allowed: nullcontext())
    monkeypatch.setitem(sys.modules, "torch", torch)
    return Tensor


def test_a_pickle_is_never_opened_by_us(tmp_path, monkeypatch, capsys):
    """Without PyTorch it is not read; with it, it is read in its mode that runs nothing, whose refusal is told."""
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"a": Evil()}))
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(path, "PyTorch is not installed here", "safetensors")
    asked = {}

    def load(path, **options):
        asked.update(options)
        raise pickle.UnpicklingError("Weights only load failed.\nmany lines")

    fake_torch(monkeypatch, load)
    refused(path, "could run anything, so it is not read")
    assert asked == {"map_location": "cpu", "weights_only": True}
    assert "never be printed" not in capsys.readouterr().out


def test_a_file_of_pytorch_is_read_and_its_branches_are_followed(tmp_path, monkeypatch):
    path = tmp_path / "x.pth"
    path.write_bytes(b"\x80\x02...")
    held = {}
    tensor = fake_torch(monkeypatch, lambda path, **options: held["value"])
    one, two = (tensor(np.full(2, n, np.float32)) for n in (1, 2))
    notes = []
    held["value"] = {"student": {"w": one}, "teacher": {"w": two}, "epoch": 3}
    assert read_weights(path, note=notes.append).arrays["w"][0] == 2
    assert notes == ["x.pth holds teacher, student: teacher is taken"]
    assert read_weights(path, branch="student").arrays["w"][0] == 1
    refused(path, "has no branch 'model'", branch="model")
    held["value"] = {"state_dict": {"w": one, "epoch": 3}}
    assert set(read_weights(path).arrays) == {"w"}
    for nothing in ({"epoch": 3}, [1, 2], {"state_dict": {}}):
        held["value"] = nothing
        refused(path, "holds no arrays by name")


def test_an_archive_of_torchscript_gives_its_state(tmp_path, monkeypatch):
    """OpenAI's CLIP comes in one; ``torch.load`` refuses it."""
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x/data.pkl", "x/code/__torch__.py", "x/constants.pkl", "x/version"):
            archive.writestr(name, b"")
    state = {}

    def load(path, **options):
        raise RuntimeError("Cannot use weights_only=True with TorchScript archives")

    tensor = fake_torch(monkeypatch, load)
    asked = types.SimpleNamespace(load=lambda path, map_location: types.SimpleNamespace(state_dict=lambda: state))
    monkeypatch.setattr(sys.modules["torch"], "jit", asked, raising=False)
    state |= {"visual.proj": tensor(np.full(2, 3, np.float32)), "input_resolution": tensor(np.asarray(224))}
    arrays = read_weights(path).arrays
    assert (arrays["visual.proj"][0], arrays["input_resolution"]) == (3, 224)


@pytest.mark.parametrize("error", [EOFError(), RuntimeError("PytorchStreamReader failed\nmore"), KeyError("x")])
def test_a_cut_file_of_pytorch_is_one_sentence(tmp_path, monkeypatch, error):
    def load(path, **options):
        raise error

    fake_torch(monkeypatch, load)
    path = tmp_path / "x.pth"
    path.write_bytes(b"\x80\x02")
    refused(path, "is no whole file of PyTorch", "get it again")


def test_a_zip_that_is_not_pytorchs_is_told_by_its_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", b"")
    refused(tmp_path / "x.npz", "a zip archive with a.npy")


def test_branches_by_prefix():
    arrays = {"teacher.backbone.w": 1, "student.backbone.w": 2, "step": 3}
    notes = []
    assert pick(arrays, None, source="x", note=notes.append) == {"backbone.w": 1}
    assert notes == ["x holds teacher, student: teacher is taken"]
    assert pick(arrays, "student", source="x", note=notes.append) == {"backbone.w": 2}
    with pytest.raises(UserError, match="no branch 'model'; it has teacher, student"):
        pick(arrays, "model", source="x", note=notes.append)
    assert pick({"w": 1}, None, source="x", note=notes.append) == {"w": 1}
    assert enter({"model": {"module": {"w": 1.0}}}, None, lambda x: isinstance(x, float), source="x", note=str) == {
        "w": 1.0
    }
