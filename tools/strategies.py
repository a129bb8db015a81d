"""Trains small networks under every strategy, and says how far their losses are from those of one device.

For each network and mesh: the largest difference of the loss over the steps from the same training on one device, and
the collectives of a step's program. The table goes to standard output; --json gives all of it. Devices are forced ones
of the CPU where there are no eight others. The exit code is 1 where a difference is beyond the tolerance.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vision import program

# Of the loss. Sums over devices have another order than sums on one; batch normalisation, which divides by a deviation
# over few pixels at the end of a small network, makes more of that than anything else (measured: 7e-5, others 5e-6).
TOLERANCES = {"ResNet": 5e-4}
TOLERANCE = 2e-5
# Of the gradient's norm, relative: AdamW takes the same steps for gradients of another scale, and losses say nothing.
NORM_TOLERANCES = {"ResNet": 1e-2}
NORM_TOLERANCE = 1e-3
MESHES: dict[str, dict[str, int]] = {
    "data=8": {"data": 8},
    "fsdp=8": {"data": 1, "fsdp": 8},
    "data=2 fsdp=2 tensor=2": {"data": 2, "fsdp": 2, "tensor": 2},
}
SIDE, CLASSES, EXAMPLES = 16, 8, 64
WORDS = ("red", "green", "blue", "grey", "round", "square", "large", "small")
_VIT = {"name": "vit/S16", "patch_size": 4, "width": 64, "depth": 2, "num_heads": 4, "mlp_dim": 256}
_MLP = {"name": "mlp/128", "hidden_sizes": (128, 64)}
_TEXT = {"name": "text/small", "width": 64, "depth": 1, "num_heads": 4, "mlp_dim": 256}
_TOKENS = {"tokens": {"vocab_size": 528, "length": 8}}
_CROP = ({"name": "random_resized_crop", "size": SIDE, "scale": (0.4, 1.0)}, {"name": "random_flip"})
_SMALL_CROP = ({"name": "random_resized_crop", "size": SIDE // 2, "scale": (0.1, 0.4)},)
_DINO = {"name": "distill", "num_prototypes": 128, "hidden_dim": 64, "bottleneck_dim": 32, "koleo_weight": 0.1}
_DINO |= {"centering": "sinkhorn_knopp", "teacher_momentum": 0.9}
# The networks of the table in docs/scaling.md.
NETWORKS: dict[str, dict[str, Any]] = {
    "MLP": {"model": {**_MLP, "dropout": 0.1}, "ema": {"decay": 0.9}},
    "ResNet": {"model": {"name": "resnet/20", "stage_sizes": (1, 1, 1), "width": 16}},
    "ViT": {"model": {**_VIT, "stochastic_depth": 0.1}},
    "DINO": {
        "model": {"name": "vit/S16_dino", **{key: value for key, value in _VIT.items() if key != "name"}},
        "objective": _DINO,
        "data": {"views": {"global": (_CROP,) * 2, "local": (_SMALL_CROP,) * 2}},
    },
    "CLIP": {"model": _VIT, "text": _TEXT, "objective": {"name": "contrast", "embed_dim": 32}, "data": _TOKENS},
}
# One of every other kind of objective.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "regress": {"model": _MLP, "objective": {"name": "regress"}},
    "simclr": {
        "model": _MLP,
        "objective": {"name": "simclr", "hidden_size": 64, "out_size": 32},
        "data": {"views": {"global": (_CROP,) * 2}},
    },
    "masked_autoencoder": {
        "model": _VIT,
        "objective": {"name": "masked_autoencoder", "decoder_width": 32, "decoder_depth": 1, "decoder_num_heads": 4},
    },
    "knowledge_distillation": {
        "model": {**_VIT, "distillation_token": True},
        "teacher": {"model": _MLP, "init_from": "teacher"},
        "objective": {"name": "knowledge_distillation"},
    },
    "next_token": {"model": _TEXT, "objective": {"name": "next_token"}, "data": _TOKENS},
    "masked_token": {
        "model": {**_TEXT, "causal": False, "mask_padding": True},
        "objective": {"name": "masked_token"},
        "data": _TOKENS,
    },
    "distill with a centre": {**NETWORKS["DINO"], "objective": {**_DINO, "centering": "centre"}},
    "contrast in a ring": {**NETWORKS["CLIP"], "objective": {"name": "contrast", "embed_dim": 32, "form": "ring"}},
}


class Trained(NamedTuple):
    """A training of a few steps.

    Attributes:
      losses: of each step.
      norms: of its gradient.
      collectives: ``kind (axes)`` -> how many there are in the program of a step, and their bytes on a device.
      split: share of the state's bytes that one device holds.
    """

    losses: list[float]
    norms: list[float]
    collectives: dict[str, tuple[int, int]]
    split: float


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, trains and prints the table."""
    parser = program.Parser(__doc__)
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="of each training (default: 20)")
    parser.add_argument("--all", action="store_true", help="every kind of objective, not only those of the table")
    args = parser.read(argv)
    if args.steps < 1:
        parser.error(f"--steps: must be at least 1, got {args.steps}")
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
    program.prepare_jax()
    rows = []
    for name, sections in {**NETWORKS, **(OBJECTIVES if args.all else {})}.items():
        print(name, file=sys.stderr, flush=True)
        rows += compared(name, sections, MESHES, args.steps)
    print(table(rows))
    program.finish({"steps": args.steps, "rows": rows}, as_json=args.json)
    return 0 if all(within(row) for row in rows) else 1


def within(row: Mapping[str, Any]) -> bool:
    """Whether losses and norms of gradients are those of one device."""
    return row["difference"] <= row["tolerance"] and row["norm_difference"] <= row["norm_tolerance"]


def compared(
    name: str, sections: Mapping[str, Any], meshes: Mapping[str, Mapping[str, int]], steps: int
) -> list[dict[str, Any]]:
    """Returns a row for each mesh: difference from one device, and collectives of a step."""
    alone = train(sections, {}, steps, devices=1)
    rows = []
    for axes, mesh in meshes.items():
        found = train(sections, mesh, steps, devices=8)
        difference = max(abs(one - other) for one, other in zip(found.losses, alone.losses, strict=True))
        norms = max(abs(one / other - 1) for one, other in zip(found.norms, alone.norms, strict=True))
        row = {"network": name, "mesh": axes, "difference": difference, "tolerance": TOLERANCES.get(name, TOLERANCE)}
        rows.append(
            {
                **row,
                "norm_difference": norms,
                "norm_tolerance": NORM_TOLERANCES.get(name, NORM_TOLERANCE),
                "first_loss": alone.losses[0],
                "last_loss": alone.losses[-1],
                "split": found.split,
                "collectives": found.collectives,
            }
        )
    return rows


def train(sections: Mapping[str, Any], mesh: Mapping[str, int], steps: int, *, devices: int) -> Trained:
    """Trains on the first so many devices."""
    import jax

    from vision.analysis.collectives import collectives_of

    experiment = experiment_of(sections, mesh, steps, devices=devices)
    state, constants = experiment.init(experiment.constants.keys.init), experiment.constants
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    step = experiment.step.lower(state, experiment.pipeline.batch(0), constants).compile()
    losses, norms = [], []
    for number in range(steps):
        state, metrics = step(state, experiment.pipeline.batch(number), constants)
        told = jax.device_get(metrics)  # waits: many programs in flight are too much for forced devices
        losses.append(float(told["loss"][0] / told["loss"][1]))
        norms.append(float(told["gradient_norm"][0]))
    experiment.pipeline.close()
    found = collectives_of(step.as_text(), experiment.mesh)
    by_kind = {f"{each.kind} ({', '.join(each.axes)})": (each.count, each.payload) for each in found}
    return Trained(losses, norms, by_kind, held / whole)


def experiment_of(sections: Mapping[str, Any], mesh: Mapping[str, int], steps: int, *, devices: int) -> Any:
    """Returns the experiment of a network on the first so many devices, with strategy ``auto``."""
    import jax

    from vision.training.assemble import assemble
    from vision.training.schema import resolve

    config = {
        "batch_size": 32,
        "duration": {"steps": steps},
        "objective": {"name": "classify"},
        "optimizer": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01},
        "mesh": mesh,
        **sections,
        "data": {"name": "arrays", "mean": (0.5,) * 3, "std": (0.25,) * 3, **sections.get("data", {})},
    }
    return assemble(resolve(config), given={"train": examples()}, devices=jax.devices()[:devices])


def examples() -> Any:
    """Returns images of random pixels, some brighter by their class, with captions that name it."""
    import numpy as np

    from vision.data.source import ArraySource
    from vision.data.sources.captions import pack

    random = np.random.default_rng(0)
    label = np.arange(EXAMPLES, dtype=np.int32) % CLASSES
    pixels = random.integers(0, 128, (EXAMPLES, SIDE, SIDE, 3)) + 16 * label[:, None, None, None]
    captions = [[f"a {WORDS[each]} picture", f"all {WORDS[each]}"] for each in label]
    return ArraySource({"image": pixels.astype(np.uint8), "label": label, **pack(captions)}, CLASSES, WORDS)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as a table of Markdown."""
    head = ("network", "mesh", "loss, largest difference", "tolerance", "of the gradient's norm", "state on a device")
    lines = [f"| {' | '.join(head)} | collectives of a step |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        collectives = ", ".join(f"{count} {kind}" for kind, (count, _) in row["collectives"].items()) or "none"
        losses = f"{row['first_loss']:.2f} to {row['last_loss']:.2f}, {row['difference']:.1e}"
        shown = f"{losses} | {row['tolerance']:g} | {row['norm_difference']:.1e} | {row['split']:.2f}"
        lines.append(f"| {row['network']} | {row['mesh']} | {shown} | {collectives} |")
    return "\n".join(lines)


if __name__ == "__main__":
    program.run(main)
