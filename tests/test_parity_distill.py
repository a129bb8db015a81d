"""Self-distillation gives the logits, loss, centre and gradients of its authors' definition for the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import parity
from flax import traverse_util

from tools.golden_cases import self_distillation as case
from tools.golden_cases import weights
from vision import models
from vision.interop.names import Pair, dense, dense_layer
from vision.interop.namings import NAMINGS
from vision.models.projection import PrototypeHead
from vision.objectives.distill import distill

HEAD = {"hidden_dim": case.HIDDEN, "bottleneck_dim": case.BOTTLENECK}
LOGITS, GRADIENTS = 1e-4, 1e-3
LAYERS = (("hidden_0", "mlp.0"), ("hidden_1", "mlp.2"), ("bottleneck", "mlp.4"))


def golden(what):
    return parity.STORED[f"distill/{what}"]


def head_pairs(ours, theirs, *, gain):
    """Arrays of a head and their names in DINO's and DINOv2's files."""
    pairs = [pair for layer, name in LAYERS for pair in dense_layer(ours + layer, theirs + name)]
    pairs.append(dense(f"params/{ours}prototypes", f"{theirs}last_layer.weight_v"))
    column = Pair(
        (f"params/{ours}gain",), (f"{theirs}last_layer.weight_g",), lambda x: (x[:, 0],), lambda x: (x[:, None],)
    )
    return [*pairs, column] if gain else pairs


def drawn(network, pairs, shapes):
    """Our arrays, with the numbers that were drawn for theirs."""
    made = {}
    for pair in pairs:
        blank = [np.zeros(shapes[path].shape, np.float32) for path in pair.ours]
        theirs = [np.shape(each) for each in pair.to_theirs(*blank)]
        arrays = [case.drawn(network, *each) for each in zip(pair.theirs, theirs, strict=True)]
        made |= dict(zip(pair.ours, pair.to_ours(*arrays), strict=True))
    assert {path: array.shape for path, array in made.items()} == {p: leaf.shape for p, leaf in shapes.items()}
    return jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(made, sep="/")["params"])


def test_a_head_with_trained_gains_gives_the_logits_of_theirs():
    head = PrototypeHead(case.PROTOTYPES, trained_gain=True, **HEAD)
    features = jnp.asarray(case.features())
    shapes = jax.eval_shape(lambda key: head.init(key, features), jax.random.key(0))
    params = drawn("head", head_pairs("", "", gain=True), parity.flat(shapes))
    assert parity.off(head.apply({"params": params}, features), golden("head")) <= LOGITS


def test_loss_centre_and_gradients_on_crops_of_two_sizes_are_theirs():
    side = (case.GLOBAL, case.GLOBAL, 3)
    model = models.build("vit/S16_dino", num_classes=0, image_shape=side, **case.BACKBONE)
    lengths = {"total_steps": 10, "steps_of": lambda duration, key: 1}
    objective = distill(model, **lengths, num_prototypes=case.PROTOTYPES, **HEAD)
    crops = [jnp.asarray(each.transpose(0, 2, 3, 1)) for each in case.crops()]
    batch = {"global": jnp.stack(crops[:2], axis=1), "local": jnp.stack(crops[2:], axis=1)}
    params, extra = jax.eval_shape(lambda key: objective.init(key, batch), jax.random.key(0))
    pairs = [
        Pair(tuple(path.replace("params/", "params/backbone/", 1) for path in pair.ours), theirs, *pair[2:])
        for pair in NAMINGS["dino/vit"].pairs(model.module)
        for theirs in [tuple(f"backbone.{name}" for name in pair.theirs)]
    ]
    pairs += head_pairs("head/", "head.", gain=False)
    shapes = parity.flat({"params": params})
    student, teacher = (drawn(network, pairs, shapes) for network in ("student", "teacher"))
    centre = weights.drawn("centre", (1, case.PROTOTYPES))[0]
    extra = {**extra, "teacher": teacher, "centres": {"views": jnp.asarray(centre)}}

    @jax.jit
    def run(student, extra):
        def loss_of(student):
            outputs, after = objective.forward(student, extra, batch, None, True)
            loss, (after, _) = objective.loss(student, outputs, after, batch, jnp.int32(0))
            return loss, (outputs, after["centres"]["views"])

        return jax.value_and_grad(loss_of, has_aux=True)(student)

    (loss, (outputs, moved)), gradients = run(student, extra)
    for name in ("student", "teacher"):
        by_view = np.asarray(outputs[name]).transpose(1, 0, 2).reshape(-1, case.PROTOTYPES)
        assert parity.off(by_view, golden(name)) <= LOGITS, name
    np.testing.assert_allclose(loss, golden("loss"), rtol=LOGITS)
    np.testing.assert_allclose(moved, golden("centre"), atol=1e-6)
    found = parity.flat({"params": gradients})
    theirs = {}
    for pair in pairs:
        arrays = pair.to_theirs(*(np.asarray(found[path]) for path in pair.ours))
        theirs |= dict(zip(pair.theirs, arrays, strict=True))
    expected = golden("gradients")
    assert len(theirs) == len(expected)
    errors = np.abs(weights.summary(theirs) - expected).max(axis=1) / expected[:, 0]
    assert errors.max() <= GRADIENTS, sorted(theirs)[errors.argmax()]
