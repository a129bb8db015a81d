"""The logistic probe is scikit-learn's classifier, chosen by examples that it has not seen."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from test_few_shot import pixels_of
from test_linear_probe import ENCODER, SCALE, SETS, as_set

from vision.evaluation.features import Features
from vision.evaluation.logistic_probe import logistic_probe
from vision.training.state import TrainState


def evaluated(**options):
    opened = {}

    def open_split(split):
        return opened.setdefault(split or "train", as_set(*SETS[split or "train"]))

    evaluator = logistic_probe(open_split("test"), ENCODER, open_split, Features(ENCODER), **options)
    values = dict(evaluator.run(TrainState(0, np.float32(SCALE), {}, ())))
    assert tuple(values) == evaluator.metrics
    return values


def test_one_classifier_is_that_of_scikit_learn_on_standardised_features():
    (rows, labels), (queries, truth) = pixels_of("train"), pixels_of("test")
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    library = LogisticRegression(C=0.1, max_iter=1000).fit((rows - mean) / std, labels)
    expected = np.mean(library.predict((queries - mean) / std) == truth)
    values = evaluated(c=(0.1,))
    assert values == {"accuracy": pytest.approx(expected, abs=0.01), "c": 0.1, "output": 0.0}
    assert 0.6 < expected < 1.0


def test_the_strength_is_chosen_by_cross_validation():
    """A penalty that leaves nothing but the mean loses to one that fits, in whatever order they stand."""
    for strengths in ((1e-6, 1.0), (1.0, 1e-6)):
        values = evaluated(c=strengths, folds=3)
        assert values["c"] == 1.0
        assert values["accuracy"] == evaluated(c=(1.0,))["accuracy"]
        assert 0.6 < values["validation_accuracy"] <= 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c": ()}, "c must be different numbers > 0"),
        ({"c": (1.0, 1.0)}, "c must be different numbers > 0"),
        ({"outputs": ()}, "outputs must be different names"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"folds": 1000}, "folds must be at most"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluated(**options)
