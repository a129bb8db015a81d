"""The families of learners, each with the knob that turns its complexity."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vision.studies.bias_variance import digits, neighbours, networks, polynomial, trees
from vision.studies.bias_variance.decomposition import Decomposition, decompose
from vision.studies.bias_variance.problem import Problem, wave

Fit = Callable[..., tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Family:
    """Learners that differ in one number only.

    Attributes:
      knob: what that number is.
      values: of the knob, from simple to complex.
      size: training examples.
      problem: what is learned.
      fit: ``(x, y, points, knob=...) -> (predictions at the points, predictions at the training inputs)``.
      about: one sentence for the page.
      variance: closed form of the variance, ``(sigma=..., size=..., knob=...)``, where there is one.
      interpolates_at: value of the knob from which on a fit can pass through every training example, if there is one.
    """

    knob: str
    values: tuple[int, ...]
    size: int
    problem: Problem
    fit: Fit
    about: str
    variance: Callable[..., float] | None = None
    interpolates_at: int | None = None

    def measure(self, value: int, *, resamples: int, seed: int) -> Decomposition:
        """Returns the decomposition at one value of the knob; every value sees the same training sets."""
        drawn = self.problem.draw(resamples=resamples, size=self.size, points=POINTS, seed=seed)
        options = {"seed": seed} if "seed" in inspect.signature(self.fit).parameters else {}
        at_points, at_training = self.fit(drawn.x, drawn.y, drawn.points, knob=value, **options)
        return decompose(
            at_points,
            drawn.truth,
            drawn.observed,
            noise=self.problem.sigma**2,
            train_error=float(np.square(at_training - drawn.y).mean()),
        )


POINTS = 200
_FIXED = Problem(wave, sigma=0.5, dimensions=1, design="fixed")
_RANDOM = Problem(wave, sigma=0.5, dimensions=1, design="random")
_CUBE = Problem(wave, sigma=0.5, dimensions=3, design="random")

FAMILIES: dict[str, Family] = {
    "polynomial": Family(
        "degree",
        (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 29),
        30,
        _FIXED,
        polynomial.fit,
        "Least squares with polynomials: 30 fixed inputs, error at the same inputs with fresh noise.",
        variance=polynomial.variance,
        interpolates_at=29,
    ),
    "neighbours": Family(
        "neighbours k",
        (60, 45, 30, 20, 15, 11, 8, 6, 5, 4, 3, 2, 1),
        60,
        _FIXED,
        neighbours.fit,
        "The mean of the k nearest neighbours: 60 fixed inputs, error at the same inputs with fresh noise; fewer "
        "neighbours are the more complex learner, and with one it answers with the noisy observation itself.",
        variance=neighbours.variance,
        interpolates_at=1,
    ),
    "tree": Family(
        "depth",
        (0, 1, 2, 3, 4, 5, 6, 8, 10),
        60,
        _RANDOM,
        trees.fit,
        "Regression trees: 60 random inputs, error at other inputs.",
    ),
    "network": Family(
        "width",
        (1, 2, 4, 8, 16, 32, 64, 128, 256),
        40,
        _CUBE,
        networks.fit,
        "Networks of one hidden ReLU layer, trained on 40 examples in three dimensions by 3,000 steps of full-batch "
        "Adam; the variance is over training sets and initial weights together.",
    ),
    "random_features": Family(
        "features",
        (1, 2, 4, 8, 16, 24, 32, 36, 40, 44, 50, 64, 100, 200, 400),
        40,
        _CUBE,
        networks.fit_random_features,
        "The same network with a random first layer and least squares (of smallest norm) for the second, on 40 "
        "examples: double descent, with its peak where there are as many features as examples.",
        interpolates_at=40,
    ),
}
CLASSIFIERS = {"digits_tree": digits}
NAMES = (*FAMILIES, *CLASSIFIERS)


def run(name: str, *, resamples: int, seed: int, note: Callable[[str], None]) -> dict[str, Any]:
    """Returns what one family gives: its description, and a row for each value of the knob.

    Args:
      name: one of :data:`NAMES`.
      resamples: training sets for each value.
      seed: of everything that is drawn.
      note: told about progress.
    """
    if name in CLASSIFIERS:
        return CLASSIFIERS[name].run(resamples=resamples, seed=seed, note=note)
    family = FAMILIES[name]
    rows = []
    for value in family.values:
        row: dict[str, Any] = {"knob": value, **family.measure(value, resamples=resamples, seed=seed).as_dict()}
        if family.variance is not None:
            row["expected_variance"] = family.variance(sigma=family.problem.sigma, size=family.size, knob=value)
        rows.append(row)
        note(f"{name}: {family.knob} {value}: test error {row['test_error']:.3f}")
    return {
        "knob": family.knob,
        "about": family.about,
        "size": family.size,
        "noise": family.problem.sigma**2,
        "interpolates_at": family.interpolates_at,
        "rows": rows,
    }
