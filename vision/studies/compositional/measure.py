"""What a model of images and words makes of colors and shapes that it never saw together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from vision.data.builders.shape_captions import captions
from vision.data.builders.shape_raster import render
from vision.data.builders.shape_scenes import CLASSES, SHAPES, SHAPES_8, SHAPES_24, SPLITS, Recipe, Scenes, draw
from vision.data.builders.shape_truth import of_scenes, truth_table
from vision.errors import UserError, did_you_mean
from vision.evaluation.knn_search import check_finite
from vision.evaluation.prompt_templates import templates_of
from vision.evaluation.ranking import by_chance, hits
from vision.evaluation.zero_shot import among_best, harmonic_mean
from vision.training.workdir import read_json
from vision.training.zero_shot import ImagesAndWords

RECIPES = {"shapes": SHAPES_8, "shapes24": SHAPES_24}
K = (1, 5, 10)
SEEN, UNSEEN = "test", "heldout"
_QUERIES = 512


@dataclass(frozen=True)
class Pictures:
    """The pictures of a split with everything that is true of them.

    Attributes:
      pixels: uint8 ``[n, 64, 64, 3]``.
      labels: the combination of color and shape of each main object.
      captions: all different captions of these pictures.
      true: whether a caption is true of a picture.
    """

    pixels: np.ndarray
    labels: np.ndarray
    captions: tuple[str, ...]
    true: Bool[np.ndarray, "captions pictures"]


def data_of(workdir: str) -> str:
    """Returns the name of the data that a run learned from.

    Raises:
      UserError: the folder does not say it.
    """
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise UserError(f"{workdir} does not say what it learned from: it has no config.json; give --data")
    return str(read_json(path)["data"]["name"]).split(":")[0]


def recipe_of(name: str) -> Recipe:
    """Returns the recipe of a data set.

    Raises:
      UserError: it is none of shapes.
    """
    if name not in RECIPES:
        raise UserError(
            f"{name!r} has no combinations of color and shape held out{did_you_mean(name, RECIPES)}; "
            f"there are {', '.join(RECIPES)}"
        )
    return RECIPES[name]


def pictures_of(split: str, count: int, recipe: Recipe) -> Pictures:
    """Returns the first pictures of a split, drawn anew: those that the prepared data set has.

    Raises:
      UserError: the split has fewer.
    """
    if not 1 <= count <= SPLITS[split]:
        raise UserError(f"--examples must be in [1, {SPLITS[split]}], as many as {split} has, got {count}")
    scenes = draw(split, count, recipe)
    told = sorted({caption for index in range(count) for caption in captions(scenes, index).values()})
    return Pictures(render(scenes), labels_of(scenes), tuple(told), truth_table(told, of_scenes(scenes)))


def labels_of(scenes: Scenes) -> np.ndarray:
    """Returns the combination of color and shape of each main object."""
    return scenes.color[:, 0] * len(SHAPES) + scenes.shape[:, 0]


def measured(
    model: ImagesAndWords,
    seen: Pictures,
    unseen: Pictures,
    recipe: Recipe,
    *,
    templates: str | Sequence[str] = "shapes",
) -> dict[str, Any]:
    """Returns all numbers of one model, ``{"metrics": ..., "per_class": ...}``.

    - ``heldout_accuracy``: zero-shot among the held-out combinations alone;
    - ``seen_accuracy`` and ``unseen_accuracy``: among all 64, as means over the classes, and their ``harmonic_mean``;
    - ``test_image_to_text_at_1`` and so on, ``heldout_...``: the share of the pictures for which a caption that is
      *true* of them, whichever it was written for, is among the k nearest of all different captions of the split; and
      ``..._text_to_image_at_1``, the share of these captions for which a picture they are true of is.

    Equally near ones stand in random order, see :func:`vision.evaluation.ranking.hits`.

    Args:
      model: of images and words.
      seen: pictures of combinations that were trained on.
      unseen: pictures of others.
      recipe: says which.
      templates: sentences for the classes.

    Raises:
      ValueError: an embedding is not finite.
    """
    classes = model.embed_classes(CLASSES, templates_of(templates))
    check_finite(classes, "the classes")
    images = {SEEN: _images(model, seen), UNSEEN: _images(model, unseen)}
    for split, embedded in images.items():
        check_finite(embedded, f"the images of {split}")
    heldout = np.array(recipe.heldout)
    among_heldout = images[UNSEEN] @ classes[heldout].T
    metrics = {"heldout_accuracy": float(among_best(among_heldout, np.searchsorted(heldout, unseen.labels), 1).mean())}
    per_class: list[float | None] = [None] * len(CLASSES)
    for name, split, pictures in (("seen", SEEN, seen), ("unseen", UNSEEN, unseen)):
        right = among_best(images[split] @ classes.T, pictures.labels, 1)
        there = np.unique(pictures.labels)
        means = [float(right[pictures.labels == label].mean()) for label in there]
        for label, mean in zip(there, means, strict=True):
            per_class[int(label)] = mean
        metrics[f"{name}_accuracy"] = float(np.mean(means))
    metrics["harmonic_mean"] = harmonic_mean(metrics["seen_accuracy"], metrics["unseen_accuracy"])
    for split, pictures in ((SEEN, seen), (UNSEEN, unseen)):
        texts = model.embed_texts(pictures.captions)
        check_finite(texts, f"the captions of {split}")
        for direction, found in _retrieved(images[split], texts, pictures.true).items():
            metrics |= {f"{split}_{direction}_at_{k}": float(value) for k, value in zip(K, found, strict=True)}
    return {"metrics": metrics, "per_class": per_class}


def chances(seen: Pictures, unseen: Pictures, recipe: Recipe) -> dict[str, float]:
    """Returns what guessing reaches in each of the metrics."""
    of_all = 1.0 / len(CLASSES)
    found = {"heldout_accuracy": 1.0 / len(recipe.heldout)}
    found |= dict.fromkeys(("seen_accuracy", "unseen_accuracy", "harmonic_mean"), of_all)
    for split, pictures in ((SEEN, seen), (UNSEEN, unseen)):
        for direction, true in (("image_to_text", pictures.true.T), ("text_to_image", pictures.true)):
            values = by_chance(true.sum(axis=1), true.shape[1], k=K)
            found |= {f"{split}_{direction}_at_{k}": float(value) for k, value in zip(K, values, strict=True)}
    return found


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Returns of each metric the mean over runs and the standard deviation of one (divisor runs - 1; None for one)."""
    columns = {name: [run["metrics"][name] for run in runs] for name in runs[0]["metrics"]}
    return {
        name: {
            "mean": float(np.mean(values)),
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        }
        for name, values in columns.items()
    }


def _images(model: ImagesAndWords, pictures: Pictures) -> Float[np.ndarray, "n size"]:
    ready = [model.part(each, visit=0, index=index) for index, each in enumerate(pictures.pixels)]
    return model.embed_images(np.stack(ready))


def _retrieved(
    images: np.ndarray, texts: np.ndarray, true: Bool[np.ndarray, "captions pictures"]
) -> dict[str, np.ndarray]:
    found = {}
    of_direction: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {
        "image_to_text": (images, texts, true.T),
        "text_to_image": (texts, images, true),
    }
    for name, (queries, candidates, right) in of_direction.items():
        places = [np.flatnonzero(row) for row in right]
        found[name] = hits(queries, candidates, places, k=K, chunk=_QUERIES).mean(axis=0)
    return found
