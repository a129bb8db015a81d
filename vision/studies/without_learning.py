"""What needs no learning, and where it ends: predefined shapes (Hough), and this very object (SIFT and RANSAC)."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from vision.analysis import page
from vision.data.source import Source
from vision.studies import hough_trials, matching_objects, matching_trials
from vision.studies.matching_objects import Objects
from vision.studies.matching_trials import Pair

Note = Callable[[str], None]
_STYLE = """<style>
.seen { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: 1.2rem;
  margin: 1rem 0; }
.seen img { display: block; width: 100%; height: auto; margin-bottom: 0.3rem; background: var(--box); }
</style>"""
_FLAT = "drawn shapes"
_HOUGH = (
    "Every edge pixel votes for all lines, or circles, that it may lie on. Nothing is learned: the shape is written "
    "into the program as a formula, so a clean line is found to a fraction of a pixel, what a shaky hand draws is "
    "no line any more, and among clutter chance edges add up to lines that nobody drew. Green ones were drawn, orange "
    "ones were not."
)
_SHAPES = (
    "The same on the captioned shapes: how often a circle is seen where a shape stands alone. Two arcs of a moon vote "
    "like a circle: the formula knows edges, not moons."
)
_MATCHING = (
    "Keypoints of one image are paired with the most similar of another; where many pairs agree on one homography, "
    "the object is found. It is recognised turned, smaller, from the side and in the dark, but only it: another "
    "thing of the same class has other keypoints, and what is smooth or flat has hardly any, so that not even itself "
    "is found. Green lines agree on the homography, orange ones do not."
)
_END = (
    "Both answer only what was written down for them, a formula or one image. To recognise another cat takes examples "
    "of cats: learning."
)


def run(
    seed: int, *, pairs: int = 24, pictures: int = 40, data: Source | None = None, name: str = "", note: Note = print
) -> tuple[dict[str, Any], str]:
    """Measures how often both succeed, and draws where they do and do not.

    Args:
      seed: of everything that is drawn.
      pairs: of images, for each kind of objects and each view.
      pictures: of drawn lines, and of circles, in each look.
      data: labelled images of one's own, besides the libraries' photographs and drawn shapes.
      name: of these data.
      note: told how far it is.

    Returns:
      ``{"hough": ..., "circles_among_shapes": ..., "matching": ...}``, and the page.

    Raises:
      UserError: the data have no classes, or do not decode.
    """
    objects = {
        "halves of photographs": matching_objects.photographs(),
        _FLAT: matching_objects.shapes(20 * pairs),
    }
    if data is not None:
        objects[name] = matching_objects.own(data, seed)
    hough = hough_trials.rates(pictures, seed)
    seen = hough_trials.circles_among_shapes(20 * pictures)
    note(f"lines and circles: {6 * pictures} pictures")
    matching, examples = {}, []
    for kind, each in objects.items():
        found = _trials(each, pairs, seed)
        matching[kind] = {view: matching_trials.rate(trial)._asdict() for view, trial in found.items()}
        shown = ("rotated",) if kind == _FLAT else found  # one picture says it: there is nothing to match
        examples += [(f"{kind}: {view}", _telling(found[view])) for view in shown]
        note(f"{kind}: {sum(map(len, found.values()))} pairs")
    body = (
        f"{_STYLE}<h1>Recognition without learning</h1>\n"
        + page.section("Lines and circles: the Hough transform", _of_hough(hough, _scenes(seed)))
        + page.section("Circles among shapes", _of_shapes(seen))
        + page.section("This very object: SIFT, ratio test, RANSAC", _of_matching(matching, examples))
        + f"<p>{_END}</p>\n"
    )
    result = {"hough": hough, "circles_among_shapes": seen, "matching": matching}
    return result, page.document("Recognition without learning", body)


def section(seed: int) -> str:
    """Returns a short form for another page, HTML, in a few seconds: fewer trials, on photographs alone."""
    found = _trials(matching_objects.photographs(), 6, seed)
    matching = {"halves of photographs": {view: matching_trials.rate(each)._asdict() for view, each in found.items()}}
    examples = [(view, _telling(found[view])) for view in ("perspective", "other half of its photograph")]
    scenes = [each for each in _scenes(seed) if "lines" not in each[0] or "clutter" in each[0]]
    body = _of_hough(hough_trials.rates(8, seed), scenes) + _of_matching(matching, examples) + f"<p>{_END}</p>\n"
    return _STYLE + page.section("Below learning: predefined shapes, and this very object", body)


def _trials(objects: Objects, count: int, seed: int) -> dict[str, list[Pair]]:
    """Pairs by what the second image shows."""
    options = {"upsample": objects.upsample}
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(objects.images))[:count].tolist()
    trials = {
        view: [matching_trials.same(view, objects.images[index], generator, **options) for index in chosen]
        for view in matching_trials.VIEWS
    }
    for same_class in (True, False):
        partners = [(index, objects.another(index, generator, same_class=same_class)) for index in chosen]
        found = [
            matching_trials.other(objects.images[index], objects.images[partner], **options)
            for index, partner in partners
            if partner is not None
        ]
        if found:
            trials[objects.others[0 if same_class else 1]] = found
    return trials


def _telling(trial: Sequence[Pair]) -> Pair:
    """The pair with the median number of inliers: neither the best nor the worst."""
    return sorted(trial, key=lambda pair: pair.match.inliers)[len(trial) // 2]


def _scenes(seed: int) -> list[tuple[str, hough_trials.Scene]]:
    return [
        (f"{look} {kind}", hough_trials.scene(kind, look, np.random.default_rng([seed, place])))
        for kind in ("lines", "circles")
        for place, look in enumerate(hough_trials.LOOKS)
    ]


def _of_hough(rates: Mapping[str, Any], scenes: Sequence[tuple[str, hough_trials.Scene]]) -> str:
    rows = [
        (f"{look} {kind}", f"{values['found']:.0%}", f"{values['false']:.2f}")
        for kind, looks in rates.items()
        for look, values in looks.items()
    ]
    figures = [
        (hough_trials.picture_of(each), f"{name}: {each.hits} of {len(each.drawn)} found, {each.false} false")
        for name, each in scenes
    ]
    head = ("", "found", "false per picture")
    return f"<p>{page.escape(_HOUGH)}</p>\n{page.table(head, rows, kind='numbers')}{_gallery(figures)}"


def _of_shapes(seen: Mapping[str, float]) -> str:
    rows = [(name, f"{share:.0%}") for name, share in sorted(seen.items(), key=lambda each: -each[1])]
    return f"<p>{page.escape(_SHAPES)}</p>\n{page.table(('shape', 'seen as a circle'), rows, kind='numbers')}"


def _of_matching(matching: Mapping[str, Any], examples: Sequence[tuple[str, Pair]]) -> str:
    rows = [
        (f"{kind}: {view}", f"{values['found']:.0%}", f"{values['inliers']:.1f}", values["pairs"])
        for kind, views in matching.items()
        for view, values in views.items()
    ]
    figures = [
        (
            matching_trials.picture_of(each),
            f"{name}: {'found' if each.match.found else 'not found'}, {each.match.inliers} of "
            f"{len(each.match.explained)} matches agree",
        )
        for name, each in examples
    ]
    head = ("second image", "found", "mean inliers", "pairs")
    return f"<p>{page.escape(_MATCHING)}</p>\n{page.table(head, rows, kind='numbers')}{_gallery(figures)}"


def _gallery(figures: Sequence[tuple[np.ndarray, str]]) -> str:
    shown = "".join(
        f"<figure><img alt='{page.escape(text)}' src='data:image/png;base64,{_png(pixels)}'>"
        f"<figcaption>{page.escape(text)}</figcaption></figure>\n"
        for pixels, text in figures
    )
    return f"<div class='seen'>\n{shown}</div>\n"


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
