"""A plan as numbers and as lines for people."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tools.planning.chips import Devices, Target, links_of
from tools.planning.cuda import CUDA
from tools.planning.fit import SHARES, capacity, fits, share_of_memory
from tools.planning.program import Compiled

Result = dict[str, Any]


def as_result(compiled: Compiled, target: Target, devices: Devices, *, precision: str) -> Result:
    """Returns the plan as JSON can hold it; bytes, FLOPs and seconds are one chip's and one step's.

    Args:
      compiled: the train step.
      target: the chips.
      devices: what it was compiled for.
      precision: the config's.
    """
    memory, state = compiled.memory, dict(compiled.state)
    result: Result = {
        "chip": target.text,
        "chips": target.count,
        "mesh": dict(compiled.mesh),
        "batch_size": compiled.batch_size,
        "data": compiled.data,
        "compiler": devices.compiler,
        "estimates": [] if devices.exact else ["memory", "flops", "accessed", "collectives", "roofline"],
        "state": {**state, "total": sum(state.values())},
        "inputs": compiled.inputs,
        "memory": None if memory is None else {**vars(memory), "total": memory.total},
        "needed": memory.total if memory is not None else compiled.needed,
        "capacity": capacity(compiled, target),
        "share_of_memory": share_of_memory(target),
        "fits": fits(compiled, target),
        "flops": compiled.flops or compiled.step_flops,
        "flops_by": "by the compiler" if compiled.flops else "of products and convolutions",
        "model_flops": compiled.model_flops,
        "accessed": compiled.accessed,
        "accessed_by": compiled.accessed_by,
        "collectives": [{**asdict(each), "sent": round(each.sent)} for each in compiled.collectives],
        "loops": list(compiled.loops),
        "unknown_loops": compiled.unknown_loops,
        "seconds": dict(compiled.seconds),
    }
    result["roofline"] = _roofline(result, target, precision) if memory is not None else None
    return result


def lines(result: Mapping[str, Any]) -> str:
    """Returns a plan for people."""
    mesh = ", ".join(f"{axis}={size}" for axis, size in result["mesh"].items()) or "one device"
    state = ", ".join(f"{name} {size(value)}" for name, value in result["state"].items() if value and name != "total")
    out = [
        f"{result['chip']}  {mesh}  batch {result['batch_size']:,}, data {result['data']}",
        f"compiled   by {result['compiler']} in {sum(result['seconds'].values()):.0f} s",
        f"state      {size(result['state']['total'])} a chip, exact: {state}",
    ]
    memory = result["memory"]
    if memory is not None:
        out.append(
            f"memory     {size(memory['total'])} a chip: arguments {size(memory['arguments'])} (inputs among them "
            f"{size(result['inputs'])}), temporaries {size(memory['temporaries'])}, outputs beside arguments "
            f"{size(memory['outputs'] - memory['aliased'])}, code {size(memory['code'])}"
        )
    out.append(f"fits       {_verdict(result)}")
    if memory is not None:
        out += _costs(result)
    if result["estimates"]:
        out.append(
            f"estimates  {', '.join(result['estimates'])}: devices of the host stand for the chips, whose compiler is "
            f"not installed{result.get('cure', '')}; bytes of state and inputs are exact"
        )
    return "\n".join(out)


def size(count: float) -> str:
    """Returns bytes for people, in units of 1024."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def _verdict(result: Mapping[str, Any]) -> str:
    if result["fits"] is None:
        return "whatever the host's memory holds"
    where = f"{size(result['needed'])} of {size(result['capacity'])}"
    share = result["share_of_memory"]
    if share < 1:
        where += f" ({share:g} of the card's memory is JAX's: {SHARES[0]}=0.95 gives it more)"
    if result["fits"]:
        return f"yes, {where}"
    return f"no, {where if result['memory'] is not None else 'the compiler refuses: at least ' + where}"


def _costs(result: Mapping[str, Any]) -> list[str]:
    model = f"{result['model_flops'] / 1e12:.3g} of the model"
    out = [
        f"a step     {result['flops'] / 1e12:.3g} TFLOP a chip {result['flops_by']} ({model}), "
        f"{result['accessed'] / 1e9:.3g} GB accessed {result['accessed_by']}"
    ]
    for each in result["collectives"]:
        over = ", ".join(each["axes"])
        out.append(
            f"  {each['kind']:20} {each['count']:5} times over {over:14} {each['devices']:4} chips  "
            f"{size(each['payload']):>10}, sent {size(each['sent'])}"
        )
    if not result["collectives"]:
        out.append("  no collectives")
    if result["unknown_loops"]:
        out.append(
            f"  loops of unknown length: {result['unknown_loops']}, counted as if they turned once; a step costs more"
        )
    bound = result["roofline"]
    if bound is not None:
        times = ", ".join(f"{name} {1e3 * bound[name]:.3g} ms" for name in ("compute", "memory", "links"))
        out.append(
            f"roofline   {bound['examples_per_second_per_chip']:.4g} examples a second and chip, MFU "
            f"{bound['mfu']:.1%}, by {bound['bound']}: {times} (memory is an estimate)"
        )
    return out


def _roofline(result: Mapping[str, Any], target: Target, precision: str) -> Result | None:
    """The time of a step by whatever takes longest of computing, reading and writing, and sending.

    Computing and sending take no less. Reading and writing may: the bytes of what stays in a faster memory than the
    chip's main one count among those accessed, so that this time is an estimate.

    Peaks are the published ones, of bfloat16, which TPUs use for products of float32 too; NVIDIA's cards use TF32
    there, at half the speed (Williams et al. 2009, "Roofline").
    """
    if target.chip is None:
        return None
    half = target.kind in CUDA and "compute=bfloat16" not in precision
    peak = target.chip.flops / (2 if half else 1)
    times = {
        "compute": result["flops"] / peak,
        "memory": result["accessed"] / target.chip.bandwidth,
        "links": sum(
            each["sent"] / links_of(target, result["mesh"], each["kind"], each["axes"])
            for each in result["collectives"]
        ),
    }
    bound = max(times, key=lambda name: times[name])
    step = times[bound]
    per_chip = result["batch_size"] / target.count
    return {
        **times,
        "step": step,
        "bound": bound,
        "examples_per_second_per_chip": per_chip / step,
        "mfu": result["model_flops"] / (step * target.chip.flops),
    }
