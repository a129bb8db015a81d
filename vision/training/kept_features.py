"""Where the features of a run's checkpoint are kept, and what tells them from those of another."""

import hashlib
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from vision.evaluation.feature_files import FeatureFiles

FOLDER = "features"


def files_of(
    workdir: str | Path, step: int, saved: Mapping[str, Any], config: Mapping[str, Any], note: Callable[[str], None]
) -> FeatureFiles:
    """Returns the feature files of one checkpoint, in the folder ``features`` of its run.

    Args:
      workdir: the run.
      step: of the checkpoint.
      saved: the checkpoint's metadata, which has the digests of its arrays.
      config: resolved; its data, model, objective, average and precision make the features.
      note: told what was found, and what is broken.
    """
    arrays = {path: each["digest"] for path, each in saved["arrays"].items() if not path.startswith("opt_state")}
    key = {
        "step": step,
        "weights": hashlib.sha256(repr(sorted(arrays.items())).encode()).hexdigest(),
        "config": {name: repr(config[name]) for name in ("data", "model", "objective", "ema", "precision")},
        "jax": metadata.version("jax"),
        "device": jax.devices()[0].device_kind,
    }
    return FeatureFiles(Path(workdir) / FOLDER, key, note)
