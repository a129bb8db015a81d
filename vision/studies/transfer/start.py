"""What transfer starts from: the network of a run or of converted weights without its head, and how images reach it."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vision.config.loading import plain
from vision.errors import UserError
from vision.interop.preprocessing import Preprocessing
from vision.models.interface import Model
from vision.models.precision import FLOAT32
from vision.objectives import OF_WORDS
from vision.training.checkpoint import Checkpoints, open_existing, pick_step
from vision.training.pretrained import load_pretrained

Section = dict[str, Any]
HEADS = ("head", "distillation_head")
_OF_IMAGES = (
    *("image_size", "eval_image_size", "crop", "eval_crop", "decoder", "interpolation"),
    *("mean", "std", "augment"),
)


class Start(NamedTuple):
    """A network that others start from.

    Attributes:
      folder: of its weights without a head, which ``config.init_from`` takes.
      name: of the variant.
      model: the section of a config.
      precision: of that config.
      data: the keys of ``config.data`` that say how images are prepared and augmented.
      network: built, without a head.
      weights: digest of the arrays that it was made from.
    """

    folder: Path
    name: str
    model: Section
    precision: str
    data: Section
    network: Model
    weights: str


def prepare(run: str, folder: Path, *, note: Callable[[str], None]) -> Start:
    """Writes the weights of a run without their head, unless an earlier call has.

    A head is left out even where it has as many classes as the new data: they are others.

    Args:
      run: folder of a run of any objective with an image model, or of converted weights.
      folder: where the weights are put.
      note: told what people should know.

    Raises:
      UserError: it is no such folder, it has no image model, or ``folder`` holds other weights.
    """
    if not (Path(run) / "checkpoints").is_dir() and Path(run).exists():
        raise UserError(
            f"--init_from {run}: has no checkpoints; give the folder of a training, or turn a weight file into such a "
            "folder: python -m tools.convert_weights"
        )
    checkpoints = open_existing(run)
    metadata = checkpoints.metadata(pick_step(checkpoints, None))
    config = plain(metadata.get("config") or {})
    learned = config.get("objective", {}).get("name")
    if learned in OF_WORDS:
        raise UserError(f"--init_from {run}: learned {learned} from words alone, it has no image model")
    weights = _digest(metadata["arrays"])
    loaded = load_pretrained(run, note=note)
    model = plain(metadata.get("model") or config["model"])
    if model.get("scan"):  # blocks are taken apart where weights are loaded
        model = {**model, "scan": False}
    precision = metadata.get("precision") or config.get("precision") or FLOAT32
    if _saved(folder) not in (None, weights):
        raise UserError(f"{folder} holds the weights of another --init_from; choose another --workdir")
    if _saved(folder) is None:
        described = {
            "step": 0,
            "model": model,
            "num_classes": 0,
            "image_shape": list(loaded.image_shape),
            "preprocessing": loaded.preprocessing.as_json(),
            "precision": precision,
            "source": {"run": run, "weights": weights},
        }
        backbone = {name: each for name, each in loaded.params.items() if name not in HEADS}
        state = {"params": _arrays(backbone), "extra": {"collections": _arrays(loaded.collections)}}
        written = Checkpoints(folder / "checkpoints", note=note)
        written.save(0, state, described)
        written.close()
    network = load_pretrained(str(folder), note=lambda text: None).model
    data = prepared(config.get("data"), loaded.image_shape, loaded.preprocessing)
    return Start(folder, loaded.name, model, precision, data, network, weights)


def prepared(data: Mapping[str, Any] | None, shape: tuple[int, int, int], expected: Preprocessing) -> Section:
    """Returns how images are prepared and augmented: as the run did, or as the weights expect.

    Args:
      data: of the run; None for converted weights. Where it made views, they are not what a classifier is trained on.
      shape: height, width and channels of the images that the network is built for.
      expected: by the weights.
    """
    height, width, channels = shape
    if data is not None and data.get("views") is None:
        kept = {key: data[key] for key in _OF_IMAGES if key in data}
        return {**kept, "image_size": kept.get("image_size") or (height, width), "channels": channels}
    shift = {"name": "random_shift", "pixels": max(1, round(min(height, width) / 14))}
    return {
        "image_size": (height, width),
        "channels": channels,
        "crop": expected.crop,
        "eval_crop": expected.crop,
        "decoder": expected.decoder,
        "interpolation": expected.filter,
        "mean": expected.mean,
        "std": expected.std,
        "augment": (shift, {"name": "random_flip"}),
    }


def _digest(arrays: Mapping[str, Mapping[str, Any]]) -> str:
    trained = {path: each["digest"] for path, each in arrays.items() if not path.startswith("opt_state")}
    return hashlib.sha256(repr(sorted(trained.items())).encode()).hexdigest()[:16]


def _saved(folder: Path) -> str | None:
    if not (folder / "checkpoints" / "0").is_dir():
        return None
    return open_existing(folder).metadata(0)["source"]["weights"]


def _arrays(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _arrays(each) if isinstance(each, Mapping) else np.asarray(each) for name, each in tree.items()}
