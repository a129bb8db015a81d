"""What goes into a weight soup, and the checkpoint that comes out: read like an import, wherever weights are taken."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from vision import models
from vision.config.calling import call, fill
from vision.config.loading import plain
from vision.data.inputs import open_inputs
from vision.errors import UserError
from vision.models.precision import FLOAT32
from vision.training import sharding
from vision.training.checkpoint import Checkpoints, open_existing, pick_step
from vision.training.init_from import FREE
from vision.training.predict import class_names_of
from vision.training.pretrained import Pretrained, load_pretrained
from vision.training.schema import resolve
from vision.training.state import TrainState, make_keys
from vision.training.workdir import write_json

Note = Callable[[str], None]


class Ingredient(NamedTuple):
    """One network of a soup.

    Attributes:
      name: the folder it came from.
      step: of its checkpoint.
      pretrained: the model with its weights.
      metadata: of the checkpoint.
    """

    name: str
    step: int
    pretrained: Pretrained
    metadata: Mapping[str, Any]

    @property
    def state(self) -> TrainState:
        """What evaluators read."""
        return self.pretrained.learner()[1]

    @property
    def config(self) -> dict[str, Any]:
        """Of the run; empty where it is an import."""
        return dict(plain(self.metadata.get("config") or {}))

    @property
    def options(self) -> dict[str, Any]:
        """Of the model, complete with defaults."""
        section = {**plain(self.metadata.get("model") or self.config["model"])}
        known = models.CONSTRUCTORS.get(section["name"])
        defaults = {} if known is None else fill(known, {}, "model", provided=models.SUPPLIED)
        return {**defaults, **section}

    @property
    def precision(self) -> str:
        """Of the model, as configs name it."""
        return str(self.metadata.get("precision") or self.config.get("precision") or FLOAT32)


def open_ingredients(workdirs: Sequence[str], *, average: bool, note: Note) -> list[Ingredient]:
    """Returns the newest checkpoint of each run or import.

    Args:
      workdirs: their folders.
      average: take the moving average of a run's parameters where there is one.
      note: told what people should know.

    Raises:
      UserError: a folder holds none, or two towers; or two of them compute something else with the same arrays.
    """
    found = []
    for workdir in workdirs:
        checkpoints = open_existing(workdir)
        step = pick_step(checkpoints, None)
        metadata = checkpoints.metadata(step)
        pretrained = load_pretrained(workdir, step=step, average=average, note=partial(_note_of, note, workdir))
        if pretrained.pair is not None:
            raise UserError(f"{workdir} has a text tower beside its image tower; soups are of image models alone")
        found.append(Ingredient(workdir, step, pretrained, metadata))
    for other in found[1:]:
        _check_same_options(found[0], other)
        if other.pretrained.preprocessing != found[0].pretrained.preprocessing:
            note(f"{other.name} prepares images differently than {found[0].name}, whose way the soup takes")
    return found


def _note_of(note: Note, workdir: str, text: str) -> None:
    note(f"{workdir}: {text}")


def _check_same_options(one: Ingredient, other: Ingredient) -> None:
    first, second = one.options, other.options
    keys = [key for key in first if key in second and key not in (*FREE, "name")]
    differing = [key for key in keys if _plain(first[key]) != _plain(second[key])]
    if differing:
        told = ", ".join(f"{key} {first[key]!r} and {second[key]!r}" for key in differing)
        raise UserError(f"{one.name} and {other.name} are of different architectures; {told}")
    shapes = [each.pretrained.image_shape for each in (one, other)]
    if shapes[0] != shapes[1]:
        raise UserError(f"{one.name} and {other.name} are built for images of {shapes[0]} and {shapes[1]}")


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def training_images(ingredient: Ingredient, count: int) -> Iterator[Float[Array, "batch height width channels"]]:
    """Yields the images of the first batches that a run learns from, augmented as it did.

    Raises:
      UserError: it is no run, or learns from several views of each image.
    """
    if not ingredient.config:
        raise UserError(f"--recalibrate: {ingredient.name} is no run, so what it learned from is not known")
    config = resolve(ingredient.config)
    mesh = call(sharding.make_mesh, {}, "config.mesh")
    sharding.check_batch(config["batch_size"], mesh, 1)
    if config["data"]["views"] is not None:
        raise UserError(f"--recalibrate: {ingredient.name} learns from several views of each image")
    inputs = open_inputs(config)
    pipeline = inputs.training_pipeline(sharding.batch_sharding(mesh))
    prepare = jax.jit(inputs.prepare(training=True))
    key = make_keys(config["seed"]).augment
    try:
        for step in range(count):
            yield prepare(pipeline.batch(step), pipeline.resident, key, step)["image"]
    finally:
        pipeline.close()


def save(out: Path, state: TrainState, ingredients: Sequence[Ingredient], facts: Mapping[str, Any], note: Note) -> None:
    """Writes a soup as an imported checkpoint.

    Args:
      out: folder, without checkpoints.
      state: the soup.
      ingredients: what it was made of, the first of which says the model's options.
      facts: how it was made.
      note: told of what goes wrong.

    Raises:
      UserError: it cannot be written.
    """
    first = ingredients[0]
    options = {key: value for key, value in first.options.items() if key != "scan"}  # blocks are one by one here
    metadata = {
        "step": 0,
        "model": options,
        "num_classes": first.pretrained.model.module.num_classes,
        "image_shape": list(first.pretrained.image_shape),
        "precision": first.precision,
        "class_names": list(first.metadata.get("class_names") or ()),
        "preprocessing": first.pretrained.preprocessing.as_json(),
        "objective": dict(first.pretrained.objective),
        "source": {"soup": [{"workdir": each.name, "step": each.step} for each in ingredients], **facts},
        "fresh": [],
        "resized": {},
    }
    checkpoints = Checkpoints(out / "checkpoints", note=note)
    checkpoints.save(0, {"params": state.params, "extra": state.extra}, metadata)
    checkpoints.wait()
    checkpoints.close()
    names = class_names_of(None, first.name, metadata["num_classes"])
    (out / "evaluations").mkdir(exist_ok=True)  # where programs look for the names of a run's classes
    write_json(out / "evaluations" / "soup.json", {"step": 0, "scalars": {}, "arrays": {}, "class_names": list(names)})
