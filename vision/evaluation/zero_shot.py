"""Zero-shot classification: the class whose name, in sentences, is most like the image."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from vision.data.source import Source
from vision.data.tokenizer import Tokenizer
from vision.evaluation.base import EvalSet, Evaluator, State, Value
from vision.evaluation.features import Features
from vision.evaluation.knn_search import check_finite
from vision.evaluation.outputs import check_labels
from vision.evaluation.prompt_templates import templates_of
from vision.evaluation.ranking import among_equals
from vision.evaluation.text_embeddings import IMAGES, check_words, class_embeddings, text_embedder
from vision.objectives.base import Objective

_WORDNET_ID = re.compile(r"n\d{8}")


def zero_shot(
    eval_set: EvalSet,
    objective: Objective,
    open_split: Callable[[str | None], EvalSet],
    features: Features,
    tokenizer: Tokenizer | None = None,
    token_length: int | None = None,
    *,
    templates: str | tuple[str, ...] = "plain",
    among: Literal["all", "present"] = "all",
    class_names: tuple[str, ...] | str | None = None,
    unseen_split: str | None = None,
    top: tuple[int, ...] = (1, 5),
) -> Evaluator:
    """Returns an evaluator that classifies images by the classes' names alone.

    A class is the mean embedding of its name in several sentences, see
    :func:`vision.evaluation.text_embeddings.class_embeddings`; the answer is the class with the largest cosine. It
    yields ``accuracy`` (for 1 of ``top``), ``top5_accuracy`` and so on (where so many classes compete), ``chance``,
    which is 1 / classes that compete, and ``confusion``, whose ``[t, p]`` counts the examples of true class t taken
    for p. Of equally near classes each is as probable as the others: a model to which all images or all words are
    alike has the accuracy of guessing.

    With ``unseen_split``, whose classes were not in the training, it also yields ``seen_accuracy`` of the split and
    ``unseen_accuracy`` of that one, both among *all* classes and as means over the classes, their
    ``harmonic_mean``, and ``chance_among_all`` (generalised zero-shot learning: Xian et al. 2019, section 4.1).

    Args:
      eval_set: what to classify.
      objective: whose ``encode`` gives ``image_embedding`` and ``text_embedding``.
      open_split: opens another split without augmentation.
      features: gives the outputs of splits.
      tokenizer: of the captions; None where the run has none.
      token_length: places of a text.
      templates: a set of :data:`vision.evaluation.prompt_templates.TEMPLATES` or sentences with ``{}``.
      among: ``present`` lets only those classes compete that occur in the split.
      class_names: of all classes, in place of those of the data; or the path of a text file with a name on each line.
      unseen_split: another split with other classes.
      top: numbers of classes, one of which must be the true one.

    Raises:
      UserError: the run knows no words.
      ValueError: an option that cannot be, classes without names, or images without one label each.
    """
    words = check_words(features, tokenizer, "zero_shot")
    sentences = templates_of(templates)
    if not top or min(top) < 1 or len(set(top)) < len(top):
        raise ValueError(f"top must be one or several different numbers >= 1, got {top}")
    unseen_set = None if unseen_split is None else open_split(unseen_split)
    for each in (eval_set, unseen_set or eval_set):
        check_labels(each.pipeline.source, "zero_shot")
    source = eval_set.pipeline.source
    names = _names(source, class_names)
    present = np.unique(source.labels())
    if unseen_set is not None:
        both = np.intersect1d(present, unseen_set.pipeline.source.labels())
        if len(both):
            raise ValueError(f"unseen_split {unseen_split!r}: class {names[both[0]]!r} is in both splits")
    competing = present if among == "present" else np.arange(len(names))
    counts = tuple(count for count in top if count == 1 or count <= len(competing))
    embed = text_embedder(objective, mesh=eval_set.pipeline.sharding.mesh)
    of_set = features.of(eval_set, (IMAGES,))
    of_unseen = None if unseen_set is None else features.of(unseen_set, (IMAGES,))

    def run(state: State) -> Iterator[tuple[str, Value]]:
        classes = class_embeddings(partial(embed, state), words, int(token_length or 0), names, sentences)
        found = of_set(state)
        labels = np.asarray(found.labels)
        check_finite(classes, "zero_shot: the classes")
        check_finite(found.outputs[IMAGES], "zero_shot: the images")
        scores = found.outputs[IMAGES] @ classes[competing].T
        right = np.searchsorted(competing, labels)
        for count in counts:
            yield _named(count), float(np.mean(among_best(scores, right, count)))
        yield "chance", 1.0 / len(competing)
        if of_unseen is not None:
            unseen = of_unseen(state)
            each = (
                _of_classes(images @ classes.T, np.asarray(truth))
                for images, truth in ((found.outputs[IMAGES], labels), (unseen.outputs[IMAGES], unseen.labels))
            )
            yield from _seen_and_unseen(*each, num_classes=len(names))
        confusion = np.zeros((len(names), len(names)), np.int64)
        np.add.at(confusion, (labels, competing[np.argmax(scores, axis=1)]), 1)
        yield "confusion", confusion

    of_both = () if unseen_set is None else ("seen_accuracy", "unseen_accuracy", "harmonic_mean", "chance_among_all")
    return Evaluator(run, (*map(_named, counts), "chance", *of_both), names)


def among_best(scores: np.ndarray, right: np.ndarray, count: int) -> np.ndarray:
    """Returns for every row the probability that its right column is among so many of the largest.

    It is 1 or 0 but among equal scores, which stand in random order. A NaN in the right column is never among them.

    Args:
      scores: ``[n, classes]``.
      right: int ``[n]``.
      count: of columns.
    """
    own = scores[np.arange(len(scores)), right][:, None]
    places = count - np.sum(~(scores <= own), axis=1)
    wrong = np.maximum(np.sum(scores == own, axis=1) - 1, 0)  # NaN does not even equal itself
    return among_equals(places, wrong, np.ones(len(scores), int))


def harmonic_mean(seen: float, unseen: float) -> float:
    """Returns ``2 s u / (s + u)``, 0 where both are 0."""
    return 2.0 * seen * unseen / (seen + unseen) if seen + unseen else 0.0


def _of_classes(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean over the classes of their accuracies."""
    right = among_best(scores, labels, 1)
    sums, sizes = np.bincount(labels, weights=right), np.bincount(labels)
    return float(np.mean(sums[sizes > 0] / sizes[sizes > 0]))


def _seen_and_unseen(seen: float, unseen: float, *, num_classes: int) -> Iterator[tuple[str, Value]]:
    yield "seen_accuracy", seen
    yield "unseen_accuracy", unseen
    yield "harmonic_mean", harmonic_mean(seen, unseen)
    yield "chance_among_all", 1.0 / num_classes


def _named(count: int) -> str:
    return "accuracy" if count == 1 else f"top{count}_accuracy"


def _names(source: Source, given: tuple[str, ...] | str | None) -> tuple[str, ...]:
    """The words for the classes.

    Raises:
      ValueError: there are none, or not as many as classes, or their file cannot be read.
    """
    given = _lines(given) if isinstance(given, str) else given
    names = source.class_names if given is None else given
    if given is not None and len(given) != source.num_classes:
        raise ValueError(f"class_names has {len(given)} names, the data have {source.num_classes} classes")
    cure = "give class_names, a word or several for every class, or a text file with a name on each line"
    if len(names) != source.num_classes:
        raise ValueError(f"zero_shot needs words for the classes, and the data have none; {cure}")
    if names and all(_WORDNET_ID.fullmatch(name) for name in names):
        raise ValueError(f"zero_shot needs words for the classes, and the data have ids such as {names[0]}; {cure}")
    if not all(name.strip() for name in names):
        raise ValueError(f"class {next(i for i, name in enumerate(names) if not name.strip())} has an empty name")
    return tuple(names)


def _lines(path: str) -> tuple[str, ...]:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8"
        raise ValueError(f"class_names: {path} cannot be read ({reason}); give a text file of names") from error
    return tuple(text.rstrip().splitlines())
