"""Transfer: shares of labels that do not overlap, methods that differ in nothing else, and margins that are true."""

import itertools
import json
import re

import jax
import numpy as np
import pytest
from browser import check_page
from scipy import stats

from experiments import transfer as program_of
from vision import models
from vision.errors import TrainingFailed, UserError
from vision.interop.trees import flat
from vision.studies.transfer import cells, picture
from vision.studies.transfer.methods import METHODS, SIZES, chosen, config_of, layers
from vision.studies.transfer.page import render
from vision.studies.transfer.probe import outputs_of
from vision.studies.transfer.shares import Part, shares
from vision.studies.transfer.start import Start, prepare, prepared
from vision.studies.transfer.summary import margins, pooled, row
from vision.training.assemble import assemble
from vision.training.checkpoint import Checkpoints, load_arrays
from vision.training.init_from import given_weights
from vision.training.pretrained import load_pretrained
from vision.training.rules import layerwise_rules, paths_of, setting
from vision.training.schema import resolve

MODEL = {"name": "vgg/11_bn", "widths": (4, 8, 12), "block_depths": (1, 1, 1), "grid": 1, "hidden_sizes": ()}
SHAPE = (16, 16, 1)
SPEC = jax.ShapeDtypeStruct((1, *SHAPE), np.float32)
DATA = {"image_size": 16, "channels": 1, "mean": (0.5,), "std": (0.5,), "augment": ({"name": "random_flip"},)}


def network(classes=0, model=MODEL, shape=SHAPE):
    options = {key: value for key, value in model.items() if key != "name"}
    return models.build(model["name"], num_classes=classes, image_shape=shape, **options)


def saved(folder, value):
    """Writes a run of five classes, all of whose numbers are the same."""
    images = jax.ShapeDtypeStruct((1, *SHAPE), np.float32)
    shapes = jax.eval_shape(lambda key: network(5).init(key, images), jax.random.key(0))
    params, collections = jax.tree.map(lambda leaf: np.full(leaf.shape, value, leaf.dtype), shapes)
    config = {"model": MODEL, "data": {**DATA, "name": "digits"}, "objective": {"name": "classify"}}
    checkpoints = Checkpoints(folder / "checkpoints")
    state = {"params": params, "extra": {"collections": collections}}
    checkpoints.save(7, state, {"step": 7, "config": config, "image_shape": list(SHAPE)})
    checkpoints.close()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("run"), 0.25)


@pytest.fixture(scope="module")
def start(run, tmp_path_factory):
    return prepare(str(run), tmp_path_factory.mktemp("study") / "start", note=str)


def config(start, name, **changes):
    (method,) = chosen((name,))
    given = {"rate": 1e-3, "steps": 30, "seed": 2, "evals": {"test": "test"}} | changes
    return config_of(method, start, {"name": "digits", "classes": (5, 6, 7, 8, 9), "split": "train[0:90]"}, **given)


def test_parts_of_seeds_share_no_example():
    one, ten, all_of = shares((100.0, 1.0, 10.0), "train", 60_000)
    assert [each.percent for each in (one, ten, all_of)] == [1, 10, 100], "the smallest first"
    for share, size in ((one, 600), (ten, 6000)):
        parts = [share.part(seed) for seed in range(3)]
        rows = [set(range(part.start, part.stop)) for part in parts]
        assert [len(each) for each in rows] == [size] * 3
        assert not rows[0] & rows[1] | rows[1] & rows[2] | rows[0] & rows[2]
    assert {all_of.part(seed).text for seed in range(3)} == {"train[0:60000]"}
    (most,) = shares((40.0,), "train", 100)
    assert [most.part(seed).text for seed in range(3)] == ["train[0:40]", "train[40:80]", "train[0:40]"]


@pytest.mark.parametrize(("size", "held"), [(600, 120), (60_000, 10_000), (3, 1)])
def test_what_is_chosen_by_is_not_learned_from(size, held):
    kept, out = Part("train", 50, 50 + size).divided()
    assert (kept.start, kept.stop, out.start, out.stop) == (50, 50 + size - held, 50 + size - held, 50 + size)


@pytest.mark.parametrize("percent", [0.0, -1.0, 101.0, 0.001])
def test_shares_that_cannot_be(percent):
    with pytest.raises(UserError, match="--fractions"):
        shares((percent,), "train", 60_000)


def test_a_head_that_would_fit_is_left_out(run, start):
    """Five classes there and five here: the weights of the old head would load without a word."""
    _, there, _ = load_arrays(run)
    _, arrays, _ = load_arrays(start.folder)
    assert not [path for path in arrays if "head" in path]
    assert {path for path in there if "head" not in path} == set(arrays)
    experiment = assemble(resolve(config(start, "all")))
    given, _ = given_weights(experiment.config["init_from"], experiment, str)
    assert "head" not in given.params
    assert experiment.model.module.num_classes == 5
    taken = flat(given.params, given.collections)
    assert set(taken) == {re.sub("^extra/collections/", "", path) for path in arrays}
    assert all(np.all(array == 0.25) for array in taken.values())


def test_other_weights_in_the_same_folder_are_refused(run, start, tmp_path):
    again = prepare(str(run), start.folder, note=str)
    assert again.weights == start.weights
    with pytest.raises(UserError, match="holds the weights of another --init_from"):
        prepare(str(saved(tmp_path / "other", 0.5)), start.folder, note=str)


def test_methods_differ_in_nothing_but_what_they_are(start):
    trained = [config(start, each.name) for each in METHODS if each.rates]
    for each in trained:
        resolve(each)
        own = ("init_from", "freeze")
        assert {key: each[key] for key in each if key not in own} == {
            key: trained[0][key] for key in each if key not in own
        }
    assert [each["freeze"] for each in trained] == [None, {"blocks": -1}, {"blocks": 2}, None]
    assert [each["init_from"] for each in trained] == [None, *[str(start.folder)] * 3]
    assert {len(each.rates[: size.rates]) for size in SIZES.values() for each in METHODS if each.rates} == {2, 4}


def test_steps_depend_on_the_labels_alone():
    assert [SIZES["small"].steps(labels, 64) for labels in (281, 3000, 30_000)] == [300, 375, 600]


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (MODEL, SHAPE),
        ({"name": "resnet/20", "stage_sizes": (1, 1), "width": 4}, (16, 16, 3)),
        pytest.param(
            {"name": "vit/Ti16", "patch_size": 8, "width": 16, "depth": 3, "num_heads": 2, "mlp_dim": 16},
            (16, 16, 3),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_learning_rates_fall_from_block_to_block(model, shape, tmp_path):
    """Each parameter is in one layer, the head in the last, the first convolution in the first."""
    at = Start(tmp_path, model["name"], model, "", {}, network(0, model, shape), "")
    images = jax.ShapeDtypeStruct((1, *shape), np.float32)
    params = jax.eval_shape(lambda key: network(5, model, shape).init(key, images), jax.random.key(0))[0]
    made = layers(at)
    rules = layerwise_rules({"decay": 0.5, "layers": made}, params, "here")
    paths = paths_of(params)
    for path in paths:
        assert sum(bool(re.search(pattern, path)) for pattern in made) == 1
    scale = {path: setting(rules, path, "learning_rate_scale", None) for path in paths}
    blocks = [f"block{number:02}/" for number in range(len({each for each in paths if each.startswith("block")}))]
    by_block = [{scale[path] for path in paths if path.startswith(block)} for block in blocks]
    by_block = [each for each in by_block if each]
    assert all(len(each) == 1 for each in by_block), "one rate for a whole block"
    in_order = [each.pop() for each in by_block]
    assert in_order == sorted(in_order)
    assert all(high == 2 * low for low, high in itertools.pairwise(in_order))
    assert {scale[path] for path in paths if path.startswith("head/")} == {1.0}


def test_a_network_without_blocks_is_not_fine_tuned_in_part(tmp_path):
    model = {"name": "mlp/128", "hidden_sizes": (4,)}
    at = Start(tmp_path, "mlp/128", model, "float32", {}, network(0, model, (8, 8, 1)), "")
    with pytest.raises(UserError, match="--only last: mlp/128 has no blocks"):
        config(at, "last")


def test_views_are_not_what_a_classifier_is_trained_on():
    from vision.interop.preprocessing import Preprocessing

    expected = Preprocessing((0.5,), (0.25,), 1.0, "bilinear", source="here")
    views = {"views": {"one": ()}, "augment": (), "image_size": 64, "mean": (0.5,), "std": (0.25,)}
    made = prepared(views, (28, 28, 1), expected)
    assert made["image_size"] == (28, 28)
    assert [each["name"] for each in made["augment"]] == ["random_shift", "random_flip"]
    assert made["augment"][0]["pixels"] == 2
    own = prepared({**views, "views": None, "augment": ({"name": "random_flip"},)}, (28, 28, 1), expected)
    assert (own["image_size"], own["augment"]) == (64, ({"name": "random_flip"},))


def test_the_learning_rate_of_the_best_held_out_labels_is_taken():
    def attempt(rate):
        if rate == 1.0:
            raise TrainingFailed("not finite")
        return {"test_accuracy": {0.1: 0.5, 0.01: 0.75, 0.001: 0.75}[rate]}

    best, tried = cells.choose_rate((0.1, 1.0, 0.01, 0.001), attempt)
    assert best == 0.01, "of equal ones the first"
    assert tried == {"0.1": 0.5, "1": None, "0.01": 0.75, "0.001": 0.75}
    with pytest.raises(TrainingFailed):
        cells.choose_rate((1.0,), attempt)


def rows(scratch, other, percent=1.0):
    share = {"percent": percent, "labels": 281, "steps": 300}
    return [
        row(name, share, [{"test_accuracy": each, "train_accuracy": 1.0, "seconds": 2.0} for each in values], settings)
        for name, values, settings in (
            ("scratch", scratch, {"learning_rate": 1e-3, "held_out_accuracy": {"0.001": 0.6, "0.003": None}}),
            ("probe", other, {"c": [0.1] * len(other), "output": ["block01:mean"] * len(other)}),
        )
    ]


def test_margins_are_those_of_the_t_statistic():
    """Twice the pooled deviation: of three seeds each, a t of 2 / sqrt(2 / 3)."""
    first, second = [0.71, 0.74, 0.72], [0.78, 0.76, 0.83]
    (margin,) = margins(rows(first, second))
    t = stats.ttest_ind(second, first).statistic
    assert margin["difference"] == pytest.approx(np.mean(second) - np.mean(first))
    assert margin["difference"] / margin["pooled_sd"] == pytest.approx(t * np.sqrt(2 / 3))
    assert margin["outside"]
    (inside,) = margins(rows([0.70, 0.78, 0.72], second))
    assert not inside["outside"]
    (below,) = margins(rows(second, first))
    assert below["outside"], "also where it is worse"
    assert margins(rows([0.7], [0.9]))[0]["outside"] is None
    assert pooled([0.5], [0.5, 0.6]) is None


def test_the_gap_is_between_training_and_test(tmp_path):
    scratch, _ = rows([0.5, 0.7], [0.6, 0.6])
    assert (scratch["test_accuracy"], scratch["gap"]) == pytest.approx((0.6, 0.4))
    assert scratch["gap_sd"] == pytest.approx(np.std([0.5, 0.3], ddof=1))


def test_the_page_and_the_picture_say_what_was_measured(tmp_path):
    made = rows([0.61, 0.62, 0.60], [0.83, 0.84, 0.82])
    result = {
        **{"workdir": "runs/t", "init_from": "runs/<half>", "model": "vgg/11_bn", "dataset": "digits", "chance": 0.2},
        **{"classes": ["five", "six"], "test": None, "test_images": 180, "seeds": 3, "batch_size": 64},
        **{"layerwise_decay": 0.7, "augment": ["random_flip"], "rates": {"scratch": [1e-3, 3e-3]}},
        "shares": [{"percent": 1.0, "labels": 281, "steps": 300, "parts": ["train[0:600]", "train[600:1200]"]}],
        **{"rows": made, "margins": margins(made), "missing": ["Fine-tune all, 1%"]},
    }
    page = render(result, command="python -m experiments.transfer")
    for said in ("0.6100 ± 0.0100", "+0.2200*", "281 labels, 300 steps", "train[600:1200]", "Fine-tune all, 1%"):
        assert said in page
    assert "0.003: not finite" in page
    assert "falls by 0.7" in page
    assert "runs/&lt;half&gt;" in page
    written = picture.save(tmp_path / "transfer.png", result).read_bytes()
    assert written.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "digits", "--only", "heads"], "unknown method 'heads'; did you mean 'head'"),
        (["--dataset", "digits", "--size", "smal"], "unknown 'smal'; did you mean 'small'"),
        (["--dataset", "digits", "--seeds", "0"], "--seeds must be at least 1"),
        (["--dataset", "digits", "--max_time", "0"], "--max_time must be more than 0"),
        (["--dataset", "digits", "--layerwise_decay", "1.5"], "--layerwise_decay must be"),
        (["--dataset", "digits", "--split", "train[:9%]"], "the name of one whole split"),
        (
            ["--dataset", "digits", "--classes", "5", "12"],
            "--classes: digits, .* has no class 12; its classes are 0 to 9",
        ),
        (["--dataset", "nothing"], "--dataset: 'nothing' is not prepared"),
        (["--dataset", "digits", "--init_from", "tests"], "has no checkpoints.*tools.convert_weights"),
        (["--dataset", "digits", "--init_from", "runs/nowhere"], "runs/nowhere is no run"),
    ],
)
def test_wrong_input_is_one_line(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        program_of.main(["--init_from", "runs/nowhere", *arguments, "--workdir", str(tmp_path)])
    assert "\n" not in str(caught.value)


def test_data_without_labels_are_refused(tmp_path):
    np.savez(tmp_path / "data.npz", x_train=np.zeros((4, 8, 8), np.uint8), x_test=np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(UserError, match="has no labels"):
        program_of.main(
            ["--init_from", "runs/none", "--dataset", f"npz:{tmp_path / 'data.npz'}", "--workdir", str(tmp_path)]
        )


@pytest.mark.slow
def test_the_program_measures_and_goes_on_where_it_was_stopped(program, tmp_path):
    half, study = tmp_path / "half", tmp_path / "study"
    model = "{'name': 'vgg/11_bn', 'widths': (8, 16), 'block_depths': (1, 1), 'grid': 1, 'hidden_sizes': ()}"
    changes = ["data.classes=(0,1,2,3,4)", "duration.steps=150", f"model={model}"]
    arguments = ["experiments.train", "--config", "configs/quickstart.py", "--workdir", half]
    program(*arguments, *(f"--config.{change}" for change in changes))
    arguments = ["experiments.transfer", "--init_from", half, "--dataset", "digits", "--workdir", study, "--json"]
    arguments += ["--classes", *"56789", "--fractions", "40", "--seeds", "2", "--steps", "60"]
    stopped = program(*arguments, "--max_time", "0.3", check=75, timeout=900)
    assert json.loads(stopped.stdout.splitlines()[-1])["missing"]
    done = program(*arguments, timeout=900)
    result = json.loads(done.stdout.splitlines()[-1])
    written = json.loads((study / "transfer.json").read_text())
    assert {key: result[key] for key in result if key != "page"} == written
    assert result["missing"] == []
    found = {each["method"]: each for each in result["rows"]}
    assert tuple(found) == tuple(each.name for each in METHODS)
    assert all(each["test_accuracy"] > 1.25 * result["chance"] for each in result["rows"])
    assert found["probe"]["test_accuracy"] > 3 * result["chance"]
    assert {each["learning_rate"] for each in (row["settings"] for row in result["rows"]) if "c" not in each} <= {
        rate for each in METHODS for rate in each.rates[:2]
    }
    evaluated = program("experiments.evaluate", "--workdir", study / "runs" / "all_40_1", "--json")
    again = json.loads(evaluated.stdout.splitlines()[-1])
    assert again["test"]["accuracy"] == pytest.approx(found["all"]["test_accuracies"][1])
    check_page(study / "transfer.html", tmp_path)
    (study / "parts" / "head_40_1.json").unlink()
    third = program(*arguments, timeout=900)
    assert third.stderr.count("done before") == 4 * (2 + 2) + 2 - 1


def test_a_probe_chooses_among_outputs_of_a_network_at_several_depths(run):
    pretrained = load_pretrained(str(run), note=str)
    few = outputs_of(pretrained, 100)
    assert few == ("pre_logits", "block00:mean", "block00", "block01:mean", "block01", "block02:mean", "block02")
    assert outputs_of(pretrained, 50_000 // 10) == few, "maps of 16 pixels are small"
    assert outputs_of(pretrained, 10_001) == ("pre_logits",)
    many = network(5, {**MODEL, "widths": (64, 64, 64)})
    params, collections = many.init(jax.random.key(0), SPEC)
    large = pretrained._replace(model=many, params=params, collections=collections)
    assert "block00" not in outputs_of(large, 5000)
    assert "block00:mean" in outputs_of(large, 5000)
