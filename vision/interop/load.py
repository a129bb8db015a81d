"""Weights of another library into a model of ours, strictly."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from vision.errors import UserError
from vision.interop.agreement import check_agreement
from vision.interop.clip_agreement import check_clip, is_clip, provenance
from vision.interop.files import Weights, read_weights
from vision.interop.fit import Report, Resize, fit
from vision.interop.match import to_ours
from vision.interop.names import Naming
from vision.interop.namings import NAMINGS
from vision.interop.preprocessing import Preprocessing, find
from vision.interop.recognise import recognise, with_head
from vision.interop.trees import Variables, flat, nested
from vision.models.positions import resize_positions


class Loaded(NamedTuple):
    """Weights laid out as a model's.

    Attributes:
      params: nested; what the file does not fill (see ``report.fresh``) is absent, so lay it over initial values
        as :func:`vision.training.state.create` does.
      collections: likewise, such as ``batch_stats``.
      report: what fitted, what was resized, what is left.
      preprocessing: what the network expects of its images, or None where the file does not say.
      facts: to be kept with the weights: ``source``, ``files`` (name -> SHA-256), ``naming``, and ``same_names``, the
        namings that cover the file as well.
    """

    params: Variables
    collections: Variables
    report: Report
    preprocessing: Preprocessing | None
    facts: dict[str, Any]


def load_weights(
    path: str | Path | Weights,
    *,
    module: Any,
    abstract_params: Mapping[str, Any],
    abstract_collections: Mapping[str, Any],
    may_differ: Sequence[str] = (),
    naming: str | None = None,
    branch: str | None = None,
    namings: Mapping[str, Naming] = NAMINGS,
    note: Callable[[str], None] = lambda text: None,
) -> Loaded:
    """Reads weights with another library's names.

    A ``config.json`` beside them must agree with the module: patch size, activation, epsilon and the like; that of a
    CLIP has to be known, see :mod:`vision.interop.clip_agreement`. Learned positions of another grid are resized in the
    module's own way. Half precision becomes the model's type.

    Args:
      path: a file, a folder or a name of the Hugging Face Hub, see :func:`vision.interop.files.read_weights`; or
        weights that were read before.
      module: the Linen module of the model.
      abstract_params: shapes and types of its parameters, nested.
      abstract_collections: likewise of what else it has.
      may_differ: regular expressions over paths such as ``params/head/kernel`` (and over the file's names): these
        may be absent on either side or have other shapes, and are then left out of the result.
      naming: key of :data:`vision.interop.namings.NAMINGS`; None for the one that covers the file best.
      branch: which network of a training run's checkpoint.
      namings: those that there are.
      note: told what people should know, such as which branch was taken.

    Raises:
      UserError: the file cannot be read, is of another network, or does not fit; one sentence that names arrays of
        both sides with their shapes.
    """
    weights = path if isinstance(path, Weights) else read_weights(path, branch=branch, note=note)
    library = "timm" if "architecture" in weights.config else None
    found = recognise(weights.arrays, module, naming=naming, library=library, namings=namings, source=weights.source)
    told = provenance(weights, naming)
    if is_clip(weights.config, found.keys[0], module):
        check_clip(weights, module, found=found.keys[0], told=told)
    else:
        check_agreement(weights.config, module, source=weights.source)
    wanted = flat(abstract_params, abstract_collections)
    laid = to_ours(weights.arrays, found, module, wanted)
    fitted = fit(
        laid.arrays,
        wanted,
        may_differ=may_differ,
        resize=resizer(module),
        misshapen=laid.misshapen,
        names=laid.names,
        source=f"{weights.source} ({found.keys[0]})",
    )
    params, collections = nested(fitted.arrays)
    activation = getattr(getattr(module, "image", module), "activation", None)
    preprocessing = find(weights.config, weights.preprocessor, told, activation=activation, source=weights.source)
    facts = {
        "source": weights.source,
        "files": dict(weights.files),
        "naming": found.keys[0],
        "same_names": list(found.keys[1:]),
    }
    return Loaded(params, collections, fitted.report, preprocessing, facts)


def classes_of(weights: Weights, module: Any, *, naming: str | None = None) -> int | None:
    """Returns how many classes the file's head has, 0 where it has none; None where its names do not tell.

    Raises:
      UserError: the names are not those of a model of this class.
    """
    found = recognise(weights.arrays, module, naming=naming, source=weights.source)
    paths = {path: pair for pair in found.naming.pairs(with_head(module)) for path in pair.ours}
    pair = paths.get("params/head/bias")
    if pair is None:
        return None
    name = found.names.get(pair.theirs[0])
    return len(weights.arrays[name]) if name is not None else 0


def resizer(module: Any) -> Resize:
    """Returns ``(positions, grid) -> positions`` as the module itself does it for images of another size."""
    options: dict[str, Any] = {}
    if hasattr(module, "position_antialias"):
        options = {"antialias": module.position_antialias, "offset": module.position_offset}

    def resize(positions: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        if not jnp.issubdtype(positions.dtype, jnp.floating):
            raise UserError(f"positions hold {positions.dtype}, no weights")
        return np.asarray(resize_positions(jnp.asarray(positions, jnp.float32), grid, **options))

    return resize
