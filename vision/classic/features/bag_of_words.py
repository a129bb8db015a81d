"""Bags of visual words: how often each typical local descriptor occurs in an image, and where."""

from typing import Literal

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances_argmin
from sklearn.preprocessing import normalize

from vision.classic.features.descriptors import Descriptors

_BLOCK = 2**18  # descriptors that are looked up at once


class BagOfWords(TransformerMixin, BaseEstimator):
    """Histograms of the nearest visual words, of the whole image and, in a pyramid, of parts of it.

    Csurka et al. 2004; the pyramid is that of Lazebnik, Schmid and Ponce, "Beyond Bags of Features", CVPR 2006,
    equation 3: level l has 2^l x 2^l cells and the weight ``2^(l - L - 1)``, level 0 has ``2^-L``. Cells come level by
    level, rows from the top, with all words of a cell side by side. An image without descriptors is all zeros.

    Args:
      words: size of the vocabulary, which k-means learns from a sample.
      weighting: ``tf`` counts words; ``tf_idf`` multiplies counts by ``ln((1 + n) / (1 + df)) + 1`` for a word
        that df of n images have.
      norm: what is 1 for a whole histogram. Lazebnik's are ``l1``.
      pyramid_levels: L; 0 is the whole image alone.
      sample: how many descriptors the vocabulary is learned from.
      seed: of the sample and of k-means.

    Attributes:
      vocabulary_: float32 ``[words, 128]``.
      idf_: float32 ``[words]``; ones for ``tf``.

    Raises:
      ValueError: an option is out of range, or there are fewer descriptors than words.
    """

    takes, gives = "descriptors", "features"

    def __init__(
        self,
        *,
        words: int = 200,
        weighting: Literal["tf", "tf_idf"] = "tf",
        norm: Literal["l1", "l2"] = "l2",
        pyramid_levels: int = 0,
        sample: int = 100_000,
        seed: int = 0,
    ):
        self.words = words
        self.weighting = weighting
        self.norm = norm
        self.pyramid_levels = pyramid_levels
        self.sample = sample
        self.seed = seed

    def fit(self, x: Descriptors, y: np.ndarray | None = None):
        """Learns the vocabulary, and how many images have each word."""
        if self.words < 1 or self.pyramid_levels < 0:
            got = f"words {self.words} and pyramid_levels {self.pyramid_levels}"
            raise ValueError(f"bag_of_words: words must be at least 1 and pyramid_levels at least 0, got {got}")
        usable = min(len(x.values), self.sample)
        if usable < self.words:
            raise ValueError(f"bag_of_words: {usable} descriptors are fewer than {self.words} words")
        chosen = np.random.default_rng(self.seed).choice(len(x.values), usable, replace=False)
        kmeans = MiniBatchKMeans(self.words, batch_size=4096, n_init=3, random_state=self.seed)
        self.vocabulary_ = kmeans.fit(x.values[np.sort(chosen)].astype(np.float32)).cluster_centers_
        self.idf_ = np.ones(self.words, np.float32)
        if self.weighting == "tf_idf":
            having = np.zeros((len(x.counts), self.words), bool)
            having[x.image, self._look_up(x.values)] = True
            self.idf_ = (np.log((1 + len(x.counts)) / (1 + having.sum(0))) + 1).astype(np.float32)
        return self

    def transform(self, x: Descriptors) -> np.ndarray:
        """Returns float32 ``[n, words * cells]``, with one cell, or ``(4 ** (L + 1) - 1) / 3`` in a pyramid."""
        images, words, image = len(x.counts), self._look_up(x.values), x.image
        histograms = []
        for level in range(self.pyramid_levels + 1):
            side = 2**level
            column, row = np.minimum((x.places * side).astype(np.int64), side - 1).T
            place = ((image * side + row) * side + column) * self.words + words
            counts = np.bincount(place, minlength=images * side * side * self.words)
            weights = self.idf_ * level_weight(level, self.pyramid_levels)
            histograms.append((counts.reshape(-1, self.words) * weights).reshape(images, -1).astype(np.float32))
        return normalize(np.concatenate(histograms, axis=1), norm=self.norm, copy=False)

    def _look_up(self, values: np.ndarray) -> np.ndarray:
        """The nearest word of each descriptor, int64 ``[descriptors]``."""
        blocks = [values[start : start + _BLOCK].astype(np.float32) for start in range(0, len(values), _BLOCK)]
        found = [pairwise_distances_argmin(block, self.vocabulary_) for block in blocks]
        return np.concatenate([np.zeros(0, np.int64), *found])


def level_weight(level: int, last: int) -> float:
    """Returns the weight of a level of a pyramid whose last level is ``last``; those of all levels sum to 1."""
    return 2.0**-last if level == 0 else 2.0 ** (level - last - 1)
