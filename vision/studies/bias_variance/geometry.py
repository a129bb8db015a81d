"""Distances and dimensions of noise and of image sets: one result for the study."""

from collections.abc import Callable, Sequence
from typing import Any

from vision.studies.bias_variance import distances, images, intrinsic_dimension

NOISE_DIMENSIONS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 3000)
POINTS, QUERIES, MOST_NEIGHBOURS = 1000, 100, 20


def run(datasets: Sequence[str], *, seed: int, note: Callable[[str], None]) -> dict[str, Any]:
    """Returns the contrast of noise by dimension, and contrast and intrinsic dimension of each image set.

    Noise and images alike: 1,000 points at most, and 100 other points as queries.

    Args:
      datasets: names of image sets; of each 2,000 training images at most are looked at.
      seed: of the noise, and of which images.
      note: told about progress.

    Raises:
      UserError: a data set is not there.
    """
    rows = []
    for name in datasets:
        pixels, _ = images.read(name, "train", count=2 * POINTS, seed=seed)
        near = intrinsic_dimension.neighbour_distances(pixels, k=MOST_NEIGHBOURS)
        rows.append(
            {
                "name": name,
                "images": len(pixels),
                "pixels": pixels.shape[1],
                "contrast": distances.relative_contrast(pixels[QUERIES : QUERIES + POINTS], pixels[:QUERIES]),
                "noise_contrast": distances.of_noise(pixels.shape[1], points=POINTS, queries=QUERIES, seed=seed),
                "maximum_likelihood": intrinsic_dimension.maximum_likelihood(near),
                "two_nearest": intrinsic_dimension.two_nearest(near),
            }
        )
        note(f"{name}: intrinsic dimension {rows[-1]['maximum_likelihood']:.1f} of {pixels.shape[1]}")
    noise = [
        {"dimensions": size, "contrast": distances.of_noise(size, points=POINTS, queries=QUERIES, seed=seed)}
        for size in NOISE_DIMENSIONS
    ]
    return {"noise": noise, "datasets": rows}
