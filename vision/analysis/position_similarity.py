"""How alike the positions of patches are."""

import numpy as np


def position_similarity(positions: np.ndarray) -> np.ndarray:
    """Returns the cosine of each position with every other (Dosovitskiy et al. 2021, figure 7, centre).

    Args:
      positions: what is added to the patches, ``[rows, columns, width]``; a position of zeros has the cosine 0.

    Returns:
      ``[rows, columns, rows, columns]``: for each place the map of its cosines.
    """
    rows, columns, width = positions.shape
    flat = np.asarray(positions, np.float64).reshape(-1, width)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    unit = np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 0)
    return (unit @ unit.T).reshape(rows, columns, rows, columns)


def shown_places(side: int, most: int) -> np.ndarray:
    """Returns the places along a side whose maps are drawn: all, or ``most`` spread evenly."""
    return np.unique(np.linspace(0, side - 1, min(side, most)).round().astype(int))
