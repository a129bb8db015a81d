"""Linear probe: how well a linear classifier does on frozen features."""

from collections.abc import Callable, Iterator
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from vision.evaluation.base import EvalSet, Evaluator, State, Value
from vision.evaluation.features import Features
from vision.evaluation.outputs import check_labels
from vision.evaluation.probe_training import order_of_batches, score, train
from vision.evaluation.probe_views import columns, probed
from vision.evaluation.stratify import equal, proportional
from vision.objectives.base import Objective

LEARNING_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
_SUBSET, _VALIDATION, _ORDER = range(3)  # what is drawn from the seed


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
    validation_fraction: float = 0.1,
    validation_split: str | None = None,
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
    with ``blocks=(4,)`` and ``average_pool=(False,)``. What is held out to choose by is never
    trained on.

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
      validation_fraction: of the examples trained on, held out to choose by, classes in proportion; 0 where there
        is one classifier, which then needs no choice.
      validation_split: choose on this split instead.
      seed: of the parts, the order and the weights.

    Raises:
      ValueError: an option that cannot be, images without one label each, or nothing left to choose by.
      UserError: the model has no such blocks or output.
    """
    names, inputs = probed(features.outputs or (), blocks=blocks, average_pool=average_pool, output=output)
    grid = list(product(range(len(inputs)), range(len(learning_rates))))
    if not learning_rates or min(learning_rates) <= 0 or len(set(learning_rates)) < len(learning_rates):
        raise ValueError(f"learning_rates must be different numbers > 0, got {learning_rates}")
    if steps < 1 or train_batch_size < 1:
        raise ValueError(f"steps and train_batch_size must be >= 1, got {steps} and {train_batch_size}")
    if label_fraction is not None and examples_per_class is not None:
        raise ValueError("label_fraction and examples_per_class exclude each other")
    if label_fraction is not None and not 0.0 < label_fraction <= 1.0:
        raise ValueError(f"label_fraction must be in (0, 1], got {label_fraction:g}")
    if examples_per_class is not None and examples_per_class < 1:
        raise ValueError(f"examples_per_class must be >= 1, got {examples_per_class}")
    if not 0.0 <= validation_fraction < 1.0:
        raise ValueError(f"validation_fraction must be in [0, 1), got {validation_fraction:g}")
    train_set = open_split(train_split)
    validation_set = None if validation_split is None else open_split(validation_split)
    sets = [each for each in (eval_set, train_set, validation_set) if each is not None]
    for each in sets:
        check_labels(each.pipeline.source, "linear_probe")
    source = train_set.pipeline.source
    labelled = len(source)
    if label_fraction is not None:
        labelled = max(round(label_fraction * labelled), 1)
    if examples_per_class is not None:
        labelled = min(examples_per_class * source.num_classes, labelled)
    held_out = 0 if validation_set is not None else round(validation_fraction * labelled)
    chosen_by = held_out or validation_set is not None
    if len(grid) > 1 and not chosen_by:
        raise ValueError(
            f"validation_fraction {validation_fraction:g} of {labelled} examples leaves none to choose one of "
            f"{len(grid)} classifiers by; set it or validation_split, or one learning rate, blocks and average_pool"
        )
    test_of, train_of = features.of(eval_set, names), features.of(train_set, names)
    validation_of = None if validation_set is None else features.of(validation_set, names)

    def run(state: State) -> Iterator[tuple[str, Value]]:
        gathered = train_of(state)
        labels = np.asarray(gathered.labels)
        rows = _labelled(labels, label_fraction, examples_per_class, seed)
        kept = np.zeros(0, int)
        if held_out:
            count = max(round(validation_fraction * len(rows)), 1)
            kept = rows[proportional(labels[rows], count, seed=(seed, _VALIDATION))]
        rows = np.setdiff1d(rows, kept)
        whole, views = columns(gathered, names, inputs)
        batch = min(train_batch_size, len(rows))
        params = train(
            jnp.asarray(whole[rows]),
            jnp.asarray(labels[rows]),
            jnp.asarray(order_of_batches(len(rows), batch, steps, seed=(seed, _ORDER))),
            jnp.asarray(learning_rates, jnp.float32) * (batch / 256),
            jax.random.key(seed),
            views=views,
            num_classes=source.num_classes,
        )

        def scores_on(part: np.ndarray, labels: np.ndarray | None):
            return score(params, part, np.asarray(labels), views, num_classes=source.num_classes)

        best = grid[0]
        if chosen_by:
            given = None if validation_of is None else validation_of(state)
            part = (whole[kept], labels[kept]) if given is None else (columns(given, names, inputs)[0], given.labels)
            validation = scores_on(*part)
            loss = np.where(np.isfinite(validation.loss), validation.loss, np.inf)
            best = min(grid, key=lambda one: (-validation.accuracy[one], loss[one]))
        test = test_of(state)
        yield "accuracy", float(scores_on(columns(test, names, inputs)[0], test.labels).accuracy[best])
        if chosen_by:
            yield "validation_accuracy", float(validation.accuracy[best])
        yield "learning_rate", float(learning_rates[best[1]])
        yield "blocks", float(inputs[best[0]].blocks)
        yield "average_pool", float(inputs[best[0]].average_pool)

    which = ("learning_rate", "blocks", "average_pool")
    metrics = ("accuracy", "validation_accuracy") if chosen_by else ("accuracy",)
    return Evaluator(run, (*metrics, *which), eval_set.pipeline.source.class_names)


def _labelled(labels: np.ndarray, fraction: float | None, each: int | None, seed: int) -> np.ndarray:
    """The rows whose labels may be used, ascending."""
    if fraction is not None:
        count = max(round(fraction * len(labels)), 1)
        return proportional(labels, count, seed=(seed, _SUBSET), at_least=1)
    return np.arange(len(labels)) if each is None else equal(labels, each, seed=(seed, _SUBSET))
