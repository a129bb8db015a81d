"""The errors a person can cure, each with the exit code of the program that ends on it."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What was asked for cannot be done; the message is one readable line with the cure.

    Attributes:
      exit_code: of the program that ends on it.
      shared: whether it ends all processes of a run at the same place, so that nobody waits for this one.
    """

    exit_code = 2
    shared = False


class ConfigError(UserError):
    """A config holds an unknown key, a wrong type or an impossible value."""


class TrainingFailed(UserError):
    """The run took place and its answer is no: a loss that is not finite, a comparison that differs."""

    exit_code = 1
    shared = True  # computed from numbers that all processes have


class Stopped(UserError):
    """A signal ended the run after its state was saved; the exit code is 128 + the signal's number."""

    shared = True  # several processes agree on the step after which they stop

    def __init__(self, message: str, *, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Preempted(Stopped):
    """The time is over, the machine is taken away, or another process is gone; exit code 75: start it again."""

    def __init__(self, message: str):
        super().__init__(message, signal_number=0)
        self.exit_code = 75


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the nearest known word, or an empty string where none is near."""
    candidates = {str(name).lower(): str(name) for name in known}
    near = difflib.get_close_matches(word.lower(), candidates, n=1, cutoff=0.6)
    return f"; did you mean {candidates[near[0]]!r}?" if near else ""
