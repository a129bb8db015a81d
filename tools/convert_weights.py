"""Converts weights: those of another library into a checkpoint of ours, or a checkpoint of ours into a file of theirs.

  python -m tools.convert_weights model.safetensors --to vit/B16 --out runs/vit_b16
  python -m tools.convert_weights ViT-B-32.pt --to clip/ViT-B32 --tokenizer bpe_simple_vocab_16e6.txt.gz --out runs/clip
  python -m tools.convert_weights runs/vit_b16 --to timm/vit --out vit_b16.safetensors

SRC is a .safetensors file, a file of PyTorch (where torch is installed), a folder as Hugging Face's, or a name of its
Hub (hf:owner/name); for the way back it is the folder of a run or of an earlier conversion. Whatever does not fit is
an error that names the arrays of both sides, unless --may_differ lists it. Of a pair of towers, such as clip/ViT-B32 or
siglip/B16, the options are written image.KEY=VALUE and text.KEY=VALUE.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision import program
from vision.errors import UserError, did_you_mean
from vision.weights import add_model_options, add_preprocessing, given_preprocessing, options_of

if TYPE_CHECKING:
    from vision.interop.load import Loaded
    from vision.interop.preprocessing import Preprocessing


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, converts, tells what was done."""
    parser = program.Parser(__doc__)
    parser.add_argument("source", metavar="SRC", help="a weight file, a folder, or hf:owner/name")
    parser.add_argument(
        "--to", required=True, help="a model such as vit/B16 or a pair such as clip/ViT-B32; or names such as timm/vit"
    )
    parser.add_argument("--out", required=True, help="folder of the checkpoint, or the .safetensors file")
    parser.add_argument("--step", type=int, help="which checkpoint of a run (default: the newest)")
    parser.add_argument("--no_average", action="store_true", help="a run's parameters, not their moving average")
    parser.add_argument("--num_classes", type=int, help="of the model; 0 for no head (default: as in the file)")
    parser.add_argument("--image_size", type=int, help="side of the images (default: the model's own)")
    add_model_options(parser)
    parser.add_argument("--naming", help="whose names the file uses, such as torchvision/resnet (default: found out)")
    parser.add_argument("--tokenizer", metavar="FILE", help="of a pair: CLIP's vocabulary or a tokenizer.json")
    parser.add_argument("--branch", help="which network of a training run's file, such as student")
    parser.add_argument(
        "--may_differ", action="append", default=[], metavar="REGEX", help="arrays that need not fit: head"
    )
    parser.add_argument("--seed", type=int, default=0, help="of arrays that the file does not fill")
    add_preprocessing(parser)
    args = parser.read(argv)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # arrays are moved, hardly anything is computed
    program.prepare_jax()
    from vision.interop.namings import NAMINGS
    from vision.interop.published_pairs import PAIRS

    if args.tokenizer and args.to not in PAIRS:
        raise UserError(f"--tokenizer is for a pair with a text tower ({', '.join(PAIRS)}), not for --to {args.to}")
    if args.to in PAIRS:
        result = import_towers(args)
    else:
        result = export_names(args) if args.to in NAMINGS else import_weights(args)
    program.finish(result, as_json=args.json)
    return 0


def import_weights(args: Namespace) -> dict[str, Any]:
    """Another library's weights into a checkpoint of ours."""
    from vision import models
    from vision.interop.files import read_weights
    from vision.interop.namings import NAMINGS
    from vision.interop.published_pairs import PAIRS
    from vision.interop.store import complete, describe
    from vision.interop.variant import import_variant

    out = _free(args.out)
    if args.to not in models.VARIANTS:
        near = did_you_mean(args.to, [*models.VARIANTS, *PAIRS, *NAMINGS])
        raise UserError(f"--to {args.to}: no model, and no library's names{near}; names: {', '.join(sorted(NAMINGS))}")
    options = options_of(args.option)
    if options.get("scan"):
        raise UserError(
            "--option scan: converted weights have their blocks one by one; scan is for the run that takes them"
        )
    weights = read_weights(args.source, branch=args.branch, note=_note)
    imported = import_variant(
        weights,
        args.to,
        options=options,
        num_classes=args.num_classes,
        image_size=args.image_size,
        may_differ=args.may_differ,
        naming=args.naming,
        note=_note,
    )
    model, num_classes, shape, loaded = imported
    preprocessing = _preprocessing(loaded.preprocessing, args, shape[2])
    metadata = describe(
        loaded,
        name=args.to,
        options=options,
        num_classes=num_classes,
        image_shape=shape,
        preprocessing=preprocessing,
    )
    _save(out, complete(loaded, model, shape, seed=args.seed), metadata)
    return _told(f"{args.to} with {num_classes} classes", loaded, preprocessing, out, metadata)


def import_towers(args: Namespace) -> dict[str, Any]:
    """Another library's CLIP or SigLIP into a checkpoint of ours, with both towers."""
    from vision.data.tokenizer import load
    from vision.interop.files import read_weights
    from vision.interop.published_pairs import complete_pair, described, import_pair

    out = _free(args.out)
    if args.num_classes:
        raise UserError(f"--num_classes: {args.to} has no head; classes are told by their names")
    tokenizer = load(args.tokenizer) if args.tokenizer else None
    pair = import_pair(
        read_weights(args.source, branch=args.branch, note=_note),
        args.to,
        options=options_of(args.option),
        image_size=args.image_size,
        may_differ=args.may_differ,
        naming=args.naming,
        note=_note,
    )
    preprocessing = _preprocessing(pair.loaded.preprocessing, args, pair.image_shape[2])
    metadata = described(pair, preprocessing, tokenizer)
    _save(out, complete_pair(pair, seed=args.seed), metadata)
    if tokenizer is None:
        _note("no tokenizer is stored: give --tokenizer here, or where texts are read")
    told = _told(f"{args.to} with {pair.text.vocab_size} tokens", pair.loaded, preprocessing, out, metadata)
    return {**told, "tokenizer": None if tokenizer is None else tokenizer.fingerprint}


def _free(folder: str) -> Path:
    out = Path(folder)
    if (out / "checkpoints").exists() or out.is_file():
        raise UserError(f"--out {out} exists already; choose another folder")
    return out


def _preprocessing(found: "Preprocessing | None", args: Namespace, channels: int) -> "Preprocessing | None":
    from vision.interop.preprocessing import override

    preprocessing = override(found, **given_preprocessing(args))
    if preprocessing is not None and len(preprocessing.mean) != channels:
        raise UserError(f"mean has {len(preprocessing.mean)} values, the images have {channels} channels")
    return preprocessing


def _save(out: Path, state: dict[str, Any], metadata: dict[str, Any]) -> None:
    from vision.training.checkpoint import Checkpoints

    checkpoints = Checkpoints(out / "checkpoints", note=_note)
    checkpoints.save(0, state, metadata)
    checkpoints.wait()
    checkpoints.close()


def _told(
    what: str, loaded: "Loaded", preprocessing: "Preprocessing | None", out: Path, metadata: dict[str, Any]
) -> dict[str, Any]:
    """Tells what was done, and returns it."""
    from vision.interop.namings import NAMINGS
    from vision.interop.preprocessing import LIBRARIES

    also = loaded.facts["same_names"]
    names = f"{loaded.facts['naming']}{' (the same as of ' + ', '.join(also) + ')' if also else ''}"
    _note(f"{what}, names of {names}")
    for line in loaded.report.lines():
        _note(line)
    _note(
        f"preprocessing ({preprocessing.source}): mean {preprocessing.mean}, std {preprocessing.std}, crop ratio "
        f"{preprocessing.crop_ratio:g}, {preprocessing.interpolation}{', squashed' if preprocessing.squash else ''}"
        if preprocessing
        else "preprocessing: the file does not state it and none is stored; give --mean and --std, or for released "
        f"weights of {', '.join(sorted(LIBRARIES.keys() & NAMINGS.keys()))} that --naming"
    )
    _note(f"written to {out}")
    report = loaded.report
    counts = {"arrays": len(report.fitted), "fresh": list(report.fresh), "unused": list(report.only_in_source)}
    return {"out": str(out), **metadata, **counts}


def export_names(args: Namespace) -> dict[str, Any]:
    """A checkpoint of ours into a file with another library's names."""
    from vision.interop.match import to_theirs, unfaithful
    from vision.interop.namings import NAMINGS
    from vision.interop.recognise import of_module
    from vision.interop.saved import model_of, stated_shape
    from vision.interop.tensors import write_safetensors
    from vision.training.checkpoint import load_arrays

    step, arrays, metadata = load_arrays(args.source, args.step)
    saved = model_of(
        arrays,
        metadata,
        image_shape=stated_shape(metadata, args.image_size),
        average=not args.no_average,
        source=args.source,
        note=_note,
    )
    module = saved.model.module
    if args.to not in of_module(module):
        known = ", ".join(of_module(module)) or "none"
        raise UserError(f"--to {args.to} are names for a {NAMINGS[args.to].module.__name__}; {saved.name} has {known}")
    theirs = to_theirs(saved.arrays, NAMINGS[args.to], module)
    folded = unfaithful(saved.arrays, NAMINGS[args.to], module)
    if folded:
        _note(f"these names have no place of their own for {', '.join(folded)}: outputs stay, their bits do not")
    out = Path(args.out)
    write_safetensors(out, theirs, {"format": "pt"})  # what transformers asks for
    _note(f"{len(theirs)} arrays of {args.source}, step {step}, written to {out} under the names of {args.to}")
    return {"out": str(out), "arrays": len(theirs), "step": step, "naming": args.to, "folded": folded}


def _note(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    program.run(main)
