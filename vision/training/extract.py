"""Features of any data into files: shards that are there whole or not at all, and an index of what they are."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vision.config.calling import call
from vision.data.inputs import Inputs, open_inputs
from vision.data.order import InOrder
from vision.data.pipeline import make_pipeline
from vision.data.source import Source, Subset
from vision.data.sources.features import INDEX, VERSION, files_of, image_shape, read_index
from vision.errors import UserError, did_you_mean
from vision.evaluation.outputs import MEAN, named
from vision.training import sharding
from vision.training import workdir as folders
from vision.training.digest import as_text, digests
from vision.training.pretrained import Pretrained, config_on

Dtype = Literal["float32", "float16"]
Note = Callable[[str], None]
_SECONDS_BETWEEN_LINES = 10.0


class Wanted(NamedTuple):
    """Which features, and how they are kept.

    Attributes:
      layer: name of an output of the network, such as ``pre_logits`` or ``block02``.
      whole: keep all positions of a map and all tokens; else their mean.
      dtype: of the files.
      shard_size: examples in a file.
      batch_size: examples that the network sees at a time.
    """

    layer: str = "pre_logits"
    whole: bool = False
    dtype: Dtype = "float32"
    shard_size: int = 8192
    batch_size: int = 256


def extract(
    pretrained: Pretrained,
    data: str,
    out: Path,
    *,
    splits: Sequence[str],
    wanted: Wanted,
    data_dir: str | None = None,
    label: str | None = None,
    note: Note,
) -> dict[str, Any]:
    """Writes the features of splits, or goes on where an earlier call stopped; returns what there is then.

    A shard is a pure function of the weights, the examples and its number: one pass over its examples alone, so that
    an extraction that was interrupted gives the bits of one that was not. No more than one shard is held in memory.

    Args:
      pretrained: the network, which also says how images are prepared.
      data: as ``config.data.name``.
      out: the folder; made if need be.
      splits: of the data, slices included.
      wanted: which features.
      data_dir: folder of prepared TFDS data sets.
      label: the feature of the data that is the label.
      note: told how it goes.

    Raises:
      UserError: the folder holds other features, which is told key by key; the network has no such output; or the
        data cannot be read.
    """
    if wanted.shard_size < 1:
        raise UserError(f"--shard_size must be at least 1, got {wanted.shard_size}")
    section = {"name": data, "split": splits[0], "data_dir": data_dir, "label": label}
    config = config_on(pretrained, section, batch_size=wanted.batch_size)
    mesh = call(sharding.make_mesh, config["mesh"], "config.mesh")
    sharding.check_batch(wanted.batch_size, mesh, 1, where="--batch_size")
    inputs = open_inputs(config)
    sources = {split: inputs.evaluation_source(split) for split in splits}
    maker = _Maker(pretrained, inputs, wanted, mesh)
    first = sources[splits[0]]
    prepared = pretrained.preprocessing.source
    note(f"{pretrained.name} on {data}: {wanted.layer} {list(maker.shape)}; images prepared as of {prepared}")
    index: dict[str, Any] = {
        "version": VERSION,
        "made_of": {
            **_made_of(pretrained, maker.weights, wanted),
            "data": {"name": data, "label": label},
        },
        "shape": list(maker.shape),
        "num_classes": first.num_classes,
        "class_names": list(first.class_names),
        "splits": {},
    }
    try:
        with folders.locked(out):
            index = _claimed(out, index)
            made = {split: _one_split(out, index, split, source, maker, note) for split, source in sources.items()}
    except UserError as error:  # the lock speaks of the folder as programs with a run do
        raise type(error)(str(error).replace("--workdir", "--out", 1)) from error
    return {
        "out": str(out),
        "layer": wanted.layer,
        "shape": list(maker.shape),
        "splits": {
            split: {"examples": len(source), "shards": len(index["splits"][split]["shards"]), "made": made[split]}
            for split, source in sources.items()
        },
    }


def _made_of(pretrained: Pretrained, weights: str, wanted: Wanted) -> dict[str, Any]:
    """What decides the bits of features beside the examples."""
    preprocessing = pretrained.preprocessing.as_json()
    return {
        "model": pretrained.name,
        "weights": weights,
        "layer": wanted.layer,
        "whole": wanted.whole,
        "dtype": wanted.dtype,
        "shard_size": wanted.shard_size,
        "image_shape": list(pretrained.image_shape),
        "preprocessing": {key: value for key, value in preprocessing.items() if key not in ("source", "activation")},
        "jax": metadata.version("jax"),
        "device": jax.devices()[0].device_kind,
    }


def _claimed(out: Path, index: dict[str, Any]) -> dict[str, Any]:
    """The index of the folder, where it is of the same features; else the new one, written there."""
    if not (out / INDEX).exists():
        strange = sorted(path.name for path in out.iterdir() if path.name != "lock")
        if strange:
            raise UserError(f"--out {out} holds something else ({', '.join(strange[:3])}); choose another folder")
        folders.write_json(out / INDEX, index)
        return index
    there = read_index(out)
    keys = ("made_of", "shape", "num_classes", "class_names")
    old, new = ({key: each.get(key) for key in keys} for each in (there, folders.as_json(index)))
    differing = folders.differences(old, new)
    if differing:
        told = "; ".join(f"{key.removeprefix('made_of.')} {a!r} there, {b!r} here" for key, a, b in differing[:5])
        raise UserError(f"--out {out} holds other features ({told}); choose another folder")
    return there


class _Maker:
    """Makes the features of a shard; one compiled program for all of them."""

    def __init__(self, pretrained: Pretrained, inputs: Inputs, wanted: Wanted, mesh: Mesh):
        self.wanted = wanted
        self._inputs, self._batches = inputs, sharding.batch_sharding(mesh)
        objective, state = pretrained.learner()
        self._state = jax.device_put(state, sharding.replicated(mesh))
        text = sorted(as_text(digests({"params": state.params, "extra": state.extra})).items())
        self.weights = hashlib.sha256(repr(text).encode()).hexdigest()[:16]
        prepare = inputs.prepare(training=False)
        dtype = jnp.dtype(wanted.dtype)

        def chosen(outputs: Mapping[str, Array]) -> Float[Array, "batch ..."]:
            name = wanted.layer.removesuffix(MEAN)
            if name not in outputs:
                near = did_you_mean(name, outputs)
                raise UserError(f"--layer {name}: the model has no such output{near}; it has {', '.join(outputs)}")
            whole = wanted.whole and name == wanted.layer
            return (outputs[name] if whole else named(outputs, name + MEAN)).astype(dtype)

        def features(params: Any, extra: Any, batch: Mapping[str, Array]) -> Float[Array, "batch ..."]:
            examples = prepare(batch, {}, jax.random.key(0), 0)  # nothing is drawn without augmentation
            return chosen(objective.encode(params, extra, {"image": examples["image"]}))

        image = jax.ShapeDtypeStruct((1, *inputs.evaluation_part.shape), jnp.float32)
        encoded = jax.eval_shape(objective.encode, state.params, state.extra, {"image": image})
        self.shape = jax.eval_shape(chosen, encoded).shape[1:]
        try:
            image_shape(self.shape)
        except ValueError as error:
            raise UserError(f"--layer {wanted.layer}: {error}") from error
        self._features = jax.jit(features)

    def __call__(self, source: Source, say: Callable[[int], None]) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns features ``[n, ...]`` and labels of all examples of a source, in order."""
        order = InOrder(len(source), self.wanted.batch_size)
        part = self._inputs.evaluation_part
        pipeline = make_pipeline(source, order, part, sharding=self._batches, residency="host")
        rows, labels = [], []
        try:
            for step in range(order.num_batches):
                batch, mask = pipeline.batch(step), order.mask(step)
                rows.append(np.asarray(self._features(self._state.params, self._state.extra, batch))[mask])
                if "label" in batch:
                    labels.append(np.asarray(batch["label"])[mask])
                say(sum(map(len, rows)))
        finally:
            pipeline.close()
        return np.concatenate(rows), np.concatenate(labels) if labels else None


def _one_split(out: Path, index: dict[str, Any], split: str, source: Source, maker: _Maker, note: Note) -> int:
    """Makes the shards of a split that are missing or broken, and returns how many these were."""
    size, count = maker.wanted.shard_size, len(source)
    shards = -(-count // size)
    if source.num_classes != index["num_classes"]:
        raise UserError(f"split {split} has {source.num_classes} classes, {out} is of {index['num_classes']}")
    fresh = {"examples": source.fingerprint, "count": count, "shards": [None] * shards}
    entry = index["splits"].setdefault(split, fresh)
    if (entry["examples"], entry["count"]) != (source.fingerprint, count):
        raise UserError(
            f"--out {out} holds split {split} of other examples ({entry['count']:,} of fingerprint "
            f"{entry['examples']} there, {count:,} of {source.fingerprint} here); choose another folder"
        )
    missing = [number for number in range(shards) if not _is_whole(out, split, number, entry["shards"], note)]
    if len(missing) < shards:
        note(f"{split}: {shards - len(missing)} of {shards} shards are there")
    began = last = time.monotonic()
    done, total = 0, sum(min(size, count - number * size) for number in missing)

    def say(rows: int, *, at_once: bool = False) -> None:
        nonlocal last
        now = time.monotonic()
        if at_once or now - last > _SECONDS_BETWEEN_LINES:
            last = now
            rate = (done + rows) / max(now - began, 1e-9)
            note(f"{split}: {done + rows:,} of {total:,} images, {rate:,.0f} images/s")

    for number in missing:
        positions = np.arange(number * size, min((number + 1) * size, count))
        features, labels = maker(Subset(source, positions), say)
        broken = np.flatnonzero(~np.isfinite(features).reshape(len(features), -1).all(1))
        if len(broken):
            cure = "; --dtype float32 holds larger numbers" if maker.wanted.dtype == "float16" else ""
            where = source.where(int(positions[broken[0]]))
            raise UserError(f"{maker.wanted.layer} of {where} is not finite{cure}")
        files = files_of(out, split, number, shards)
        entry["shards"][number] = {
            "rows": len(positions),
            "labels": None if labels is None else _write(files.labels, labels),
            "features": _write(files.features, features),
        }
        folders.write_json(out / INDEX, index)
        done += len(positions)
        say(0, at_once=True)
    return len(missing)


def _is_whole(out: Path, split: str, number: int, entries: list[dict[str, Any] | None], note: Note) -> bool:
    """Whether a shard's files are those that the index speaks of; one that is broken is named."""
    entry = entries[number]
    if entry is None:
        return False
    files = files_of(out, split, number, len(entries))
    expected = {files.features: entry["features"], files.labels: entry["labels"]}
    for path, digest in expected.items():
        if digest is not None and (found := _digest(path)) != digest:
            note(f"{path} {'is gone' if found is None else 'is broken'}; it is made anew")
            return False
    return True


def _write(path: Path, array: np.ndarray) -> str:
    """Writes a file whole or not at all, and returns the digest of what lies on the disk."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        try:
            with partial.open("wb") as file:
                np.save(file, array, allow_pickle=False)
            digest = _digest(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return digest or ""


def _digest(path: Path) -> str | None:
    """SHA-256 of a file, None where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
