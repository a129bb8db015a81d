"""The processes that a suite compares, and their turns: whoever is compared runs under the same load."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tools.benchmarks.rows import ROOT, say
from tools.peers import Contrast, Distillation, Networks, Pairs, Work
from vision.errors import UserError

MODELS = {"house": "tools.benchmarks.house_models", "torch": "tools.peers.torch_models"}  # of the suite of models
AnyWork = Work | Networks | Distillation | Contrast | Pairs
_PEERS = {
    "torch": ("--peer_python", ("torch", "torchvision"), "pip install torch==2.14.1 torchvision==0.29.1"),
    "tensorflow": ("--tf_python", ("tensorflow",), "pip install tensorflow==2.21.0"),
}


@dataclass(frozen=True)
class Peer:
    """An interpreter that has what a peer needs.

    Attributes:
      python: its path.
      versions: package -> version.
    """

    python: str
    versions: dict[str, str]


def find_peer(name: str, python: Path | None) -> Peer | None:
    """Returns the interpreter for ``torch`` or ``tensorflow``; None, with a note how to get one, where none is given.

    Args:
      name: of the peer.
      python: given by the user; None tries this interpreter.

    Raises:
      UserError: the given interpreter is none, or lacks the peer's packages.
    """
    flag, packages, install = _PEERS[name]
    if python is None and importlib.util.find_spec(packages[0]) is None:
        say(f"no rows of {name}, which is not installed; {install} in an environment of its own, then {flag} PATH")
        return None
    code = "import json, importlib.metadata as m, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    try:
        done = subprocess.run(
            [str(python or sys.executable), "-c", code, *packages], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{flag} {python}: {getattr(error, 'strerror', None) or error}") from error
    if done.returncode:
        raise UserError(f"{flag} {python}: this Python lacks {' or '.join(packages)}; {install}")
    return Peer(str(python or sys.executable), json.loads(done.stdout))


@dataclass(frozen=True)
class Timed:
    """One measurement.

    Attributes:
      seconds: of the clock.
      cpu_seconds: of the process without its worker processes.
      images: that were made.
      ahead: batches that lay ready and were not counted.
    """

    seconds: float
    cpu_seconds: float
    images: int
    ahead: int

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


class Contender:
    """A process that answers how long so many of its batches take; see :func:`tools.peers.serve`."""

    def __init__(
        self,
        python: str | None,
        module: str,
        work: AnyWork,
        log: Path,
        *,
        settle_seconds: float = 1.5,
    ):
        """Starts it.

        Args:
          python: interpreter; None for this one.
          module: what it runs.
          work: told to it.
          log: file for what it writes to standard error.
          settle_seconds: after a measurement, for its workers to fill their buffers.
        """
        self._module, self._log, self._settle_seconds = module, log, settle_seconds
        with open(log, "w") as errors:
            self._process: subprocess.Popen[str] = subprocess.Popen(
                [python or sys.executable, "-m", module, work.as_json()],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def measure(self, name: str, batches: int, *, step_seconds: float = 0.0) -> Timed:
        """Times batches of one of its streams, which its first call starts.

        Raises:
          UserError: the process has ended.
        """
        requests, answers = _pipes(self._process)
        try:
            print(
                json.dumps({"name": name, "batches": batches, "step_seconds": step_seconds}), file=requests, flush=True
            )
            answer = answers.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            last = self._log.read_text(errors="replace").strip().splitlines()[-3:]
            raise UserError(f"{self._module}, {name}: ended with code {self._process.returncode}: {' '.join(last)}")
        timed = Timed(**json.loads(answer))
        if timed.ahead > 1:
            # Its workers go on until as much lies ready as may; they are not to take time from whoever is next.
            time.sleep(self._settle_seconds)
        return timed

    def close(self) -> None:
        """Ends the process."""
        requests, answers = _pipes(self._process)
        requests.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        answers.close()


Contenders = Mapping[str, Contender]


def start_all(
    stack: ExitStack, modules: Mapping[str, str], peers: Mapping[str, str], work: AnyWork, log: Path
) -> dict[str, Contender]:
    """Starts the house and those peers that there is an interpreter for; they end with the stack.

    Args:
      stack: closes them.
      modules: side, of which ``house`` is one -> what it runs.
      peers: side -> interpreter.
      work: told to all.
      log: file for what they write to standard error, each its own with its side before the suffix.
    """
    pythons = {"house": None, **{side: python for side, python in peers.items() if side in modules}}
    contenders = {}
    for side, python in pythons.items():
        contenders[side] = Contender(python, modules[side], work, log.with_name(f"{log.stem}-{side}{log.suffix}"))
        stack.callback(contenders[side].close)
    return contenders


def _pipes(process: Any) -> tuple[IO[str], IO[str]]:
    return process.stdin, process.stdout


@dataclass(frozen=True)
class Turn:
    """One of those who take turns.

    Attributes:
      label: names it in the result.
      contender: its process.
      stream: what is timed.
      batches: a turn.
    """

    label: str
    contender: Contender
    stream: str
    batches: int


def all_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ratios(measured: Mapping[str, Sequence[Timed]], label: str, peer: str) -> tuple[float, ...]:
    """Returns how many times faster ``label`` was than ``peer``, round by round."""
    return tuple(ours.rate / theirs.rate for ours, theirs in zip(measured[label], measured[peer], strict=True))


def take_turns(turns: Sequence[Turn], repeats: int) -> dict[str, list[Timed]]:
    """Returns ``label -> measurements``; every other round goes backwards, so that a drift evens out."""
    for turn in turns:
        turn.contender.measure(turn.stream, 1)
    measured: dict[str, list[Timed]] = {turn.label: [] for turn in turns}
    for number in range(repeats):
        for turn in turns[:: -1 if number % 2 else 1]:
            measured[turn.label].append(turn.contender.measure(turn.stream, turn.batches))
    return measured
