"""The order of examples: a permutation for each (seed, epoch), so that any step's batch is known without the others."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Which examples make a batch.

    Attributes:
      index: int32 ``[batch]``, positions in the source.
      visit: int32 ``[batch]``, how often each was drawn before; here the pass over the source, its epoch.
    """

    index: np.ndarray
    visit: np.ndarray


@dataclass(frozen=True)
class Order:
    """The endless stream of examples, epoch after epoch, cut into batches that may span two epochs.

    Nothing is dropped or repeated within an epoch, and every batch has the same size.

    Attributes:
      num_examples: size of the source.
      batch_size: examples a step, over all devices and processes.
      seed: of the permutations.
    """

    num_examples: int
    batch_size: int
    seed: int

    def rows(self, step: int) -> Rows:
        """Returns the examples of step ``step``, a pure function of (seed, step)."""
        epoch, position = np.divmod(
            step * self.batch_size + np.arange(self.batch_size, dtype=np.int64), self.num_examples
        )
        index = np.empty(self.batch_size, np.int32)
        for current in range(epoch[0], epoch[-1] + 1):
            here = epoch == current
            index[here] = permutation(self.num_examples, self.seed, current)[position[here]]
        return Rows(index, epoch.astype(np.int32))


@lru_cache(maxsize=4)
def permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of one epoch, int32 ``[num_examples]``.

    It sorts raw 64-bit draws of Philox, whose stream NumPy keeps fixed for good (NEP 19), unlike the shuffles
    of its generators; ties, of probability below 1e-7 for a million examples, keep their order.
    """
    bits = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(num_examples)
    order = np.argsort(bits, kind="stable").astype(np.int32)
    order.flags.writeable = False
    return order
