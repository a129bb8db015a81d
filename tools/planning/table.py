"""The plans of the documentation: five networks on slices of four sizes, the same work on every chip."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tools.planning.report import size
from vision.errors import UserError
from vision.studies import parts

SLICES = {4: "v5e:2x2", 16: "v5e:4x4", 64: "v5e:8x8", 256: "v5e:16x16"}
Plan = Callable[[Sequence[str]], dict[str, Any]]


class Case(NamedTuple):
    """A training, with as many examples on each chip however many chips there are.

    Attributes:
      name: of the network, for people.
      per_chip: examples of a step.
      fsdp: chips that share a state, at most.
      flags: of :mod:`tools.plan`.
    """

    name: str
    per_chip: int
    fsdp: int
    flags: tuple[str, ...]

    def arguments(self, chips: int) -> list[str]:
        """Returns the arguments of :mod:`tools.plan` for so many chips."""
        fsdp = min(self.fsdp, chips)
        mesh = ",".join(f"{axis}={count}" for axis, count in (("data", chips // fsdp), ("fsdp", fsdp)) if count > 1)
        batch = f"--config.batch_size={chips * self.per_chip}"
        return [*self.flags, batch, "--chip", SLICES[chips], "--mesh", mesh]


_SCAN = "--config.model.scan=True"
_VIT = ("--config", "configs/vit_s16_imagenet.py")
# Views of plain ViTs are flipped and mixed alone: RandAugment takes a compiler longer than the network.
_FLIP = "--config.data.augment=({'name': 'random_flip'},)"
CASES = (
    Case("ResNet-50", 64, 1, ("--config", "configs/resnet50_imagenet.py")),
    Case(
        "ViT-B/16",
        64,
        1,
        # 90 epochs of the batch of 256 chips would be over before the warm-up is.
        (
            *_VIT,
            "--config.model.name=vit/B16",
            _SCAN,
            "--config.model.remat=dots",
            _FLIP,
            "--config.duration.epochs=300",
        ),
    ),
    Case("ViT-H/14", 16, 8, (*_VIT, "--config.model.name=vit/H14", _SCAN, "--config.model.remat=full", _FLIP)),
    Case("DINO ViT-S/16", 16, 1, ("--config", "configs/dino_vits16_imagenet.py", _SCAN)),
    Case(
        "CLIP ViT-B/16",
        64,
        1,
        (
            *("--config", "configs/clip_vit.py:B16", _SCAN, "--config.text.scan=True", "--config.model.remat=dots"),
            *("--config.text.remat=dots", "--data", "examples=400000000,captions=1"),
        ),
    ),
)


def write_table(path: Path, kept: Path, plan: Plan, *, note: Callable[[str], None]) -> list[dict[str, Any]]:
    """Makes the plans that are not kept yet, writes them all as a page, and returns them.

    Args:
      path: of the page.
      kept: folder of the plans that are done.
      plan: makes one.
      note: told what happens.

    Raises:
      UserError: the page cannot be written.
    """
    rows = []
    for chips in SLICES:
        for case in CASES:
            arguments = case.arguments(chips)
            name = f"{case.name}-{chips}".replace("/", "").replace(" ", "-").lower()
            compute = lambda arguments=arguments: plan(arguments)  # noqa: E731
            try:
                found = parts.done_or_new(kept, name, {"arguments": arguments}, compute, note=note)
            except UserError as error:
                note(f"{name}: left out: {error}")
                continue
            rows.append({"name": case.name, "chips": chips, "per_chip": case.per_chip, "arguments": arguments, **found})
            try:
                path.write_text(_page(rows), encoding="utf-8")
            except OSError as error:
                raise UserError(f"--table {path}: {error.strerror or error}") from error
    return rows


def _page(rows: Sequence[Mapping[str, Any]]) -> str:
    order = [case.name for case in CASES]
    rows = sorted(rows, key=lambda row: (order.index(row["name"]), row["chips"]))
    compiler = ", ".join(sorted({row["compiler"] for row in rows}))
    total = len(CASES) * len(SLICES)
    missing = (
        [f"{len(rows)} of {total} are made so far; the same command makes the others."] if len(rows) < total else []
    )
    out = [
        "# Plans",
        "",
        f"What a train step needs of each chip, compiled for chips that were not there by {compiler}, written by",
        "`python -m tools.plan --table docs/plans.md`. The examples on each chip are the same from 4 chips to 256, so",
        "that a step that scales weakly has the same row every time. `docs/scaling.md` says what the columns mean.",
        "Compiling is timed by the clock, on a core that had other work too, for which it was stopped at times.",
        *missing,
        "",
        "## Memory",
        "",
        "| network | chips | mesh | a chip's examples | state | temporaries | all | fits |",
        "| --- | --: | --- | --: | --: | --: | --: | --- |",
    ]
    out += [f"| {' | '.join(_memory(row))} |" for row in rows]
    out += [
        "",
        "## Roofline",
        "",
        "| network | chips | TFLOP | GB accessed | GB sent | compute ms | memory ms | links ms | examples/s/chip | MFU "
        "| compiled in s |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    out += [f"| {' | '.join(_roofline(row))} |" for row in rows]
    out += ["", "## Collectives", "", "Payload in MB of a step, and how many times.", ""]
    kinds = _kinds(rows)
    out += [f"| network | chips | {' | '.join(kinds)} |", f"| --- | --: |{' --: |' * len(kinds)}"]
    out += [f"| {row['name']} | {row['chips']} | {' | '.join(_collectives(row, kinds))} |" for row in rows]
    out += ["", "## Commands", "", "```console"]
    out += [f"python -m tools.plan {shlex.join(row['arguments'])}" for row in rows]
    return "\n".join([*out, "```", ""])


def _best(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The plan that fits: that of the row, or the nearest."""
    return row.get("nearest") or row


def _memory(row: Mapping[str, Any]) -> list[str]:
    found = _best(row)
    memory, flags = found["memory"], found.get("flags", ())
    fits = "yes" if row["fits"] else f"with {' '.join(flags)}" if flags else "no"
    mesh = ", ".join(f"{axis}={count}" for axis, count in found["mesh"].items())
    temporaries, total = (size(memory[key]) if memory else "" for key in ("temporaries", "total"))
    per_chip = found["batch_size"] // row["chips"]
    state = size(found["state"]["total"])
    return [row["name"], str(row["chips"]), mesh, str(per_chip), state, temporaries, total, fits]


def _roofline(row: Mapping[str, Any]) -> list[str]:
    found = _best(row)
    bound = found["roofline"]
    seconds = f"{sum(found['seconds'].values()):.0f}"
    if bound is None:
        return [row["name"], str(row["chips"]), *[""] * 8, seconds]
    sent = sum(each["sent"] for each in found["collectives"])
    costs = [f"{value:.3g}" for value in (found["flops"] / 1e12, found["accessed"] / 1e9, sent / 1e9)]
    times = [f"{1e3 * bound[name]:.3g}" for name in ("compute", "memory", "links")]
    most = [f"{bound['examples_per_second_per_chip']:,.0f}", f"{bound['mfu']:.0%}"]
    return [row["name"], str(row["chips"]), *costs, *times, *most, seconds]


def _kinds(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Kinds and axes that any plan has, those of most bytes first."""
    totals: dict[str, float] = {}
    for row in rows:
        for each in _best(row)["collectives"]:
            key = f"{each['kind']} over {', '.join(each['axes'])}"
            totals[key] = max(totals.get(key, 0), each["payload"])
    return sorted(totals, key=lambda key: -totals[key])


def _collectives(row: Mapping[str, Any], kinds: Sequence[str]) -> list[str]:
    found = {key: [0.0, 0] for key in kinds}
    for each in _best(row)["collectives"]:
        entry = found[f"{each['kind']} over {', '.join(each['axes'])}"]
        entry[0] += each["payload"] / 1e6
        entry[1] += each["count"]
    return [f"{payload:,.3g} ({count})" if count else "" for payload, count in found.values()]
