"""The text of a compiled program (HLO), read: its computations, the sizes of arrays, how often loops turn."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

_BYTES = {"pred": 1, "token": 0, "opaque": 0, "c64": 8, "c128": 16}
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_LAYOUT = re.compile(r"\{[^{}]*\}|/\*.*?\*/")
_ARRAY = re.compile(r"([a-z]+\d*[a-z0-9]*)\[([0-9,<=]*)\](\{S\(1\)\})?")
_CALLED = re.compile(r"(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_REDUCES = ("reduce", "all-reduce", "scatter", "sort", "select-and-scatter", "map")


class Instruction(NamedTuple):
    """A line of a computation.

    Attributes:
      name: of its result.
      shape: type of the result, such as ``(f32[2,3], s32[])``, without layouts but for ``{S(1)}`` behind an array that
        lies in another memory than the chip's main one, such as its own fast one.
      opcode: what it does.
      rest: operands and attributes, as written.
      root: whether its result is that of the computation.
    """

    name: str
    shape: str
    opcode: str
    rest: str
    root: bool

    @property
    def operands(self) -> list[str]:
        """The names of what goes in."""
        depth = 1
        for position, letter in enumerate(self.rest):
            depth += (letter == "(") - (letter == ")")
            if depth == 0:
                return re.findall(r"%([\w.\-]+)", self.rest[:position])
        return []

    @property
    def called(self) -> list[str]:
        """The computations that it runs once a turn; what adds two numbers in a reduction is none of them."""
        if self.opcode.startswith(_REDUCES):
            return []
        names = _CALLED.findall(self.rest)
        for match in _BRANCHES.finditer(self.rest):
            names += [name.strip().lstrip("%") for name in match.group(1).split(",") if name.strip()]
        return names


@dataclass(frozen=True)
class Program:
    """A module.

    Attributes:
      computations: name -> instructions.
      entry: the computation that begins.
    """

    computations: dict[str, list[Instruction]]
    entry: str

    @cached_property
    def fused(self) -> frozenset[str]:
        """The computations inside of fusions."""
        found: set[str] = set()
        waiting = [c for each in self._all() if each.opcode == "fusion" for c in each.called]
        while waiting:
            name = waiting.pop()
            if name in self.computations and name not in found:
                found.add(name)
                waiting += [called for each in self.computations[name] for called in each.called]
        return frozenset(found)

    @cached_property
    def times(self) -> Counter[str]:
        """How often each computation runs; a loop of unknown length turns once, every branch is taken."""
        return self._times(loops=True)

    @cached_property
    def times_once(self) -> Counter[str]:
        """The same where every loop turns once, as XLA counts costs."""
        return self._times(loops=False)

    def turns(self, loop: Instruction) -> int:
        """Returns how often a ``while`` turns; 0 where the text does not tell.

        XLA says it for CPU and GPU. For TPU it is what the counter is compared with, as JAX's loops count from 0.
        """
        if match := _TURNS.search(loop.rest):
            return int(match.group(1))
        match = re.search(r"condition=%?([\w.\-]+)", loop.rest)
        instructions = self.computations.get(match.group(1), []) if match else []
        root = next((each for each in instructions if each.root), None)
        if root is None or root.opcode != "compare" or "direction=LT" not in root.rest:
            return 0
        numbers = {each.name: each.rest for each in instructions if each.opcode == "constant"}
        limits = [re.match(r"(\d+)\)", numbers[name]) for name in root.operands if name in numbers]
        return int(limits[0].group(1)) if len(limits) == 1 and limits[0] else 0

    def loops(self) -> list[int]:
        """Returns how often each loop turns that multiplies matrices or convolves; 0 where it is not known."""
        found = [self.turns(each) for each in self._all() if each.opcode == "while" and self._multiplies(each)]
        return [count for count in found if count != 1]

    def _multiplies(self, loop: Instruction) -> bool:
        seen, waiting = set(), list(loop.called)
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            for each in self.computations.get(name, ()):
                library = each.opcode == "custom-call" and re.search("gemm|matmul|conv", each.rest, re.IGNORECASE)
                if each.opcode in ("dot", "convolution") or library:
                    return True
                waiting += each.called
        return False

    def _all(self) -> Iterator[Instruction]:
        for instructions in self.computations.values():
            yield from instructions

    def _times(self, *, loops: bool) -> Counter[str]:
        """Callees stand before their callers in the text, so that going backwards every caller's count is complete."""
        times: Counter[str] = Counter({self.entry: 1})
        for name in reversed(self.computations):
            for each in self.computations[name] if times[name] else ():
                factor = (self.turns(each) or 1) if loops and each.opcode == "while" else 1
                for called in each.called:
                    times[called] += factor * times[name]
        return times


def read(text: str) -> Program:
    """Returns the program of ``compiled.as_text()``."""
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", ""
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = header.group(2)
            computations[current] = []
            entry = current if header.group(1) else entry
        elif current and (match := _INSTRUCTION.match(line)):
            shape, after = _split_type(match.group(3))
            opcode, _, rest = after.partition("(")
            computations[current].append(
                Instruction(match.group(2), shape, opcode.strip(), rest, match.group(1) is not None)
            )
    return Program(computations, entry)


def size_of(shape: str, *, main: bool = False) -> int:
    """Returns the bytes of a type, of a tuple all its arrays together.

    Args:
      shape: the type, as in :class:`Instruction`.
      main: whether those that lie in another memory than the chip's main one are left out.
    """
    total = 0.0
    for kind, dimensions, fast in _ARRAY.findall(shape):
        if main and fast:
            continue
        digits = re.search(r"\d+", kind)
        width = _BYTES.get(kind, int(digits.group()) / 8 if digits else 1)
        total += width * math.prod(int(length.lstrip("<=")) for length in dimensions.split(",") if length)
    return round(total)


def members_of(shape: str) -> list[str]:
    """Returns the members of a tuple type; of an array's, the one that it is."""
    if not shape.startswith("("):
        return [shape]
    parts, depth, begin = [], 0, 1
    for position, letter in enumerate(shape):
        depth += (letter in "([") - (letter in ")]")
        if (letter == "," and depth == 1) or depth == 0:
            parts.append(shape[begin:position].strip())
            begin = position + 1
    return [part for part in parts if part]


def _split_type(text: str) -> tuple[str, str]:
    """The type that a line begins with, without layouts, and the rest of the line."""
    if not text.startswith("("):
        shape, _, rest = text.partition(" ")
        return _LAYOUT.sub(_fast, shape), rest
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return _LAYOUT.sub(_fast, text[: position + 1]), text[position + 1 :].lstrip()
    return text, ""


def _fast(layout: re.Match[str]) -> str:
    return "{S(1)}" if re.search(r"S\([1-9]", layout.group()) else ""
