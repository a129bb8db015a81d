"""Files of PyTorch, read by PyTorch itself in the mode that runs nothing, where it is installed."""

import argparse
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vision.errors import UserError
from vision.interop.branches import enter


def read_torch(path: Path, branch: str | None, note: Callable[[str], None]) -> dict[str, np.ndarray]:
    """Returns the arrays of a ``.pth``, ``.pt`` or ``.bin`` file; those of type bfloat16 as float32.

    An archive of TorchScript, as OpenAI's CLIP comes in, is read by PyTorch's own interpreter of that language, which
    cannot reach Python, files or the network; of the network in it only the state is taken.

    Args:
      path: of the file.
      branch: which of several networks, see :mod:`vision.interop.branches`.
      note: told which was taken where there are several.

    Raises:
      UserError: PyTorch is not installed, the file is cut short, would run code, or holds no weights.
    """
    scripted = False
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inside = archive.namelist()
        if not any(name.endswith("data.pkl") for name in inside):
            raise UserError(f"{path} is a zip archive with {', '.join(inside[:3])}, no weight file")
        scripted = any(name.endswith("/constants.pkl") for name in inside)
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path} is a pickle, as PyTorch writes them, and PyTorch is not installed here: pip install torch, or "
            "make a safetensors file of it elsewhere (safetensors.torch.save_file)"
        ) from error
    try:
        value = _scripted(path, torch) if scripted else _pickled(path, torch)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is a pickle that holds more than arrays and could run anything, so it is not read; get a "
            "safetensors file, or save the state_dict alone"
        ) from error
    except Exception as error:  # a file that is cut short surfaces as RuntimeError, EOFError, KeyError, ValueError
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(f"{path} is no whole file of PyTorch ({reason}); get it again") from error
    is_array = lambda each: isinstance(each, torch.Tensor)  # noqa: E731
    named = enter(value, branch, is_array, source=path.name, note=note)
    if not isinstance(named, Mapping) or not any(map(is_array, named.values())):
        raise UserError(f"{path} holds no arrays by name, but a {type(named).__name__}")
    return {str(name): _numpy(each, torch) for name, each in named.items() if is_array(each)}


def _pickled(path: Path, torch: Any) -> Any:
    # Namespaces hold the command line of a run, in the checkpoints of DINO, DeiT and timm; they run nothing.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _scripted(path: Path, torch: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch advises against writing such archives
        return dict(torch.jit.load(str(path), map_location="cpu").state_dict())


def _numpy(tensor: Any, torch: Any) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).contiguous().numpy()
