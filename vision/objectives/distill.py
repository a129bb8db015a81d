"""Self-distillation without labels: DINO (Caron et al. 2021) and DINOv2 (Oquab et al. 2024)."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from vision.config.duration import Duration
from vision.models.interface import Model
from vision.models.patches import patch_grid
from vision.models.projection import PrototypeHead
from vision.objectives.base import Objective, copied
from vision.objectives.block_masks import masked_patches
from vision.objectives.collapse import feature_meters, prototype_meters, prototype_warning
from vision.objectives.koleo import koleo
from vision.objectives.self_distillation import centred, moved_centre, patch_loss, sinkhorn_knopp, view_loss
from vision.objectives.views import of_views

PyTree = Any
Centering = Literal["centre", "sinkhorn_knopp", "none"]


def distill(
    model: Model,
    *,
    total_steps: int,
    steps_of: Callable[[Duration, str], int],
    num_prototypes: int = 65536,
    hidden_dim: int = 2048,
    bottleneck_dim: int = 256,
    num_layers: int = 3,
    trained_gain: bool = False,
    head_batch_norm: bool = False,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
    warmup_teacher_temperature: float | None = None,
    warmup: Duration | None = None,
    centering: Centering = "centre",
    centre_momentum: float = 0.9,
    teacher_momentum: float = 0.996,
    final_teacher_momentum: float = 1.0,
    koleo_weight: float = 0.0,
    patch_weight: float = 0.0,
    patch_head: Literal["shared", "separate"] = "shared",
    patch_bottleneck_dim: int = 256,
    mask_ratio: tuple[float, float] = (0.1, 0.5),
) -> Objective:
    """Returns the objective in which a student learns what its own moving average says of other views.

    Batches bring ``global`` ``[batch, 2, height, width, channels]``, for student and teacher, and may bring ``local``,
    smaller views for the student. The defaults are DINO's. A run holds student, teacher, their heads and the centre:
    ``params`` has ``backbone`` and ``head``, ``extra["teacher"]`` the like; ``encode`` uses the teacher.

    The loss is ``view_loss + koleo_weight sum_views koleo + patch_weight patch_loss``. Of the two global views of an
    image one, either with probability 1/2, is masked for the student where there is a patch loss; DINOv2 masks half
    of all views of the batch, and spreads the ratios evenly over the batch.

    Args:
      model: the backbone; its output is its feature ``pre_logits``.
      total_steps: of the training.
      steps_of: a duration in steps.
      num_prototypes: size of the heads' outputs, K.
      hidden_dim: of the heads.
      bottleneck_dim: of the head of whole images.
      num_layers: of the heads.
      trained_gain: see :class:`vision.models.projection.PrototypeHead`.
      head_batch_norm: likewise.
      student_temperature: of the student's softmax.
      teacher_temperature: of the teacher's, once it is warm.
      warmup_teacher_temperature: where it starts, to rise on a straight line; together with ``warmup``.
      warmup: how long it rises; None for not at all. Here by the step, as in DINOv2; DINO's code goes by the epoch.
      centering: what keeps one prototype from winning: the moving centre, Sinkhorn-Knopp over the batch, or nothing.
      centre_momentum: of the moving centre.
      teacher_momentum: of the teacher at first, to rise on a cosine.
      final_teacher_momentum: at the end of the training.
      koleo_weight: of the entropy of the student's features of the global views (DINOv2: 0.1).
      patch_weight: of the loss at masked patches (iBOT; DINOv2: 1); the model needs ``mask_token=True``.
      patch_head: the head of whole images, or one of its own.
      patch_bottleneck_dim: of that.
      mask_ratio: share of the patches that are masked, from and to.

    Raises:
      ValueError: an option out of range, or patches asked of a model that has none to mask.
    """
    for name, value in (("student", student_temperature), ("teacher", teacher_temperature)):
        if not value > 0.0:
            raise ValueError(f"{name}_temperature must be above 0, got {value}")
    if (warmup_teacher_temperature is None) != (warmup is None):
        raise ValueError("warmup and warmup_teacher_temperature go together: how long, and from where")
    if warmup_teacher_temperature is not None and not warmup_teacher_temperature > 0.0:
        raise ValueError(f"warmup_teacher_temperature must be above 0, got {warmup_teacher_temperature}")
    for name, value in (("centre_momentum", centre_momentum), ("teacher_momentum", teacher_momentum)):
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{name} must be in [0, 1), got {value}")
    if not teacher_momentum <= final_teacher_momentum <= 1.0:
        raise ValueError(f"final_teacher_momentum must be in [teacher_momentum, 1], got {final_teacher_momentum}")
    if koleo_weight < 0.0 or patch_weight < 0.0:
        raise ValueError(f"koleo_weight and patch_weight must be >= 0, got {koleo_weight} and {patch_weight}")
    if not 0.0 < mask_ratio[0] <= mask_ratio[1] < 1.0:
        raise ValueError(f"mask_ratio must be two numbers in (0, 1), the smaller first, got {mask_ratio}")
    if patch_weight and not getattr(model.module, "mask_token", False):
        raise ValueError("patch_weight needs a model with mask_token=True, such as vit/S14_dinov2")
    if num_prototypes < 2 or min(hidden_dim, bottleneck_dim, patch_bottleneck_dim, num_layers) < 1:
        raise ValueError("num_prototypes must be at least 2, the heads' widths and num_layers at least 1")

    types: dict[str, Any] = {"dtype": model.precision.compute, "param_dtype": model.precision.params}
    form: dict[str, Any] = {"hidden_dim": hidden_dim, "num_layers": num_layers, **types}
    form |= {"trained_gain": trained_gain, "with_batch_norm": head_batch_norm}
    heads = {"head": PrototypeHead(num_prototypes, bottleneck_dim=bottleneck_dim, **form)}
    if patch_weight and patch_head == "separate":
        heads["patch_head"] = PrototypeHead(num_prototypes, bottleneck_dim=patch_bottleneck_dim, **form)
    of_patches = "patch_head" if "patch_head" in heads else "head"
    warm_steps = steps_of(warmup, "warmup") if warmup is not None else 0
    if warm_steps > total_steps:
        raise ValueError(f"warmup: {warm_steps} steps are more than the {total_steps} of the training")
    temperature_at = optax.constant_schedule(teacher_temperature)
    if warm_steps and warmup_teacher_temperature is not None:
        temperature_at = optax.linear_schedule(warmup_teacher_temperature, teacher_temperature, warm_steps)
    # One minus the momentum, as in float32 a momentum of 1 - 1e-8 would be 1.
    span = 1.0 - teacher_momentum
    rate_at = optax.cosine_decay_schedule(span, max(total_steps, 1), (1.0 - final_teacher_momentum) / span)

    def init(key, batch_spec):
        views = batch_spec["global"]
        if views.shape[1] != 2:
            raise ValueError(f"distill takes two global views, data.views.global makes {views.shape[1]}")
        image = jax.ShapeDtypeStruct((views.shape[0], *views.shape[2:]), views.dtype)
        if patch_weight:
            height, width = patch_grid(image.shape[1:], getattr(model.module, "patch_size", 1))
            if min(height, width) < 3 or int(mask_ratio[1] * height * width) < 1:
                raise ValueError(f"patch_weight: {height}x{width} patches are too few to mask blocks of them")
        if "local" in batch_spec:
            model.check(batch_spec["local"].shape[2:])
        keys = jax.random.split(key, 1 + len(heads))
        backbone, collections = model.init(keys[0], image)
        params, head_collections = {"backbone": backbone}, {}
        output = jax.eval_shape(lambda p, x: _pooled(model, p, collections, x), backbone, image)
        for (name, head), own in zip(heads.items(), keys[1:], strict=True):
            variables = dict(head.init(own, jnp.zeros((1, output.shape[-1]), output.dtype)))
            params[name], head_collections[name] = variables.pop("params"), variables
        extra = {"collections": collections, "head_collections": head_collections}
        centred_ones = ("views", "patches") if patch_weight else ("views",)
        extra["centres"] = {name: jnp.zeros((num_prototypes,), jnp.float32) for name in centred_ones}
        if centering != "centre":
            extra["centres"] = {}
        return params, start(params, {**extra, "teacher": None, "teacher_collections": None})

    def start(params, extra):
        own = {"backbone": extra["collections"], "heads": extra["head_collections"]}
        return {**extra, "teacher": copied(params), "teacher_collections": copied(own)}

    def apply_head(params, collections, name, x, train):
        rows = x.reshape(-1, x.shape[-1])
        variables = {"params": params[name], **collections[name]}
        logits, updated = heads[name].apply(variables, rows, train=train, mutable=list(collections[name]) * train)
        return logits.reshape(*x.shape[:-1], -1), {**collections, name: {**collections[name], **updated}}

    def forward(params, extra, batch, keys, train):
        views, local = batch["global"], batch.get("local")
        masked, inputs = None, {}
        if patch_weight:
            masked, inputs = masks_of(views, keys, train)
        embedding, features, collections = of_views(
            model, params["backbone"], extra["collections"], views, keys, train, salt=0, **inputs
        )
        embeddings = [embedding]
        if local is not None:
            seen, _, collections = of_views(
                model, params["backbone"], collections, local, keys, train, salt=views.shape[1]
            )
            embeddings.append(seen)
        together = jnp.concatenate(embeddings, axis=1)
        student, head_collections = apply_head(params, extra["head_collections"], "head", together, train)
        teacher, own = extra["teacher"], extra["teacher_collections"]
        known, known_features, teacher_backbone = of_views(
            model, teacher["backbone"], own["backbone"], views, None, train, salt=0
        )
        targets, teacher_heads = apply_head(teacher, own["heads"], "head", known, train)
        outputs = {"student": student, "teacher": targets, "embedding": embedding, "teacher_embedding": known}
        if masked is not None:
            pick = lambda each: _picked(each["patch_tokens"], masked)  # noqa: E731
            outputs["student_patches"], head_collections = apply_head(
                params, head_collections, of_patches, pick(features), train
            )
            outputs["teacher_patches"], teacher_heads = apply_head(
                teacher, teacher_heads, of_patches, pick(known_features), train
            )
            outputs["valid"] = masked["valid"]
        extra = {**extra, "collections": collections, "head_collections": head_collections}
        return outputs, {**extra, "teacher_collections": {"backbone": teacher_backbone, "heads": teacher_heads}}

    def masks_of(views, keys, train):
        """Masks for one of the two views of each image, and what the student is given."""
        grid = patch_grid(views.shape[2:], model.module.patch_size)
        own = keys if keys is not None else jax.random.split(jax.random.key(0), len(views))
        own = jax.vmap(jax.random.fold_in, (0, None))(own, _MASKS)
        which = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, 1), (), 0, 2))(own)
        found = masked_patches(own, grid, mask_ratio)
        both = found.mask[:, None] & (jnp.arange(2)[None, :, None] == which[:, None, None])
        masked = {"which": which, "places": found.places, "valid": found.valid}
        return masked, {"masks": both.reshape(-1, both.shape[-1])}

    def targets_of(logits, valid, centres, name, temperature):
        """Distributions over prototypes, and the centre after them where there is one; over the global batch."""
        rows = jax.lax.stop_gradient(logits.astype(jnp.float32)).reshape(-1, logits.shape[-1])
        counts = valid.reshape(-1)
        if centering == "sinkhorn_knopp":
            return sinkhorn_knopp(rows, counts, temperature=temperature).reshape(logits.shape), centres
        centre = centres.get(name, jnp.zeros(logits.shape[-1]))
        target = centred(rows, centre, temperature=temperature).reshape(logits.shape)
        if centering == "none":
            return target, centres
        return target, {**centres, name: moved_centre(centre, rows, counts, momentum=centre_momentum)}

    def loss(params, outputs, extra, batch, step):
        temperature, teacher = temperature_at(step), outputs["teacher"]
        every = jnp.ones(teacher.shape[:2])
        target, centres = targets_of(teacher, every, extra["centres"], "views", temperature)
        of_views = view_loss(outputs["student"], target, temperature=student_temperature)
        total, parts = of_views, {"distillation_loss": of_views, "teacher_temperature": jnp.asarray(temperature)}
        if koleo_weight:
            parts["koleo_loss"] = koleo(outputs["embedding"][:, 0]) + koleo(outputs["embedding"][:, 1])
            total = total + koleo_weight * parts["koleo_loss"]
        if patch_weight:
            patches, valid = outputs["teacher_patches"], outputs["valid"]
            wanted, centres = targets_of(patches, valid, centres, "patches", temperature)
            parts["patch_loss"] = patch_loss(
                outputs["student_patches"], wanted, valid, temperature=student_temperature, crops=2
            )
            total = total + patch_weight * parts["patch_loss"]
        metrics = {name: (jnp.asarray(part, jnp.float32), jnp.ones(())) for name, part in parts.items()}
        features = outputs["teacher_embedding"].reshape(-1, outputs["teacher_embedding"].shape[-1])
        metrics |= prototype_meters(target, of_views) | feature_meters(features)
        metrics = jax.tree.map(jax.lax.stop_gradient, metrics)
        return total, ({**extra, "centres": jax.lax.stop_gradient(centres)}, metrics)

    def refresh(params, extra, step):
        rate = rate_at(step - 1)  # of the update that has just been made
        move = lambda t, s: t + rate.astype(t.dtype) * (s.astype(t.dtype) - t)  # noqa: E731
        return {**extra, "teacher": jax.tree.map(move, extra["teacher"], params)}

    def encode(params, extra, batch):
        own = extra["teacher_collections"]["backbone"]
        output, features, _ = model.apply(extra["teacher"]["backbone"], own, batch["image"], keys=None, train=False)
        return {**features, "output": output}

    def warn(values):
        return prototype_warning(values, num_prototypes=num_prototypes)

    return Objective(init, forward, loss, refresh, encode, separable=False, start=start, warn=warn)


_MASKS = 2**31  # no view has this number


def _pooled(model: Model, params: PyTree, collections: PyTree, images: Array) -> Array:
    return model.apply(params, collections, images, keys=None, train=False)[0]


def _picked(tokens: Array, masked: dict[str, Array]) -> Array:
    """Returns the masked patches of the masked view: ``[batch, 2, patches, width] -> [batch, most, width]``."""
    of_view = jnp.take_along_axis(tokens, masked["which"][:, None, None, None], axis=1)[:, 0]
    return jnp.take_along_axis(of_view, masked["places"][:, :, None], axis=1)
