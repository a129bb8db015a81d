"""The loss around a network: the right numbers at the right points, and no other picture for rescaled weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browser import check_page
from PIL import Image
from report_pages import Page

from experiments.loss_surface import main
from vision import models
from vision.analysis.loss_surface import filter_normalised, random_direction
from vision.errors import UserError
from vision.interop.preprocessing import Preprocessing
from vision.studies.look_data import Sample
from vision.studies.loss_surface import picture, study
from vision.studies.loss_surface.measure import Grid, directions_of, surface
from vision.training.pretrained import Pretrained

SHAPE, CLASSES = (4, 4, 1), 3
GRID = Grid(points=5, span=0.5)


def build(name, seed=0, **options):
    model = models.build(name, num_classes=CLASSES, image_shape=SHAPE, **options)
    spec = jax.ShapeDtypeStruct((1, *SHAPE), "float32")
    rng, abstract = np.random.default_rng(seed), jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0))
    params, collections = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), abstract)
    collections = jax.tree.map(lambda leaf: np.abs(leaf) + 0.5, collections)
    return Pretrained(model, params, collections, name, SHAPE, Preprocessing((0.5,), (0.5,), 1.0, "bilinear"))


def some(count=20, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, count)
    return Sample(images, ("",) * count, labels, tuple("abc"), f"{count} examples")


def measured(pretrained, grid, folder, sample=None, note=print):
    return surface(pretrained, sample or some(), grid, folder, name="net", note=note)


def rescaled(mlp, factor):
    """The same function of the images: what a ReLU lets through grows with its input, and the head takes it back."""
    hidden, head = mlp.params["hidden_0"], mlp.params["head"]
    scaled = {
        "hidden_0": jax.tree.map(lambda x: x * factor, hidden),
        "head": {"kernel": head["kernel"] / factor, "bias": head["bias"]},
    }
    return mlp._replace(params=scaled)


def test_weights_rescaled_without_changing_the_function_have_the_same_surface(tmp_path):
    net = build("mlp/128", hidden_sizes=(8,))
    other, wide = rescaled(net, 10.0), GRID._replace(span=1.5)
    ours, theirs = (measured(each, wide, tmp_path / str(n)) for n, each in enumerate((net, other)))
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    np.testing.assert_array_equal(ours["error"], theirs["error"])
    assert ours["loss"].max() > 1.2 * ours["loss"].min()
    plain = wide._replace(normalised=False)
    ours, theirs = (measured(each, plain, tmp_path / str(n)) for n, each in enumerate((net, other)))
    assert ours["loss"][2, 2] == pytest.approx(theirs["loss"][2, 2], rel=1e-5)
    assert np.abs(ours["loss"] / theirs["loss"] - 1).max() > 0.5, "as drawn, the same function looks another"


def test_a_surface_is_the_loss_at_weights_moved_by_hand(tmp_path):
    net, sample = build("linear"), some()
    first, second = (np.asarray(each["head"]["kernel"], float) for each in directions_of(net.params, GRID))
    found = measured(net, GRID, tmp_path)
    x = (sample.images.reshape(20, -1) / 255 - 0.5) / 0.5
    for row, b in enumerate((-0.5, -0.25, 0, 0.25, 0.5)):
        for column, a in enumerate((-0.5, -0.25, 0, 0.25, 0.5)):
            logits = x @ (net.params["head"]["kernel"] + a * first + b * second) + net.params["head"]["bias"]
            shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            assert found["loss"][row, column] == pytest.approx(
                -np.log(shares[range(20), sample.labels]).mean(), rel=1e-4
            )
            assert found["error"][row, column] == pytest.approx(np.mean(shares.argmax(axis=1) != sample.labels))
    line = measured(net, GRID._replace(dimensions=1), tmp_path / "line")
    np.testing.assert_allclose(line["loss"], found["loss"][2], rtol=1e-5)
    np.testing.assert_array_equal(picture.cut(found["loss"]), found["loss"][2])


def test_every_filter_has_the_length_of_the_network_s_own():
    rng = np.random.default_rng(1)
    shapes = {"conv": (3, 3, 2, 5), "dense": (4, 6), "qkv": (4, 3, 4)}
    params = {name: {"kernel": rng.normal(size=shape), "bias": np.ones(shape[-1])} for name, shape in shapes.items()}
    params["norm"] = {"scale": np.ones(5), "bias": np.ones(5)}
    params["position_embedding"] = np.ones((2, 2, 4))
    params["blocks"] = {"hidden": {"kernel": rng.normal(size=(2, 4, 6))}}
    drawn = random_direction(params, key=jax.random.key(0))
    found = filter_normalised(drawn, params)
    for name in ("conv", "dense"):
        for number in range(shapes[name][-1]):
            own, theirs, before = (np.asarray(tree[name]["kernel"])[..., number] for tree in (params, found, drawn))
            assert np.linalg.norm(theirs) == pytest.approx(np.linalg.norm(own), rel=1e-5)
            assert np.ptp(theirs / before) == pytest.approx(0, abs=1e-5), "a filter is scaled as a whole"
    for tree, name in ((lambda t: t["qkv"]["kernel"], "qkv"), (lambda t: t["blocks"]["hidden"]["kernel"], "blocks")):
        axis = 0 if name == "qkv" else 1
        own, theirs = (np.linalg.norm(np.asarray(tree(each)), axis=axis) for each in (params, found))
        np.testing.assert_allclose(theirs, own, rtol=1e-5)
    still = [found[name]["bias"] for name in ("conv", "dense", "norm")]
    still += [found["norm"]["scale"], found["position_embedding"]]
    assert not any(np.any(np.asarray(each)) for each in still)
    zero = filter_normalised(drawn, jax.tree.map(np.zeros_like, params))
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(zero))


def test_batch_normalisation_has_the_run_s_statistics_or_those_of_the_batch(tmp_path):
    net = build("resnet/20", stage_sizes=(1,), width=4)
    wrong = net._replace(collections=jax.tree.map(lambda leaf: leaf * 3, net.collections))
    grid = Grid(points=3, span=0.2, dimensions=1)
    by_run = [measured(each, grid, tmp_path / "run")["loss"] for each in (net, wrong)]
    assert np.abs(by_run[0] - by_run[1]).max() > 1e-3
    output = net.model.apply(
        net.params, net.collections, jnp.asarray((some().images / 255 - 0.5) / 0.5, jnp.float32), keys=None, train=False
    )[0]
    losses = -jax.nn.log_softmax(output)[np.arange(20), some().labels]
    assert by_run[0][1] == pytest.approx(float(losses.mean()), rel=1e-4)
    fresh = grid._replace(statistics="batch")
    by_batch = [measured(each, fresh, tmp_path / "batch")["loss"] for each in (net, wrong)]
    np.testing.assert_allclose(by_batch[0], by_batch[1], rtol=1e-6)


def test_a_second_start_measures_only_the_rows_that_are_missing(tmp_path, monkeypatch):
    net, notes = build("linear"), []
    first = measured(net, GRID, tmp_path, note=notes.append)
    (tmp_path / "net-003.json").unlink()
    (tmp_path / "net-001.json").write_text('{"half": ')
    notes.clear()
    again = measured(net, GRID, tmp_path, note=notes.append)
    assert sum("done before" in note for note in notes) == 3
    np.testing.assert_array_equal(again["loss"], first["loss"])
    for other in (build("linear", seed=1), net):
        notes.clear()
        grid = GRID if other is not net else GRID._replace(seed=1)
        assert np.any(measured(other, grid, tmp_path, note=notes.append)["loss"] != first["loss"])
        assert not any("done before" in note for note in notes), "other weights, other directions: other numbers"


def test_a_loss_beyond_all_numbers_is_kept_out_of_the_picture(tmp_path):
    net = build("linear")
    found = measured(net, Grid(points=3, span=1e38), tmp_path)
    assert not np.isfinite(found["loss"]).all()
    assert np.isfinite(found["loss"][1, 1])
    levels = picture.levels_of([found["loss"]])
    assert np.isfinite(levels).all()
    assert picture.summary(GRID.distances[:3], found)["within_one"] == pytest.approx(1 / 9)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two folders that look like runs; what their checkpoints hold is given."""
    nets = {"plain": build("linear"), "deep": build("mlp/128", hidden_sizes=(8,))}
    for name in nets:
        (tmp_path / name).mkdir()
        config = {"data": {"name": "digits", "split": "train"}, "evals": {"test": {"split": "test"}}}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(study, "load_pretrained", lambda path, **_: nets[path.rpartition("/")[2]])
    monkeypatch.setattr(study.RunData, "sample", lambda self, split, most: some(most, seed=len(split)))
    return tmp_path


def test_the_program_draws_runs_beside_each_other(runs, capsys):
    words = ["--workdir", str(runs / "plain"), str(runs / "deep"), "--points", "3", "--examples", "12", "--json"]
    assert main([*words, "--out", str(runs / "out")]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [run["name"] for run in result["runs"]] == ["plain", "deep"]
    assert (result["examples"], result["split"]) == (12, "train")
    arrays = np.load(runs / "out" / "loss_surface.npz")
    assert arrays["loss"].shape == arrays["error"].shape == (2, 3, 3)
    np.testing.assert_allclose(arrays["distances"], (-1, 0, 1))
    for number, run in enumerate(result["runs"]):
        assert run["summary"]["loss"] == pytest.approx(arrays["loss"][number, 1, 1])
    with Image.open(runs / "out" / "loss_surface.png") as drawn:
        assert min(drawn.size) > 500
    page = Page((runs / "out" / "loss_surface.html").read_text())
    assert page.count("svg") == 3
    assert "plain" in page.text
    assert "filter" in page.text


@pytest.mark.slow
def test_the_page_of_one_direction_opens(runs):
    words = ["--workdir", str(runs / "plain"), str(runs / "deep"), "--points", "3", "--out", str(runs / "line")]
    assert main([*words, "--dimensions", "1", "--split", "test"]) == 0
    assert np.load(runs / "line" / "loss_surface.npz")["loss"].shape == (2, 3)
    check_page(runs / "line" / "loss_surface.html", runs)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--points", "4"], "--points must be odd"),
        (["--span", "0"], "--span must be above 0"),
        (["--examples", "0"], "--examples must be at least 1"),
        (["--seed", "-1"], "--seed must not be negative"),
        (["--workdir", "a/net", "b/net"], "two runs have the same name"),
        (["--workdir", "no/such"], "no/such is no run"),
    ],
)
def test_what_cannot_be_is_one_sentence(words, told):
    with pytest.raises(UserError, match=told):
        main([*([] if "--workdir" in words else ["--workdir", "x"]), *words])


def test_images_without_labels_are_refused(runs, monkeypatch):
    monkeypatch.setattr(study.RunData, "sample", lambda self, split, most: some(most)._replace(labels=None))
    with pytest.raises(UserError, match="have no single class each"):
        main(["--workdir", str(runs / "plain")])
