"""What a model says of images in files."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vision.data.decode import DecodeError
from vision.data.host import HostPart
from vision.errors import UserError
from vision.training.pretrained import Pretrained

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".jp2", ".avif")


class Prediction(NamedTuple):
    """The most probable classes of one image.

    Attributes:
      path: of the file.
      pixels: what the model saw, uint8 ``[height, width, channels]``.
      classes: indices, the most probable first.
      probabilities: of these, by softmax, or by the logistic function where the model was trained by it.
    """

    path: Path
    pixels: np.ndarray
    classes: tuple[int, ...]
    probabilities: tuple[float, ...]


def find_images(places: Sequence[str]) -> list[Path]:
    """Returns the files among ``places``, and those with an image's suffix in its folders and below, sorted.

    Raises:
      UserError: a place does not exist, or there is no image at all.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            found += sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        elif place.is_file():
            found.append(place)
        else:
            raise UserError(f"--images {place}: there is no such file or folder")
    if not found:
        raise UserError(f"--images {', '.join(places)}: no image in there ({' '.join(SUFFIXES)})")
    return found


def class_names_of(file: Path | None, run: str, num_classes: int) -> tuple[str, ...]:
    """Returns the names of a file's lines, or of a run's evaluations, or numbers.

    Raises:
      UserError: the file cannot be read, or has another number of lines than there are classes.
    """
    if file is not None:
        try:
            names = tuple(file.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--classes {file}: {getattr(error, 'strerror', None) or error}") from error
        if len(names) != num_classes:
            raise UserError(f"--classes {file}: {len(names)} lines for {num_classes} classes")
        return names
    for path in sorted((Path(run) / "evaluations").glob("*.json")):
        names = tuple(map(str, json.loads(path.read_text(encoding="utf-8")).get("class_names", ())))
        if len(names) == num_classes:
            return names
    return tuple(f"class {number}" for number in range(num_classes))


def predict(
    pretrained: Pretrained, paths: Sequence[Path], *, top: int = 5, batch_size: int = 32
) -> tuple[list[Prediction], list[tuple[Path, str]]]:
    """Returns the predictions, and the files that do not decode with the reason.

    Args:
      pretrained: a classifier.
      paths: of image files.
      top: how many classes of each.
      batch_size: images at a time; the last batch is filled up, so that one program serves all.

    Raises:
      UserError: the model has no classes, or its images cannot be prepared here.
    """
    model, expected = pretrained.model, pretrained.preprocessing
    if not model.module.num_classes:
        raise UserError(f"{pretrained.name} has no head, so it predicts no classes")
    top = min(top, model.module.num_classes)
    height, width, channels = pretrained.image_shape
    part = HostPart((height, width), channels, expected.crop, expected.decoder, expected.filter)
    probabilities_of = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}[pretrained.loss]
    mean, std = (np.asarray(value, np.float32) for value in (expected.mean, expected.std))

    @jax.jit
    def run(params, collections, pixels):
        images = (pixels.astype(jnp.float32) / 255 - mean) / std
        logits, _, _ = model.apply(params, collections, images, keys=None, train=False)
        return jax.lax.top_k(probabilities_of(logits.astype(jnp.float32)), top)

    predictions: list[Prediction] = []
    broken: list[tuple[Path, str]] = []
    for decoded in decoded_batches(paths, part, batch_size=batch_size, broken=broken):
        pixels = np.zeros((batch_size, *part.shape), np.uint8)
        pixels[: len(decoded)] = [each for _, each in decoded]
        probabilities, classes = map(np.asarray, run(pretrained.params, pretrained.collections, pixels))
        for (path, seen), p, k in zip(decoded, probabilities, classes, strict=False):  # the rest is filling
            predictions.append(Prediction(path, seen, tuple(k.tolist()), tuple(p.tolist())))
    return predictions, broken


def decoded_batches(
    paths: Sequence[Path], part: HostPart, *, batch_size: int, broken: list[tuple[Path, str]]
) -> Iterator[list[tuple[Path, np.ndarray]]]:
    """Yields the files with their pixels, so many at a time or fewer; those that do not decode are added to a list.

    Args:
      paths: of image files.
      part: what brings them to the model's shape.
      batch_size: how many files at a time.
      broken: gets each file that does not decode, with the reason.
    """
    for start in range(0, len(paths), batch_size):
        decoded = []
        for path in paths[start : start + batch_size]:
            try:
                decoded.append((path, part(path.read_bytes(), visit=0, index=0)))
            except (DecodeError, OSError) as error:
                broken.append((path, str(error)))
        if decoded:
            yield decoded
