"""Whether right answers are among the first k of a ranking, where equal scores are in no order."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Float, Int


def hits(
    queries: Float[np.ndarray, "queries size"],
    candidates: Float[np.ndarray, "candidates size"],
    right: Sequence[Int[np.ndarray, " _"]],
    *,
    k: Sequence[int],
    chunk: int,
) -> Float[np.ndarray, "queries k"]:
    """Returns for every query the probability that a right candidate is among the k with the largest inner product.

    It is 1 or 0, but where wrong candidates are as good as the best right one: equal candidates stand in random order,
    so that a model to which all are alike gets what guessing gets, and not everything or nothing. Let g wrong
    candidates be better than the best right one, and w wrong and p right ones equal to it; then it is
    ``1 - C(w, k - g) / C(w + p, k - g)``, see :func:`among_equals`. A wrong NaN is better than any right one, and a
    query with a right NaN finds nothing.

    Args:
      queries: embeddings.
      candidates: embeddings.
      right: the right candidates of every query, one or several different ones.
      k: numbers of first candidates.
      chunk: queries at a time; the memory is that of ``chunk * candidates`` numbers.
    """
    found = np.empty((len(queries), len(k)))
    columns = np.ascontiguousarray(candidates.T)
    for start in range(0, len(queries), chunk):
        of_chunk = right[start : start + chunk]
        sizes = np.array([len(each) for each in of_chunk])
        rows, starts = np.repeat(np.arange(len(of_chunk)), sizes), np.cumsum(sizes) - sizes
        scores = queries[start : start + chunk] @ columns
        own = scores[rows, np.concatenate(of_chunk)]
        best = np.maximum.reduceat(own, starts)
        better = np.sum(~(scores <= best[:, None]), axis=1)  # none of them right, but where the best is NaN
        right_equal = np.add.reduceat((own == best[rows]).astype(int), starts)
        wrong_equal = np.sum(scores == best[:, None], axis=1) - right_equal
        for column, count in enumerate(k):
            found[start : start + chunk, column] = among_equals(count - better, wrong_equal, right_equal)
    return found


def by_chance(sizes: Int[np.ndarray, " queries"], candidates: int, *, k: Sequence[int]) -> Float[np.ndarray, " k"]:
    """Returns the mean probability that guessing hits, where a query has so many right candidates."""
    return np.array([np.mean(among_equals(np.full(len(sizes), count), candidates - sizes, sizes)) for count in k])


def among_equals(
    places: Int[np.ndarray, " queries"], wrong: Int[np.ndarray, " queries"], right: Int[np.ndarray, " queries"]
) -> Float[np.ndarray, " queries"]:
    """Returns the probability that any right one stands on the first places of a random order of all.

    All places go to wrong ones with the probability ``C(wrong, places) / C(wrong + right, places)``.

    Args:
      places: how many; none at 0 and below.
      wrong: how many wrong ones.
      right: how many right ones, 1 or more.
    """
    log_choose = partial(_log_choose, chosen=np.clip(places, 0, wrong))
    missed = np.where(places > wrong, 0.0, np.exp(log_choose(wrong) - log_choose(wrong + right)))
    return np.where(places <= 0, 0.0, np.where(wrong == 0, 1.0, 1.0 - missed))


def _log_choose(all_of: np.ndarray, *, chosen: np.ndarray) -> np.ndarray:
    from scipy.special import gammaln  # slow to import, and few runs rank

    return gammaln(all_of + 1.0) - gammaln(chosen + 1.0) - gammaln(all_of - chosen + 1.0)
