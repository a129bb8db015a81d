"""Logistic probe: a regularised linear classifier on frozen features, solved to its end instead of trained by steps."""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from vision.evaluation.base import EvalSet, Evaluator, State, Value
from vision.evaluation.features import Features
from vision.evaluation.outputs import Gathered, check_labels
from vision.objectives.base import Objective


def logistic_probe(
    eval_set: EvalSet,
    objective: Objective,
    open_split: Callable[[str | None], EvalSet],
    features: Features,
    *,
    c: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0),
    outputs: tuple[str, ...] = ("pre_logits",),
    standardize: bool = True,
    folds: int = 5,
    max_iterations: int = 1000,
    train_split: str | None = None,
    seed: int = 0,
) -> Evaluator:
    """Returns an evaluator that fits multinomial logistic regression with an L2 penalty by L-BFGS to frozen features.

    It is the linear probe of CLIP's authors (Radford et al. 2021, section 3.2 and appendix A.3). Where there are
    several strengths or outputs, the one of the highest accuracy in cross-validation over the training examples is
    taken, of equal ones the first, and then fitted to all of them: with few labels that chooses better than a part
    held out.

    It yields ``accuracy`` on the split, ``validation_accuracy``, by which was chosen, the strength ``c``, and the
    position of the ``output`` in ``outputs``.

    Args:
      eval_set: what to report on.
      objective: whose ``encode`` gives the features.
      open_split: opens another split without augmentation; None for the training data.
      features: gives the outputs of splits.
      c: inverse strengths of the penalty, as scikit-learn has them.
      outputs: which of the model's features, see :func:`vision.evaluation.outputs.named`; ``block10+block11`` are two
        side by side.
      standardize: bring each feature to mean 0 and standard deviation 1 over the training examples.
      folds: of the cross-validation, classes in proportion.
      max_iterations: of L-BFGS.
      train_split: where to fit; None for the training data.
      seed: of the folds.

    Raises:
      ValueError: an option that cannot be, or images without one label each.
    """
    if not c or min(c) <= 0 or len(set(c)) < len(c):
        raise ValueError(f"c must be different numbers > 0, got {c}")
    if not outputs or len(set(outputs)) < len(outputs):
        raise ValueError(f"outputs must be different names, got {outputs}")
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    train_set = open_split(train_split)
    for each in (eval_set, train_set):
        check_labels(each.pipeline.source, "logistic_probe")
    names = tuple(dict.fromkeys(name for output in outputs for name in output.split("+")))
    test_of, train_of = features.of(eval_set, names), features.of(train_set, names)
    grid = list(product(outputs, c))

    def classifier(strength: float):
        from sklearn.linear_model import LogisticRegression  # takes more than a second, and few runs probe so
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        regression = LogisticRegression(C=strength, max_iter=max_iterations)
        return make_pipeline(StandardScaler(), regression) if standardize else regression

    def rows_of(given: Gathered, output: str) -> np.ndarray:
        return np.concatenate([given.outputs[name] for name in output.split("+")], axis=1)

    def run(state: State) -> Iterator[tuple[str, Value]]:
        from sklearn.model_selection import StratifiedKFold

        train, test = train_of(state), test_of(state)
        labels = np.asarray(train.labels)
        best, accuracy = grid[0], None
        if len(grid) > 1:
            rarest = int(np.bincount(labels)[np.unique(labels)].min())
            if rarest < folds:
                raise ValueError(f"folds must be at most {rarest}, the examples of the rarest class, got {folds}")
            splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels))
            held_out = [
                sum(
                    np.sum(classifier(strength).fit(rows[fitted], labels[fitted]).predict(rows[rest]) == labels[rest])
                    for fitted, rest in splits
                )
                for rows, strength in ((rows_of(train, output), strength) for output, strength in grid)
            ]
            best, accuracy = grid[int(np.argmax(held_out))], float(max(held_out) / len(labels))
        output, strength = best
        found = classifier(strength).fit(rows_of(train, output), labels).predict(rows_of(test, output))
        yield "accuracy", float(np.mean(found == np.asarray(test.labels)))
        if accuracy is not None:
            yield "validation_accuracy", accuracy
        yield "c", float(strength)
        yield "output", float(outputs.index(output))

    metrics = ("accuracy", *["validation_accuracy"] * (len(grid) > 1), "c", "output")
    return Evaluator(run, metrics, eval_set.pipeline.source.class_names)
