"""Train steps compiled for TPUs that are not there, beside other projects' own, compiled the same way.

Both sides: bfloat16 products, float32 parameters, 224 pixels, data parallel over the chips, AdamW for transformers and
SGD with momentum for the ResNet. Of one chip and step:

  TFLOP, GB  by the compiler; its bytes are those of all operands, in main memory or in the chip's own fast memory, and
             those of copies between the two
  main GB    read from and written to main memory alone, counted from the program's text
  GiB        of temporaries, by the compiler

A ratio below 1 is less than theirs. It needs the compiler (pip install -e ".[plan-tpu]"), no TPU and no data.

  python -m tools.roofline --chip v5e:2x2
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tools.planning import chips
from vision import program
from vision.errors import UserError, did_you_mean

GIB = 2**30
COLUMNS = ("TFLOP", "GB", "main GB", "GiB")


class Anchor(NamedTuple):
    """Another project's own train step, as libtpu 0.0.42 compiled it for v5e:2x2.

    Attributes:
      program: whose.
      numbers: of a step on one chip, as in ``COLUMNS``.
    """

    program: str
    numbers: tuple[float, float, float, float]


class Case(NamedTuple):
    """A training of ours.

    Attributes:
      batch: examples of a chip.
      sections: of the config beside those of a classification of ImageNet.
      config: a file to take in its place.
      anchor: the same training by another project, where it was compiled.
    """

    batch: int
    sections: Mapping[str, Any] = {}
    config: str = ""
    anchor: Anchor | None = None


ADAMW = {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1}
SGD = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
PLAIN = {"pool": "gap", "class_token": False, "positions": "sincos2d", "activation": "gelu_tanh"}  # as vit/S16_gap
CASES: dict[str, Case] = {
    "vit_s16": Case(
        128,
        {"model": {"name": "vit/S16_gap"}, "optimizer": ADAMW},
        anchor=Anchor("big_vision ViT-S/16", (3.558, 62.08, 19.91, 3.40)),
    ),
    "vit_b16": Case(
        64,
        {"model": {"name": "vit/B16", **PLAIN}, "optimizer": ADAMW},
        anchor=Anchor("big_vision ViT-B/16", (6.755, 52.25, 22.38, 3.50)),
    ),
    "resnet50": Case(
        128,
        {"model": {"name": "resnet/50"}, "optimizer": SGD},
        anchor=Anchor("flax example ResNet-50", (3.084, 48.93, 28.43, 4.21)),
    ),
    "mixer_b16": Case(
        64,
        {"model": {"name": "mixer/B16"}, "optimizer": ADAMW},
        # Its products in bfloat16, for which it has no option.
        anchor=Anchor("big_vision Mixer-B/16", (4.880, 27.04, 10.62, 1.83)),
    ),
    "siglip_b16": Case(
        32,
        config="configs/siglip_b16.py",
        # Its text tower too in bfloat16, where it is float32 as published.
        anchor=Anchor("big_vision SigLIP B/16", (4.493, 60.32, 15.17, 2.65)),
    ),
    "clip_b16": Case(32, config="configs/clip_vit.py:B16"),
    "dino_s16": Case(16, config="configs/dino_vits16_imagenet.py"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, compiles, prints a row as soon as it is there."""
    parser = program.Parser(__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--chip", default="v5e:2x2", help="which, as for tools.plan (default: v5e:2x2)")
    parser.add_argument("--remat", default="none", help="what image transformers compute again: none, dots or full")
    args = parser.read(argv)
    for name in args.cases:
        if name not in CASES:
            raise UserError(f"no case {name}{did_you_mean(name, CASES)}; known: {', '.join(CASES)}")
    target = chips.read_target(args.chip)
    if not chips.has_compiler(target):
        raise UserError(f"--chip {args.chip}: its compiler is not installed; pip install -e '.[{target.extra}]'")
    chips.prepare(target)
    program.prepare_jax()
    from tools.planning.described import read_facts
    from tools.planning.program import compile_step

    devices = chips.devices_of(target)
    print(f"{devices.compiler}, {target.text}; of one chip")
    cells = "".join(f"{each:>9}" for each in COLUMNS)
    print(f"{'case':<12}{cells}{'s':>6}   ratio:{cells}")
    rows = []
    facts = read_facts("examples=400000000,captions=1")  # of pairs from files that are not there
    for name in args.cases or CASES:
        case = CASES[name]
        config = config_of(case, target.count, args.remat)
        compiled = compile_step(config, target, devices, facts if config["text"] is not None else None)
        if compiled.memory is None:
            print(f"{name}: does not fit", file=sys.stderr)
            continue
        found = (
            *(compiled.flops / 1e12, compiled.accessed / 1e9, compiled.main_accessed / 1e9),
            compiled.memory.temporaries / GIB,
        )
        line = f"{name:<12}" + "".join(f"{each:>9.2f}" for each in found) + f"{compiled.seconds['compile']:>6.0f}"
        anchor = case.anchor if target.text == "v5e:2x2" else None
        ratios = [a / b for a, b in zip(found, anchor.numbers, strict=True)] if anchor is not None else []
        if anchor is not None:
            line += "         " + "".join(f"{each:>9.2f}" for each in ratios) + f"  {anchor.program}"
        print(line, flush=True)
        rows.append({"case": name, **dict(zip(COLUMNS, found, strict=True)), "ratios": ratios})
    program.finish({"chip": target.text, "compiler": devices.compiler, "rows": rows}, as_json=args.json)
    return 0


def config_of(case: Case, count: int, remat: str) -> dict[str, Any]:
    """Returns the resolved config of a case for so many chips."""
    from vision.config.loading import load
    from vision.training.schema import resolve

    sections: dict[str, Any] = dict(load(case.config, [])) if case.config else {**IMAGENET, **case.sections}
    if str(sections["model"]["name"]).startswith("vit/"):
        sections["model"] = {**sections["model"], "remat": remat}
    return resolve({**sections, "batch_size": case.batch * count})


IMAGENET: dict[str, Any] = {
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
    "objective": {"name": "classify"},
}


if __name__ == "__main__":
    program.run(main)
