"""Features of a split are made once for all evaluators of a state, kept whole or not at all, and made anew when due."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of

from vision import models
from vision.config.loading import plain
from vision.data.host import HostPart
from vision.data.order import InOrder
from vision.data.pipeline import make_pipeline
from vision.data.prepare import make_prepare
from vision.data.source import ArraySource
from vision.errors import ConfigError, UserError
from vision.evaluation.base import EvalSet
from vision.evaluation.feature_files import FeatureFiles
from vision.evaluation.features import Features
from vision.evaluation.outputs import gathered, named
from vision.objectives import OBJECTIVES
from vision.training.assemble import assemble
from vision.training.evaluators import make_evaluators
from vision.training.pretrained import PROTOCOLS, Pretrained, evaluate
from vision.training.schema import resolve
from vision.training.state import TrainState

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 255, (45, 4, 4, 1)).astype(np.uint8)
LABELS = RANDOM.integers(0, 5, 45).astype(np.int32)
PIXELS = (IMAGES.reshape(45, 16) / 255.0).astype(np.float32)
LINEAR = OBJECTIVES["classify"](models.build("linear", num_classes=5, zero_init=False))


def eval_set(*, batch_size=16, devices=1, labels=LABELS, images=IMAGES):
    arrays = {"image": images} | ({} if labels is None else {"label": labels})
    source = ArraySource(arrays, 5 if labels is not None else 0)
    over_batch = jax.sharding.NamedSharding(mesh_of(devices), jax.sharding.PartitionSpec(("data", "fsdp")))
    order = InOrder(len(source), batch_size)
    pipeline = make_pipeline(source, order, HostPart((4, 4), 1), sharding=over_batch, residency="auto")
    masks = tuple(order.mask(step) for step in range(order.num_batches))
    return EvalSet(pipeline, make_prepare(mean=None, std=None, channels=1), masks)


def state(seed=0):
    params, extra = LINEAR.init(jax.random.key(seed), {"image": jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32)})
    return TrainState(jnp.int32(0), params, extra, ())


class Counted:
    """A split whose batches are counted."""

    def __init__(self, split):
        self.batches = 0
        size, counted = split.pipeline.order.batch_size, self

        class Counting(InOrder):
            def rows(self, step):
                counted.batches += 1
                return super().rows(step)

        order = Counting(len(split.pipeline.source), size)
        self.set = replace(split, pipeline=replace(split.pipeline, order=order))


def logits(state):
    head = jax.device_get(state.params)["head"]
    return PIXELS @ head["kernel"] + head["bias"]


@pytest.mark.parametrize(("batch_size", "devices"), [(16, 8), (45, 1)])
def test_every_example_is_there_once_in_order_with_its_label(batch_size, devices):
    now = state()
    found = gathered(eval_set(batch_size=batch_size, devices=devices), LINEAR, ("pre_logits", "output"))(now)
    np.testing.assert_allclose(found.outputs["pre_logits"], PIXELS, rtol=1e-6)
    np.testing.assert_allclose(found.outputs["output"], logits(now), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.labels, LABELS)


def test_images_without_labels_have_features_all_the_same():
    found = gathered(eval_set(labels=None), LINEAR, ("pre_logits",))(state())
    assert found.labels is None
    np.testing.assert_allclose(found.outputs["pre_logits"], PIXELS, rtol=1e-6)


def test_a_mean_is_over_all_axes_between_the_first_and_the_last():
    outputs = {name: jnp.asarray(RANDOM.normal(size=shape), jnp.bfloat16) for name, shape in
               {"map": (3, 4, 5, 6), "tokens": (3, 7, 6), "vector": (3, 6)}.items()}  # fmt: skip
    for name, axes in (("map", (1, 2)), ("tokens", 1), ("vector", ())):
        exact = np.asarray(outputs[name], np.float64)
        np.testing.assert_allclose(named(outputs, f"{name}:mean"), exact.mean(axis=axes), rtol=1e-5, atol=1e-6)
    assert named(outputs, "map").shape == (3, 120)
    assert named(outputs, "map").dtype == jnp.float32
    with pytest.raises(UserError, match="no output 'maps'; it has map, tokens, vector"):
        named(outputs, "maps:mean")


def test_one_pass_makes_what_several_ask_for_and_another_state_asks_anew():
    counted, features = Counted(eval_set()), Features(LINEAR)
    one, two = features.of(counted.set, ("pre_logits",)), features.of(counted.set, ("output",))
    now, later = state(0), state(1)
    first = one(now).outputs
    second = two(now).outputs
    assert counted.batches == 3, "the three batches of one pass"
    assert (set(first), set(second)) == ({"pre_logits"}, {"output"})
    np.testing.assert_allclose(second["output"], logits(now), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(two(later).outputs["output"], logits(later), rtol=1e-5, atol=1e-6)
    assert counted.batches == 6
    np.testing.assert_allclose(two(now).outputs["output"], logits(now), rtol=1e-5, atol=1e-6)
    assert counted.batches == 9, "only the last state's are held"


def test_features_go_with_their_state():
    features = Features(LINEAR)
    read, now = features.of(eval_set(), ("pre_logits",)), state()
    read(now)
    assert features._found
    del now
    assert not features._found


def kept(folder, notes, **key):
    return FeatureFiles(folder, {"step": 3, **key}, notes.append)


def test_what_is_kept_is_not_made_again_but_for_another_key(tmp_path):
    now, notes = state(), []

    def batches(names, split=None, folder=tmp_path, **key):
        counted = Counted(split or eval_set())
        features = Features(LINEAR, files=kept(folder, notes, **key))
        found = features.of(counted.set, names)(now)
        expected = {"pre_logits": PIXELS, "output": logits(now)}
        for name in names:
            np.testing.assert_allclose(found.outputs[name], expected[name][: len(found.labels)], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found.labels, LABELS[: len(found.labels)])
        return counted.batches

    assert batches(("pre_logits",)) == 3
    assert batches(("pre_logits",)) == 0
    assert any("pre_logits of 45 images: from" in note for note in notes)
    assert batches(("pre_logits", "output")) == 3, "one is missing"
    assert batches(("output",)) == batches(("pre_logits", "output")) == 0
    assert batches(("output",), step=4) == 3
    assert batches(("output",), weights="others") == 3
    assert batches(("output",), eval_set(images=IMAGES[:40], labels=LABELS[:40])) == 3, "other examples"
    assert not list(tmp_path.glob("*.[0-9]*")), "nothing half written is left"
    (tmp_path / "file").write_text("")
    assert batches(("output",), folder=tmp_path / "file") == 3
    assert "not kept" in notes[-1]


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "other"])
def test_a_broken_file_is_told_and_made_anew(tmp_path, damage):
    now, notes = state(), []

    def read():
        counted = Counted(eval_set())
        found = Features(LINEAR, files=kept(tmp_path, notes)).of(counted.set, ("pre_logits", "output"))(now)
        np.testing.assert_allclose(found.outputs["pre_logits"], PIXELS, rtol=1e-6)
        return counted.batches

    read()
    _, other, path = sorted(tmp_path.glob("*.npz"), key=lambda path: path.stat().st_size)
    whole = bytearray(path.read_bytes())
    if damage == "other":  # in the place of this file, one that is good in itself
        path.write_bytes(other.read_bytes())
    else:
        whole[400] ^= 1  # among the numbers
        path.write_bytes({"cut": whole[:900], "empty": b"", "flipped": whole}[damage])
    assert read() == 3
    assert any("made anew" in note and path.name in note for note in notes)
    assert read() == 0, "and is good again"


def test_files_that_are_there_are_those_of_this_code(tmp_path, monkeypatch):
    now, notes = state(), []
    Features(LINEAR, files=kept(tmp_path, notes)).of(eval_set(), ("pre_logits",))(now)
    monkeypatch.setattr("vision.evaluation.feature_files._code", lambda: "changed")
    counted = Counted(eval_set())
    Features(LINEAR, files=kept(tmp_path, notes)).of(counted.set, ("pre_logits",))(now)
    assert counted.batches == 3


def test_evaluators_of_a_run_share_splits_and_features(tiny_config, monkeypatch, capsys):
    shared = {"split": "test", "batch_size": 120}
    tiny_config.evals = {
        "near": {"name": "knn", "k": 5, "bank_split": "test[:50%]", **shared},
        "near_block": {"name": "knn", "k": 5, "bank_split": "test[:50%]", "output": "block00:mean", **shared},
        "few": {"name": "few_shot", "shots": (2,), "train_split": "test[:50%]", **shared},
        "found": {"name": "retrieval", "k": (5,), **shared},
    }
    experiment = assemble(resolve(plain(tiny_config)))
    capsys.readouterr()
    evaluators = make_evaluators(experiment)
    assert capsys.readouterr().err.count(" live on the device") == 2, "each split once"
    now = experiment.init(experiment.constants.keys.init)
    passes = {}

    def told(split, objective, names):
        assert len(split.pipeline.source) not in passes
        passes[len(split.pipeline.source)] = set(names)
        return gathered(split, objective, names)

    monkeypatch.setattr("vision.evaluation.features.gathered", told)
    for name, evaluator in evaluators.items():
        values = dict(evaluator.run(now))
        assert tuple(values) == evaluator.metrics, name
        assert np.isfinite(list(values.values())).all()
    assert passes == {360: {"pre_logits", "block00:mean"}, 180: {"pre_logits", "block00:mean"}}
    tiny_config.evals = {"probe": {"name": "linear_probe", "blocks": (1,), **shared}}
    with pytest.raises(ConfigError, match="config.evals.probe: no blocks and no average_pool here"):
        make_evaluators(replace(experiment, config=resolve(plain(tiny_config))))


@pytest.mark.slow
def test_any_weights_are_judged_by_their_features_whatever_their_classes(monkeypatch):
    model = models.build("linear", num_classes=0, image_shape=(8, 8, 1))
    params, collections = model.init(jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32))
    from vision.interop.preprocessing import Preprocessing

    pretrained = Pretrained(model, params, collections, "linear", (8, 8, 1), Preprocessing((0.0,), (1.0,)))
    sections = {"knn": {"name": "knn", "k": 5}, "few_shot": {"name": "few_shot", "shots": (1,)}}
    found = evaluate(pretrained, "digits", split="test", evaluators=sections, batch_size=120, note=lambda text: None)
    assert found["knn"]["accuracy"] > 0.9, "pixels tell digits apart"
    assert set(found["few_shot"]) == {"accuracy_1", "accuracy_1_std"}
    with pytest.raises(UserError, match="linear tells 0 classes apart, digits has 10"):
        evaluate(pretrained, "digits", note=lambda text: None)
    assert "digits" not in PROTOCOLS


@pytest.mark.slow
def test_a_finished_run_is_judged_by_evaluators_that_its_config_does_not_have(program, tmp_path):
    run = tmp_path / "run"
    program("experiments.train", "--config", "configs/quickstart.py", "--workdir", run, "--config.duration.steps=20")
    command = ["experiments.evaluate", "--workdir", run, "--split", "test", "--json"]
    command += ["--evaluator", "knn", "k=5,20", "--evaluator", "linear_probe", "steps=20", "--evaluator", "knn", "k=1"]
    first, second = program(*command), program(*command)
    results = [json.loads(done.stdout.splitlines()[-1]) for done in (first, second)]
    assert results[0] == results[1]
    assert set(results[0]["knn"]) == {"accuracy_k5", "accuracy_k20"}
    assert set(results[0]["knn_2"]) == {"accuracy"}
    assert results[0]["linear_probe"]["accuracy"] > 0.5
    for done, times in ((first, 0), (second, 2)):
        assert done.stderr.count(f"from {run / 'features'}") == times
    for words, part in (
        (["--evaluator", "knm"], "did you mean 'knn'"),
        (["--evaluator", "knn", "kk=3"], "unknown key"),
        (["--evaluator", "knn", "k"], "as key=value"),
        (["--batch_size", "3"], "--evaluator"),
    ):
        (line,) = program("experiments.evaluate", "--workdir", run, *words, check=2).stderr.strip().splitlines()
        assert part in line
