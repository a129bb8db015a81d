"""Whether a training fits on its chips, and where it does not, the nearest setting that does."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tools.planning.chips import Target
from tools.planning.program import Compiled
from vision.errors import ConfigError
from vision.models import VARIANTS
from vision.training.sharding import BATCH_AXES

Config = dict[str, Any]
Compile = Callable[[Config], Compiled]


class Setting(NamedTuple):
    """A change of a config.

    Attributes:
      flags: that make it, for the command line.
      config: with the change.
    """

    flags: tuple[str, ...]
    config: Config


def capacity(compiled: Compiled, target: Target) -> float | None:
    """Returns the bytes that a chip has, by its compiler where that says so; None for a CPU."""
    if compiled.limit:
        return compiled.limit
    return target.chip.memory if target.chip is not None else None


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
    state over more chips. Where the state alone is too large, only the last helps, and the others are left out.

    Args:
      config: resolved, which does not fit.
      compiled: its program.
      target: the chips.
      compile_one: compiles a config.
      tries: programs to compile at most.
      note: told what is tried.
    """
    limit = capacity(compiled, target) or 0
    too_large = sum(compiled.state.values()) + compiled.inputs > limit
    for setting in settings_of(config, compiled.mesh, only_state=too_large):
        if not tries:
            note("no more settings are tried (--tries)")
            return None
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
    data, fsdp = mesh.get("data", 1), mesh.get("fsdp", 1)
    while data % 2 == 0:
        data, fsdp = data // 2, fsdp * 2
        sizes = {**config["mesh"], "data": data, "fsdp": fsdp}
        yield Setting((*flags, f"--mesh data={data},fsdp={fsdp}"), {**config, "mesh": sizes})


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
