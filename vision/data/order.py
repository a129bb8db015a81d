"""The order of examples: permutations by seed, so that any step's batch is known without the others."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np

_BLOCKS = 2**32 - 1


@dataclass(frozen=True)
class Rows:
    """Which examples make a batch.

    Attributes:
      index: int32 ``[batch]``, positions in the source.
      visit: int32 ``[batch]``, how often each was drawn before; where every example comes once an epoch, its epoch.
    """

    index: np.ndarray
    visit: np.ndarray


@runtime_checkable
class Order(Protocol):
    """An endless stream of examples, cut into batches of one size; picklable, for worker processes."""

    @property
    def batch_size(self) -> int:
        """Examples a step, over all devices and processes."""
        ...

    def rows(self, step: int) -> Rows:
        """Returns the examples of step ``step``, a pure function of (seed, step)."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """Epoch after epoch, each a permutation of its own; batches may span two epochs.

    Nothing is dropped or repeated within an epoch, and every batch has the same size.

    Attributes:
      num_examples: size of the source.
      batch_size: examples a step, over all devices and processes.
      seed: of the permutations.
      repeats: how often each example comes in a row, each time as a visit of its own; with 3 it is the repeated
        augmentation of Hoffer et al. 2020 (arXiv:1901.09335). A pass over the source then takes 3 times as many
        draws; durations in epochs count draws, as many as there are examples.
    """

    num_examples: int
    batch_size: int
    seed: int
    repeats: int = 1

    def rows(self, step: int) -> Rows:
        """Returns the examples of step ``step``, a pure function of (seed, step)."""
        draw = step * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
        epoch, position = np.divmod(draw, self.num_examples * self.repeats)
        index = np.empty(self.batch_size, np.int32)
        for current in range(epoch[0], epoch[-1] + 1):
            here = epoch == current
            index[here] = permutation(self.num_examples, self.seed, current)[position[here] // self.repeats]
        return Rows(index, (epoch * self.repeats + position % self.repeats).astype(np.int32))


@dataclass(frozen=True)
class Stratified:
    """Groups of examples, each with its share of every block of draws: balanced classes, mixtures of sources.

    In every block of ``sum(shares)`` draws group g comes exactly ``shares[g]`` times, in an order of the block's
    own. Within a group every example comes once before any comes again.

    Attributes:
      groups: for each group the positions of its examples in the source.
      shares: whole numbers.
      batch_size: examples a step.
      seed: of the permutations.
    """

    groups: tuple[np.ndarray, ...] = field(repr=False)
    shares: tuple[int, ...]
    batch_size: int
    seed: int

    def rows(self, step: int) -> Rows:
        """Returns the examples of step ``step``, a pure function of (seed, step)."""
        length = sum(self.shares)
        block, position = np.divmod(step * self.batch_size + np.arange(self.batch_size, dtype=np.int64), length)
        group_of = np.repeat(np.arange(len(self.shares)), self.shares)
        # Draw number ``rank`` of its group within the block.
        rank_of = np.concatenate([np.arange(share) for share in self.shares])
        index, visit = np.empty(self.batch_size, np.int32), np.empty(self.batch_size, np.int32)
        for current in range(block[0], block[-1] + 1):
            here = np.flatnonzero(block == current)
            slots = permutation(length, self.seed, _BLOCKS - current)[position[here]]
            groups, draws = group_of[slots], rank_of[slots]
            for group in np.unique(groups):
                chosen = groups == group
                draw = current * self.shares[group] + draws[chosen]
                index[here[chosen]], visit[here[chosen]] = self._of_group(int(group), draw)
        return Rows(index, visit)

    def _of_group(self, group: int, draw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        members = self.groups[group]
        visit, place = np.divmod(draw, len(members))
        index = np.empty(len(draw), np.int32)
        for current in np.unique(visit):
            here = visit == current
            index[here] = members[_in_group(len(members), self.seed, int(current), group)[place[here]]]
        return index, visit.astype(np.int32)


@dataclass(frozen=True)
class InOrder:
    """One pass in order, without end: after the last batch comes the first.

    Attributes:
      num_examples: size of the source.
      batch_size: examples a batch; the last batch is filled up with example 0.
    """

    num_examples: int
    batch_size: int

    @property
    def num_batches(self) -> int:
        """How many batches a pass has."""
        return -(-self.num_examples // self.batch_size)

    def mask(self, step: int) -> np.ndarray:
        """Returns bool ``[batch]``, False where a batch is filled up."""
        return self._positions(step) < self.num_examples

    def rows(self, step: int) -> Rows:
        """Returns the examples of a batch."""
        positions = self._positions(step)
        index = np.where(positions < self.num_examples, positions, 0).astype(np.int32)
        return Rows(index, np.zeros(self.batch_size, np.int32))

    def _positions(self, step: int) -> np.ndarray:
        return step % self.num_batches * self.batch_size + np.arange(self.batch_size)


def shares_of(weights: Sequence[float], *, length: int = 1000) -> tuple[int, ...]:
    """Returns whole shares of a block of ``length`` draws in proportion to ``weights``, by largest remainder.

    Raises:
      ValueError: a weight is not positive, or so small that its share would be none.
    """
    if not weights or min(weights) <= 0:
        raise ValueError(f"weights must be positive, got {tuple(weights)}")
    exact = np.asarray(weights, np.float64) / sum(weights) * length
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: length - shares.sum()]] += 1
    if shares.min() < 1:
        raise ValueError(f"a weight below {1 / length:g} of the sum would never be drawn, got {tuple(weights)}")
    divisor = int(np.gcd.reduce(shares))
    return tuple(int(share) // divisor for share in shares)


@lru_cache(maxsize=4)
def permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of one epoch, int32 ``[num_examples]``.

    It sorts raw 64-bit draws of Philox, whose stream NumPy keeps fixed for good (NEP 19), unlike the shuffles
    of its generators; ties, of probability below 1e-7 for a million examples, keep their order.
    """
    return _sorted_draws(num_examples, seed, epoch)


@lru_cache(maxsize=2048)
def _in_group(num_examples: int, seed: int, visit: int, group: int) -> np.ndarray:
    """The order within a group; groups are many and small, epochs are few and large."""
    return _sorted_draws(num_examples, seed, (group + 1) << 32 | visit)


def _sorted_draws(count: int, seed: int, stream: int) -> np.ndarray:
    bits = np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(count)
    order = np.argsort(bits, kind="stable").astype(np.int32)
    order.flags.writeable = False
    return order
