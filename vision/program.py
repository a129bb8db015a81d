"""The manners that all programs share: arguments, one-line errors, exit codes, the last line of ``--json``.

Nothing here imports JAX, so ``--help`` and a mistyped flag answer at once.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vision.errors import UserError

CACHE_BYTES = 2**30
_tell_others: list[Callable[[int], None]] = []


class Parser(argparse.ArgumentParser):
    """An argument parser that knows ``--config`` with its overrides, and ``--json``."""

    def __init__(self, description: str | None, *, config: bool = False):
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        self._takes_config = config
        self.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
        if config:
            self.add_argument(
                "--config", required=True, metavar="FILE[:ARG]", help="config file, such as configs/quickstart.py"
            )
            self.epilog = "Any key of the config can be set: --config.section.key=value"

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with 2."""
        self.exit(2, f"error: {message}; python -m {self._module()} --help lists what there is\n")

    def _module(self) -> str:
        main = sys.modules["__main__"].__spec__
        return main.name if main else self.prog

    def read(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Returns the parsed arguments; ``overrides`` holds those of the form ``--config.a.b=value``."""
        arguments = list(sys.argv[1:] if argv is None else argv)
        overrides = [argument for argument in arguments if self._takes_config and argument.startswith("--config.")]
        parsed = self.parse_args([argument for argument in arguments if argument not in overrides])
        parsed.overrides = overrides
        return parsed


def when_failed(tell: Callable[[int], None]) -> None:
    """Has :func:`run` call ``tell`` with the exit code of what ends this process and not all those of its run."""
    _tell_others.append(tell)


def _failed(code: int) -> None:
    for tell in _tell_others:
        tell(code)


def run(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Runs a program's ``main`` and exits: 0, 1 or 2 as it says, 128 + n after signal n."""
    try:
        code = main(None) or 0
        if code:
            _failed(code)
        sys.exit(code)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}" if error.exit_code <= 2 else str(error), file=sys.stderr)
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # a failed library's threads have more to say
        if not error.shared:
            _failed(error.exit_code)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped at once; what was saved before is in the run's folder", file=sys.stderr)
        _failed(130)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _failed(0)
        sys.exit(0)


def finish(result: dict[str, Any], *, as_json: bool) -> None:
    """Prints the result as the last line of standard output where ``--json`` asks for it."""
    if as_json:
        print(json.dumps(result), flush=True)


def prepare_jax() -> None:
    """Turns on JAX's persistent compilation cache, in a folder of the user's own, unless the environment chose one.

    ``JAX_COMPILATION_CACHE_DIR`` names another folder, ``JAX_ENABLE_COMPILATION_CACHE=false`` turns it off.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(home / "functional-vision" / "xla")
        os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(CACHE_BYTES))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    if "XLA_FLAGS" not in os.environ:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
