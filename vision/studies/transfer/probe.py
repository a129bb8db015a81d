"""Feature extraction: a linear classifier on what the network makes of images, the network left as it is."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vision.data.sources import Opener
from vision.studies.transfer.shares import Part
from vision.training.pretrained import evaluators_on, load_pretrained

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
_USUAL = 0.1
_FOLDS = 5
_BATCH = 500


def probed(
    folder: Path, data: Mapping[str, Any], part: Part, test: str | None, *, seed: int, note: Callable[[str], None]
) -> dict[str, Any]:
    """Fits logistic regression to the features of a part, and returns its accuracies.

    The strength of the penalty is chosen by cross-validation within the part; where a class has a single example
    there, it is 0.1.

    Args:
      folder: of the weights, see :func:`vision.studies.transfer.start.prepare`.
      data: ``name``, ``data_dir`` and ``classes`` as in ``config.data``.
      part: whose labels may be used.
      test: split to evaluate on; None for the held-out one.
      seed: of the folds.
      note: told what people should know.

    Returns:
      ``test_accuracy``, ``train_accuracy``, ``seconds`` and the chosen ``c``.

    Raises:
      UserError: the data are not there, or an image has not one label.
    """
    began = time.monotonic()
    pretrained = load_pretrained(str(folder), note=note)
    labels = Opener.of({**data, "on_error": "error"}, note=note)(part.text).labels()
    rarest = int(np.bincount(labels)[np.unique(labels)].min())
    grid = STRENGTHS if rarest > 1 else (_USUAL,)

    def fitted(split: str | None, strengths: tuple[float, ...]) -> dict[str, float]:
        section = {"name": "logistic_probe", "c": strengths, "train_split": part.text, "seed": seed}
        made, state = evaluators_on(
            pretrained,
            data["name"],
            split=split,
            data_dir=data.get("data_dir"),
            evaluators={"probe": {**section, "folds": max(2, min(_FOLDS, rarest))}},
            batch_size=_BATCH,
            note=note,
            classes=data.get("classes"),
        )
        return {name: float(value) for name, value in made["probe"].run(state) if np.ndim(value) == 0}

    on_test = fitted(test, grid)
    on_part = fitted(part.shown().text, (on_test["c"],))  # the same classifier anew
    return {
        "test_accuracy": on_test["accuracy"],
        "train_accuracy": on_part["accuracy"],
        "seconds": time.monotonic() - began,
        "c": on_test["c"],
    }
