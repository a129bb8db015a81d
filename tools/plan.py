"""Plans a training on chips that are not there: what it needs of each and what they tell each other, by real compilers.

  python -m tools.plan --config configs/resnet50_imagenet.py --chip v5e:4x4 --mesh data=16
  python -m tools.plan --config configs/vit_s16_imagenet.py --chip h100:8 --mesh data=2,fsdp=4 --config.batch_size=512

The train step is the one that experiments.train would run. It is traced, nothing of it is allocated, and compiled for
the chips: by libtpu for TPUs (pip install -e ".[plan-tpu]"), by XLA for CUDA for NVIDIA's cards (".[plan-gpu]").
Without them as many devices of this CPU stand for the chips, and the plan says which figures are estimates. Bytes of
parameters, optimizer and data are exact in any case. Where it does not fit, what needs less memory is tried, from the
least change on. Data sets need not be there: those of TFDS are known, others are described by --data.

--table writes the plans of docs/plans.md, each in a process of its own, and goes on where it was stopped.
--weak_scaling prints which messages of small networks grow with the number of devices.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vision import program
from vision.errors import UserError, did_you_mean

_AXES = ("data", "fsdp", "tensor")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, compiles, prints the plan; 1 where nothing that was tried fits."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    alone = any(argument.startswith(("--table", "--weak_scaling")) for argument in arguments)
    parser = program.Parser(__doc__, config=not alone)
    parser.add_argument("--chip", metavar="KIND[:SIZE]", help="v5e:16x16, v5p:2x2x1, h100:8, h200, cpu:8 and such")
    parser.add_argument("--mesh", metavar="AXIS=N,...", help="such as data=32,fsdp=8 (default: the config's)")
    parser.add_argument("--data", metavar="KEY=N,...", help="describes the data: examples, classes, size, captions ...")
    parser.add_argument(
        "--tries", type=int, default=6, metavar="N", help="programs to compile where it does not fit (6)"
    )
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="write the plans of the documentation")
    parser.add_argument("--weak_scaling", action="store_true", help="print what grows with the number of devices")
    parser.add_argument("--kept", type=Path, default=Path("runs/plans"), metavar="DIR", help="of the plans of --table")
    args = parser.read(arguments)
    if args.table is not None:
        from tools.planning.table import write_table

        program.finish({"plans": write_table(args.table, args.kept, _in_a_process, note=_note)}, as_json=args.json)
        return 0
    if args.weak_scaling:
        program.finish(_weak_scaling(), as_json=args.json)
        return 0
    if args.chip is None:
        parser.error("the following arguments are required: --chip")
    if args.tries < 0:
        parser.error(f"--tries: must not be negative, got {args.tries}")
    result = plan(
        args.config, args.overrides, chip=args.chip, mesh=read_mesh(args.mesh), data=args.data, tries=args.tries
    )
    from tools.planning.report import lines

    print(lines(result), file=sys.stderr if args.json else sys.stdout)
    if result.get("nearest"):
        flags = " ".join(result["nearest"]["flags"])
        print(f"\nit fits with {flags}\n{lines(result['nearest'])}", file=sys.stderr if args.json else sys.stdout)
    program.finish(result, as_json=args.json)
    return 1 if result["fits"] is False and not result.get("nearest") else 0


def plan(
    config: str,
    overrides: Sequence[str] = (),
    *,
    chip: str,
    mesh: Mapping[str, int] | None = None,
    data: str | None = None,
    tries: int = 6,
) -> dict[str, Any]:
    """Returns the plan of a config, see :func:`tools.planning.report.as_result`; ``nearest`` is one that fits.

    Args:
      config: its file, with an argument behind a colon.
      overrides: of the form ``--config.a.b=value``.
      chip: kind and number of the chips.
      mesh: sizes of the axes; None for the config's.
      data: what a person says of the data, see :func:`tools.planning.described.read_facts`.
      tries: programs to compile, where it does not fit.

    Raises:
      UserError: chips, mesh, data or config cannot be.
    """
    from tools.planning import chips

    target = chips.read_target(chip)
    chips.prepare(target)
    from tools.planning.described import read_facts
    from tools.planning.fit import fits, nearest, share_of_memory
    from tools.planning.program import compile_step
    from tools.planning.report import as_result
    from vision.config.loading import load
    from vision.training.schema import resolve

    facts = read_facts(data) if data is not None else None
    given = load(config, overrides)
    if "estimator" in given:
        raise UserError(f"--config {config}: an estimator has no train step to plan")
    resolved = resolve(given)
    if mesh is not None:
        resolved = {**resolved, "mesh": dict(mesh)}
    _check_mesh(resolved["mesh"], target.count, target.text)
    share_of_memory(target)  # a mistake in it is said before compiling takes its time
    devices = chips.devices_of(target)
    _note(f"compiling for {target.text} by {devices.compiler}")
    compiled = compile_step(resolved, target, devices, facts)
    result = as_result(compiled, target, devices, precision=resolved["precision"])
    if not devices.exact:
        result["cure"] = f' (pip install -e ".[{target.extra}]")'
    if fits(compiled, target) is False:
        compile_one = lambda changed: compile_step(changed, target, devices, facts)  # noqa: E731
        found = nearest(dict(resolved), compiled, target, compile_one, tries=tries, note=_note)
        if found is not None:
            flags = list(found[0].flags)
            result["nearest"] = {
                "flags": flags,
                **as_result(found[1], target, devices, precision=resolved["precision"]),
            }
    return result


def read_mesh(text: str | None) -> dict[str, int] | None:
    """Returns the sizes in ``data=32,fsdp=8``.

    Raises:
      UserError: an axis that there is not, or a size that is no positive number.
    """
    if text is None:
        return None
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, _, number = part.partition("=")
        if axis not in _AXES:
            raise UserError(f"--mesh {part}: unknown axis{did_you_mean(axis, _AXES)}; axes: {', '.join(_AXES)}")
        if not number.isdecimal() or not int(number):
            raise UserError(f"--mesh {part}: write {axis}=N with a positive whole number")
        sizes[axis] = int(number)
    return {"data": 1, **sizes}


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _check_mesh(sizes: Mapping[str, int], count: int, chip: str) -> None:
    known, free = 1, False
    for size in (sizes.get("data", -1), sizes.get("fsdp", 1), sizes.get("tensor", 1)):
        known, free = (known, True) if size == -1 else (known * size, free)
    if (count % known if free else count != known) or known < 1:
        shown = ",".join(f"{axis}={size}" for axis, size in sizes.items())
        raise UserError(f"--mesh {shown}: is {known} devices, and {chip} has {count} chips")


def _weak_scaling() -> dict[str, Any]:
    """Prints the table, and returns its numbers."""
    from tools.planning import chips

    chips.prepare(chips.read_target("cpu:8"))
    from tools.planning.weak_scaling import CASES, payloads, table

    measured = {}
    for name, sections in CASES.items():
        _note(name)
        measured[name] = payloads(sections)
    print(table(measured))
    return measured


def _in_a_process(arguments: Sequence[str]) -> dict[str, Any]:
    """A plan by this program in a process of its own, as another number of devices needs.

    Raises:
      UserError: it failed.
    """
    command = [sys.executable, "-m", "tools.plan", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"{' '.join(arguments)}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    program.run(main)
