"""Nearest neighbours are those of a full search in float64, in bounded memory, and vote as scikit-learn's do."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from vision import models
from vision.config.loading import plain
from vision.data.host import HostPart
from vision.data.materialize import materialize
from vision.data.order import InOrder
from vision.data.pipeline import make_pipeline
from vision.data.prepare import make_prepare
from vision.data.source import ArraySource
from vision.data.sources import Opener
from vision.errors import ConfigError, UserError
from vision.evaluation import EVALUATORS
from vision.evaluation.base import EvalSet
from vision.evaluation.distances import Bank, l1_distances
from vision.evaluation.knn import class_votes, mean_targets, neighbour_weights
from vision.evaluation.knn_search import choose_blocks, search, search_block, top, working_bytes
from vision.objectives import OBJECTIVES
from vision.training.assemble import assemble
from vision.training.evaluators import make_evaluators
from vision.training.schema import resolve
from vision.training.state import TrainState

RANDOM = np.random.default_rng(0)
BANK = RANDOM.normal(0.3, 1.0, (301, 19)).astype(np.float32)
QUERIES = RANDOM.normal(0.3, 1.0, (43, 19)).astype(np.float32)
LABELS = RANDOM.integers(0, 4, len(BANK))
NAMES = {"l1": "cityblock", "l2": "euclidean", "cosine": "cosine"}


def full_search(queries, bank, metric, k):
    distance = cdist(queries.astype(np.float64), bank.astype(np.float64), NAMES[metric])
    index = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distance, index, axis=1), index


@pytest.mark.parametrize("metric", NAMES)
@pytest.mark.parametrize(("k", "memory_mib"), [(7, 0.15), (301, 1024.0)])
def test_neighbours_are_those_of_a_full_search(metric, k, memory_mib):
    found = search(QUERIES, BANK, k=k, metric=metric, memory_mib=memory_mib)
    distance, index = full_search(QUERIES, BANK, metric, k)
    np.testing.assert_array_equal(found.rows, index)
    np.testing.assert_allclose(found.distance, distance, rtol=2e-6, atol=1e-7)
    blocks = choose_blocks(len(QUERIES), len(BANK), 19, k=k, metric=metric, memory_mib=memory_mib)
    assert (blocks.bank < len(BANK) // 4) == (memory_mib < 1) or metric == "l1"  # several tiles were searched


def test_an_offset_that_all_rows_share_costs_no_neighbour():
    """Squared norms of 2e10 beside distances of about 6: as |q|^2 - 2 q.b + |b|^2 in float32 all would be noise."""
    offset = np.float32(32768.0)  # so large a power of two that the sums round little
    bank, queries = np.round(BANK * 64) / 64 + offset, np.round(QUERIES * 64) / 64 + offset
    found = search(queries, bank, k=5)
    distance, _ = full_search(queries, bank, "l2", 5)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-5)


@pytest.mark.parametrize("metric", NAMES)
def test_equal_rows_are_at_distance_0_and_the_earlier_is_the_nearer(metric):
    bank = np.concatenate([BANK[:40], BANK[:40], BANK[:40]])
    found = search(BANK[:40], bank, k=3, metric=metric, memory_mib=0.1)
    np.testing.assert_array_equal(found.rows, np.arange(40)[:, None] + [0, 40, 80])
    np.testing.assert_array_equal(found.distance, 0)


def test_equal_distances_of_different_rows_are_equal_and_the_earlier_is_the_nearer():
    """Whole numbers, so that distances are exact, about a mean that is not, so that products are rounded."""
    bank, queries = (RANDOM.integers(0, 10, (n, 8)).astype(np.float32) for n in (301, 43))
    distance, rows = full_search(queries, bank, "l2", 10)
    assert np.mean(np.diff(distance, axis=1) == 0) > 0.1
    np.testing.assert_array_equal(search(queries, bank, k=10).rows, rows)


def test_a_row_of_zeros_has_the_cosine_0_with_anything():
    bank = np.concatenate([np.zeros((1, 19), np.float32), BANK[:3]])
    found = search(np.zeros((2, 19), np.float32), bank, k=4, metric="cosine")
    np.testing.assert_array_equal(found.distance, 1)
    assert sorted(search(bank[1:2], bank, k=4, metric="cosine").rows[0]) == [0, 1, 2, 3]


@pytest.mark.parametrize(("columns", "k"), [(641, 10), (5, 7)])
def test_the_largest_are_found_first_come_first(columns, k):
    values = RANDOM.integers(0, 200, (9, columns)).astype(np.float32)  # some of the largest are equal
    found, index = top(jnp.asarray(values), k)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_array_equal(found, np.take_along_axis(values, expected, axis=1))


@pytest.mark.parametrize("features", [16, 19])
def test_l1_distances_are_sums_of_differences(features):
    ours, theirs = QUERIES[:, :features], BANK[:50, :features]
    found = l1_distances(jnp.asarray(ours), jnp.asarray(theirs))
    np.testing.assert_allclose(found, cdist(ours, theirs, "cityblock"), rtol=1e-5)


@pytest.mark.parametrize(("metric", "memory_mib"), [("l1", 16.0), ("cosine", 16.0), ("l2", 256.0)])
def test_memory_stays_within_its_bound_at_60000_by_10000(metric, memory_mib):
    """What the compiler has reserved for a block, its queries and its result, times the blocks at once."""
    queries, bank, features, k = 10_000, 60_000, 784, 10
    blocks = choose_blocks(queries, bank, features, k=k, metric=metric, memory_mib=memory_mib)
    sizes, centre = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((bank,), (features,)))
    rows = jax.ShapeDtypeStruct((bank, features), jnp.float32)
    part = jax.ShapeDtypeStruct((blocks.queries, features), jnp.float32)
    compiled = search_block.lower(part, Bank(rows, centre, sizes), k=k, metric=metric, columns=blocks.bank).compile()
    taken = compiled.memory_analysis().temp_size_in_bytes + 4 * blocks.queries * (features + 2 * k)
    assert taken <= working_bytes(blocks.queries, blocks.bank, features, k=k)
    assert blocks.workers * taken <= memory_mib * 2**20
    assert blocks.workers * taken > 0.1 * min(memory_mib, 40) * 2**20  # and what is there is used


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("metric", NAMES)
def test_votes_and_means_are_those_of_scikit_learn(metric, weights):
    queries = np.concatenate([QUERIES, BANK[:3]])  # some of them at distance 0
    bank = np.concatenate([BANK, BANK[:1]])
    labels, targets = np.append(LABELS, 3), RANDOM.normal(size=(len(bank), 2))
    options = {"n_neighbors": 5, "weights": weights, "metric": NAMES[metric], "algorithm": "brute"}
    found = search(queries, bank, k=5, metric=metric)
    weight = neighbour_weights(found.distance, weights)
    votes = class_votes(found.rows, weight, labels, 4)
    exact = [each.astype(np.float64) for each in (bank, queries)]
    if metric == "cosine":  # scikit-learn computes 1 - cosine, which rounds to 0 only now and then
        exact, queries, weight, votes = [exact[0], exact[1][:-3]], queries[:-3], weight[:-3], votes[:-3]
    classifier = KNeighborsClassifier(**options).fit(exact[0], labels)
    np.testing.assert_allclose(votes, classifier.predict_proba(exact[1]), atol=1e-5)
    np.testing.assert_array_equal(votes.argmax(1), classifier.predict(exact[1]))
    means = mean_targets(found.rows[: len(queries)], weight, targets)
    np.testing.assert_allclose(
        means, KNeighborsRegressor(**options).fit(exact[0], targets).predict(exact[1]), atol=1e-5
    )


@pytest.mark.parametrize("temperature", [0.07, 1e-4])
def test_exponential_weights_are_of_the_cosine(temperature):
    distance = np.array([[0.1, 0.3, 0.9]], np.float32)
    cosine = np.longdouble(1.0) - distance
    expected = np.exp(cosine / temperature) if temperature > 0.01 else np.array([[1.0, 0.0, 0.0]])
    got = neighbour_weights(distance, "exponential", temperature=temperature)
    np.testing.assert_allclose(got, (expected / expected.sum()).astype(float), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be in [1, 301]"),
        ({"k": 302}, "k must be in [1, 301], the size of the bank, got 302"),
        (
            {"queries": np.where(np.arange(19) == 3, np.nan, QUERIES)},
            "the queries: row 0 has a value that is not finite",
        ),
        ({"bank": np.where(BANK[7, 2] == BANK, np.inf, BANK)}, "the bank: row 7 has a value that is not finite"),
        ({"queries": QUERIES[:, :5]}, "do not fit a bank of 19 features"),
        ({"bank": BANK[:0], "k": 1}, "with something in it"),
        ({"memory_mib": 0.001}, "0.001 MiB are too little"),
    ],
)
def test_what_cannot_be_is_one_line(change, message):
    arguments = {"queries": QUERIES, "bank": BANK, "k": 3} | change
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        search(arguments.pop("queries"), arguments.pop("bank"), **arguments)
    assert "\n" not in str(error.value)


IMAGES = RANDOM.integers(0, 255, (60, 4, 4, 1)).astype(np.uint8)
CLASSES = RANDOM.integers(0, 5, 60).astype(np.int32)
PIXELS = IMAGES.reshape(60, 16) / 255.0
MODEL = OBJECTIVES["classify"](models.build("linear", num_classes=5))


def eval_set(part: slice | np.ndarray, devices: int = 1) -> EvalSet:
    source = ArraySource({"image": IMAGES[part], "label": CLASSES[part]}, 5)
    over_batch = jax.sharding.NamedSharding(mesh_of(devices), jax.sharding.PartitionSpec(("data", "fsdp")))
    order = InOrder(len(source), 16)
    pipeline = make_pipeline(source, order, HostPart((4, 4), 1), sharding=over_batch, residency="auto")
    masks = tuple(order.mask(step) for step in range(order.num_batches))
    return EvalSet(pipeline, make_prepare(mean=None, std=None, channels=1), masks)


def state() -> TrainState:
    params, extra = MODEL.init(jax.random.key(0), {"image": jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32)})
    return TrainState(jnp.int32(0), params, extra, ())


def test_evaluator_searches_the_features_of_another_split():
    devices = 8
    asked = []

    def open_split(split):
        asked.append(split)
        return eval_set(slice(21, 60), devices)

    evaluator = EVALUATORS["knn"](
        eval_set(slice(0, 21), devices), MODEL, open_split, k=(1, 4), metric="l1", weights="uniform", bank_split="here"
    )
    values = dict(evaluator.run(state()))
    assert asked == ["here"]
    assert evaluator.metrics == tuple(values) == ("accuracy_k1", "accuracy_k4")
    for k in (1, 4):
        library = KNeighborsClassifier(k, metric="manhattan").fit(PIXELS[21:], CLASSES[21:])
        assert values[f"accuracy_k{k}"] == pytest.approx(library.score(PIXELS[:21], CLASSES[:21]))


def test_evaluator_without_a_bank_leaves_each_example_itself_out():
    few = slice(0, 20)
    evaluator = EVALUATORS["knn"](eval_set(few), MODEL, k=3, metric="l2", weights="distance")
    distance = cdist(PIXELS[few], PIXELS[few])
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :3]
    weight = 1 / np.take_along_axis(distance, nearest, axis=1)
    votes = np.stack([np.sum(weight * (CLASSES[nearest] == label), axis=1) for label in range(5)], axis=1)
    assert dict(evaluator.run(state())) == {"accuracy": pytest.approx(np.mean(votes.argmax(axis=1) == CLASSES[few]))}


def test_evaluator_leaves_an_example_out_that_its_copies_have_pushed_out_already():
    other = int(np.argmax(CLASSES[3] != CLASSES))
    evaluator = EVALUATORS["knn"](eval_set(np.array([3, 3, 3, 3, other])), MODEL, k=1, metric="l2", weights="uniform")
    assert dict(evaluator.run(state())) == {"accuracy": 0.8}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 60}, ValueError, "k must be in [1, 59]"),
        ({"k": (3, 3)}, ValueError, "different numbers"),
        ({"metric": "l2"}, ValueError, "'exponential' are of the metric 'cosine'"),
        ({"temperature": 0.0}, ValueError, "temperature must be > 0"),
        ({"bank_split": "train"}, ValueError, "no other split"),
        ({"output": "nowhere"}, UserError, "no output 'nowhere'; it has output, pre_logits"),
    ],
)
def test_evaluator_tells_what_cannot_be(options, error, message):
    with pytest.raises(error) as raised:
        dict(EVALUATORS["knn"](eval_set(slice(0, 60)), MODEL, **options).run(state()))
    assert message in str(raised.value)


def test_a_run_searches_its_training_data_and_knows_its_models_outputs(tiny_config, capsys):
    tiny_config.model = {"name": "linear"}
    tiny_config.ema = None
    section = {"name": "knn", "split": "test", "batch_size": 64, "k": 3, "metric": "l2", "weights": "uniform"}
    tiny_config.evals = {"neighbours": section}
    experiment = assemble(resolve(plain(tiny_config)))
    values = make_evaluators(experiment)["neighbours"].run(experiment.init(experiment.constants.keys.init))
    inputs = experiment.inputs
    train, test = (materialize(inputs.opener(name), inputs.part).arrays for name in ("train", "test"))
    pixels = [each["image"].reshape(len(each["image"]), -1) / 255.0 for each in (train, test)]
    expected = KNeighborsClassifier(3).fit(pixels[0], train["label"]).score(pixels[1], test["label"])
    assert dict(values)["accuracy"] == pytest.approx(expected, abs=1.01 / 360)
    assert "neighbours, train: 1,437 images" in capsys.readouterr().err
    experiment.config["evals"]["neighbours"]["bank_split"] = "train[:50%]"
    make_evaluators(experiment)
    assert "neighbours, train[:50%]: 718 images" in capsys.readouterr().err
    experiment.config["evals"]["neighbours"]["output"] = "block07"
    with pytest.raises(ConfigError, match=r"config.evals.neighbours.output: the model has no 'block07'; it has"):
        make_evaluators(experiment)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("metric", "accuracies"), [("l2", {1: 0.3539, 5: 0.3398, 10: 0.3386}), ("l1", {1: 0.3859})])
def test_cifar10_has_the_known_accuracies(data_dir, metric, accuracies):
    """Pixels / 255, all of both splits; L2 as measured by others, L1 as in the notes of Stanford's CS231n."""
    opener = Opener("cifar10", str(data_dir))
    splits = [materialize(opener(split), HostPart((32, 32), 3)).arrays for split in ("train", "test")]
    bank, queries = (each["image"].reshape(-1, 3072) / np.float32(255) for each in splits)
    found = search(queries, bank, k=max(accuracies), metric=metric)
    for k, accuracy in accuracies.items():
        weight = neighbour_weights(found.distance[:, :k], "uniform")
        votes = class_votes(found.rows[:, :k], weight, splits[0]["label"], 10)
        assert np.mean(votes.argmax(1) == splits[1]["label"]) == pytest.approx(accuracy, abs=0.0005)
