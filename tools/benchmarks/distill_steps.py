"""The house's DINO as a training makes it: its train step with the making of views, and the step on views alone."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from configs.dino_vits16_imagenet import get_config
from tools.peers import Distillation
from vision.config.duration import steps_of
from vision.data.augment import multi_crop
from vision.training.assemble import Experiment, assemble
from vision.training.make_optimizer import make_optimizer, make_schedule
from vision.training.schema import resolve
from vision.training.step import TrainStep, make_train_step

PyTree = Any
STEPS = 10**5


class Steps(NamedTuple):
    """Two train steps over one state, not yet jitted alone.

    Attributes:
      experiment: the whole training; its ``step`` makes views of images that live on the device.
      ready: ``(state, batch, constants) -> (state, metrics)`` of a batch that holds its views.
    """

    experiment: Experiment
    ready: TrainStep


def make_steps(work: Distillation, images: UInt8[np.ndarray, "images height width 3"]) -> Steps:
    """Returns the steps of the published recipe (configs/dino_vits16_imagenet.py) with another network and batch."""
    config = get_config("vanilla").to_dict()
    views = multi_crop.dino_views(global_size=work.global_size, local_size=work.local_size, num_local=work.num_local)
    data = {key: config["data"][key] for key in ("mean", "std")}
    config |= {
        "data": {**data, "name": "arrays", "views": views, "residency": "device"},
        "model": {"name": "vit/S16_dino", "stochastic_depth": 0.1, **work.network},
        "batch_size": work.batch_size,
        "duration": {"steps": STEPS},
        "evals": {},
    }
    config["objective"] |= {
        "num_prototypes": work.prototypes,
        "hidden_dim": work.hidden_dim,
        "bottleneck_dim": work.bottleneck_dim,
    }
    config["optimizer"] |= {"learning_rate": 5e-4 * work.batch_size / 256, "warmup": {"steps": 10}}
    if not work.half:
        del config["precision"]
    given = {"train": {"image": images, "label": np.zeros(len(images), np.int32)}}
    experiment = assemble(resolve(config), given=given)
    section = experiment.config["optimizer"]
    in_steps = partial(steps_of, batch_size=work.batch_size, num_examples=len(images))
    schedule = make_schedule(section, STEPS, in_steps)
    params = experiment.abstract_state.params
    optimizer = make_optimizer(section, schedule, params, total_steps=STEPS, in_steps=in_steps)
    return Steps(experiment, make_train_step(experiment.objective, optimizer, schedule, lambda batch, *_: dict(batch)))


def ready_views(work: Distillation) -> PyTree:
    """Returns a batch of normal numbers in the place of views."""
    random = np.random.default_rng(0)
    batch = {"index": jnp.arange(work.batch_size, dtype=jnp.int32)}
    for name, count, size in (("global", 2, work.global_size), ("local", work.num_local, work.local_size)):
        shape = (work.batch_size, count, size, size, 3)
        batch[name] = jax.device_put(random.standard_normal(shape, np.float32))
    return batch
