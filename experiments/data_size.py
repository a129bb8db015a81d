"""Shows who needs more data: test accuracy of a CNN, a transformer, a Mixer and an MLP against training-set size.

  python -m experiments.data_size --dataset digits
  python -m experiments.data_size --dataset fashion_mnist --sizes 300 1000 3000 10000 --rungs cnn vit --seeds 3

The training sets are balanced, each holds the smaller ones, and every network takes the same number of steps. Writes
data_size.json and data_size.html; the same command goes on where it was stopped.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, trains, writes, prints."""
    parser = program.Parser(__doc__)
    parser.add_argument("--dataset", required=True, help="digits, fashion_mnist or cifar10")
    parser.add_argument("--sizes", nargs="+", type=int, metavar="N", help="training examples (default: four sizes)")
    parser.add_argument("--rungs", nargs="+", metavar="R", help="of cnn, vit, mixer and mlp (default: all)")
    parser.add_argument("--seeds", type=int, default=2, help="how many (default: 2)")
    parser.add_argument("--steps", type=int, help="of every training (default: as the data set asks)")
    parser.add_argument("--data_dir", help="folder of prepared TFDS data sets")
    parser.add_argument("--workdir", type=Path, help="folder for the results (default: runs/data_size_DATASET)")
    args = parser.read(argv)
    program.prepare_jax()
    from vision.analysis import page
    from vision.studies import parts
    from vision.studies.data_size.page import by_rung, render
    from vision.studies.data_size.study import Options, study

    note = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    options = Options(
        args.dataset,
        args.workdir or Path("runs") / f"data_size_{args.dataset}",
        rungs=tuple(args.rungs or Options.rungs),
        sizes=tuple(args.sizes or ()),
        seeds=args.seeds,
        steps=args.steps,
        data_dir=args.data_dir,
    )
    result = study(options, note=note)
    parts.write(options.workdir / "data_size.json", result)
    command = shlex.join(["python", "-m", "experiments.data_size", *(sys.argv[1:] if argv is None else argv)])
    path = page.save(options.workdir / "data_size.html", render(result, command=command))
    note(f"{'test accuracy':14}{''.join(f'{size:>16,}' for size in result['sizes'])}")
    for name, rows in by_rung(result).items():
        cells = [f"{row['accuracy']:.3f}" + (f" ±{row['sd']:.3f}" if row["sd"] is not None else "") for row in rows]
        note(f"{name:14}{''.join(f'{cell:>16}' for cell in cells)}")
    note(f"look at {path}")
    program.finish(result, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
