"""The command line that all launchers share: options of their own, ``--``, and the command to start."""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from vision import program
from vision.errors import UserError

TAKES_MAX_TIME = ("experiments.train", "experiments.ladder", "experiments.transfer")
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class Launch:
    """What to start, and how."""

    options: argparse.Namespace
    command: tuple[str, ...]

    def with_max_time(self, minutes: float) -> tuple[str, ...]:
        """Returns the command with ``--max_time``, if it knows that option and has not been given it."""
        given = any(word.partition("=")[0] == "--max_time" for word in self.command)
        if given or not set(self.command) & set(TAKES_MAX_TIME):
            return self.command
        return (*self.command, "--max_time", f"{minutes:g}")


def read(parser: program.Parser, argv: Sequence[str] | None) -> Launch:
    """Parses ``[options] -- command``.

    Args:
      parser: knows the options; ``-- command`` is added to what it tells of its usage.
      argv: the arguments, by default those of the process.
    """
    parser.usage = f"python -m {parser._module()} [options] -- command"
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    own, command = words[:at], words[at + 1 :]
    options = parser.read(own)
    if not command:
        parser.error("give the command to start after --, such as -- python -m experiments.train --config FILE")
    return Launch(options, tuple(command))


def add_submit(parser: program.Parser, what: str) -> None:
    """Adds ``--submit`` and ``--dry_run``; without either nothing is started."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--submit", action="store_true", help=what)
    which.add_argument("--dry_run", action="store_true", help="print it alone, as without --submit")


def check_name(name: str, most: int = 63) -> str:
    """Returns a name that schedulers take.

    Raises:
      UserError: they do not.
    """
    if not NAME.fullmatch(name) or len(name) > most:
        raise UserError(f"--name: small letters, digits and '-', at most {most}, the first a letter; got {name!r}")
    return name


def check_at_least(value: float, least: float, flag: str) -> None:
    """Raises a UserError where a number is too small."""
    if not value >= least:
        raise UserError(f"{flag}: must be at least {least:g}, got {value:g}")


def check_variables(assignments: Sequence[str]) -> dict[str, str]:
    """Returns ``--env NAME=VALUE`` options as a dict.

    Raises:
      UserError: one is not of that form.
    """
    for text in assignments:
        if not re.fullmatch(r"[A-Za-z_]\w*=.*", text, re.DOTALL):
            raise UserError(f"--env: must be NAME=VALUE, got {text!r}")
    return dict(text.split("=", 1) for text in assignments)


def quoted(words: Sequence[str]) -> str:
    """Returns words as a shell reads them back."""
    return shlex.join(words)
