"""How much a corruption of strength 1 to 5 changes: one table, each line with its reason."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

STRENGTHS = (1, 2, 3, 4, 5)
Strength = int | Int[Array, ""]


class Severity(NamedTuple):
    """What the five strengths of a corruption are; strength 0 changes nothing.

    Attributes:
      unit: what ``values`` measure; shares of the side make small and large images alike.
      values: of strength 1 to 5.
      reason: why these.
    """

    unit: str
    values: tuple[float, float, float, float, float]
    reason: str


SEVERITIES: dict[str, Severity] = {
    "translation": Severity(
        "share of the side",
        (0.0625, 0.125, 0.1875, 0.25, 0.3125),
        "whole pixels where 16 divides the side; at the last an object of half the side touches the border",
    ),
    "rotation": Severity(
        "degrees", (10.0, 20.0, 30.0, 45.0, 60.0), "from what augmentations turn by, 10 to 30, to far beyond it"
    ),
    "viewpoint": Severity(
        "degrees out of the plane",
        (10.0, 20.0, 30.0, 40.0, 50.0),
        "the range of Lowe 2004, figure 9, over which SIFT matches planes",
    ),
    "brightness": Severity(
        "share of the scale that is added",
        (0.1, 0.2, 0.3, 0.4, 0.5),
        "brightness of ImageNet-C (Hendrycks and Dietterich 2019), which adds it to HSV's value",
    ),
    "contrast": Severity(
        "factor of the distance to the mean grey",
        (0.4, 0.3, 0.2, 0.1, 0.05),
        "contrast of ImageNet-C (Hendrycks and Dietterich 2019)",
    ),
    "shade": Severity(
        "share of the light that is gone at the far side",
        (0.2, 0.4, 0.6, 0.8, 0.95),
        "even steps from light that falls off a little to a far side that is all but black",
    ),
    "blur": Severity(
        "standard deviation as a share of the side",
        (0.02, 0.04, 0.06, 0.08, 0.1),
        "from 0.64 pixels of 32, in the middle of CIFAR-10-C's (Hendrycks and Dietterich 2019), to where small things "
        "are gone; the last of ImageNet-C, 6 pixels of 224, is between 1 and 2",
    ),
    "occlusion": Severity(
        "side of a square as a share of the image's",
        (0.125, 0.25, 0.375, 0.5, 0.625),
        "2, 6, 14, 25 and 39 percent of the area; DeVries and Taylor 2017 train with 25 at the most on CIFAR-10",
    ),
    "clutter": Severity(
        "pieces of other images, and as many lines",
        (1.0, 2.0, 3.0, 5.0, 8.0),
        "from so few that most of the image stays as it is to half its area in pieces, some over others",
    ),
    "noise": Severity(
        "standard deviation as a share of the scale",
        (0.08, 0.12, 0.18, 0.26, 0.38),
        "Gaussian noise of ImageNet-C (Hendrycks and Dietterich 2019)",
    ),
}


def at(name: str, strength: Strength) -> Float[Array, ""]:
    """Returns the severity of a corruption at a strength of 0 to 5."""
    return jnp.asarray((0.0, *SEVERITIES[name].values), jnp.float32)[strength]
