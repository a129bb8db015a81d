"""Linear probe: how well a linear classifier does on frozen features."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision.evaluation.base import EvalSet, Evaluator, State, Value
from vision.evaluation.features import Features
from vision.evaluation.outputs import check_labels
from vision.evaluation.probe_choice import (
    best,
    check_training,
    cross_validated,
    how_many_labelled,
    labelled_rows,
    share_held_out,
)
from vision.evaluation.probe_training import Linear, Scores, order_of_batches, score, train
from vision.evaluation.probe_views import columns, probed
from vision.evaluation.stratify import folded, proportional
from vision.objectives.base import Objective

LEARNING_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
_SUBSET, _VALIDATION, _ORDER, _FOLDS = range(4)  # what is drawn from the seed


def linear_probe(
    eval_set: EvalSet,
    objective: Objective,
    open_split: Callable[[str | None], EvalSet],
    features: Features,
    *,
    learning_rates: tuple[float, ...] = LEARNING_RATES,
    blocks: tuple[int, ...] | None = None,
    average_pool: tuple[bool, ...] | None = None,
    output: str | None = None,
    steps: int = 1250,
    train_batch_size: int = 1024,
    train_split: str | None = None,
    label_fraction: float | None = None,
    examples_per_class: int | None = None,
    validation_fraction: float | None = None,
    validation_split: str | None = None,
    folds: int | None = None,
    seed: int = 0,
) -> Evaluator:
    """Returns an evaluator that trains linear classifiers on frozen features and reports the best.

    It yields ``accuracy`` on the split, ``validation_accuracy``, by which the classifier was chosen (of equal ones
    that with the lower cross-entropy there), and which it was: ``learning_rate``, as in the grid, ``blocks`` and
    ``average_pool`` (1 or 0; both 0 where one output is probed).

    The grid is DINOv2's (Oquab et al. 2023, appendix B.3 and ``eval/linear.py``): 13 learning rates, times batch / 256;
    the class tokens, through the final norm, of the last 1 or 4 blocks concatenated; and the mean of the last patch
    tokens beside them or not. All are trained at once by SGD with momentum 0.9, no weight decay, a cosine to 0,
    weights from N(0, 0.01), biases of 0. Features are not standardised, there as here. There they are of
    augmented images and training takes 12,500 steps; here they are made once, without augmentation, and the default
    is a tenth of the steps. DINO's first protocol (Caron et al. 2021, ``eval_linear.py``) is ``learning_rates=(1e-3,)``
    with ``blocks=(4,)`` and ``average_pool=(False,)``.

    What is held out to choose by is never trained on. With few labels that part says little: a tenth of 600 tells
    steps of 1/60. ``folds=5`` holds out every labelled example once, in five trainings, chooses by the accuracy over
    all of them (of equal ones by their mean cross-entropy), and trains the chosen anew on all.

    Args:
      eval_set: what to report on.
      objective: whose ``encode`` gives the features.
      open_split: opens another split without augmentation; None for the training data.
      features: gives the outputs of splits.
      learning_rates: for a batch of 256.
      blocks: how many of the last blocks; None for those of 1 and 4 that there are. A model without class tokens
        is probed at ``pre_logits``, and has neither blocks nor patch tokens to choose from.
      average_pool: whether the mean of the patch tokens is there too; None tries both.
      output: probe this output alone, such as ``block03:mean``, see :func:`vision.evaluation.outputs.named`.
      steps: of training.
      train_batch_size: examples a step; all where there are fewer.
      train_split: where to train; None for the training data.
      label_fraction: train, and choose, on this share of the training split alone, classes in proportion.
      examples_per_class: likewise on so many of each class.
      validation_fraction: of the examples trained on, held out to choose by, classes in proportion; None for a
        tenth, 0 where there is one classifier, which then needs no choice.
      validation_split: choose on this split instead.
      folds: choose by cross-validation over so many parts instead, classes in proportion.
      seed: of the parts, the order and the weights.

    Raises:
      ValueError: an option that cannot be, images without one label each, or nothing left to choose by.
      UserError: the model has no such blocks or output.
    """
    names, inputs = probed(features.outputs or (), blocks=blocks, average_pool=average_pool, output=output)
    grid = list(product(range(len(inputs)), range(len(learning_rates))))
    check_training(learning_rates, steps=steps, train_batch_size=train_batch_size)
    train_set = open_split(train_split)
    validation_set = None if validation_split is None else open_split(validation_split)
    sets = [each for each in (eval_set, train_set, validation_set) if each is not None]
    for each in sets:
        check_labels(each.pipeline.source, "linear_probe")
    source = train_set.pipeline.source
    allowed: dict[str, Any] = {"label_fraction": label_fraction, "examples_per_class": examples_per_class}
    held_out = share_held_out(
        how_many_labelled(len(source), source.num_classes, **allowed),
        len(grid),
        validation_fraction=validation_fraction,
        validation_split=validation_split,
        folds=folds,
    )
    chosen_by = held_out > 0 or validation_set is not None or folds is not None
    test_of, train_of = features.of(eval_set, names), features.of(train_set, names)
    validation_of = None if validation_set is None else features.of(validation_set, names)

    def run(state: State) -> Iterator[tuple[str, Value]]:
        gathered = train_of(state)
        labels = np.asarray(gathered.labels)
        rows = labelled_rows(labels, **allowed, seed=(seed, _SUBSET))
        kept = np.zeros(0, int)
        if held_out:
            count = max(round(held_out * len(rows)), 1)
            kept = rows[proportional(labels[rows], count, seed=(seed, _VALIDATION))]
        rows = np.setdiff1d(rows, kept)
        whole, views = columns(gathered, names, inputs)
        fold_of = None if folds is None else folded(labels[rows], folds, seed=(seed, _FOLDS))
        # One batch size for all trainings, so that a learning rate is the same in each.
        smallest = len(rows) if fold_of is None else len(rows) - int(np.bincount(fold_of).max())
        batch = min(train_batch_size, smallest)

        def fit(part: np.ndarray) -> list[Linear]:
            return train(
                jnp.asarray(whole[part]),
                jnp.asarray(labels[part]),
                jnp.asarray(order_of_batches(len(part), batch, steps, seed=(seed, _ORDER))),
                jnp.asarray(learning_rates, jnp.float32) * (batch / 256),
                jax.random.key(seed),
                views=views,
                num_classes=source.num_classes,
            )

        def scores_on(params: list[Linear], part: np.ndarray, labels: np.ndarray | None) -> Scores:
            return score(params, part, np.asarray(labels), views, num_classes=source.num_classes)

        params = fit(rows)
        validation: Scores | None = None
        if fold_of is not None:
            validation = cross_validated(
                lambda part: fit(rows[part]),
                lambda params, part: scores_on(params, whole[rows[part]], labels[rows[part]]),
                fold_of,
            )
        elif validation_of is not None:
            given = validation_of(state)
            validation = scores_on(params, columns(given, names, inputs)[0], given.labels)
        elif held_out:
            validation = scores_on(params, whole[kept], labels[kept])
        which = grid[0] if validation is None else best(validation, grid)
        test = test_of(state)
        yield "accuracy", float(scores_on(params, columns(test, names, inputs)[0], test.labels).accuracy[which])
        if validation is not None:
            yield "validation_accuracy", float(validation.accuracy[which])
        yield "learning_rate", float(learning_rates[which[1]])
        yield "blocks", float(inputs[which[0]].blocks)
        yield "average_pool", float(inputs[which[0]].average_pool)

    metrics = ("accuracy", "validation_accuracy") if chosen_by else ("accuracy",)
    of_choice = ("learning_rate", "blocks", "average_pool")
    return Evaluator(run, (*metrics, *of_choice), eval_set.pipeline.source.class_names)
