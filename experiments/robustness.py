"""Shows what runs withstand: their accuracy on images that are moved, turned, tilted, lit, blurred, covered or noisy.

  python -m experiments.robustness --dataset digits
  python -m experiments.robustness --workdirs runs/quickstart runs/hog --corruptions rotation blur --strengths 1 3 5

Runs are folders of trained networks and of fitted estimators in any mixture, all of the same data. With --dataset five
rungs of the ladder are made first: HOG with an SVM, SIFT words with a random forest, a multilayer perceptron, LeNet and
a vision transformer. Writes robustness.json and robustness.html; a run that is measured is not measured again.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, trains where there are no runs yet, measures, writes, prints."""
    parser = program.Parser(__doc__)
    parser.add_argument("--workdirs", nargs="+", metavar="RUN", help="folders of the runs")
    parser.add_argument("--dataset", help="instead of runs: digits, fashion_mnist or cifar10")
    parser.add_argument("--size", default="small", help="with --dataset: small, medium or full (default: small)")
    parser.add_argument("--data_dir", help="with --dataset: folder of prepared TFDS data sets")
    parser.add_argument("--corruptions", nargs="+", metavar="C", help="these only (default: all ten)")
    parser.add_argument("--strengths", nargs="+", type=int, metavar="N", help="of 1 to 5 (default: all)")
    parser.add_argument("--examples", type=int, default=1000, help="test images, at most (default: 1000)")
    parser.add_argument("--split", help="where they come from (default: the held-out split)")
    parser.add_argument("--workdir", type=Path, help="folder for the results (default: runs/robustness_DATASET)")
    args = parser.read(argv)
    if (args.workdirs is None) == (args.dataset is None):
        raise UserError("give either --workdirs RUN [RUN ...] or --dataset")
    program.prepare_jax()
    from vision.analysis import page
    from vision.studies import parts
    from vision.studies.robustness import measure
    from vision.studies.robustness.page import render

    options = measure.Options(
        args.workdir or Path("runs") / f"robustness{f'_{args.dataset}' if args.dataset else ''}",
        corruptions=tuple(args.corruptions or measure.Options.corruptions),
        strengths=tuple(args.strengths or measure.Options.strengths),
        examples=args.examples,
        split=args.split,
    )
    measure.check(options)
    folders = args.workdirs or measure.climbed(args.dataset, args.size, options.workdir, data_dir=args.data_dir)
    result, images = measure.measured(measure.opened(folders), options)
    parts.write(options.workdir / "robustness.json", result)
    command = shlex.join(["python", "-m", "experiments.robustness", *(sys.argv[1:] if argv is None else argv)])
    text = render(result, images.arrays["image"], command=command)
    for run in result["runs"]:
        print(
            f"{run['name']:30} accuracy {run['accuracy']:.3f}  corrupted {run['mean_accuracy']:.3f}  "
            f"kept {100 * run['kept']:.0f}%",
            file=sys.stderr,
        )
    print(f"look at {page.save(options.workdir / 'robustness.html', text)}", file=sys.stderr)
    program.finish(result, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
