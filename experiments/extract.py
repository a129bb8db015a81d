"""Writes what a network says of images to files: features, on which any estimator or a linear model learns.

  python -m experiments.extract --workdir runs/quickstart --dataset digits --out runs/quickstart/digits
  python -m experiments.extract --weights resnet50.safetensors --model resnet/50 --dataset cifar10 --out runs/r50
  python -m experiments.train --config configs/classic/logistic_features.py --config.data.name=features:runs/r50

Images are prepared as the weights expect. --layer is any output of the network: pre_logits, block02, ...; positions of
a map and tokens are averaged, with --whole all of them are kept. The folder has arrays .npy in shards, with labels,
and features.json, which says what they were made of: weights, preprocessing, data, versions. The same command goes on
where it was stopped, and makes a broken shard anew; other features in the same folder are refused.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError
from vision.weights import add_weights, pretrained_of


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, extracts, says what to do with it."""
    parser = program.Parser(__doc__)
    parser.add_argument("--workdir", metavar="RUN", help="folder of a run")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    add_weights(parser)
    parser.add_argument("--dataset", required=True, help="such as cifar10 or folder:PATH, see config.data.name")
    parser.add_argument("--data_dir", help="folder of prepared TFDS data sets")
    parser.add_argument("--label", help="the feature of the data that is the label")
    parser.add_argument(
        "--split", nargs="+", default=["train", "test"], metavar="SPLIT", help="which (default: train test)"
    )
    parser.add_argument("--layer", default="pre_logits", help="output of the network (default: pre_logits)")
    parser.add_argument("--whole", action="store_true", help="keep every position and token, not their mean")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16"), help="of the files")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the files (default: RUN/extracted/DATASET_LAYER)"
    )
    parser.add_argument("--shard_size", type=int, default=8192, help="examples in a file (default: 8192)")
    parser.add_argument("--batch_size", type=int, default=256, help="images at a time (default: 256)")
    args = parser.read(argv)
    if (args.workdir is None) == (args.weights is None):
        raise UserError("give either --workdir or --weights")
    if args.out is None and args.workdir is None:
        raise UserError("--weights needs --out, the folder of the files")
    if len(set(args.split)) < len(args.split):
        raise UserError("--split: the same split is there twice")
    program.prepare_jax()
    from vision.training.checkpoint import open_existing
    from vision.training.extract import Wanted, extract

    if args.workdir is not None:
        args.out = args.out or Path(args.workdir) / "extracted" / re.sub(r"\W+", "_", f"{args.dataset}_{args.layer}")
        open_existing(args.workdir)

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    args.weights = args.weights or args.workdir
    result = extract(
        pretrained_of(args),
        args.dataset,
        args.out,
        splits=args.split,
        wanted=Wanted(args.layer, args.whole, args.dtype, args.shard_size, args.batch_size),
        data_dir=args.data_dir,
        label=args.label,
        note=note,
    )
    for split, each in result["splits"].items():
        note(f"{split}: {each['examples']:,} examples in {each['shards']} shards ({each['made']} made now)")
    note(f"{args.layer} {result['shape']} in {args.out}; learn on them with --config.data.name=features:{args.out}")
    program.finish({"weights": args.weights, "data": args.dataset, **result}, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
