"""Weights of the Hugging Face Hub, where its client is installed and the network lets it through."""

import re
from collections.abc import Callable
from pathlib import Path

from vision.errors import UserError

_NAME = re.compile(r"(hf:)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@[\w./-]+)?")
_CONFIGS = ["config.json", "preprocessor_config.json"]


def is_hub_name(source: str) -> bool:
    """Whether this is ``hf:owner/name[@revision]``, or ``owner/name`` with no folder ``owner`` here."""
    match = _NAME.fullmatch(source)
    if match is None:
        return source.startswith("hf:")
    return bool(match[1]) or not (Path(source).parent.exists() or Path(source).suffix in (".safetensors", ".pth"))


def download(source: str, note: Callable[[str], None]) -> Path:
    """Returns the folder with the weights and configs of a repository, in the client's own cache.

    Raises:
      UserError: the name is none, the client is not installed, or the network or the Hub refuses.
    """
    match = _NAME.fullmatch(source)
    if match is None:
        raise UserError(f"{source}: write the name of a repository of the Hugging Face Hub as hf:owner/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            f"{source}: there is no such file here, and to ask the Hugging Face Hub needs its client: "
            "pip install huggingface_hub, or download model.safetensors and config.json by hand"
        ) from error
    repository, revision = match[2], (match[3] or "@")[1:] or None
    note(f"{repository} comes from the Hugging Face Hub")
    try:
        for weights in (["model.safetensors", "model.safetensors.index.json", "model-*.safetensors"], ["*.bin*"]):
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=[*_CONFIGS, *weights]))
            if any(folder.glob("model*.safetensors")) or any(folder.glob("pytorch_model*.bin")):
                return folder
    except Exception as error:  # the client's errors of name, network, rights and disk share no base class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"{source}: there is no such file here, and the Hugging Face Hub does not give it: {reason}"
        ) from error
    raise UserError(f"{source}: the repository holds neither model.safetensors nor pytorch_model.bin")
