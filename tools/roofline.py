"""Train steps compiled for TPUs that are not there, beside other projects' own, compiled the same way.

Both sides: bfloat16 products, float32 parameters, 224 pixels, data parallel over the chips, AdamW for transformers and
SGD with momentum for the ResNet. FLOPs, bytes accessed and bytes of temporaries are the compiler's, of one chip. A
ratio below 1 is less than theirs. It needs the compiler (pip install -e ".[plan-tpu]"), no TPU and no data.

  python -m tools.roofline --chip v5e:2x2
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tools.planning import chips
from vision import program
from vision.errors import UserError, did_you_mean

GIB = 2**30


class Anchor(NamedTuple):
    """Another project's own train step, as libtpu 0.0.42 compiled it for v5e:2x2.

    Attributes:
      program: whose.
      teraflops: of a step on one chip.
      gigabytes: accessed.
      temporaries: GiB.
    """

    program: str
    teraflops: float
    gigabytes: float
    temporaries: float


class Case(NamedTuple):
    """A network of ours.

    Attributes:
      model: section of a config.
      optimizer: likewise.
      batch: images of a chip.
      anchor: the same network of another project, where it was compiled.
    """

    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    batch: int
    anchor: Anchor | None = None


ADAMW = {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1}
SGD = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
PLAIN = {"pool": "gap", "class_token": False, "positions": "sincos2d", "activation": "gelu_tanh"}  # as vit/S16_gap
CASES: dict[str, Case] = {
    "vit_s16": Case({"name": "vit/S16_gap"}, ADAMW, 128, Anchor("big_vision ViT-S/16", 3.56, 62.1, 3.40)),
    "vit_b16": Case({"name": "vit/B16", **PLAIN}, ADAMW, 64, Anchor("big_vision ViT-B/16", 6.76, 52.2, 3.50)),
    "resnet50": Case({"name": "resnet/50"}, SGD, 128, Anchor("flax example ResNet-50", 3.08, 48.9, 4.21)),
    "mixer_b16": Case({"name": "mixer/B16"}, ADAMW, 64),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, compiles, prints a row as soon as it is there."""
    parser = program.Parser(__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--chip", default="v5e:2x2", help="which, as for tools.plan (default: v5e:2x2)")
    parser.add_argument("--remat", default="none", help="what transformers compute again: none, dots or full")
    args = parser.read(argv)
    for name in args.cases:
        if name not in CASES:
            raise UserError(f"no case {name}{did_you_mean(name, CASES)}; known: {', '.join(CASES)}")
    target = chips.read_target(args.chip)
    if not chips.has_compiler(target):
        raise UserError(f"--chip {args.chip}: its compiler is not installed; pip install -e '.[{target.extra}]'")
    chips.prepare(target)
    program.prepare_jax()
    from tools.planning.program import compile_step

    devices = chips.devices_of(target)
    print(f"{devices.compiler}, {target.text}; of one chip")
    head = ("case", "TFLOP", "GB", "GiB", "s", "TFLOP", "GB", "GiB")
    print(
        f"{head[0]:<12}"
        + "".join(f"{each:>8}" for each in head[1:5])
        + "   ratio:"
        + "".join(f"{each:>8}" for each in head[5:])
    )
    rows = []
    for name in args.cases or CASES:
        compiled = compile_step(config_of(CASES[name], target.count, args.remat), target, devices, None)
        if compiled.memory is None:
            print(f"{name}: does not fit", file=sys.stderr)
            continue
        found = (compiled.flops / 1e12, compiled.accessed / 1e9, compiled.memory.temporaries / GIB)
        anchor = CASES[name].anchor if target.text == "v5e:2x2" else None
        ratios: list[float] = []
        compared = ""
        if anchor is not None:
            ratios = [a / b for a, b in zip(found, anchor[1:], strict=True)]
            compared = "         " + "".join(f"{each:>8.2f}" for each in ratios) + f"  {anchor.program}"
        print(
            f"{name:<12}" + "".join(f"{each:>8.2f}" for each in (*found, compiled.seconds["compile"])) + compared,
            flush=True,
        )
        rows.append(
            {"case": name, "teraflops": found[0], "gigabytes": found[1], "temporaries_gib": found[2], "ratios": ratios}
        )
    program.finish({"chip": target.text, "compiler": devices.compiler, "rows": rows}, as_json=args.json)
    return 0


def config_of(case: Case, count: int, remat: str) -> dict[str, Any]:
    """Returns the resolved config of a case for so many chips."""
    from vision.training.schema import resolve

    transformer = str(case.model["name"]).startswith("vit/")
    return resolve(
        {
            "batch_size": case.batch * count,
            "duration": {"steps": 1000},
            "precision": "params=float32,compute=bfloat16,output=float32",
            "data": {
                "name": "imagenet2012",
                "image_size": 224,
                "crop": {"name": "random_resized"},
                "mean": (0.5, 0.5, 0.5),
                "std": (0.5, 0.5, 0.5),
                "residency": "host",
            },
            "model": {**case.model, "remat": remat} if transformer else dict(case.model),
            "objective": {"name": "classify"},
            "optimizer": dict(case.optimizer),
        }
    )


if __name__ == "__main__":
    program.run(main)
