"""Nearest neighbours: queries a second of the house's exact search and of scikit-learn's brute force, turn by turn.

Both have all cores, the same float32 arrays and one process; each search is a whole one, from arrays to neighbours.
"""

from typing import Literal, NamedTuple

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from tools.benchmarks.rows import Row, Settings, say, seconds_of
from vision.evaluation.knn_search import search

RATIO_AIM = 1.0
_NAMES = {"l1": "manhattan", "l2": "euclidean", "cosine": "cosine"}


class Case(NamedTuple):
    """One search; ``bank`` and ``queries`` are numbers of rows."""

    metric: Literal["l1", "l2", "cosine"]
    bank: int
    queries: int
    features: int
    k: int


CASES = (
    Case("l2", 50_000, 1_000, 3_072, 10),  # raw pixels of CIFAR-10
    Case("l2", 60_000, 2_000, 784, 5),  # of Fashion-MNIST
    Case("l1", 10_000, 500, 784, 5),
    Case("cosine", 50_000, 2_000, 512, 20),  # a network's features
)


def run(settings: Settings) -> list[Row]:
    """Measures each case; where the ratio is at least 1, the house's search is the faster."""
    rows: list[Row] = []
    for case in CASES:
        small = case._replace(bank=200, queries=20, features=16)
        rows += _compared(small if settings.quick else case, settings.times(5))
    return rows


def _compared(case: Case, repeats: int) -> list[Row]:
    label = f"{case.metric}, {case.queries:,} in {case.bank:,} x {case.features:,}, k = {case.k}"
    say(f"knn: {label}: {repeats} searches each")
    random = np.random.default_rng(0)
    bank = random.random((case.bank, case.features), np.float32)
    queries = random.random((case.queries, case.features), np.float32)
    library = KNeighborsClassifier(case.k, algorithm="brute", metric=_NAMES[case.metric], n_jobs=-1)
    library.fit(bank, np.arange(case.bank) % 10)

    def ours() -> None:
        search(queries, bank, k=case.k, metric=case.metric)

    def theirs() -> None:
        library.kneighbors(queries)

    ours()  # compiles
    seconds = [(seconds_of(ours), seconds_of(theirs)) for _ in range(repeats)]
    return [
        Row("knn", label, tuple(case.queries / each for each, _ in seconds), "queries/s", better="more"),
        Row("knn", f"{label}, sklearn", tuple(case.queries / each for _, each in seconds), "queries/s", better="more"),
        Row("knn", f"{label}: house / sklearn", tuple(b / a for a, b in seconds), "x", RATIO_AIM, better="more"),
    ]
