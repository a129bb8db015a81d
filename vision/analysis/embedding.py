"""Embeddings on a plane by t-SNE, and how far neighbours share a label."""

from typing import Literal

import numpy as np
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

PERPLEXITY = 30.0


def tsne(embeddings: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Returns points ``[n, 2]`` by t-SNE over cosine distances (van der Maaten and Hinton 2008).

    One thread: sums over threads would come in another order each time, and the map with them.

    Args:
      embeddings: ``[n, width]``.
      seed: of the optimisation, which starts at the first two principal components.

    Raises:
      ValueError: fewer than 5 embeddings.
    """
    if len(embeddings) < 5:
        raise ValueError(f"t-SNE needs 5 embeddings at least, there are {len(embeddings)}")
    perplexity = min(PERPLEXITY, (len(embeddings) - 1) / 3)
    with threadpool_limits(1):
        made = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=seed)
        return made.fit_transform(np.asarray(embeddings, np.float64))


def neighbour_agreement(
    points: np.ndarray, labels: np.ndarray, *, k: int, metric: Literal["euclidean", "cosine"]
) -> float:
    """Returns the share of the ``k`` nearest other points that have the label of a point, over all points.

    Args:
      points: ``[n, width]``.
      labels: int ``[n]``.
      k: how many neighbours of each; at most all others.
      metric: by which they are near.
    """
    found = NearestNeighbors(n_neighbors=min(k, len(points) - 1), metric=metric).fit(points).kneighbors()[1]
    return float(np.mean(labels[found] == labels[:, None]))
