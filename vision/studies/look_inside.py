"""The pictures of what excites units and of what the scores of classes depend on, for a network and images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vision.analysis import pictures_of_units
from vision.analysis.gallery import Picture
from vision.analysis.guided import Rule
from vision.analysis.pictures_of_units import RULES, MapRow
from vision.analysis.receptive_field import box
from vision.studies.look_data import Browsed, Sample
from vision.studies.look_saliency import check_classifier, probabilities, saliency_of, samples_for
from vision.studies.look_units import Units, chosen_layers, strongest_units
from vision.training.pretrained import Pretrained

__all__ = ["activations", "check_classifier", "saliency"]
_OTHERS = 2  # classes beside the likeliest
_OF_CLASS, _MOST_CLASSES = 3, 10


def activations(
    pretrained: Pretrained, images: Browsed, folder: Path, *, layers: Sequence[str], maps: int, rule: Rule
) -> Picture:
    """Writes the strongest examples of feature maps and returns their picture.

    Args:
      pretrained: the network.
      images: among which is looked.
      folder: where files go.
      layers: features; the first, middle and last block where none is given.
      maps: how many of each.
      rule: how gradients go back through ReLUs.

    Raises:
      UserError: there is no such feature, or a file cannot be written.
      Missing: the network has no blocks.
    """
    found = strongest_units(pretrained, chosen_layers(pretrained, layers), images, maps=maps, rule=rule)
    return pictures_of_units.activations(
        folder,
        {units.feature: _rows(units) for units in found},
        {units.feature: _said(units, pretrained, rule) for units in found},
        where=images.where,
        numbers={
            units.feature: {
                "maps": units.maps,
                "strongest": units.values.tolist(),
                "receptive_field": list(_largest_field(units)),
                "rule": units.rule,
            }
            for units in found
        },
    )


def _rows(units: Units) -> list[MapRow]:
    rows = []
    for number, map_ in enumerate(units.maps):
        boxes = [_box(field) for field in units.fields[number]]
        crops = [image[place] for image, place in zip(units.images[number], boxes, strict=True)]
        driven = [gradient[place] for gradient, place in zip(units.gradients[number], boxes, strict=True)]
        rows.append(MapRow(map_, crops, driven, units.values[number].tolist()))
    return rows


def _box(field: np.ndarray) -> tuple[slice, slice]:
    """The whole image for a unit that depends on nothing."""
    return box(field if field.any() else np.ones_like(field))


def _largest_field(units: Units) -> tuple[int, int]:
    """Height and width of the largest crop; at the border they are smaller."""
    boxes = [_box(field) for each in units.fields for field in each]
    heights, widths = zip(
        *((rows.stop - rows.start, columns.stop - columns.start) for rows, columns in boxes), strict=True
    )
    return max(heights), max(widths)


def _said(units: Units, pretrained: Pretrained, wanted: Rule) -> str:
    total, (height, width) = units.shape[-1], _largest_field(units)
    which = f"{len(units.maps)} of {total} maps, those whose largest response varies most from image to image"
    sees = f"a unit depends on up to {height}x{width} pixels"
    if (height, width) == pretrained.image_shape[:2]:
        sees = "a unit can depend on every pixel of the image, so nothing is cut off"
    rule = f"Below: {RULES[units.rule]}"
    if units.rule != wanted:
        rule += f"; {pretrained.name} has no ReLU that {RULES[wanted]} could go back through"
    return f"{which}; {sees}. {rule}."


def saliency(
    pretrained: Pretrained, sample: Sample, of_classes: Sample | None, folder: Path, *, smooth: int | None
) -> Picture:
    """Writes the saliency of classes over images, and over examples of each class, and returns their picture.

    Args:
      pretrained: a classifier, see :func:`check_classifier`.
      sample: images.
      of_classes: examples with labels; None where there are none.
      folder: where files go.
      smooth: noisy copies of SmoothGrad; 0 for the plain gradient alone, None for what is soon computed.

    Raises:
      UserError: a file cannot be written.
    """
    shares = probabilities(pretrained, sample.images)
    order = np.argsort(-shares, axis=1, kind="stable")[:, : 1 + _OTHERS]
    grouped = _by_class(of_classes)
    samples = samples_for(pretrained, 4 * len(sample.images) + sum(map(len, grouped))) if smooth is None else smooth
    plain = saliency_of(pretrained, sample.images, order[:, 0])
    smoothed = [saliency_of(pretrained, sample.images, column, samples=samples) for column in order.T]
    names = sample.class_names or (of_classes.class_names if of_classes else ())
    rows = []
    for number, (image, name) in enumerate(zip(sample.images, sample.names, strict=True)):
        row = [(image, None, name)]
        if samples:
            row.append((image, plain[number], "plain gradient"))
        for rank, heat in enumerate(smoothed):
            class_ = int(order[number, rank])
            row.append((image, heat[number], f"{_name(names, class_)} {shares[number, class_]:.2f}"))
        rows.append(row)
    how = f"the mean gradient at {samples} noisy copies (SmoothGrad)" if samples else "the gradient"
    said = (
        "The largest size, over the colours, of the gradient of a class's score by each pixel, brightest where it is "
        f"largest: for the likeliest classes, with their probability, {how}"
        f"{', beside the plain gradient for the first' if samples else ''}."
    )
    by_class, said_by_class = [], ""
    if of_classes is not None and grouped:
        by_class = _rows_of_classes(pretrained, of_classes, grouped, samples)
        said_by_class = f"What the score of each class depends on in images of that class; {of_classes.where}."
    numbers = {"samples": samples, "likeliest": order[:, 0].tolist()}
    return pictures_of_units.saliency(folder, rows, by_class, said=said, said_by_class=said_by_class, numbers=numbers)


def _by_class(sample: Sample | None) -> list[list[int]]:
    """Up to three examples of each of ten classes."""
    if sample is None or sample.labels is None:
        return []
    labels = sample.labels
    return [np.flatnonzero(labels == each)[:_OF_CLASS].tolist() for each in np.unique(labels)[:_MOST_CLASSES]]


def _rows_of_classes(pretrained, sample: Sample, grouped: list[list[int]], samples: int) -> list:
    chosen = np.concatenate(grouped)
    images, labels = sample.images[chosen], np.asarray(sample.labels)[chosen]
    heats = iter(saliency_of(pretrained, images, labels, samples=samples))
    captions = sample.captions()
    rows = []
    for examples in grouped:
        row = []
        for example in examples:
            image = sample.images[example]
            row += [(image, None, captions[example]), (image, next(heats), "its saliency")]
        rows.append(row)
    return rows


def _name(names: Sequence[str], class_: int) -> str:
    return names[class_] if class_ < len(names) else f"class {class_}"
