"""Estimators keep one contract, and where they are our own they end where scikit-learn's and the train step end."""

import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.linear_model import Ridge as LibraryRidge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC

from vision import models
from vision.classic import persist
from vision.classic.estimators import ESTIMATORS, least_squares
from vision.classic.estimators.support_vectors import histogram_intersection
from vision.classic.features.standardize import Standardize
from vision.classic.scores import scores
from vision.data.host import HostPart
from vision.data.materialize import materialize
from vision.data.sources import Opener
from vision.errors import UserError
from vision.objectives import OBJECTIVES
from vision.training import state
from vision.training.optimizers import OPTIMIZERS
from vision.training.ruled import with_rules
from vision.training.step import Constants, make_steps, make_train_step

DIGITS = load_digits()
PIXELS = (DIGITS.data / 16).astype(np.float32)  # some of them are always 0
QUICK = {
    "exact_gradient_boosting": {"num_rounds": 3},
    "gradient_boosting": {"num_rounds": 3},
    "random_forest": {"num_trees": 5},
    "ridge": {"alpha": 1.0},
}


def digits(examples: int, classes: int = 10):
    chosen = np.flatnonzero(DIGITS.target < classes)[:examples]
    return PIXELS[chosen], DIGITS.target[chosen].astype(np.int32)


def make(name, **options):
    function = ESTIMATORS[name]
    seed = {"seed": 0} if "seed" in inspect.signature(function).parameters else {}
    return function(**{**QUICK.get(name, {}), **options}, **seed)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_contract_learns_scores_and_comes_back_from_disk_bit_for_bit(name, tmp_path):
    assert ESTIMATORS[name].__doc__
    kinds = {parameter.kind for parameter in inspect.signature(ESTIMATORS[name]).parameters.values()}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY}
    classes = 2 if name == "logistic_regression" else 4
    x, y = digits(160, classes)
    standardize = Standardize(scale=0.3).fit(x)
    x = standardize.transform(x)
    estimator = make(name).fit(x[:120], y[:120])
    persist.save(tmp_path / "estimator.skops", standardize, estimator)
    chain, loaded = persist.load(tmp_path / "estimator.skops")
    np.testing.assert_array_equal(chain.transform(PIXELS[:9]), standardize.transform(PIXELS[:9]))
    np.testing.assert_array_equal(loaded.predict(x), estimator.predict(x))
    values, kind = scores(estimator, x[120:], classes)
    np.testing.assert_array_equal(values, scores(loaded, x[120:], classes)[0])
    assert values.shape == (40, classes)
    assert values.dtype == np.float64
    if kind == "probability":
        np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-5)
    accuracy = np.mean(values.argmax(axis=1) == y[120:])
    assert accuracy == np.mean(estimator.predict(x[120:]) == y[120:])
    if name == "mean_class":
        np.testing.assert_allclose(values[0], np.bincount(y[:120]) / 120)
    else:
        assert accuracy > 0.7  # guessing has 0.3


@pytest.mark.parametrize(("name", "option"), [("random_forest", "num_trees"), ("decision_tree", "min_leaf")])
def test_the_seed_decides(name, option):
    x, y = digits(300)
    fits = [ESTIMATORS[name](**{option: 3}, seed=seed).fit(x, y) for seed in (0, 0, 1)]
    one, same, other = (scores(each, PIXELS[300:600], 10)[0] for each in fits)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_knn_is_scikit_learns_where_classes_are_no_counting_numbers():
    x, y = digits(200)
    for options, library in (
        ({"k": 5, "metric": "l1", "weights": "distance"}, {"p": 1, "weights": "distance"}),
        ({"k": 4}, {"n_neighbors": 4}),  # many ties
    ):
        ours = make("knn", **options).fit(x, 3 * y + 5)
        theirs = KNeighborsClassifier(**library).fit(x, 3 * y + 5)
        np.testing.assert_array_equal(ours.predict(PIXELS[200:400]), theirs.predict(PIXELS[200:400]))


def test_least_squares_is_the_solution_of_smallest_norm(monkeypatch):
    monkeypatch.setattr(least_squares, "_ROWS", 1)  # so that it takes several blocks
    x, y = digits(500)
    x = np.concatenate([x, x[:, 20:25]], axis=1)  # and five columns twice
    ours = make("linear_regression").fit(x, y)
    theirs = LinearRegression().fit(x.astype(np.float64), np.eye(10)[y])
    np.testing.assert_allclose(ours.coef_, theirs.coef_.T, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-9)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x).argmax(axis=1))


@pytest.mark.parametrize("examples", [400, 40])
def test_ridge_is_scikit_learns_with_more_and_with_fewer_examples_than_features(examples, monkeypatch):
    monkeypatch.setattr(least_squares, "_ROWS", 150)
    x, y = digits(examples)
    ours = make("ridge", alpha=0.7).fit(x, y)
    theirs = LibraryRidge(alpha=0.7).fit(x.astype(np.float64), np.eye(10)[y])
    np.testing.assert_allclose(ours.coef_, theirs.coef_.T, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-9)
    np.testing.assert_allclose(ours.decision_function(x), theirs.predict(x), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 10])
def test_softmax_regression_is_scikit_learns(classes):
    x, y = digits(300, classes)
    l2 = 1e-2
    ours = make("softmax_regression", l2=l2, tolerance=1e-7).fit(x, y)
    c = 1 / (2 * len(x) * l2) * (2 if classes == 2 else 1)  # two classes have w and -w, and half the penalty of 2w
    theirs = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x.astype(np.float64), y)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-4)
    if classes > 2:
        np.testing.assert_allclose(ours.coef_, theirs.coef_.T, atol=2e-4)


def test_logistic_regression_is_scikit_learns():
    x, y = digits(200, 2)
    ours = make("logistic_regression", l2=1e-2, tolerance=1e-7).fit(x, y)
    theirs = LogisticRegression(C=1 / (2 * len(x) * 1e-2), tol=1e-8, max_iter=5000).fit(x.astype(np.float64), y)
    np.testing.assert_allclose(ours.coef_[:, 0], theirs.coef_[0], atol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-4)


def test_linear_svm_is_liblinears_with_a_free_intercept():
    x, y = digits(300)
    ours = make("linear_svm", c=0.1, tolerance=1e-7).fit(x, y)
    # liblinear penalises the intercept too, less the more it is scaled.
    theirs = LinearSVC(C=0.1, dual=False, tol=1e-9, intercept_scaling=100.0, max_iter=5000).fit(x.astype(np.float64), y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_.T, atol=1e-3)
    np.testing.assert_allclose(ours.decision_function(x), theirs.decision_function(x), atol=2e-3)


def test_a_fit_that_stops_early_says_so():
    x, y = digits(200)
    with pytest.warns(ConvergenceWarning, match=r"not at its minimum after 3 iterations \(max_iterations\)"):
        make("softmax_regression", max_iterations=3).fit(x, y)


def trained(objective, images, labels, *, curvature: float, steps: int = 3000):
    """Weights and intercept after full-batch training through the train step."""
    schedule = optax.constant_schedule(1.0 / curvature)
    spec = {"image": jax.ShapeDtypeStruct(images.shape, jnp.float32)}
    keys = state.make_keys(0)
    optimizer = with_rules(
        lambda decay: OPTIMIZERS["sgd"](rate=schedule, decay=decay, momentum=0.98, nesterov=True),
        objective.init(keys.init, spec)[0],
        weight_decay=0.0,
        rules=(),
        where="here",
    )

    def prepare(batch, resident, key, step):
        return {name: array[batch["index"]] for name, array in resident.items()}

    steps_of = jax.jit(make_steps(make_train_step(objective, optimizer, schedule, prepare)))
    constants = Constants(keys, {"image": jnp.asarray(images), "label": jnp.asarray(labels)})
    batches = {"index": jnp.tile(jnp.arange(len(images), dtype=jnp.int32), (steps, 1))}
    end, _ = steps_of(state.create(objective, optimizer, spec, keys.init), batches, constants)
    head = jax.tree.map(np.asarray, end.params["head"])
    return head["kernel"], head["bias"]


@pytest.mark.parametrize(
    ("objective", "estimator"),
    [
        ("regress", lambda n, l2: make("ridge", alpha=n * l2)),
        ("classify", lambda n, l2: make("softmax_regression", l2=l2, tolerance=1e-7)),
    ],
)
def test_gradient_descent_and_the_estimator_end_at_the_same_place(objective, estimator):
    chosen = np.flatnonzero(DIGITS.target < 4)[:60]
    images = DIGITS.images[chosen].reshape(60, 4, 2, 4, 2).mean(axis=(2, 4))
    images = ((images - images.mean()) / images.std())[..., None].astype(np.float32)
    labels, l2 = DIGITS.target[chosen].astype(np.int32), 0.05
    flat = np.concatenate([images.reshape(60, -1), np.ones((60, 1))], axis=1)
    curvature = 2.0 * (np.linalg.norm(flat, 2) ** 2 / 60 + l2)
    goal = OBJECTIVES[objective](models.build("linear", num_classes=4), l2=l2)
    kernel, bias = trained(goal, images, labels, curvature=curvature)
    fitted = estimator(60, l2).fit(images.reshape(60, -1), labels)
    np.testing.assert_allclose(kernel, fitted.coef_, atol=3e-4 * np.abs(fitted.coef_).max())
    np.testing.assert_allclose(bias - bias.mean(), fitted.intercept_ - fitted.intercept_.mean(), atol=1e-3)


def test_exact_boosting_goes_on_from_its_state_to_the_bits_of_an_uninterrupted_fit(tmp_path, monkeypatch):
    x, y = digits(80, 3)
    state = str(tmp_path / "kept" / "boosting.skops")
    whole = make("exact_gradient_boosting", num_rounds=12).fit(x, y)
    plain = GradientBoostingClassifier(n_estimators=12, random_state=0).fit(x, y)
    np.testing.assert_array_equal(whole.predict_proba(x), plain.predict_proba(x))
    fit, fits = GradientBoostingClassifier.fit, []

    def interrupted(self, *arguments):
        fits.append(self.n_estimators)
        if len(fits) == 2:
            raise KeyboardInterrupt
        return fit(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(GradientBoostingClassifier, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make("exact_gradient_boosting", num_rounds=12, state=state).fit(x, y)
    assert fits == [5, 10]
    again = make("exact_gradient_boosting", num_rounds=12, state=state).fit(x, y)
    np.testing.assert_array_equal(again.predict_proba(PIXELS), whole.predict_proba(PIXELS))
    for options, message in (
        ({"num_rounds": 12, "max_depth": 2}, "of other data or options"),
        ({"num_rounds": 7}, "has 12 rounds already, asked for are 7"),
    ):
        with pytest.raises(UserError, match=message):
            make("exact_gradient_boosting", state=state, **options).fit(x, y)
    Path(state).write_bytes(b"broken")
    with pytest.raises(UserError, match="boosting.skops: cannot be read by this version"):
        make("exact_gradient_boosting", state=state).fit(x, y)


def test_intersection_of_histograms_is_the_sum_of_minima_and_a_kernel():
    x, y = digits(150)
    other = PIXELS[200:260]
    minima = np.minimum(other[:, None], x[None]).sum(axis=2)
    np.testing.assert_allclose(histogram_intersection(other, x), minima, rtol=1e-5)
    assert np.linalg.eigvalsh(histogram_intersection(x, x)).min() > -1e-3
    ours = make("kernel_svm", kernel="intersection", c=0.5).fit(x, y)
    exact = (x.sum(axis=1)[:, None] + x.sum(axis=1) - cdist(x, x, "cityblock")) / 2
    theirs = SVC(C=0.5, kernel="precomputed").fit(exact, y)
    np.testing.assert_array_equal(ours.predict(other), theirs.predict(minima))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("knn", {"k": 31}, "k must be in [1, 30], the size of the bank, got 31"),
        ("knn", {"weights": "exponential"}, "of the metric 'cosine'"),
        ("ridge", {"alpha": 0.0}, "alpha must be > 0"),
        ("ridge", {"alpha": 1e-300}, "lost in the rounding"),
        ("softmax_regression", {"l2": -1.0}, "l2 must be >= 0"),
        ("linear_svm", {"c": 0.0}, "c must be > 0"),
        ("logistic_regression", {}, "two classes apart, got 3"),
    ],
)
def test_what_cannot_be_is_one_line(name, options, message):
    x, y = digits(30, 3)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make(name, **options).fit(np.concatenate([x[:, :12], x[:, :12]], axis=1), y)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.data
def test_softmax_regression_on_cifar10(data_dir):
    """0.417 with the weight 1e-3, as measured by others; they give it to 0.007."""
    opener = Opener("cifar10", str(data_dir))
    splits = [materialize(opener(split), HostPart((32, 32), 3)).arrays for split in ("train", "test")]
    x, test = (each["image"].reshape(-1, 3072) / np.float32(255) for each in splits)
    estimator = make("softmax_regression", l2=1e-3).fit(x, splits[0]["label"])
    assert estimator.score(test, splits[1]["label"]) == pytest.approx(0.417, abs=0.007)
