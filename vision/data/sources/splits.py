"""Splits of a data set: by name, in slices, and the held-out part of one that has none."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from vision.data.order import permutation
from vision.errors import UserError, did_you_mean

TRAIN = ("train", "training")
HELD_OUT = ("validation", "val", "valid", "test", "testing")
HELD_OUT_SHARE = 0.1
_SLICES_SEED, _SLICES_EPOCH = 0, 2**32 - 1


def held_out(names: Sequence[str], what: str) -> str:
    """Returns the name of the split to evaluate on: the first there is of validation, val, valid, test.

    Raises:
      UserError: there is none.
    """
    found = next((name for name in HELD_OUT if name in names), None)
    if found is None:
        raise UserError(f"{what} has no split to evaluate on; name one with the eval's split: {', '.join(names)}")
    return found


def hold_out(keys: Sequence[str], groups: np.ndarray | None) -> dict[str, np.ndarray]:
    """Returns the splits ``train`` and ``val`` of a data set that has none: a tenth of every class is held out.

    Which examples these are depends on their names alone, by SHA-256: they are the first tenth in that order. When
    examples are added, at most as many of a class move from ``val`` to ``train``.

    Args:
      keys: a name for each example, the same wherever the data lie.
      groups: the class of each example, or None.
    """
    ranks = np.argsort([hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest() for key in keys])
    classes = np.zeros(len(keys), int) if groups is None else np.asarray(groups)
    chosen = []
    for each in np.unique(classes):
        members = ranks[classes[ranks] == each]
        chosen.append(members[: round(len(members) * HELD_OUT_SHARE)])
    held = np.sort(np.concatenate(chosen))
    rest = np.setdiff1d(np.arange(len(keys)), held)
    return {"train": rest, "val": held} if len(held) else {"train": rest}


def positions_of(split: str, splits: Mapping[str, np.ndarray], what: str) -> np.ndarray:
    """Returns the positions of the examples of a split; slices, sums and ``all`` are written as in TFDS.

    ``train[:90%]`` is a random part, the same whenever it is asked for: a folder's examples are sorted by class, and
    the first nine tenths of them would lack whole classes.

    Raises:
      UserError: there is no such split, or it is empty.
    """
    parts = [part.split("[")[0].strip() for part in split.split("+")]
    for part in parts:
        if part not in splits and part != "all":
            raise UserError(
                f"data split {split!r} of {what}: no split {part!r}{did_you_mean(part, splits)}; "
                f"its splits: {', '.join(splits)}"
            )
    every = {"all": np.sort(np.concatenate(list(splits.values()))), **splits}
    positions = np.concatenate([_slice(one, every[part]) for one, part in zip(split.split("+"), parts, strict=True)])
    if not len(positions):
        raise UserError(f"data split {split!r} of {what} is empty")
    return positions


def _slice(text: str, positions: np.ndarray) -> np.ndarray:
    if "[" not in text:
        return positions
    import tensorflow_datasets as tfds

    name, count = text.split("[")[0].strip(), len(positions)
    info = tfds.core.SplitInfo(name=name, shard_lengths=[count], num_bytes=0, filename_template=None)
    try:
        (span,) = tfds.core.ReadInstruction.from_spec(text.strip()).to_absolute({name: info})
    except (ValueError, AssertionError) as error:
        raise UserError(f"data split {text!r}: {(str(error).splitlines() or ['it is no slice'])[0]}") from error
    order = permutation(count, _SLICES_SEED, _SLICES_EPOCH)
    return positions[np.sort(order[span.from_ : span.to])]
