"""Runs a case of tools/golden_cases/models.py with our network, and says how far it is from the stored numbers."""

import json
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from tools.golden_cases import weights
from vision import models
from vision.interop.namings import NAMINGS

STORED = np.load(Path(__file__).parent / "goldens" / "models.npz")
NAMES = json.loads(STORED["names"].tobytes())
KEPT = {"airbench": 0.6}  # of the running statistics at a step; 0.9 in all other libraries
_STATISTIC = re.compile(r"running_(mean|var)$|num_batches_tracked$")


def golden(case, what):
    return STORED[f"{case.name}/{what}"]


def has(case, what):
    return f"{case.name}/{what}" in STORED


class Ours:
    """Our network of a case, with the weights that its reference was given.

    Attributes:
      pairs: arrays of ours and of theirs.
      params: drawn parameters.
      collections: drawn running statistics.
      shapes: of theirs, by name.
    """

    def __init__(self, case):
        self.case = case
        self.model = models.build(
            case.model, num_classes=case.num_classes, image_shape=case.image_shape, **case.options
        )
        spec = jax.ShapeDtypeStruct((1, *(case.positions_of or case.image_shape)), jnp.float32)
        params, collections = jax.eval_shape(lambda key: self.model.init(key, spec), jax.random.key(0))
        abstract = flat({"params": params, **collections})
        naming = NAMINGS[case.naming]
        self.pairs, self.ignored = naming.pairs(self.model.module), naming.ignored
        drawn, self.shapes = {}, {}
        for pair in self.pairs:
            blank = [np.broadcast_to(np.float32(0), abstract[path].shape) for path in pair.ours]
            theirs = [np.shape(each) for each in pair.to_theirs(*blank)]
            self.shapes |= dict(zip(pair.theirs, theirs, strict=True))
            arrays = [weights.drawn(*each, scales=case.scales) for each in zip(pair.theirs, theirs, strict=True)]
            drawn |= dict(zip(pair.ours, map(np.asarray, pair.to_ours(*arrays)), strict=True))
        assert {path: leaf.shape for path, leaf in abstract.items()} == {p: a.shape for p, a in drawn.items()}
        tree = traverse_util.unflatten_dict(drawn, sep="/")
        self.params, self.collections = tree.pop("params"), tree

    @property
    def images(self):
        height, width, channels = self.case.image_shape
        return weights.images((self.case.batch, channels, height, width)).transpose(0, 2, 3, 1)

    @property
    def inputs(self):
        """What the network is given beside images: masks, where the case has some."""
        if not self.case.masked:
            return {}
        height, width, _ = self.case.image_shape
        side = self.model.module.patch_size
        return {"masks": weights.masks(self.case.batch, height // side * (width // side))}

    def theirs(self, tree):
        """Returns the arrays of a tree of ours, with ``params`` and ``batch_stats``, under their names."""
        arrays, found = flat(tree), {}
        for pair in self.pairs:
            if all(path in arrays for path in pair.ours):
                found |= zip(
                    pair.theirs, pair.to_theirs(*(np.asarray(arrays[path]) for path in pair.ours)), strict=True
                )
        return found


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


def options_of(case):
    """Small networks run as fast without LLVM's optimizations, and compile in half the time."""
    return {} if case.slow else {"xla_backend_optimization_level": 0}


def forward(ours):
    """Returns output and features in evaluation."""
    run = jax.jit(
        lambda *variables, **inputs: ours.model.apply(*variables, keys=None, train=False, **inputs)[:2],
        compiler_options=options_of(ours.case),
    )
    return run(ours.params, ours.collections, ours.images, **ours.inputs)


def step(ours):
    """Returns output in evaluation and in training, loss, statistics after the step, and gradients, in one program."""
    case = ours.case

    def loss_of(params, collections, images, targets):
        output, _, after = ours.model.apply(params, collections, images, keys=None, train=True)
        shifted = output - jax.nn.logsumexp(output, axis=1, keepdims=True)
        return -shifted[jnp.arange(len(targets)), targets].mean(), (output, after)

    @partial(jax.jit, compiler_options=options_of(case))
    def run(params, collections, images, targets):
        evaluated = ours.model.apply(params, collections, images, keys=None, train=False)[0]
        arguments = (params, collections, images, targets)
        if case.gradients:
            (loss, aux), gradients = jax.value_and_grad(loss_of, has_aux=True)(*arguments)
        else:
            (loss, aux), gradients = loss_of(*arguments), None
        return evaluated, loss, *aux, gradients

    width = golden(case, "logits").shape[1]
    return run(ours.params, ours.collections, ours.images, weights.labels(case.batch, width))


def off(ours, theirs):
    """The largest absolute error, relative to the spread of their numbers."""
    ours = np.asarray(ours, np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / theirs.std())


def gradients_off(ours, gradients):
    """The error of every parameter's gradient, relative to its norm: of the norm, and of a product with a direction.

    Where theirs is zero in exact arithmetic (a bias of keys, or one before a batch normalisation), ours has to be zero
    but for rounding: its norm is then taken relative to the largest.
    """
    found = ours.theirs({"params": gradients})
    trained = [name for name, _ in NAMES[ours.case.name] if not _STATISTIC.search(name)]
    assert sorted(found) == trained
    theirs, summary = golden(ours.case, "gradients").astype(np.float64), weights.summary(found)
    norm, largest = theirs[:, 0], theirs[:, 0].max()
    zero = norm < 1e-12 * largest
    errors = np.where(zero, summary[:, 0] / largest, np.abs(summary - theirs).max(axis=1) / np.where(zero, 1, norm))
    return dict(zip(trained, errors, strict=True))


def statistics_off(ours, after):
    """The error of every running statistic's product with a direction, relative to its norm.

    PyTorch adds the unbiased variance of the batch, n / (n - 1) times the biased one that ours adds; a product with a
    direction is linear, so that each layer's is corrected here by its own n.
    """
    case = ours.case
    found = {name: array for name, array in ours.theirs(after).items() if _STATISTIC.search(name)}
    names = [name for name, _ in NAMES[case.name] if re.search(r"running_(mean|var)$", name)]
    assert sorted(found) == names
    layers = sorted({name.rpartition(".")[0] for name in names})
    counts = dict(zip(layers, golden(case, "counts"), strict=True))
    errors = {}
    for name, (norm, product) in zip(names, golden(case, "statistics").astype(np.float64), strict=True):
        if name.endswith("var"):
            n = counts[name.rpartition(".")[0]]
            kept = KEPT.get(case.naming, 0.9) * weights.on_direction(
                name, weights.drawn(name, found[name].shape, scales=case.scales)
            )
            product = kept + (product - kept) * (n - 1) / n
        errors[name] = abs(weights.on_direction(name, found[name]) - product) / norm
    return errors
