"""Feature extraction: a linear classifier on what the network makes of images, the network left as it is."""

import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision.data.sources import Opener
from vision.evaluation.outputs import MEAN
from vision.studies.transfer.shares import Part
from vision.training.pretrained import Pretrained, evaluators_on, load_pretrained

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
_USUAL = 0.1
_MOST_BLOCKS, _MOST_ROWS, _MOST_NUMBERS = 4, 10_000, 4_000_000  # beyond, fits take minutes each
LAST = "pre_logits"
_FOLDS = 5
_BATCH = 500


def probed(
    folder: Path, data: Mapping[str, Any], part: Part, test: str | None, *, seed: int, note: Callable[[str], None]
) -> dict[str, Any]:
    """Fits logistic regression to the features of a part, and returns its accuracies.

    Which output of the network these are, see :func:`outputs_of`, and the strength of the penalty are chosen by
    cross-validation within the part; where a class has a single example there, it is the last output, and 0.1.

    Args:
      folder: of the weights, see :func:`vision.studies.transfer.start.prepare`.
      data: ``name``, ``data_dir`` and ``classes`` as in ``config.data``.
      part: whose labels may be used.
      test: split to evaluate on; None for the held-out one.
      seed: of the folds.
      note: told what people should know.

    Returns:
      ``test_accuracy``, ``train_accuracy``, ``seconds`` and the chosen ``c`` and ``output``.

    Raises:
      UserError: the data are not there, or an image has not one label.
    """
    began = time.monotonic()
    pretrained = load_pretrained(str(folder), note=note)
    labels = Opener.of({**data, "on_error": "error"}, note=note)(part.text).labels()
    rarest = int(np.bincount(labels)[np.unique(labels)].min())
    grid = STRENGTHS if rarest > 1 else (_USUAL,)
    choices = outputs_of(pretrained, len(labels)) if rarest > 1 else (LAST,)

    def fitted(split: str | None, strengths: tuple[float, ...], outputs: tuple[str, ...]) -> dict[str, float]:
        section: dict[str, Any] = {"name": "logistic_probe", "c": strengths, "train_split": part.text, "seed": seed}
        section["outputs"] = outputs
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

    on_test = fitted(test, grid, choices)
    chosen = choices[int(on_test["output"])]
    on_part = fitted(part.shown().text, (on_test["c"],), (chosen,))  # the same classifier anew
    return {
        "test_accuracy": on_test["accuracy"],
        "train_accuracy": on_part["accuracy"],
        "seconds": time.monotonic() - began,
        "c": on_test["c"],
        "output": chosen,
    }


def outputs_of(pretrained: Pretrained, rows: int) -> tuple[str, ...]:
    """Returns the outputs that a probe chooses from: the last, and of four blocks the means over places, and the maps.

    What comes before the end often serves other classes better, as the end is shaped for those of the start (Yosinski
    et al. 2014, section 4). Maps are left out where they and the examples are many, blocks where the examples are.

    Args:
      pretrained: the network.
      rows: examples to fit to.
    """
    if rows > _MOST_ROWS:
        return (LAST,)
    objective, state = pretrained.learner()
    image = jax.ShapeDtypeStruct((1, *pretrained.image_shape), jnp.float32)
    shapes = jax.eval_shape(objective.encode, state.params, state.extra, {"image": image})
    blocks = sorted(name for name in shapes if re.fullmatch(r"block\d+", name))
    picked = [blocks[(len(blocks) * (part + 1) - 1) // _MOST_BLOCKS] for part in range(_MOST_BLOCKS)] if blocks else []
    names = [LAST]
    for block in dict.fromkeys(picked):
        shape = shapes[block].shape[1:]
        if len(shape) > 1:
            names.append(f"{block}{MEAN}")
        if rows * math.prod(shape) <= _MOST_NUMBERS:
            names.append(block)
    return tuple(names)
