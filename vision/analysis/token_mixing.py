"""The token-mixing weights of a Mixer as pictures: one grid of patches for each hidden unit."""

import numpy as np


def unit_maps(kernel: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Returns the weights ``[patches, units]`` of a first layer as ``[units, rows, columns]``."""
    return np.asarray(kernel, np.float64).T.reshape(-1, *grid)


def frequency(maps: np.ndarray) -> np.ndarray:
    """Returns the mean spatial frequency of each map ``[units, rows, columns]``, in cycles per patch, by power."""
    power = np.abs(np.fft.fft2(maps)) ** 2
    vertical, horizontal = (np.fft.fftfreq(side) for side in maps.shape[1:])
    radius = np.hypot(vertical[:, None], horizontal[None])
    total = power.sum(axis=(1, 2))
    return np.divide((power * radius).sum(axis=(1, 2)), total, out=np.zeros_like(total), where=total > 0)


def paired_order(maps: np.ndarray) -> np.ndarray:
    """Returns the order in which units stand in pairs of opposing phase, pairs of low frequency first.

    That of Tolstikhin et al. 2021, figure 5, whose heuristic the paper does not spell out. Here the two units with the
    most negative cosine make the first pair, then likewise among the rest; an odd unit stands at the end.

    Args:
      maps: ``[units, rows, columns]``.

    Returns:
      int ``[units]``; places 2i and 2i + 1 are a pair.
    """
    flat = maps.reshape(len(maps), -1)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    unit = np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 0)
    first, second = np.triu_indices(len(flat), 1)
    free = np.ones(len(flat), bool)
    pairs: list[tuple[int, int]] = []
    for index in np.argsort((unit @ unit.T)[first, second], kind="stable"):
        one, other = int(first[index]), int(second[index])
        if free[one] and free[other]:
            free[[one, other]] = False
            pairs.append((one, other))
    cycles = frequency(maps)
    pairs.sort(key=lambda pair: (cycles[pair[0]] + cycles[pair[1]], pair))
    return np.array([each for pair in pairs for each in pair] + np.flatnonzero(free).tolist(), int)
