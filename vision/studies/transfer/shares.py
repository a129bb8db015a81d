"""Shares of the labels: a part of its own for each seed, none of which overlap as long as there are enough."""

from collections.abc import Sequence
from typing import NamedTuple

from vision.errors import UserError

MOST_HELD_OUT = MOST_SHOWN = 10_000


class Part(NamedTuple):
    """Neighbouring examples of a split, from ``start`` to before ``stop``."""

    split: str
    start: int
    stop: int

    @property
    def text(self) -> str:
        """As ``config.data.split`` has it."""
        return f"{self.split}[{self.start}:{self.stop}]"

    def divided(self) -> tuple["Part", "Part"]:
        """Returns what is learned from and what is held out, to choose by: the last fifth, at most 10,000 images."""
        size = self.stop - self.start
        middle = self.stop - min(max(size // 5, 1), MOST_HELD_OUT)
        return self._replace(stop=middle), self._replace(start=middle)

    def shown(self) -> "Part":
        """Returns what the accuracy on the training images is measured on: the first 10,000 at most."""
        return self._replace(stop=min(self.stop, self.start + MOST_SHOWN))


class Share(NamedTuple):
    """A share of a split.

    Attributes:
      percent: of the split.
      split: its name.
      size: images in it, of all classes.
      parts: how many such parts there are, side by side.
    """

    percent: float
    split: str
    size: int
    parts: int

    def part(self, seed: int) -> Part:
        """Returns the part of a seed; where there are more seeds than parts, they come again."""
        start = seed % self.parts * self.size
        return Part(self.split, start, start + self.size)


def shares(percents: Sequence[float], split: str, total: int) -> tuple[Share, ...]:
    """Returns the shares, the smallest first.

    Args:
      percents: of the split.
      split: its name.
      total: how many images it has.

    Raises:
      UserError: a percentage that cannot be.
    """
    made = []
    for percent in sorted(set(percents)):
        if not 0 < percent <= 100:
            raise UserError(f"--fractions: percent of the labels, above 0 and at most 100, got {percent:g}")
        size = round(total * percent / 100)
        if size < 2:
            raise UserError(f"--fractions: {percent:g}% of {total:,} images of {split} are {size}")
        made.append(Share(percent, split, size, total // size))
    return tuple(made)
