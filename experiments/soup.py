"""Averages the weights of fine-tuned runs: a soup that is often better than its best ingredient, at no cost.

  python -m experiments.soup --workdir runs/a runs/b runs/c --out runs/soup
  python -m experiments.soup --workdir runs/a runs/b runs/c --greedy --split 'train[90%:]' --out runs/soup
  python -m experiments.evaluate --weights runs/soup --data cifar10 --split test

Runs of one architecture that started from the same weights (Wortsman et al. 2022). Uniform takes all of them; --greedy
goes from the best down and keeps what does not lower --metric on --split, which none of them may have learned from and
which is not the test split. --recalibrate takes the statistics of batch normalisation anew, from so many training
batches. The folder is read wherever weights are: evaluate, predict, look, extract, config.init_from.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision import program
from vision.errors import UserError

if TYPE_CHECKING:
    from vision.training.ingredients import Ingredient
    from vision.training.state import TrainState


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, averages, writes, says what came of it."""
    parser = program.Parser(__doc__)
    parser.add_argument("--workdir", required=True, nargs="+", metavar="RUN", help="folders of runs or imports")
    parser.add_argument("--no_average", action="store_true", help="take trained weights, not their moving averages")
    parser.add_argument("--greedy", action="store_true", help="keep only ingredients that do not lower the metric")
    parser.add_argument("--split", help="held-out data that ingredients and soup are measured on")
    parser.add_argument("--data", help="of that split, as config.data.name (default: what the runs learned from)")
    parser.add_argument("--data_dir", help="folder of prepared TFDS data sets")
    parser.add_argument("--metric", default="accuracy", help="of classification (default: accuracy)")
    parser.add_argument("--recalibrate", type=int, default=0, metavar="N", help="batches for new statistics")
    parser.add_argument("--batch_size", type=int, default=256, help="images at a time in evaluation (default: 256)")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the soup")
    args = parser.read(argv)
    if len(args.workdir) < 2:
        raise UserError("--workdir: an average needs at least two runs")
    if len({Path(each).resolve() for each in args.workdir}) < len(args.workdir):
        raise UserError("--workdir: the same run is there twice")
    if args.greedy and args.split is None:
        raise UserError("--greedy chooses by held-out data: say which with --split")
    if args.recalibrate < 0:
        raise UserError(f"--recalibrate must be at least 0, got {args.recalibrate}")
    if (args.out / "checkpoints").exists() or args.out.is_file():
        raise UserError(f"--out {args.out} exists already; choose another folder")
    program.prepare_jax()
    from vision.training import ingredients as files
    from vision.training import soup

    found = files.open_ingredients(args.workdir, average=not args.no_average, note=_note)
    states = [each.state for each in found]
    soup.check_same_arrays(states, args.workdir)
    metric, value = _metric(args, found), None

    def finish(state: "TrainState") -> "TrainState":
        if not args.recalibrate:
            return state
        images = files.training_images(found[0], args.recalibrate)
        return soup.recalibrated(found[0].pretrained.model, state, images, frozen=soup.same_in_all(states))

    if args.greedy:
        better = soup.greedy(
            states, args.workdir, metric, more_is_better=_more_is_better(args.metric), finish=finish, note=_note
        )
        state, kept, alone, value = better.state, list(better.kept), list(better.alone), better.value
    else:
        state, kept = finish(soup.average(states, args.workdir)), list(range(len(states)))
        alone = [metric(each) for each in states] if args.split else []
        value = metric(state) if args.split else None
    facts: dict[str, Any] = {
        "kind": "greedy" if args.greedy else "uniform",
        "moving_averages": not args.no_average,
        "recalibrated_on": args.recalibrate,
        "split": args.split,
        "metric": args.metric,
        "alone": dict(zip(args.workdir, alone, strict=False)),
        "value": value,
    }
    files.save(args.out, state, [found[position] for position in kept], facts, _note)
    for name, each in facts["alone"].items():
        _note(f"{name}: {args.metric} {each:.4f} on {args.split}")
    names = [args.workdir[position] for position in kept]
    _note(
        f"soup of {', '.join(names)}{'' if value is None else f': {args.metric} {value:.4f} on {args.split}'}; "
        f"written to {args.out}"
    )
    program.finish({"out": str(args.out), "ingredients": names, **facts}, as_json=args.json)
    return 0


def _metric(args: Namespace, found: "Sequence[Ingredient]") -> Any:
    """A metric of a state on held-out data; one compiled program for all states."""
    from vision.training.pretrained import evaluators_on

    if args.split is None:
        return None
    data = found[0].config.get("data") or {}
    name = args.data or data.get("name")
    if name is None:
        raise UserError(f"--data: {found[0].name} is no run, so what it is measured on must be said")
    if args.data is None and args.split == data.get("split"):
        raise UserError(f"--split {args.split}: the ingredients learned from it; give a part that they have not seen")
    if args.greedy and args.split.startswith("test"):
        _note(f"warning: chosen on {args.split}, the soup's accuracy there is no estimate of what it is elsewhere")
    selection = {key: data[key] for key in ("classes",) if args.data is None and data.get(key)}
    evaluators, _ = evaluators_on(
        found[0].pretrained,
        name,
        split=args.split,
        data_dir=args.data_dir or data.get("data_dir"),
        label=data.get("label") if args.data is None else None,
        evaluators={"classification": {"name": "classification"}},
        batch_size=args.batch_size,
        note=_note,
        **selection,
    )
    evaluator = evaluators["classification"]
    if args.metric not in evaluator.metrics:
        raise UserError(f"--metric {args.metric}: classification has {', '.join(evaluator.metrics)}")
    return lambda state: float(dict(evaluator.run(state))[args.metric])


def _more_is_better(metric: str) -> bool:
    from vision.training.early_stopping import mode_of

    return mode_of(metric, None) == "max"


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    program.run(main)
