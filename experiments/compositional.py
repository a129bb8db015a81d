"""Asks models of images and words for colors and shapes that they never saw together.

  python -m experiments.compositional --workdir runs/clip_shapes
  python -m experiments.compositional --workdir runs/clip0 runs/clip1 runs/clip2 --out runs/compositional

Runs learned from the captioned shapes (data.name shapes24 or shapes), such as those of configs/clip_shapes.py. Pictures
of seen and of held-out combinations are classified by words alone, among the held-out ones and among all, and retrieved
by captions, where every caption that is true of a picture counts. Several runs, of other seeds, give means and standard
deviations. Writes compositional.json and compositional.html. The pictures are drawn anew; no prepared data are needed.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError

_BATCH = 250


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, measures each run, writes, prints."""
    parser = program.Parser(__doc__)
    parser.add_argument("--workdir", required=True, nargs="+", metavar="RUN", help="folders of runs")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest of each)")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="for checkpoints that have none")
    parser.add_argument("--data", help="shapes24 or shapes (default: what the runs learned from)")
    parser.add_argument("--examples", type=int, default=2000, help="pictures of each split (default: 2000, all)")
    parser.add_argument("--templates", default="shapes", help="set of sentences for classes (default: shapes)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: the first run's)")
    args = parser.read(argv)
    program.prepare_jax()
    from vision.analysis import page
    from vision.evaluation.prompt_templates import templates_of
    from vision.studies import parts
    from vision.studies.compositional import measure
    from vision.studies.compositional.page import named, render, spread
    from vision.training.zero_shot import open_images_and_words

    note = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    try:
        templates_of(args.templates)
    except ValueError as error:
        raise UserError(f"--templates: {error}") from error
    if len(set(args.workdir)) < len(args.workdir):
        raise UserError("--workdir: the same run is there twice")
    names = {args.data} if args.data else {measure.data_of(workdir) for workdir in args.workdir}
    if len(names) > 1:
        raise UserError(f"the runs learned from different data: {', '.join(sorted(names))}; say which with --data")
    (name,) = names
    recipe = measure.recipe_of(name)
    seen, unseen = (measure.pictures_of(split, args.examples, recipe) for split in (measure.SEEN, measure.UNSEEN))
    runs = []
    for workdir in args.workdir:
        model = open_images_and_words(workdir, step=args.step, tokenizer=args.tokenizer, batch_size=_BATCH, note=note)
        found = measure.measured(model, seen, unseen, recipe, templates=args.templates)
        runs.append({"name": Path(workdir).name, "workdir": workdir, "model": model.name, **found})
        note(f"{workdir}: held out {found['metrics']['heldout_accuracy']:.3f}")
    result = {
        "data": name,
        "examples": args.examples,
        "heldout": [measure.CLASSES[each] for each in recipe.heldout],
        "captions": {measure.SEEN: len(seen.captions), measure.UNSEEN: len(unseen.captions)},
        "chance": measure.chances(seen, unseen, recipe),
        "summary": measure.summary(runs),
        "runs": runs,
    }
    out = args.out or Path(args.workdir[0])
    parts.write(out / "compositional.json", result)
    command = shlex.join(["python", "-m", "experiments.compositional", *(sys.argv[1:] if argv is None else argv)])
    path = page.save(out / "compositional.html", render(result, command=command))
    for metric, values in result["summary"].items():
        text = f"{named(metric):62} {spread(values):16} chance {result['chance'][metric]:.4f}"
        print(text, file=sys.stderr if args.json else sys.stdout)
    note(f"look at {path}")
    program.finish({**result, "page": str(path)}, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
