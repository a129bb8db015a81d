"""Which messages of a train step grow with the number of devices, the work on each staying the same."""

from collections.abc import Mapping, Sequence
from typing import Any

from tools.planning.program import batch_of
from tools.planning.report import size
from tools.strategies import NETWORKS, OBJECTIVES, experiment_of

COUNTS = (2, 4, 8)
PER_DEVICE = 8
CASES: dict[str, Mapping[str, Any]] = {
    "classify": NETWORKS["MLP"],
    "distill, Sinkhorn-Knopp": {
        **NETWORKS["DINO"],
        "objective": {**NETWORKS["DINO"]["objective"], "koleo_weight": 0.0},
    },
    "distill, centre": {
        **OBJECTIVES["distill with a centre"],
        "objective": {**OBJECTIVES["distill with a centre"]["objective"], "koleo_weight": 0.0},
    },
    "distill, Sinkhorn-Knopp and KoLeo": NETWORKS["DINO"],
    "contrast": NETWORKS["CLIP"],
    "contrast in a ring": OBJECTIVES["contrast in a ring"],
}


def payloads(sections: Mapping[str, Any], counts: Sequence[int] = COUNTS) -> dict[str, list[int]]:
    """Returns, for each kind of collective, its payload in bytes on one device for each number of devices.

    ``parameters`` are the bytes of the parameters. Nothing is trained.

    Args:
      sections: of a config, see :func:`tools.strategies.experiment_of`.
      counts: of devices, along the axis ``data``.
    """
    import jax

    from vision.analysis.collectives import KINDS, collectives_of

    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    parameters = []
    for count in counts:
        changed = {**sections, "batch_size": PER_DEVICE * count}
        experiment = experiment_of(changed, {"data": count}, 2, devices=count)
        lowered = experiment.step.lower(experiment.abstract_state, batch_of(experiment), experiment.constants)
        experiment.pipeline.close()
        leaves = jax.tree.leaves(experiment.abstract_state.params)
        parameters.append(sum(leaf.size * leaf.dtype.itemsize for leaf in leaves))
        collectives = collectives_of(lowered.compile().as_text(), experiment.mesh)
        for kind in KINDS:
            found[kind].append(sum(each.payload for each in collectives if each.kind == kind))
    return {"parameters": parameters, **{kind: values for kind, values in found.items() if any(values)}}


def table(measured: Mapping[str, Mapping[str, Sequence[int]]], counts: Sequence[int] = COUNTS) -> str:
    """Returns the rows as a table of Markdown."""
    heads = " | ".join(f"{count} devices" for count in counts)
    lines = [f"| objective | parameters | collective | {heads} |", f"| --- | --: | --- |{' --: |' * len(counts)}"]
    for name, rows in measured.items():
        for kind, values in rows.items():
            if kind != "parameters":
                shown = " | ".join(size(value) for value in values)
                lines.append(f"| {name} | {size(rows['parameters'][0])} | {kind} | {shown} |")
    return "\n".join(lines)
