"""One's own images and one's own words: the right label is first, on the terminal and on the page."""

import json
import re

import numpy as np
import pytest
from browser import check_page
from PIL import Image

from experiments.zero_shot import main
from vision.data.sources.captions import pack
from vision.errors import UserError
from vision.training.checkpoint import load_arrays
from vision.training.loop import train
from vision.training.zero_shot import checked_labels, open_images_and_words, sentences_cut

COLORS = ("black", "dark", "light", "white")
LENGTH = 8


def pictures(random, labels):
    return (random.integers(0, 40, (len(labels), 8, 8, 1)) + 70 * labels[:, None, None, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that has learned four grey levels and their names."""
    folder, random = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    labels = np.arange(64) % 4
    captions = pack([[f"a {COLORS[each]} picture", f"all {COLORS[each]}"] for each in labels])
    config = {
        "batch_size": 16,
        "duration": {"steps": 200},
        "data": {"name": "arrays", "tokens": {"vocab_size": 540, "length": LENGTH}, "mean": (0.5,), "std": (0.3,)},
        "model": {"name": "mlp/128", "hidden_sizes": (64,)},
        "text": {"name": "text/small", "width": 16, "depth": 1, "num_heads": 2, "mlp_dim": 32},
        "objective": {"name": "contrast", "embed_dim": 12},
        "optimizer": {"name": "adamw", "learning_rate": 1e-2},
        "logging": {"every": {"steps": 200}, "tensorboard": False, "progress": False},
    }
    train(config, folder / "clip", sources={"train": {"image": pictures(random, labels), **captions}})
    images = folder / "images"
    images.mkdir()
    for color, pixels in zip(COLORS, pictures(random, np.arange(4)), strict=True):
        Image.fromarray(pixels[..., 0]).resize((16, 16), Image.Resampling.NEAREST).save(images / f"{color}.png")
    (images / "torn.png").write_bytes((images / "white.png").read_bytes()[:40])
    return folder


@pytest.mark.slow
def test_the_right_label_is_first_and_a_broken_image_is_named(run, capsys):
    page = run / "page.html"
    labels = "a white picture,a black picture, the dark picture ,a light picture"
    command = ["--workdir", str(run / "clip"), "--images", str(run / "images"), "--labels", labels, "--out", str(page)]
    assert main([*command, "--template", "a {}", "--template", "{}", "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out.splitlines()[-1])
    assert "torn.png" in found["broken"][0]
    assert re.search(r"torn\.png: .*\w", told.err)
    assert len(found["predictions"]) == 4
    for each in found["predictions"]:
        color = re.search(r"(\w+)\.png", each["image"])[1]
        probabilities = [one["probability"] for one in each["top"]]
        assert color in each["top"][0]["label"]
        assert sum(probabilities) == pytest.approx(1.0)
        assert probabilities == sorted(probabilities, reverse=True)
    text = page.read_text()
    assert text.count("<figure>") == 4 == text.count("data:image/png")
    assert "4 images. Probabilities of one of 4 labels, in 2 sentences such as &#x27;a {}&#x27;." in text
    assert main([*command, "--top", "2"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"black\.png\n  1  a black picture   0\.\d{3}\n  2  ", table)
    assert " 3 " not in table


@pytest.mark.slow
def test_labels_with_commas_come_from_a_file(run, capsys):
    file = run / "labels.txt"
    file.write_text("dark, as at night\nwhite, as snow\n")
    command = ["--workdir", str(run / "clip"), "--images", str(run / "images" / "white.png"), "--json"]
    assert main([*command, "--labels_file", str(file), "--templates", "name"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out.splitlines()[-1])
    assert found["labels"] == ["dark, as at night", "white, as snow"]
    assert "sentences are longer than the model's 8 tokens and were cut, such as 'dark, as at night'" in told.err


@pytest.mark.slow
def test_functions_of_both_towers_give_what_the_definitions_say(run):
    model = open_images_and_words(run / "clip", batch_size=3, note=print)
    images = pictures(np.random.default_rng(5), np.arange(4))
    embedded, texts = model.embed_images(images), model.embed_texts([f"all {color}" for color in COLORS])
    for rows in (embedded, texts):
        assert rows.shape == (4, 12)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(model.embed_images(images[3:]), embedded[3:], atol=1e-6)
    _, arrays, _ = load_arrays(run / "clip", None)
    assert model.scale == pytest.approx(np.exp(arrays["params/scale"]), rel=1e-6)
    logits = model.scale * embedded @ texts.T
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.probabilities(embedded, texts), expected, rtol=1e-4)
    np.testing.assert_allclose(model.embed_classes(COLORS, ("all {}",)), texts, atol=1e-6)
    assert sentences_cut(model, ("white",), ("all {}",)) == []


@pytest.mark.slow
def test_the_page_opens_in_a_browser(run, capsys):
    page = run / "browser.html"
    command = ["--workdir", str(run / "clip"), "--images", str(run / "images"), "--out", str(page)]
    assert main([*command, "--labels", f"a {'very ' * 30}long label, {'unbroken' * 12}, black"]) == 0
    check_page(page, run)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat"], "--labels: 1 label; give two or more"),
        ([], "--labels: no labels; give two or more"),
        (["cat", "  "], "--labels: label 2 of 2 is empty"),
        (["cat", "dog", " cat"], "--labels: label 3, 'cat', is there twice"),
    ],
)
def test_labels_that_cannot_be_are_one_line(labels, message):
    with pytest.raises(UserError, match=re.escape(message)):
        checked_labels(labels, where="--labels")


def test_one_label_is_enough_where_each_is_judged_by_itself():
    assert checked_labels([" a cat "], where="--labels", alone=True) == ("a cat",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "a,b", "--labels_file", "x"], "give either --labels or --labels_file"),
        (["--labels", "a,b", "--templates", "plain", "--template", "a {}"], "give either --templates or --template"),
        (["--labels", "a,b", "--templates", "plane"], "--templates: there are no templates 'plane'; did you mean"),
        (["--labels", "a,b", "--template", "a photo"], "the template 'a photo' has no {} for the name"),
        (["--labels_file", "nowhere.txt"], "--labels_file nowhere.txt: No such file"),
        (["--labels", "a,,b"], "--labels: label 2 of 3 is empty"),
        (["--labels", "a,b", "--top", "0"], "--top must be at least 1"),
        (["--labels", "a,b"], "nowhere is no folder of a run or a conversion: it has no checkpoints"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, options, message):
    image = tmp_path / "image.png"
    Image.new("L", (8, 8)).save(image)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        main(["--workdir", "nowhere", "--images", str(image), *options])
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_run_that_knows_no_words_is_told(tmp_path, tiny_config):
    tiny_config.duration = {"steps": 1}
    train(tiny_config, tmp_path)
    with pytest.raises(UserError, match=r"holds no pair of an image tower and a text tower"):
        open_images_and_words(tmp_path, note=print)
