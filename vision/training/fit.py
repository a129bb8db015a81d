"""Fitting what has no steps: hand-made features and an estimator, in a run's folder like that of a training."""

import hashlib
import inspect
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vision.classic import checks, cost, persist
from vision.classic.estimators import ESTIMATORS
from vision.classic.features.chain import Chain
from vision.classic.scores import scores
from vision.classic.size import parameter_count
from vision.config.calling import call
from vision.config.loading import plain
from vision.data.host import HostPart, dtype_of
from vision.data.inputs import host_part
from vision.data.materialize import materialize, usable
from vision.data.source import ArraySource, has_several_labels
from vision.data.sources import Given, Opener
from vision.errors import ConfigError, UserError
from vision.evaluation.classification import batch_statistics, metrics
from vision.training import workdir as folder
from vision.training.fit_schema import resolve
from vision.training.processes import start_jax

Config = Mapping[str, Any]
FITTED = "estimator.skops"


class Split(NamedTuple):
    """Images in memory, and the fingerprint that their features are kept under."""

    source: ArraySource
    fingerprint: str

    @property
    def images(self) -> np.ndarray:
        """uint8 ``[n, height, width, channels]``, or features of float32."""
        return self.source.arrays["image"]

    @property
    def labels(self) -> np.ndarray:
        """int32 ``[n]``."""
        return self.source.arrays["label"]


def fit(config: ConfigDict | Mapping[str, Any], workdir: str | Path, *, sources: Given | None = None) -> dict[str, Any]:
    """Fits what a config describes in a folder; the counterpart of :func:`vision.training.loop.train`.

    Args:
      config: a ConfigDict or nested dict; its keys are those of :mod:`vision.training.fit_schema`.
      workdir: the run's folder; made if need be.
      sources: split -> source or arrays in memory, for ``config.data.name = "arrays"``.

    Returns:
      ``{"workdir": ..., "step": 1, "steps": 1, "parameters": ..., "fit_seconds": ..., "<eval>": {"<metric>": ...}}``.

    Raises:
      UserError: what was asked for cannot be done, or would take more than ``config.limits`` allows.
    """
    resolved = resolve(plain(config))
    path = Path(workdir)
    start_jax()
    with folder.locked(path):
        summary = path / "summary.json"
        folder.claim(path, resolved, started=summary.exists())
        if summary.exists():
            _say(f"complete: {path} is fitted; another --workdir fits anew")
            return folder.read_json(summary)
        return _fit(resolved, path, sources)


def _fit(config: Config, path: Path, given: Given | None) -> dict[str, Any]:
    chain, estimator = Chain(config["features"], seed=config["seed"]), _estimator(config, path)
    opener = _opener(config, given)
    part, train = _training_split(config, opener)
    environment = folder.environment({}, train.source.fingerprint)
    began = time.monotonic()
    with _named("config.data"):
        checks.check_labels(train.labels, train.source.num_classes, train.source.class_names)
    with _named("config.features"):
        x = chain.fit_transform(train.images, _key(config, train))
        checks.check_features(x)
    _say(
        f"{config['estimator']['name']} on {' + '.join(each['name'] for each in config['features'])}: "
        f"{len(x):,} examples, {x.shape[1]:,} features"
    )
    with _named("config.estimator"):
        cost.check_cost(config["estimator"]["name"], _estimator(config, path), x, train.labels, **config["limits"])
    extracted = time.monotonic()
    with _named("config.estimator"):
        estimator.fit(x, train.labels)
    fitted = time.monotonic()
    result: dict[str, Any] = {"workdir": str(path), "step": 1, "steps": 1}
    result |= {
        "parameters": parameter_count(chain, estimator),
        "feature_seconds": extracted - began,
        "fit_seconds": fitted - extracted,
    }
    folder.write_json(path / "environment.json", environment)
    lines: dict[str, float] = {}
    for name, section in config["evals"].items():
        split = open_split(config, opener, part, section["split"], what=name)
        values, confusion = _evaluate(config, chain, estimator, split)
        result[name] = values
        lines |= {f"{name}/{metric}": value for metric, value in values.items()}
        _write_evaluation(path, name, values, confusion, split.source.class_names)
        _say(f"{name}: {'  '.join(f'{metric} {value:.4f}' for metric, value in values.items())}")
    try:
        (path / "metrics.jsonl").write_text(json.dumps({"step": 1, **lines}) + "\n")
        persist.save(path / FITTED, chain, estimator)
    except OSError as error:
        raise UserError(f"cannot write into {path}: {error.strerror or error}") from error
    folder.write_json(path / "summary.json", {**result, "complete": True})
    from vision.analysis import report  # matplotlib is not needed before the end

    report.write(path)
    _say(f"done in {fitted - began:.1f} s: {path}  (look at {path / 'report.html'})")
    return result


def evaluate(workdir: str | Path, *, split: str | None = None) -> dict[str, Any]:
    """Evaluates a fitted run by its own evals, on their splits or all on ``split``.

    Raises:
      UserError: the folder holds no fitted estimator, or the data are not there.
    """
    path = Path(workdir)
    config = resolve(plain(folder.read_json(path / "config.json")))
    chain, estimator = persist.load(path / FITTED)
    opener = _opener(config, None)
    part = host_part(_framed(config), opener(config["data"]["split"]), seed=config["seed"], note=_say)
    result: dict[str, Any] = {"workdir": str(path), "step": 1}
    for name, section in config["evals"].items():
        examples = open_split(config, opener, part, split or section["split"], what=name)
        result[name], _ = _evaluate(config, chain, estimator, examples)
    return result


def open_split(config: Config, opener: Opener, part: HostPart, split: str | None, *, what: str) -> Split:
    """Returns the images of a split, decoded.

    Raises:
      UserError: there is no such split, or its examples have no single label each.
    """
    source = usable(opener(split), part, config["data"]["on_error"], opener.note)
    if "label" not in source.fields or has_several_labels(source):
        raise ConfigError(f"config.data: {config['data']['name']}, {what}: estimators need one label for each image")
    size = math.prod(part.shape) * dtype_of(source).itemsize
    needed, limit = len(source) * size / 2**30, config["limits"]["memory_gib"]
    if needed > limit:
        raise cost.TooCostly(
            f"config.data: {what}: {len(source):,} images of {'x'.join(map(str, part.shape))} take {needed:.3g} GiB of "
            f"memory, the limit is {limit:g}; to go on, --config.limits.memory_gib={math.ceil(6 * needed)}, or take "
            "fewer or smaller images"
        )
    # The bytes say what is in a source, the host's part what is made of them.
    key = hashlib.sha256(f"{source.fingerprint} {part}".encode()).hexdigest()[:16]
    return Split(materialize(source, part), key)


def _training_split(config: Config, opener: Opener) -> tuple[HostPart, Split]:
    source = opener(config["data"]["split"])
    part = host_part(_framed(config), source, seed=config["seed"], note=_say)
    return part, open_split(config, opener, part, config["data"]["split"], what="training")


def _opener(config: Config, given: Given | None) -> Opener:
    return Opener.of(config["data"], given=given)


def _framed(config: Config) -> dict[str, Any]:
    return {**config["data"], "eval_crop": config["data"]["crop"]}


def _estimator(config: Config, path: Path) -> Any:
    function = ESTIMATORS[config["estimator"]["name"]]
    # What takes hours keeps its state in the run's folder, and goes on from there.
    supplied = {"seed": config["seed"], "state": str(path / "state.skops")}
    wanted = {key: value for key, value in supplied.items() if key in inspect.signature(function).parameters}
    return call(function, config["estimator"], "config.estimator", **wanted)


def _key(config: Config, split: Split) -> str | None:
    """What features are kept on disk under; None for those that are made faster than read."""
    made = {section["name"] for section in config["features"]}
    return None if made <= {"pixels", "standardize"} else split.fingerprint


def _evaluate(config: Config, chain: Chain, estimator: Any, split: Split) -> tuple[dict[str, float], np.ndarray]:
    with _named("config.features"):
        x = chain.transform(split.images, _key(config, split))
        checks.check_features(x)
    with _named("config.estimator"):
        found = scores(estimator, x, split.source.num_classes)
    return measured(*found, split.labels)


def measured(values: np.ndarray, kind: str, labels: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Returns the metrics of :mod:`vision.evaluation.classification`, and the confusion matrix.

    Args:
      values: scores ``[n, classes]``, the larger the likelier.
      kind: ``probability``, ``margin`` or ``votes``; loss and calibration error are of probabilities only.
      labels: int ``[n]``.
    """
    logits = np.log(np.maximum(values, np.finfo(np.float32).tiny)) if kind == "probability" else values
    sums = batch_statistics(
        jnp.asarray(logits, jnp.float32),
        jnp.asarray(labels),
        jnp.ones(len(labels), jnp.float32),
        loss="softmax",
        calibration_bins=15,
    )
    found = dict(metrics(jax.device_get(sums)))
    confusion = np.asarray(found.pop("confusion"))
    meaningless = () if kind == "probability" else ("loss", "calibration_error")
    return {name: float(value) for name, value in found.items() if name not in meaningless}, confusion


def _write_evaluation(
    path: Path, name: str, values: Mapping[str, float], confusion: np.ndarray, class_names: tuple[str, ...]
) -> None:
    (path / "evaluations").mkdir(exist_ok=True)
    arrays = {"confusion": confusion.tolist()}
    whole = {"step": 1, "scalars": dict(values), "arrays": arrays, "class_names": list(class_names)}
    folder.write_json(path / "evaluations" / f"{name}.json", whole)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """A ValueError is told as one of this part of the config."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
