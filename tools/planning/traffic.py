"""Bytes that a compiled program reads and writes, counted from its text, with loops as often as they turn."""

from collections import defaultdict

from vision.analysis.hlo import Instruction, Program, size_of

_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while", "conditional", "call")
_SLICES = ("dynamic-slice", "slice", "gather")


def bytes_of(program: Program, *, loops: bool = True) -> int:
    """Returns the bytes of all operands and results outside of fusions, as XLA's cost analysis counts them.

    Of what is only sliced the slice counts, of what is updated in place the update. What stays in a faster memory
    than the chip's main one counts too, so that this is more than what really moves.

    Args:
      program: the module.
      loops: whether a loop counts as often as it turns, and not once.
    """
    times = program.times if loops else program.times_once
    total = 0
    for name, instructions in program.computations.items():
        if name in program.fused or not times[name]:
            continue
        shapes = {each.name: each.shape for each in instructions}
        total += times[name] * sum(_bytes(program, each, shapes) for each in instructions)
    return total


def _bytes(program: Program, each: Instruction, shapes: dict[str, str]) -> int:
    if each.opcode in _FREE or each.opcode.endswith(("-done", "-update")):
        return 0
    result, operands = size_of(each.shape), [size_of(shapes.get(name, "")) for name in each.operands]
    if each.opcode.endswith("-start"):
        return result  # a tuple of what goes in and what comes out
    if each.opcode in _SLICES:
        return 2 * result
    if each.opcode == "dynamic-update-slice":
        return 2 * operands[1]
    if each.opcode == "fusion" and each.called and each.called[0] in program.computations:
        return _of_fusion(program.computations[each.called[0]], result, operands)
    return result + sum(operands)


def _of_fusion(inside: list[Instruction], result: int, operands: list[int]) -> int:
    users: dict[str, list[Instruction]] = defaultdict(list)
    for each in inside:
        for name in each.operands:
            users[name].append(each)
    sizes = {each.name: size_of(each.shape) for each in inside}
    total = 0
    for each in inside:
        if each.opcode != "parameter":
            continue
        number = int(each.rest.partition(")")[0])
        using = users[each.name]
        if using and all(user.opcode in _SLICES and user.operands[0] == each.name for user in using):
            total += sum(sizes[user.name] for user in using)
        elif using and all(user.opcode == "dynamic-update-slice" and user.operands[0] == each.name for user in using):
            result += sum(sizes[user.operands[1]] for user in using) - sizes[each.name]
        elif number < len(operands):
            total += operands[number]
    return total + max(0, result)
