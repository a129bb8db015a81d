"""One process of a run of several: writes what it saw of batches, augmentation, dropout and training.

Usage: python tests/distributed_child.py OUT ADDRESS COUNT ID
"""

import sys

import jax
import numpy as np

OUT, ADDRESS, COUNT, ID = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if COUNT > 1:
    jax.distributed.initialize(ADDRESS, COUNT, ID)

from jax.experimental import multihost_utils  # noqa: E402

from vision import models  # noqa: E402
from vision.config.loading import load  # noqa: E402
from vision.training.assemble import assemble  # noqa: E402
from vision.training.evaluators import make_evaluators  # noqa: E402
from vision.training.schema import resolve  # noqa: E402


def gathered(array):
    return np.asarray(multihost_utils.process_allgather(array, tiled=True) if COUNT > 1 else array)


def local_rows(array):
    return sorted({shard.index[0].start or 0 for shard in array.addressable_shards})


seen = {}
for residency in ("device", "host"):
    config = load("configs/quickstart.py", [f"--config.data.residency={residency}", "--config.model.dropout=0.3"])
    experiment = assemble(resolve(config))
    prepare = jax.jit(experiment.inputs.prepare(training=True))
    for step in (0, 13):
        batch = experiment.pipeline.batch(step)
        seen[f"{residency}/index/{step}"] = gathered(batch["index"])
        examples = prepare(batch, experiment.pipeline.resident, experiment.constants.keys.augment, step)
        seen[f"{residency}/image/{step}"] = gathered(examples["image"])
        seen[f"{residency}/label/{step}"] = gathered(examples["label"])
    seen["local"] = np.asarray(local_rows(batch["index"]))

    state = experiment.init(experiment.constants.keys.init)
    losses = []
    for step in range(5):
        state, metrics = experiment.step(state, experiment.pipeline.batch(step), experiment.constants)
        losses.append(float(metrics["loss"][0]))
    seen[f"{residency}/losses"] = np.asarray(losses)
# The mask itself: with parameters and pixels of one, an output counts the units that were kept.
model = models.build("mlp/128", num_classes=1, dropout=0.5)
spec = jax.ShapeDtypeStruct((128, 8, 8, 1), np.float32)
ones = jax.tree.map(np.ones_like, jax.device_get(model.init(jax.random.key(0), spec)[0]))


@jax.jit
def kept(index, key):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(128))
    images = (index * 0 + 1.0)[:, None, None, None] * np.ones((1, 8, 8, 1), np.float32)
    return model.apply(ones, {}, images, keys=keys, train=True)[0]


seen["mask"] = gathered(kept(batch["index"], experiment.constants.keys.step))

evaluation = dict(make_evaluators(experiment)["test"].run(state))
seen["accuracy"], seen["confusion"] = np.asarray(evaluation["accuracy"]), evaluation["confusion"]
if ID == 0:
    np.savez(OUT, **seen)
np.savez(f"{OUT}.{ID}.npz", local=seen["local"])
