"""Self-distillation gives the logits, the loss, the centre and the gradients of its authors' code for the same weights."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest
from flax import traverse_util

from tools.golden_cases import self_distillation as case
from tools.golden_cases import weights
from vision import models
from vision.interop.names import dense, dense_layer, token, transposed
from vision.interop.namings import NAMINGS
from vision.models.projection import PrototypeHead
from vision.objectives.distill import distill

HEAD = {"hidden_dim": case.HIDDEN, "bottleneck_dim": case.BOTTLENECK}


def head_pairs(prefix, *, gain=False):
    """Arrays of our head and their names, behind ``head.`` as in checkpoints of DINO."""
    layers = zip(("hidden_0", "hidden_1", "bottleneck"), (0, 2, 4), strict=True)
    pairs = [pair for name, index in layers for pair in dense_layer(f"{prefix}{name}", f"head.mlp.{index}")]
    pairs.append(dense(f"params/{prefix}prototypes", "head.last_layer.weight_v"))
    # A column of gains.
    return [*pairs, transposed(f"params/{prefix}gain", "head.last_layer.weight_g", (0,))] if gain else pairs


def golden(what):
    return parity.STORED[f"distill/{what}"]


def filled(network, pairs, shapes):
    """Our arrays by path, drawn as theirs."""
    made = {}
    for pair in pairs:
        blank = [np.zeros(shapes[path], np.float32) for path in pair.ours]
        theirs = [np.shape(each) for each in pair.to_theirs(*blank)]
        arrays = [case.drawn(network, *each) for each in zip(pair.theirs, theirs, strict=True)]
        made |= dict(zip(pair.ours, map(np.asarray, pair.to_ours(*arrays)), strict=True))
    return made
