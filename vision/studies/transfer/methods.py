"""The ways to use a network on other data, each trained one as the config of an ordinary run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax

from vision.errors import UserError, did_you_mean
from vision.models.depth import block_names, parameters_before
from vision.studies.transfer.start import Start

Freeze = Literal["nothing", "all but the head", "all but the last blocks"]
HEAD_LAYER = r"^(?:distillation_)?head/"


@dataclass(frozen=True)
class Method:
    """One way.

    Attributes:
      name: one word, as on the command line.
      title: for people.
      rates: learning rates to choose from, the most usual first; empty where nothing is trained by steps.
      starts: whether from the given weights.
      freeze: what stays as it is.
    """

    name: str
    title: str
    rates: tuple[float, ...]
    starts: bool = True
    freeze: Freeze = "nothing"


METHODS = (
    Method("scratch", "From scratch", (1e-3, 3e-3, 3e-4, 1e-4), starts=False),
    Method("probe", "Linear probe", ()),
    Method("head", "Fine-tune the head", (1e-2, 3e-3, 3e-2, 1e-3), freeze="all but the head"),
    Method("last", "Fine-tune the last blocks", (1e-3, 3e-3, 3e-4, 1e-4), freeze="all but the last blocks"),
    Method("all", "Fine-tune all", (1e-3, 3e-4, 1e-4, 3e-5)),
)


@dataclass(frozen=True)
class Budget:
    """How long every trained method takes, and how many learning rates it may choose from."""

    epochs: int
    least: int
    most: int
    rates: int

    def steps(self, labels: int, batch_size: int) -> int:
        """Returns the steps of every training with so many labels."""
        return min(max(round(self.epochs * labels / batch_size), self.least), self.most)


SIZES = {"small": Budget(8, 300, 600, 2), "full": Budget(30, 1000, 20_000, 4)}
BATCH_SIZE = 64


def chosen(names: tuple[str, ...]) -> tuple[Method, ...]:
    """Returns the methods of these names in their own order; all without names.

    Raises:
      UserError: a name that no method has.
    """
    known = [each.name for each in METHODS]
    for name in names:
        if name not in known:
            raise UserError(f"--only: unknown method {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
    return tuple(each for each in METHODS if not names or each.name in names)


def config_of(
    method: Method,
    start: Start,
    data: Mapping[str, Any],
    *,
    rate: float,
    steps: int,
    seed: int,
    evals: Mapping[str, str | None],
    layerwise_decay: float | None = None,
) -> dict[str, Any]:
    """Returns the config of a training: architecture, precision, preprocessing and augmentation are those of the start.

    Args:
      method: one that is trained.
      start: the network.
      data: the keys of ``config.data`` that say which examples.
      rate: peak of the learning rate.
      steps: of the training.
      seed: of everything random.
      evals: name -> split.
      layerwise_decay: factor of the learning rate from a block to the one before it, where all is fine-tuned.

    Raises:
      UserError: the network has no blocks of which the last could be trained alone.
    """
    optimizer: dict[str, Any] = {
        "name": "adamw",
        "learning_rate": rate,
        "schedule": {"name": "cosine"},
        "warmup": {"steps": steps // 10},
        "weight_decay": 0.05,
        "clip_global_norm": 1.0,
        "rules": ((r"(bias|scale)$", {"weight_decay": 0.0}),),
    }
    if layerwise_decay is not None and method.name == "all":
        optimizer["layerwise_decay"] = {"decay": layerwise_decay, "layers": layers(start)}
    test = {"name": "classification", "batch_size": 500}
    return {
        "batch_size": BATCH_SIZE,
        "duration": {"steps": steps},
        "seed": seed,
        "precision": start.precision,
        # From the host come batches of one shape, so that a network is compiled once for all parts of a share.
        "data": {**start.data, **data, "residency": "host"},
        "model": start.model,
        "objective": {"name": "classify"},
        "optimizer": optimizer,
        "init_from": str(start.folder) if method.starts else None,
        "freeze": frozen(method, start),
        "evals": {name: {**test, "split": split} for name, split in evals.items()},
        "checkpoint": {"keep": 1},
        "logging": {"every": {"steps": 50}, "tensorboard": False, "progress": False},
    }


def frozen(method: Method, start: Start) -> dict[str, Any] | None:
    """Returns ``config.freeze`` of a method.

    Raises:
      UserError: the network has no blocks of which the last could be trained alone.
    """
    if method.freeze == "nothing":
        return None
    if method.freeze == "all but the head":
        return {"blocks": -1}
    count = len(_blocks(start))
    if count < 2:
        raise UserError(f"--only {method.name}: {start.name} has no blocks of which the last could be trained alone")
    return {"blocks": count - last_blocks(count)}


def last_blocks(count: int) -> int:
    """Returns how many of so many blocks are the last ones: a third of them."""
    return max(1, count // 3)


def layers(start: Start) -> tuple[str, ...]:
    """Returns regular expressions of the layers for layer-wise learning rates, from the input to the head.

    A layer is what a block depends on and no earlier one does.
    """
    network, shape = start.network, start.network.image_shape
    assert shape is not None  # a start is built for its images
    images = jax.ShapeDtypeStruct((1, *shape), float)
    params, _ = jax.eval_shape(lambda key: network.init(key, images), jax.random.key(0))
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    rest = {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat}
    made = []
    for feature in (*_blocks(start), "pre_logits"):
        here = sorted(rest & parameters_before(network, shape, feature))
        if here:
            made.append(f"^(?:{'|'.join(map(re.escape, here))})$")
        rest -= set(here)
    if rest:  # such as a mask token, which no classifier reads
        made.append(f"^(?:{'|'.join(map(re.escape, sorted(rest)))})$")
    return (*made, HEAD_LAYER)


def _blocks(start: Start) -> list[str]:
    assert start.network.image_shape is not None
    return block_names(start.network, start.network.image_shape)
