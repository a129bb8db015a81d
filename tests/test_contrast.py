"""CLIP and SigLIP as an objective: clamped scale, exact accumulation, resumed bitwise, the same on eight devices."""

import json
import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of

from experiments import evaluate
from vision import models
from vision.data.source import ArraySource
from vision.data.sources.captions import pack
from vision.data.tokenizer import LEAST_SIZE
from vision.data.tokenizer import train as learn
from vision.data.tokens import TokenSource
from vision.errors import ConfigError, UserError
from vision.objectives.contrast import collapse_warning, contrast
from vision.training.accumulate import loss_and_gradients
from vision.training.assemble import assemble
from vision.training.checkpoint import load_arrays
from vision.training.evaluators import make_evaluators
from vision.training.loop import train
from vision.training.schema import resolve
from vision.training.sharding import batch_sharding

BATCH, LENGTH = 16, 8
SPEC = {
    "image": jax.ShapeDtypeStruct((BATCH, 8, 8, 1), jnp.float32),
    "tokens": jax.ShapeDtypeStruct((BATCH, LENGTH), jnp.int32),
}
WORDS = {"vocab_size": 20, "length": LENGTH, "out_size": 12}
SMALL = {"width": 16, "depth": 1, "num_heads": 2, "mlp_dim": 32}
COLORS = ("red", "green", "blue", "grey")


def towers():
    image = models.build("mlp/128", num_classes=0, hidden_sizes=(16,), dropout=0.2)
    return image, models.build_text("text/small", **WORDS, **SMALL, dropout=0.2)


def batch():
    random = np.random.default_rng(3)
    tokens = random.integers(0, 18, (BATCH, LENGTH)).astype(np.int32)
    tokens[:, 0], tokens[np.arange(BATCH), random.integers(2, LENGTH, BATCH)] = 18, 19
    return {"image": jnp.asarray(random.normal(size=SPEC["image"].shape), jnp.float32), "tokens": jnp.asarray(tokens)}


def gradients(microbatches=1, devices=1, **options):
    mesh = mesh_of(devices)
    if options.get("form") == "ring":
        options["mesh"] = mesh
    objective = contrast(*towers(), embed_dim=12, **options)
    params, extra = objective.init(jax.random.key(1), SPEC)
    keys = jax.random.split(jax.random.key(2), BATCH)
    rows, keys = jax.device_put((batch(), keys), batch_sharding(mesh))

    @jax.jit
    def run(params, extra, rows, keys):
        return loss_and_gradients(objective, params, extra, rows, keys, jnp.int32(0), microbatches=microbatches)[:2]

    return jax.device_get(run(params, extra, rows, keys))


def far(found, expected):
    """The largest difference of any array over its own largest number (at least a thousandth of the largest of all)."""
    pairs = list(zip(*map(jax.tree.leaves, (found, expected)), strict=True))
    least = 1e-3 * max(np.abs(other).max() for _, other in pairs[1:])
    return max(np.abs(one - other).max() / max(np.abs(other).max(), least) for one, other in pairs)


@pytest.mark.parametrize(
    ("loss", "microbatches", "devices", "form"),
    [
        ("softmax", 4, 1, {}),
        pytest.param("sigmoid", 4, 1, {}, marks=pytest.mark.slow),
        pytest.param("softmax", 1, 8, {}, marks=pytest.mark.slow),
        pytest.param("softmax", 2, 8, {"form": "ring"}, marks=pytest.mark.slow),
        pytest.param("sigmoid", 1, 8, {"form": "ring"}, marks=pytest.mark.slow),
        pytest.param("softmax", 2, 1, {"form": "chunked", "chunk_size": 4}, marks=pytest.mark.slow),
    ],
)
def test_microbatches_devices_and_forms_give_the_gradient_of_the_whole_batch(loss, microbatches, devices, form):
    """Dropout included; averaging the losses of microbatches would lose negatives (see the next test)."""
    assert far(gradients(microbatches, devices, loss=loss, **form), gradients(loss=loss)) < 1e-5


def test_averaged_microbatches_would_be_another_loss():
    objective = contrast(*towers(), embed_dim=12)._replace(separable=True)
    params, extra = objective.init(jax.random.key(1), SPEC)
    keys = jax.random.split(jax.random.key(2), BATCH)
    wrong = loss_and_gradients(objective, params, extra, batch(), keys, jnp.int32(0), microbatches=4)[:2]
    assert far(jax.device_get(wrong), gradients()) > 0.05


def test_scale_and_bias_start_as_published_and_the_scale_is_clamped_after_the_update():
    """CLIP: ln(1 / 0.07), brought to [0, ln 100] after each step; SigLIP: ln 10 and -10."""
    clip, siglip = (contrast(*towers(), embed_dim=12, loss=loss) for loss in ("softmax", "sigmoid"))
    of_clip, of_siglip = (jax.eval_shape(each.init, jax.random.key(0), SPEC)[0] for each in (clip, siglip))
    assert "bias" not in of_clip
    assert of_siglip["bias"].shape == ()
    params, _ = siglip.init(jax.random.key(0), SPEC)
    assert float(params["scale"]) == pytest.approx(math.log(10))
    assert float(params["bias"]) == -10.0
    params, _ = clip.init(jax.random.key(0), SPEC)
    assert float(params["scale"]) == pytest.approx(2.6592600, abs=1e-6)
    for given, kept in ((9.0, 4.6051702), (-1.0, 0.0), (3.0, 3.0)):
        assert float(clip.project({"scale": jnp.float32(given)})["scale"]) == pytest.approx(kept, abs=1e-6)


def test_a_step_brings_the_scale_back():
    """A learning rate so large that the scale leaves its bounds, here downwards."""
    objective = {"name": "contrast", "embed_dim": 12, "max_scale": 15.0}
    steep = {"name": "sgd", "learning_rate": 1e4}
    experiment = assemble(resolve(config(optimizer=steep, objective=objective)), given=captioned())
    state = experiment.init(experiment.constants.keys.init)
    state, _ = experiment.step(state, experiment.pipeline.batch(0), experiment.constants)
    assert float(state.params["scale"]) in (0.0, pytest.approx(math.log(15.0), abs=1e-6))


def test_embeddings_have_unit_length_whatever_the_number_of_captions():
    objective = contrast(*towers(), embed_dim=12)
    params, extra = objective.init(jax.random.key(0), SPEC)
    rows = batch()
    found = objective.encode(params, extra, {**rows, "tokens": jnp.stack([rows["tokens"]] * 3, axis=1)})
    assert found["text_embedding"].shape == (BATCH, 3, 12)
    for name in ("image_embedding", "text_embedding", "output"):
        np.testing.assert_allclose(np.linalg.norm(found[name], axis=-1), 1.0, rtol=1e-5)
    assert "image_embedding" not in objective.encode(params, extra, {"tokens": rows["tokens"]})


def test_a_loss_at_ln_n_is_told():
    at = {"contrastive_loss": math.log(256), "uniform_loss": math.log(256)}
    assert "ln N = 5.545177" in (collapse_warning(at) or "")
    assert collapse_warning({**at, "contrastive_loss": 5.0}) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be a number > 0"),
        ({"max_scale": 5.0}, "max_scale must be at least 1 / temperature"),
        ({"embed_dim": 0}, "embed_dim must be at least 1"),
        ({"form": "chunked"}, "chunk_size goes with form='chunked'"),
        ({"chunk_size": 4}, "chunk_size goes with form='chunked'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        contrast(*towers(), **{"embed_dim": 12, **options})


def captioned(count=32):
    """Grey levels and their names, two captions each."""
    label = (np.arange(count) % 4).astype(np.int32)
    pixels = np.random.default_rng(0).integers(0, 60, (count, 8, 8, 1)) + 50 * label[:, None, None, None]
    texts = [[f"a {COLORS[each]} picture", f"all {COLORS[each]}"] for each in label]
    return {"train": {"image": pixels.astype(np.uint8), "label": label, **pack(texts)}}


def write_captions(folder, count=40):
    """Grey squares and their captions, two each, as files."""
    random = np.random.default_rng(0)
    lines = ["image,caption"]
    (folder / "images").mkdir()
    for number in range(count):
        pixels = (random.integers(0, 60, (8, 8)) + 50 * (number % 4)).astype(np.uint8)
        assert cv2.imwrite(str(folder / "images" / f"{number}.png"), pixels)
        lines += [f"{number}.png,a {COLORS[number % 4]} picture", f"{number}.png,number {number}"]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")


def config(**more):
    return {
        "batch_size": 8,
        "duration": {"steps": 6},
        "data": {"name": "arrays", "tokens": {"vocab_size": 530, "length": LENGTH}},
        "model": {"name": "mlp/128", "hidden_sizes": (16,), "dropout": 0.2},
        "text": {"name": "text/small", **SMALL, "dropout": 0.1},
        "objective": {"name": "contrast", "embed_dim": 12},
        "optimizer": {"name": "adamw", "learning_rate": 1e-2},
        "checkpoint": {"every": {"steps": 3}, "keep": 5},
        "logging": {"every": {"steps": 2}, "tensorboard": False, "progress": False},
        **more,
    }


@pytest.mark.slow
def test_a_resumed_run_is_bitwise_the_uninterrupted_one_and_keeps_its_tokenizer(tmp_path):
    class Killed(Exception):
        pass

    def kill():
        raise Killed

    train(config(), tmp_path / "whole", sources=captioned())
    with pytest.raises(Killed):
        train(config(), tmp_path / "parts", sources=captioned(), at_step={4: kill})
    train(config(), tmp_path / "parts", sources=captioned())
    (_, whole, told), (_, parts, _) = (load_arrays(tmp_path / name, None) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert [name for name in whole if whole[name].tobytes() != parts[name].tobytes()] == []
    assert told["tokenizer"] == (tmp_path / "whole" / "tokenizer.json").read_text()


@pytest.mark.slow
def test_a_run_goes_on_and_is_evaluated_with_its_own_tokenizer_and_no_other(tmp_path, capsys):
    write_captions(tmp_path)
    file = tmp_path / "words.json"
    file.write_text(learn([f"a {color} picture" for color in COLORS], vocab_size=530).to_json())
    tokens = {"tokenizer": str(file), "length": LENGTH}
    data = {"name": f"captions:{tmp_path / 'captions.csv'}", "channels": 1, "tokens": tokens}
    evals = {"retrieval": {"name": "caption_retrieval", "split": "val", "batch_size": 8, "k": (1, 2)}}
    whole = config(data=data, evals=evals)
    train({**whole, "duration": {"steps": 3}}, tmp_path / "run")
    told = load_arrays(tmp_path / "run", None)[2]["tokenizer"]
    assert told == file.read_text()
    other = learn(["nothing of the kind"], vocab_size=530)
    file.write_text(other.to_json())
    with pytest.raises(UserError, match=r"words\.json is not what the run was begun with"):
        train({**whole, "duration": {"steps": 3}}, tmp_path / "run")
    file.unlink()
    first = train({**whole, "duration": {"steps": 3}}, tmp_path / "run")
    longer = train({**whole, "resume": str(tmp_path / "run")}, tmp_path / "longer")
    assert longer["step"] == 6
    assert (tmp_path / "longer" / "tokenizer.json").read_text() == told
    assert evaluate.main(["--workdir", str(tmp_path / "run"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["retrieval"] == first["retrieval"]


@pytest.mark.slow
def test_captions_are_learned_and_shuffled_ones_are_not(tmp_path):
    """The control: with every image's captions those of another, an image's own are found no better than others."""
    found = {}
    for shuffled in (False, True):
        tokens = {"vocab_size": 530, "length": LENGTH, "shuffled": shuffled}
        evals = {"zero_shot": {"name": "zero_shot", "split": "train", "batch_size": 8, "class_names": COLORS}}
        evals["zero_shot"]["templates"] = ("a {} picture",)
        more = {
            "data": {"name": "arrays", "tokens": tokens, "mean": (0.4,), "std": (0.2,)},
            "model": {"name": "mlp/128", "hidden_sizes": (32,)},
            "text": {"name": "text/small", **SMALL},
            "optimizer": {"name": "adamw", "learning_rate": 3e-3},
            "batch_size": 16,
            "duration": {"steps": 300},
        }
        summary = train(config(**more, evals=evals), tmp_path / str(shuffled), sources=captioned(128))
        found[shuffled] = summary["zero_shot"]["accuracy"]
    assert found[False] > 0.9
    assert found[True] < 0.6


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"text": None}, "config.text: missing; name a text model"),
        ({"data": {"name": "arrays"}}, "config.data.tokens: missing; contrast learns from captions"),
        ({"text": {"name": "text/smal"}}, "config.text.name: unknown text model 'text/smal'.*did you mean"),
        ({"objective": {"name": "classify"}}, "config.text: no code reads it"),
        ({"objective": {"name": "contrast", "embed_dim": 12, "image_projection": False}}, "images have 16"),
        (
            {"data": {"name": "arrays", "tokens": {"vocab_size": 530, "length": 8}, "mix": {"name": "mixup"}}},
            "config.data.mix: mixup mixes images, and captions cannot be mixed",
        ),
    ],
)
def test_configs_that_cannot_be_are_refused(more, message):
    with pytest.raises(ConfigError, match=message):
        assemble(resolve(config(**more)), given=captioned())


def test_scores_of_classes_are_not_taken_from_embeddings():
    scores = {"test": {"name": "classification", "split": "train", "batch_size": 8}}
    experiment = assemble(resolve(config(evals=scores)), given=captioned())
    with pytest.raises(ConfigError, match=r"config\.evals\.test: classification judges scores .* contrast learns none"):
        make_evaluators(experiment)


def test_an_image_without_a_caption_is_told():
    arrays = captioned()
    arrays["train"]["num_captions"][5] = 0
    with pytest.raises(ConfigError, match="example 5 has no caption"):
        assemble(resolve(config()), given=arrays)


def test_captions_that_are_cut_are_told(capsys):
    source = ArraySource(captioned()["train"], 4)
    letters = learn([], vocab_size=LEAST_SIZE)  # every letter is a token
    captions = [form.format(color) for color in COLORS for form in ("a {} picture", "all {}")]
    needed = np.array([len(caption.replace(" ", "")) + 2 for caption in captions])
    for length in (8, 9, 10, 30):
        assert TokenSource(source, letters, length).share_cut == np.mean(needed > length)
    tokens = {"vocab_size": 530, "length": 4}
    assemble(resolve(config(data={"name": "arrays", "tokens": tokens})), given=captioned())
    assert "% of the different captions are cut to 4 tokens" in capsys.readouterr().err


def test_data_without_captions_are_refused():
    bare = {"train": {name: captioned()["train"][name] for name in ("image", "label")}}
    with pytest.raises(ConfigError, match=r"config\.data\.tokens: arrays has no captions"):
        assemble(resolve(config()), given=bare)


def test_a_frozen_text_tower_drops_nothing():
    """It computes one function, as a frozen image tower does: the loss of a batch does not depend on the step's key."""

    def losses(**more):
        section = config(text={"name": "text/small", **SMALL, "dropout": 0.5}, **more)
        section["model"]["dropout"] = 0.0
        section["optimizer"] |= {"learning_rate": 0.0}
        experiment = assemble(resolve(section), given=captioned())
        state, found = experiment.init(experiment.constants.keys.init), []
        for _ in range(2):
            state, metrics = experiment.step(state, experiment.pipeline.batch(0), experiment.constants)
            found.append(float(metrics["loss"][0]))
        return found

    frozen, trained = losses(freeze={"patterns": ("^text/",)}), losses()
    assert frozen[0] == frozen[1]
    assert trained[0] != trained[1]
