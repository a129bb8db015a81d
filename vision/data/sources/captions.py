"""Captions as arrays: UTF-8, padded with zeros, several for an image."""

from collections.abc import Sequence

import numpy as np

MAX_BYTES = 512


def pack(captions: Sequence[Sequence[str]], *, count: int | None = None, length: int | None = None) -> dict:
    """Returns ``caption`` uint8 ``[n, captions, bytes]`` and ``num_captions`` int32 ``[n]`` of n images.

    Captions are stripped; beyond 512 bytes they are cut between two characters (text models read fewer).

    Args:
      captions: of each image, at least one.
      count: captions of an image in the array; None for the most that one has. Further ones are left out.
      length: bytes of a caption in the array; None for those of the longest.
    """
    encoded = [[_cut(caption, length or MAX_BYTES) for caption in each] for each in captions]
    most = count or max(len(each) for each in encoded)
    longest = length or max(1, max(len(caption) for each in encoded for caption in each))
    packed = np.zeros((len(encoded), most, longest), np.uint8)
    for position, each in enumerate(encoded):
        for number, caption in enumerate(each[:most]):
            packed[position, number, : len(caption)] = np.frombuffer(caption, np.uint8)
    return {"caption": packed, "num_captions": np.asarray([min(len(each), most) for each in encoded], np.int32)}


def unpack(caption: np.ndarray) -> str:
    """Returns the text of one caption ``[bytes]``."""
    return bytes(np.asarray(caption, np.uint8)).rstrip(b"\0").decode(errors="replace")


def _cut(caption: str, length: int) -> bytes:
    encoded = caption.strip().encode(errors="replace")
    return encoded if len(encoded) <= length else encoded[:length].decode(errors="ignore").encode()
