"""Loss and error of a network on a grid around its parameters, row by row, so that a second start goes on."""

import hashlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vision.analysis.loss_surface import filter_normalised, moved, random_direction
from vision.data.prepare import normalize
from vision.models.interface import Model
from vision.objectives.classify import sigmoid_cross_entropy, softmax_cross_entropy, targets
from vision.studies import parts
from vision.studies.look_data import Sample
from vision.training.digest import as_text, digests
from vision.training.pretrained import Pretrained

Statistics = Literal["run", "batch"]
_BATCH = 250


class Grid(NamedTuple):
    """Where a surface is measured.

    Attributes:
      points: along each direction, odd, so that the middle is the network itself.
      span: distance of the outermost, in lengths of the directions.
      dimensions: how many directions, 1 or 2.
      seed: of the directions.
      normalised: whether each filter of a direction is as long as the network's own.
      statistics: of batch normalisation: the ``run``'s own, or those of each ``batch`` of examples.
    """

    points: int = 21
    span: float = 1.0
    dimensions: int = 2
    seed: int = 0
    normalised: bool = True
    statistics: Statistics = "run"

    @property
    def distances(self) -> np.ndarray:
        """Along each direction, float32 ``[points]``."""
        return np.linspace(-self.span, self.span, self.points).astype(np.float32)


def directions_of(params: Any, grid: Grid) -> list[Any]:
    """Returns the directions of a grid around parameters."""
    keys = jax.random.split(jax.random.key(grid.seed), 2)[: grid.dimensions]
    drawn = [random_direction(params, key=key) for key in keys]
    return [filter_normalised(each, params) for each in drawn] if grid.normalised else drawn


def surface(
    pretrained: Pretrained, sample: Sample, grid: Grid, folder: Path, *, name: str, note: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Returns ``loss`` and ``error`` over a grid, ``[points]`` or ``[points, points]`` (second direction first).

    Args:
      pretrained: a classifier.
      sample: images with labels.
      grid: where it is measured.
      folder: of the rows that an earlier start has measured; each is a file of its own.
      name: begins the names of these files.
      note: told of every row.

    Raises:
      UserError: the network is no classifier, or the folder cannot be written.
    """
    directions = directions_of(pretrained.params, grid)
    measure = _measure(pretrained, sample, grid, directions)
    depends_on = {
        "grid": grid._asdict(),
        "weights": _digest((pretrained.params, pretrained.collections)),
        "examples": _digest((sample.images, sample.labels)),
        "preprocessing": [*pretrained.preprocessing.mean, *pretrained.preprocessing.std],
        "loss": pretrained.loss,
    }
    rows = [()] if grid.dimensions == 1 else [(float(distance),) for distance in grid.distances]
    found = []
    for number, row in enumerate(rows):
        options = {**depends_on, "row": list(row)}
        part = f"{name}-{number:03}"
        found.append(parts.done_or_new(folder, part, options, partial(measure, row), note=note))
    shape = (grid.points,) * grid.dimensions
    return {key: np.array([row[key] for row in found], float).reshape(shape) for key in ("loss", "error")}


def examples_used(count: int) -> int:
    """Returns how many of ``count`` examples fill whole batches, which a surface is measured on."""
    size = min(_BATCH, count)
    return count // size * size


def _measure(
    pretrained: Pretrained, sample: Sample, grid: Grid, directions: list[Any]
) -> Callable[[tuple[float, ...]], dict[str, list[float | None]]]:
    model = pretrained.model
    used = examples_used(len(sample.images))
    batches = np.split(np.arange(used), used // min(_BATCH, used))
    data = [(jnp.asarray(sample.images[rows]), jnp.asarray(np.asarray(sample.labels)[rows])) for rows in batches]
    # A convolution inside a loop body is many times slower on a CPU; elsewhere a row is one program.
    looped = not (model.has_convolutions and jax.default_backend() == "cpu")
    at = partial(
        _along if looped else _at,
        model,
        pretrained.loss,
        grid.statistics,
        (tuple(pretrained.preprocessing.mean), tuple(pretrained.preprocessing.std)),
        pretrained.params,
        pretrained.collections,
        directions,
    )

    def of_row(row: tuple[float, ...]) -> dict[str, list[float | None]]:
        points = jnp.asarray([[distance, *row] for distance in grid.distances.tolist()], jnp.float32)
        if looped:
            sums = sum(np.asarray(at(points, *batch), np.float64) for batch in data)
        else:
            sums = sum(np.stack([np.asarray(at(point, *batch), np.float64) for point in points]) for batch in data)
        means = np.asarray(sums) / used
        columns = zip(("loss", "error"), means.T.tolist(), strict=True)
        # JSON has no infinity: a loss beyond every number is None.
        return {key: [value if math.isfinite(value) else None for value in values] for key, values in columns}

    return of_row


def _sums(model, loss, statistics, moments, params, collections, directions, point, pixels, labels):
    """Sum of losses and number of errors of one batch at one point."""
    images = normalize(pixels, *moments)
    there = moved(params, directions, point)
    logits = model.apply(there, collections, images, keys=None, train=statistics == "batch")[0].astype(jnp.float32)
    cross_entropy = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}[loss]
    losses = cross_entropy(logits, targets(labels, logits.shape[-1]))
    return jnp.stack([jnp.sum(losses), jnp.sum(jnp.argmax(logits, axis=-1) != labels).astype(jnp.float32)])


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _at(model: Model, loss: str, statistics: str, moments: Any, *arrays: Any) -> Any:
    return _sums(model, loss, statistics, moments, *arrays)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _along(model, loss, statistics, moments, params, collections, directions, points, pixels, labels):
    of_point = lambda point: _sums(  # noqa: E731
        model, loss, statistics, moments, params, collections, directions, point, pixels, labels
    )
    return jax.lax.map(of_point, points)


def _digest(arrays: Any) -> str:
    """Changes with any bit of the arrays."""
    texts = as_text(digests(jax.tree.map(jnp.asarray, arrays)))
    return hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()[:16]
