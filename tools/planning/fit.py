"""Whether a training fits on its chips, and where it does not, the nearest setting that does."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tools.planning.chips import Target
from tools.planning.cuda import CUDA
from tools.planning.program import Compiled
from vision.errors import ConfigError, UserError
from vision.models import VARIANTS
from vision.training.sharding import AXES, BATCH_AXES

Config = dict[str, Any]
Compile = Callable[[Config], Compiled]
# The share of a card's memory that JAX takes, and so all that a program can have (JAX's page "GPU memory allocation").
# JAX reads the first of these variables that is set; the second is its older name.
SHARE, SHARES = 0.75, ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")


class Setting(NamedTuple):
    """A change of a config.

    Attributes:
      flags: that make it, for the command line.
      config: with the change.
      spread: over how many times as many chips the state is.
    """

    flags: tuple[str, ...]
    config: Config
    spread: int = 1


def capacity(compiled: Compiled, target: Target) -> float | None:
    """Returns the bytes that a program can have on a chip, by its compiler where that says so; None for a CPU.

    Raises:
      UserError: the share of a card's memory that the environment gives is no number.
    """
    if compiled.limit:
        return compiled.limit
    if target.chip is None:
        return None
    return target.chip.memory * share_of_memory(target)


def share_of_memory(target: Target) -> float:
    """Returns the share of a chip's memory that JAX takes: all of a TPU's, three quarters of a card's unless told.

    Raises:
      UserError: the environment gives none that can be.
    """
    if target.kind not in CUDA:
        return 1.0
    for name in SHARES:
        if text := os.environ.get(name, ""):
            try:
                share = float(text)
            except ValueError:
                share = 0.0
            if not 0 < share <= 1:
                raise UserError(f"{name}={text}: write a share of the memory, above 0 and at most 1")
            return share
    return SHARE


def fits(compiled: Compiled, target: Target) -> bool | None:
    """Returns whether a step fits on a chip; None for a CPU, whose memory is that of its host."""
    limit = capacity(compiled, target)
    if compiled.memory is None or limit is None:
        return None if limit is None else False
    return compiled.memory.total <= limit


def nearest(
    config: Config,
    compiled: Compiled,
    target: Target,
    compile_one: Compile,
    *,
    tries: int,
    note: Callable[[str], None],
) -> tuple[Setting, Compiled] | None:
    """Returns the first setting that fits, and its program; None where none of those that were tried does.

    Tried in this order, each by compiling it: less kept for the backward pass, more microbatches, a smaller batch, the
    state over more chips. The last comes first where state and gradients alone are too large, and is all that is tried
    where the state is; else the last try is kept for it.

    Args:
      config: resolved, which does not fit.
      compiled: its program.
      target: the chips.
      compile_one: compiles a config.
      tries: programs to compile at most.
      note: told what is tried.
    """
    limit = (capacity(compiled, target) or 0) - compiled.inputs
    state = sum(compiled.state.values())
    with_gradients = state + compiled.state["parameters"]  # as large, but a compiler may drop each once it is used
    settings = list(settings_of(config, compiled.mesh, only_state=True)) if with_gradients > limit else []
    settings += list(settings_of(config, compiled.mesh)) if state <= limit else []
    settings = [each for each in settings if state / each.spread <= limit]
    while settings:
        if not tries:
            note("no more settings are tried (--tries)")
            return None
        if tries == 1:
            likely = [each for each in settings if each.spread > 1 and with_gradients / each.spread <= limit]
            settings = likely or settings
        setting = settings.pop(0)
        note(f"does not fit; tried with {' '.join(setting.flags)}")
        try:
            found = compile_one(setting.config)
        except ConfigError as error:
            note(str(error))
            continue
        tries -= 1
        if fits(found, target):
            return setting, found
    return None


def settings_of(config: Config, mesh: Mapping[str, int], *, only_state: bool = False) -> Iterator[Setting]:
    """Yields changes of a config that need less memory, from the least change on.

    Args:
      config: resolved.
      mesh: sizes of the axes.
      only_state: leave out what makes only activations smaller.
    """
    flags: tuple[str, ...] = ()
    if not only_state:
        for policy in _policies(config):
            flags, config = _with_remat(config, policy)
            yield Setting(flags, config)
        devices = 1
        for axis in BATCH_AXES:
            devices *= mesh.get(axis, 1)
        for parts in _doublings(config["microbatches"], config["batch_size"] // devices):
            yield Setting((*flags, f"--config.microbatches={parts}"), {**config, "microbatches": parts})
        size = config["batch_size"] // 2
        while size and size % (devices * config["microbatches"]) == 0:
            yield Setting((*flags, f"--config.batch_size={size}"), {**config, "batch_size": size})
            size //= 2
    data, fsdp, tensor = (mesh.get(axis, 1) for axis in AXES)
    spread = 1
    while data % 2 == 0:
        data, fsdp, spread = data // 2, fsdp * 2, spread * 2
        sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
        shown = ",".join(f"{axis}={size}" for axis, size in sizes.items() if axis in BATCH_AXES or size > 1)
        yield Setting((*flags, f"--mesh {shown}"), {**config, "mesh": sizes}, spread)


def _policies(config: Config) -> tuple[str, ...]:
    """The policies of rematerialisation that keep less than the config's, if its model has any."""
    variant = VARIANTS.get(config["model"]["name"])
    if variant is None or "remat" not in getattr(variant.module, "__dataclass_fields__", {}):
        return ()
    order = ("none", "dots", "full")
    now = config["model"].get("remat", "none")
    return order[order.index(now) + 1 :] if now in order else ()


def _with_remat(config: Config, policy: str) -> tuple[tuple[str, ...], Config]:
    sections = [name for name in ("model", "text") if config[name] is not None]
    changed = {name: {**config[name], "remat": policy} for name in sections}
    return tuple(f"--config.{name}.remat={policy}" for name in sections), {**config, **changed}


def _doublings(parts: int, most: int) -> Iterator[int]:
    parts *= 2
    while parts <= most and most % parts == 0:
        yield parts
        parts *= 2
