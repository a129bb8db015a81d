"""Tells images apart by words alone: the labels most like each image, and a page to look at.

  python -m experiments.zero_shot --workdir runs/clip --images FOLDER --labels "a cat, a dog, a boat"
  python -m experiments.zero_shot --workdir runs/ViT-B32 --images a.jpg --labels_file labels.txt --templates imagenet

--workdir is a run that learned from captions, or a CLIP converted by tools.convert_weights. Labels are put into the
sentences of a set (plain, name, cifar10, imagenet, imagenet_7, mnist, fashion_mnist, shapes), or into one's own: each
--template "a drawing of a {}" is one. A label with a comma in it goes into a file, a label on each line. An image that
does not decode is named and passed over.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, compares images with labels, prints and writes the page."""
    parser = program.Parser(__doc__)
    parser.add_argument("--workdir", required=True, help="folder of a run or of a converted pair")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="for a checkpoint that has none")
    parser.add_argument("--images", required=True, nargs="+", metavar="PATH", help="files and folders")
    parser.add_argument("--labels", metavar="WORDS", help="separated by commas")
    parser.add_argument("--labels_file", type=Path, metavar="FILE", help="one on each line")
    parser.add_argument("--templates", help="a set of sentences (default: plain)")
    parser.add_argument("--template", action="append", metavar="SENTENCE", help="with {} for a label; may be repeated")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: zero_shot.html, in the run's folder)"
    )
    parser.add_argument("--top", type=int, default=5, help="how many labels of each image (default: 5)")
    parser.add_argument("--batch_size", type=int, default=32, help="images at a time (default: 32)")
    args = parser.read(argv)
    if (args.labels is None) == (args.labels_file is None):
        raise UserError("give either --labels or --labels_file")
    if args.templates is not None and args.template:
        raise UserError("give either --templates or --template")
    for name in ("top", "batch_size"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(args, name)}")
    program.prepare_jax()
    from vision.analysis.predictions import write_page
    from vision.evaluation.prompt_templates import templates_of
    from vision.training.predict import find_images
    from vision.training.zero_shot import checked_labels, classify, open_images_and_words, sentences_cut

    where, given = _labels(args)
    try:
        templates = templates_of(args.template or args.templates or "plain")
    except ValueError as error:
        raise UserError(f"--templates: {error}") from error
    checked_labels(given, where=where, alone=True)  # before anything is loaded
    paths = find_images(args.images)
    model = open_images_and_words(
        args.workdir, step=args.step, tokenizer=args.tokenizer, batch_size=args.batch_size, note=_note
    )
    labels = checked_labels(given, where=where, alone=model.bias is not None)
    if cut := sentences_cut(model, labels, templates):
        _note(
            f"{len(cut)} sentences are longer than the model's {model.length} tokens and were cut, such as {cut[0]!r}"
        )
    predictions, broken = classify(model, paths, labels, templates, top=args.top, batch_size=args.batch_size)
    for path, reason in broken:
        _note(f"{path}: {reason}")
    if not predictions:
        raise UserError(f"none of {len(paths)} images decodes")
    width = max(map(len, labels))
    shown = []
    for each in predictions:
        ranked = list(zip((labels[k] for k in each.classes), each.probabilities, strict=True))
        shown.append(
            {"image": str(each.path), "top": [{"label": label, "probability": p} for label, p in ranked]},
        )
        lines = (f"  {place}  {label:{width}}  {p:.3f}" for place, (label, p) in enumerate(ranked, start=1))
        print(f"{each.path}\n" + "\n".join(lines), file=sys.stderr if args.json else sys.stdout)
    page = args.out or Path(args.workdir) / "zero_shot.html"
    told = f"one of {len(labels)} labels" if model.bias is None else f"each of {len(labels)} labels by itself"
    note = f"Probabilities of {told}, in {len(templates)} sentences such as {templates[0]!r}."
    write_page(page, predictions, labels, title=f"{model.name}: {args.workdir}", note=note)
    _note(f"page: {page}")
    result = {"workdir": args.workdir, "model": model.name, "labels": list(labels), "templates": list(templates)}
    result |= {"predictions": shown, "broken": [str(path) for path, _ in broken], "page": str(page)}
    program.finish(result, as_json=args.json)
    return 0


def _labels(args) -> tuple[str, list[str]]:
    """Where the labels come from, and they."""
    if args.labels_file is None:
        return "--labels", args.labels.split(",")
    try:
        lines = args.labels_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--labels_file {args.labels_file}: {reason}") from error
    return f"--labels_file {args.labels_file}", lines


def _note(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    program.run(main)
