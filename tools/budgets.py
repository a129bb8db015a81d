"""Holds what the compiled train step of each config does against a stored budget: a guard of speed without a clock.

Every config is compiled at a small size for eight devices of a CPU, and counted: FLOPs and bytes accessed of a device
as XLA estimates them, bytes of temporaries, fusions, collectives and their bytes. More than the budget and a slack of
10% is a regression, exit code 1. A change that is worth it writes the budget anew (--write) and says why in its
commit. Counts are of one version of JAX; with another nothing is compared.
"""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vision import program
from vision.errors import TrainingFailed, UserError, did_you_mean

FILE = Path(__file__).parents[1] / "tests" / "goldens" / "budgets.json"
SLACK = 1.1
DEVICES, BATCH_SIZE = 8, 16
_FUSION = re.compile(r"= \S.*? fusion\(")

Counts = dict[str, int]


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, compiles, and compares or writes."""
    parser = program.Parser(__doc__)
    parser.add_argument("configs", nargs="*", metavar="NAME", help="configs such as quickstart (default: all)")
    parser.add_argument("--write", action="store_true", help="store what is found as the budget")
    args = parser.read(argv)
    os.environ["JAX_PLATFORMS"] = "cpu"
    flag = f"--xla_force_host_platform_device_count={DEVICES}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    program.prepare_jax()
    import jax

    from tools.benchmarks.small_configs import names

    known = names()
    for name in args.configs:
        if name not in known:
            raise UserError(f"no config {name}{did_you_mean(name, known)}; known: {', '.join(known)}")
    stored: Any = json.loads(FILE.read_text()) if FILE.is_file() else {"jax": jax.__version__, "configs": {}}
    if not args.write and stored["jax"] != jax.__version__:
        raise UserError(f"the budgets are of jax {stored['jax']}, this is {jax.__version__}: nothing can be compared")
    found = {}
    for name in args.configs or known:
        found[name] = counts_of(name)
        print(f"{name}: {', '.join(f'{key} {value:,}' for key, value in found[name].items())}", file=sys.stderr)
    if args.write:
        kept = stored["configs"] if args.configs and stored["jax"] == jax.__version__ else {}
        FILE.write_text(as_text(jax.__version__, {**kept, **found}))
        print(f"{FILE}: budgets of {len(found)} configs")
        program.finish({"written": sorted(found)}, as_json=args.json)
        return 0
    over = [line for name, counts in found.items() for line in beyond(name, counts, stored["configs"].get(name))]
    print("\n".join(over) if over else f"{len(found)} configs are within {SLACK - 1:.0%} of their budgets")
    program.finish({"configs": len(found), "over": over}, as_json=args.json)
    if over:
        raise TrainingFailed(f"{len(over)} counts are over budget; if it is worth it: python -m tools.budgets --write")
    return 0


def beyond(name: str, counts: Mapping[str, int], budget: Mapping[str, int] | None) -> list[str]:
    """Returns a sentence for each count of a config that is over its budget."""
    if budget is None:
        return [f"{name}: has no budget"]
    return [
        f"{name}: {key} {counts[key]:,} are {counts[key] / most:.2f} times the budget of {most:,}"
        if most
        else f"{name}: {key} {counts[key]:,} where there were none"
        for key, most in budget.items()
        if counts[key] > most * SLACK
    ]


def counts_of(spec: str, **overrides: Any) -> Counts:
    """Compiles the small train step of a config and counts.

    Args:
      spec: name of the config.
      **overrides: options of its model.
    """
    from tools.benchmarks.small_configs import small
    from vision.training.schema import resolve

    config: Any = small(spec, batch_size=BATCH_SIZE, shallow=True)
    config["model"] |= overrides
    return counted(resolve(config))


def counted(config: Mapping[str, Any]) -> Counts:
    """Compiles the train step of a resolved config for :data:`DEVICES` devices, over described data, and counts."""
    import jax

    from tools.benchmarks.small_configs import KNOWN
    from tools.planning.described import Facts, describe_inputs, described_pipeline
    from vision.analysis.collectives import collectives_of
    from vision.data.tokenizer import LEAST_SIZE
    from vision.training.assemble import build
    from vision.training.sharding import make_mesh

    (height, width, channels), classes, examples = KNOWN[config["data"]["name"]]
    captions = 2 if config["data"]["tokens"] is not None else 0
    facts = Facts(examples, classes, max(height, width), channels, captions, LEAST_SIZE)
    mesh = make_mesh(devices=jax.devices("cpu")[:DEVICES])
    inputs, _ = describe_inputs(config, facts)
    experiment = build(config, inputs, mesh, described=described_pipeline)
    step: Any = experiment.step
    lowered = step.lower(experiment.abstract_state, experiment.pipeline.spec(), experiment.constants)
    compiled = lowered.compile({"xla_backend_optimization_level": 0})  # of LLVM's work, which nothing here counts
    text, cost = compiled.as_text(), compiled.cost_analysis()
    collectives = collectives_of(text, mesh)
    return {
        "flops": round(cost["flops"]),
        "bytes_accessed": round(cost["bytes accessed"]),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "fusions": len(_FUSION.findall(text)),
        "collectives": sum(each.count for each in collectives),
        "collective_bytes": sum(each.payload for each in collectives),
    }


def as_text(version: str, configs: Mapping[str, Counts]) -> str:
    """Returns the file, a line for each config."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(configs[name])}" for name in sorted(configs))
    return f'{{"made_by": "python -m tools.budgets --write", "jax": "{version}", "configs": {{\n{lines}\n}}}}\n'


if __name__ == "__main__":
    program.run(main)
