"""Shows what weights are worth on other data: from scratch, as features, and fine-tuned, at 1%, 10% and 100% of labels.

  python -m experiments.transfer --init_from runs/simclr --dataset fashion_mnist
  python -m experiments.transfer --init_from runs/half --dataset fashion_mnist --classes 5 6 7 8 9 --fractions 1 10
  python -m experiments.transfer --init_from runs/vit_b16 --dataset folder:PATH --only probe all --size full

Five methods: scratch, probe (logistic regression on frozen features), head, last (a third of the blocks) and all. The
network is that of a run of any objective with an image model, or of tools.convert_weights; its head is left out.
Every trained cell is an ordinary run in the folder (--workdir, by default runs/transfer_DATASET), of as many steps at
one share of the labels, with the architecture, preprocessing and augmentation of the weights; each seed has a part of
the labels of its own. Learning rates are chosen on held-out labels of the first seed. Writes transfer.json,
transfer.html and transfer.png, and prints a row as soon as it is measured. The same command goes on where it was
stopped. With --max_time it stops by itself with exit code 75.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, measures, writes, prints."""
    parser = program.Parser(__doc__)
    parser.add_argument("--init_from", required=True, metavar="RUN", help="folder of a run, or of converted weights")
    parser.add_argument("--dataset", required=True, help="a TFDS name or folder:PATH, as config.data.name")
    parser.add_argument("--data_dir", help="folder of prepared TFDS data sets (default: TFDS_DATA_DIR)")
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="these only, by number or name (default: all)")
    parser.add_argument("--split", default="train", help="whose labels are shared out (default: train)")
    parser.add_argument("--test", metavar="SPLIT", help="to evaluate on (default: the held-out one)")
    parser.add_argument(
        "--fractions",
        nargs="+",
        type=float,
        default=[1, 10, 100],
        metavar="%",
        help="of the labels (default: 1 10 100)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="of scratch, probe, head, last and all")
    parser.add_argument("--size", default="small", help="small or full: how long, how many rates (default: small)")
    parser.add_argument("--steps", type=int, help="of every training (default: as the size asks)")
    parser.add_argument(
        "--layerwise_decay", type=float, metavar="FACTOR", help="learning rates fall by it from block to block in 'all'"
    )
    parser.add_argument("--max_time", type=float, metavar="MINUTES", help="stop after so many minutes")
    parser.add_argument("--workdir", type=Path, help="folder of the study (default: runs/transfer_DATASET)")
    args = parser.read(argv)
    program.prepare_jax()
    from vision.analysis import page
    from vision.studies.transfer import picture
    from vision.studies.transfer.page import render, sentence
    from vision.studies.transfer.rows import Options
    from vision.studies.transfer.study import study

    note = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    rows = sys.stderr if args.json else sys.stdout
    name = args.dataset.rpartition(":")[2].rstrip("/").rpartition("/")[2]
    options = Options(
        init_from=args.init_from,
        dataset=args.dataset,
        workdir=args.workdir or Path("runs") / f"transfer_{name}",
        data_dir=args.data_dir,
        classes=tuple(args.classes) if args.classes else None,
        split=args.split,
        test=args.test,
        percents=tuple(map(float, args.fractions)),
        seeds=args.seeds,
        only=tuple(args.only or ()),
        minutes=args.max_time,
        size=args.size,
        steps=args.steps,
        layerwise_decay=args.layerwise_decay,
    )
    result = study(options, note=note, tell=lambda row, over: print(sentence(row, over), file=rows, flush=True))
    command = shlex.join(["python", "-m", "experiments.transfer", *(sys.argv[1:] if argv is None else argv)])
    path = page.save(options.workdir / "transfer.html", render(result, command=command))
    if result["rows"]:
        picture.save(options.workdir / "transfer.png", result)
    for each in result["missing"]:
        note(f"{each}: the time was over; the same command goes on")
    note(f"look at {path}")
    program.finish({**result, "page": str(path)}, as_json=args.json)
    return 75 if result["missing"] else 0


if __name__ == "__main__":
    program.run(main)
