"""Linear probe: how well a linear classifier does on frozen features."""

import re
from collections.abc import Callable, Collection, Iterator
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from vision.errors import UserError
from vision.evaluation.base import EvalSet, Evaluator, State, Value
from vision.evaluation.features import Features
from vision.evaluation.outputs import MEAN, Gathered, check_labels
from vision.evaluation.probe_training import View, order_of_batches, score, train
from vision.evaluation.stratify import equal, proportional
from vision.objectives.base import Objective

LEARNING_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
BLOCKS = (1, 4)
_PATCHES = f"patch_tokens{MEAN}"
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
    with ``blocks=(4,)`` and ``average_pool=(False,)``.

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
    shape = _Shape(features.outputs or {}, blocks, average_pool, output)
    grid = list(product(range(len(shape.views)), range(len(learning_rates))))
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
    test_of, train_of = features.of(eval_set, shape.names), features.of(train_set, shape.names)
    validation_of = None if validation_set is None else features.of(validation_set, shape.names)

    def run(state: State) -> Iterator[tuple[str, Value]]:
        gathered = train_of(state)
        labels = np.asarray(gathered.labels)
        rows = _labelled(labels, label_fraction, examples_per_class, seed)
        kept = np.zeros(0, int)
        if held_out:
            kept = rows[proportional(labels[rows], round(validation_fraction * len(rows)), seed=(seed, _VALIDATION))]
        rows = np.setdiff1d(rows, kept)
        whole, views = shape.columns(gathered)
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
            part = (whole[kept], labels[kept]) if given is None else (shape.columns(given)[0], given.labels)
            validation = scores_on(*part)
            loss = np.where(np.isfinite(validation.loss), validation.loss, np.inf)
            best = min(grid, key=lambda one: (-validation.accuracy[one], loss[one]))
        test = test_of(state)
        yield "accuracy", float(scores_on(shape.columns(test)[0], test.labels).accuracy[best])
        if chosen_by:
            yield "validation_accuracy", float(validation.accuracy[best])
        yield "learning_rate", float(learning_rates[best[1]])
        yield "blocks", float(shape.views[best[0]][0])
        yield "average_pool", float(shape.views[best[0]][1])

    which = ("learning_rate", "blocks", "average_pool")
    metrics = ("accuracy", "validation_accuracy") if chosen_by else ("accuracy",)
    return Evaluator(run, (*metrics, *which), eval_set.pipeline.source.class_names)


def _labelled(labels: np.ndarray, fraction: float | None, each: int | None, seed: int) -> np.ndarray:
    """The rows whose labels may be used, ascending."""
    if fraction is not None:
        count = max(round(fraction * len(labels)), 1)
        return proportional(labels, count, seed=(seed, _SUBSET), at_least=1)
    return np.arange(len(labels)) if each is None else equal(labels, each, seed=(seed, _SUBSET))


class _Shape:
    """Which outputs are probed, and which columns of them each classifier sees."""

    def __init__(
        self,
        outputs: Collection[str],
        blocks: tuple[int, ...] | None,
        average_pool: tuple[bool, ...] | None,
        output: str | None,
    ):
        tokens = sorted(name for name in outputs if re.fullmatch(r"block\d+/class_token", name))
        if output is not None or not tokens:
            if blocks is not None or average_pool is not None:
                why = "output is one of the model's own" if output is not None else "the model has no class tokens"
                raise ValueError(f"blocks and average_pool: {why}")
            self.names: tuple[str, ...] = (output or "pre_logits",)
            self.views = [(0, False)]
            return
        blocks = tuple(number for number in BLOCKS if number <= len(tokens)) if blocks is None else blocks
        average_pool = (False, True) if average_pool is None else average_pool
        if not blocks or not average_pool or len(set(blocks)) < len(blocks) or len(set(average_pool)) < len(average_pool):
            raise ValueError(f"blocks and average_pool must be different values, got {blocks} and {average_pool}")
        if min(blocks) < 1 or max(blocks) > len(tokens):
            raise UserError(f"blocks must be in [1, {len(tokens)}], as many as the model has, got {blocks}")
        # The blocks end where the patch tokens begin, so that every classifier's columns lie side by side.
        self.names = (*tokens[-max(blocks) :], *((_PATCHES,) if True in average_pool else ()))
        self.views = [(number, pooled) for number in blocks for pooled in average_pool]

    def columns(self, gathered: Gathered) -> tuple[np.ndarray, tuple[View, ...]]:
        """Returns all features side by side and the views of them."""
        whole = np.concatenate([gathered.outputs[name] for name in self.names], axis=1)
        if not np.isfinite(whole).all():
            raise UserError("linear_probe: the features are not finite")
        if self.views == [(0, False)]:
            return whole, (View(0, whole.shape[1], 0),)
        patches = gathered.outputs[_PATCHES].shape[1] if _PATCHES in self.names else 0
        middle = whole.shape[1] - patches
        width = gathered.outputs[self.names[0]].shape[1]
        return whole, tuple(
            View(middle - number * width, middle + pooled * patches, 2 * number + pooled)
            for number, pooled in self.views
        )
