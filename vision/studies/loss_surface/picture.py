"""Loss surfaces side by side on one scale: as landscapes, as contours, and cut through the middle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vision.analysis.charts import Line, chart
from vision.analysis.drawing import GREY, drawn
from vision.errors import UserError

_LEVELS = 14
_LOWEST, _DECADES = 1e-3, 4.0


def levels_of(surfaces: Sequence[np.ndarray]) -> np.ndarray:
    """Returns levels that all surfaces share, evenly spaced in the logarithm, from the lowest loss of any upwards.

    The highest is the highest loss, but at most four powers of ten above the lowest: far away it can be any number.
    """
    finite = np.concatenate([surface[np.isfinite(surface)] for surface in surfaces])
    low = max(float(finite.min()), _LOWEST)
    high = min(float(finite.max()), low * 10**_DECADES)
    return np.geomspace(low, max(high, 1.5 * low), _LEVELS)


def contours(names: Sequence[str], distances: np.ndarray, surfaces: Sequence[np.ndarray], *, label: str) -> str:
    """Returns contours of all surfaces as SVG, with the same levels and axes."""
    levels = levels_of(surfaces)

    def draw(*panels: Any) -> None:
        for axes, name, surface in zip(panels, names, surfaces, strict=True):
            _contours(axes, distances, surface, levels)
            axes.set_title(name)

    size = (3.1 * len(names), 3.1)
    return drawn(draw, label=label, identifier="contours", size=size, panels=(1, len(names)), share=True)


def profiles(names: Sequence[str], distances: np.ndarray, cuts: Sequence[np.ndarray], *, what: str) -> str:
    """Returns the cuts through all networks along their first direction as a chart."""
    lines = [
        Line(name, distances.tolist(), cut.tolist(), place, marked=False)
        for place, (name, cut) in enumerate(zip(names, cuts, strict=True))
    ]
    log = what == "loss"
    return chart(f"{what} along the first direction", lines, x="distance", identifier=f"profile-{what}", log_y=log)


def save(
    path: Path, names: Sequence[str], distances: np.ndarray, surfaces: Sequence[np.ndarray], *, title: str
) -> Path:
    """Writes landscapes, contours and profiles of all networks as one PNG and returns its path.

    Args:
      path: of the file.
      names: of the networks.
      distances: of the points along a direction.
      surfaces: loss of each network, ``[points]`` or ``[points, points]``.
      title: of the picture.

    Raises:
      UserError: it cannot be written.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    flat, count = surfaces[0].ndim == 1, len(names)
    levels = levels_of(surfaces)
    with style.context(["default", {"font.size": 9}]):
        figure = Figure(figsize=(max(3.4 * count, 5.0), 3.2 if flat else 9.0), layout="constrained")
        figure.suptitle(title)
        grid = figure.add_gridspec(1 if flat else 3, count)
        if not flat:
            for column, (name, surface) in enumerate(zip(names, surfaces, strict=True)):
                _landscape(figure.add_subplot(grid[0, column], projection="3d"), distances, surface, levels, name)
                axes = figure.add_subplot(grid[1, column])
                _contours(axes, distances, surface, levels)
                axes.set_title(name)
        axes = figure.add_subplot(grid[-1, :])
        for name, surface in zip(names, surfaces, strict=True):
            axes.plot(distances, cut(surface), label=name)
        axes.set(yscale="log", xlabel="distance along the first direction", ylabel="loss")
        axes.legend(frameon=False)
        try:
            figure.savefig(path, dpi=150)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def cut(surface: np.ndarray) -> np.ndarray:
    """Returns what lies on the first direction, through the network itself, ``[points]``."""
    return surface if surface.ndim == 1 else surface[len(surface) // 2]


def summary(distances: np.ndarray, found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns what the table says of a surface: in the middle, the lowest, how much of it lies near the lowest."""
    loss = np.where(np.isfinite(found["loss"]), found["loss"], np.inf)
    middle = (len(distances) // 2,) * loss.ndim
    return {
        "loss": float(loss[middle]),
        "error": float(found["error"][middle]),
        "lowest_loss": float(loss.min()),
        # How wide its valley is: the share of the window with a loss at most one above that of the network itself.
        "within_one": float(np.mean(loss <= loss[middle] + 1.0)),
    }


def _contours(axes: Any, distances: np.ndarray, surface: np.ndarray, levels: np.ndarray) -> None:
    from matplotlib.colors import LogNorm

    heights = _drawable(surface, levels)
    norm = LogNorm(levels[0], levels[-1])
    axes.contourf(distances, distances, heights, levels=levels, norm=norm, cmap="viridis", extend="both", alpha=0.85)
    axes.contour(distances, distances, heights, levels=levels, colors=GREY, linewidths=0.5)
    axes.plot(0, 0, marker="x", color="white", markersize=6)
    axes.set_aspect("equal")


def _landscape(axes: Any, distances: np.ndarray, surface: np.ndarray, levels: np.ndarray, name: str) -> None:
    x, y = np.meshgrid(distances, distances)
    heights = np.log10(_drawable(surface, levels))
    low, high = np.log10(levels[[0, -1]])
    axes.plot_surface(x, y, heights, cmap="viridis", vmin=low, vmax=high, rcount=60, ccount=60, linewidth=0)
    axes.set(zlim=(low, high), title=name)
    axes.zaxis.set_major_formatter(lambda value, _: f"{10**value:.3g}")


def _drawable(surface: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """What is not finite, or beyond the levels, lies at their ends."""
    return np.clip(np.where(np.isfinite(surface), surface, levels[-1]), levels[0], levels[-1])
