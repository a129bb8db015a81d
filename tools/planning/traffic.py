"""Bytes that a compiled program reads and writes, counted from its text, with loops as often as they turn."""

from collections import defaultdict

from vision.analysis.hlo import Instruction, Program, members_of, size_of

_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while", "conditional", "call")
_SLICES = ("dynamic-slice", "slice", "gather")


def bytes_of(program: Program, *, loops: bool = True, main: bool = False) -> int:
    """Returns the bytes of all operands and results outside of fusions, as XLA's cost analysis counts them.

    Of what is only sliced the slice counts, of what is updated in place the update. What lies in a chip's own fast
    memory counts too, and what is copied there and back twice more, so that this is more than what really moves.

    Args:
      program: the module.
      loops: whether a loop counts as often as it turns, and not once.
      main: count what is read from and written to the chip's main memory alone.
    """
    times = program.times if loops else program.times_once
    total = 0
    for name, instructions in program.computations.items():
        if name in program.fused or not times[name]:
            continue
        shapes = {each.name: each.shape for each in instructions}
        total += times[name] * sum(_bytes(program, each, shapes, main) for each in instructions)
    return total


def _bytes(program: Program, each: Instruction, shapes: dict[str, str], main: bool) -> int:
    if each.opcode in _FREE or each.opcode.endswith(("-done", "-update")):
        return 0
    result, *operands = (
        size_of(shape, main=main) for shape in (each.shape, *(shapes.get(x, "") for x in each.operands))
    )
    if each.opcode == "slice-start" and main:
        taken = members_of(each.shape)[1]  # of the tuple of what is sliced, the slice and a number
        return min(operands[0], size_of(taken)) + size_of(taken, main=True)
    if each.opcode.endswith("-start"):
        return result  # a tuple of what goes in and what comes out; XLA counts all of what is sliced
    if each.opcode in _SLICES:
        return result + min(operands[0], size_of(each.shape))
    if each.opcode == "dynamic-update-slice":
        return operands[1] + min(result, size_of(shapes[each.operands[1]]))
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
        if number >= len(operands):
            continue
        using = users[each.name]
        if using and all(user.opcode in _SLICES and user.operands[0] == each.name for user in using):
            total += min(operands[number], sum(sizes[user.name] for user in using))
        elif using and all(user.opcode == "dynamic-update-slice" and user.operands[0] == each.name for user in using):
            if not operands[number]:
                continue  # in the chip's own memory, as the result is that takes its place
            result += sum(sizes[user.operands[1]] for user in using) - sizes[each.name]
        else:
            total += operands[number]
    return total + max(0, result)
