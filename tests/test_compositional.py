"""Combinations never seen: numbers that guessing, and knowing everything, must come out at; true captions count."""

import json
import re
import sys

import numpy as np
import pytest
from browser import check_page
from test_zero_shot import Sentences

from experiments.compositional import main
from vision.data.builders.shape_scenes import CLASSES, HELDOUT_24, SHAPES_24, draw
from vision.data.host import HostPart
from vision.errors import UserError
from vision.interop.preprocessing import Preprocessing
from vision.studies.compositional import measure
from vision.studies.compositional.page import render
from vision.training.zero_shot import ImagesAndWords

COUNT, SIZE = 60, 16
SEEN, UNSEEN = (measure.pictures_of(split, COUNT, SHAPES_24) for split in ("test", "heldout"))


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def model_of(of_image, of_text):
    """A model of two functions, of an image's pixels and of a sentence, to vectors."""
    words = Sentences()

    def embed_tokens(tokens):
        told = list(words.known)
        return unit(np.array([of_text(told[token]) for token in tokens[:, 0]]))

    return ImagesAndWords(
        name="made up",
        embed_images=lambda images: unit(np.array([of_image(each) for each in images])),
        embed_texts=lambda texts: embed_tokens(words.encode(list(texts), length=2)),
        embed_tokens=embed_tokens,
        tokenizer=words,
        length=2,
        part=HostPart((64, 64), 3),
        preprocessing=Preprocessing((0.5,) * 3, (0.5,) * 3),
        scale=10.0,
        bias=None,
    )


def guessing(seed):
    random = np.random.default_rng(seed)
    return model_of(lambda _: random.normal(size=SIZE), lambda _: random.normal(size=SIZE))


def knowing():
    """Every picture has an axis of its own; a sentence lies among those that it is true of, or is the class of."""
    pixels = np.concatenate([SEEN.pixels, UNSEEN.pixels])
    axis = {each.tobytes(): number for number, each in enumerate(pixels)}
    labels = np.concatenate([SEEN.labels, UNSEEN.labels])

    def of_text(sentence):
        row = np.full(2 * COUNT, 1e-6)
        for pictures, first in ((SEEN, 0), (UNSEEN, COUNT)):
            if sentence in pictures.captions:
                row[first : first + COUNT] += pictures.true[pictures.captions.index(sentence)]
        name = re.sub("^an? ", "", sentence)
        if name in CLASSES and not row.max() > 0.5:
            row += labels == CLASSES.index(name)
        return row

    return model_of(lambda each: np.eye(2 * COUNT)[axis[each.tobytes()]], of_text)


def of(model, seen=SEEN, unseen=UNSEEN):
    return measure.measured(model, seen, unseen, SHAPES_24)


CHANCE = measure.chances(SEEN, UNSEEN, SHAPES_24)


def test_seen_and_unseen_pictures_are_of_other_combinations():
    assert set(UNSEEN.labels) <= set(HELDOUT_24)
    assert not set(SEEN.labels) & set(HELDOUT_24)
    assert len(set(SEEN.captions)) == len(SEEN.captions) == len(SEEN.true)
    assert SEEN.true.any(axis=1).all(), "every caption was written for one of the pictures"
    scenes = draw("heldout", COUNT, SHAPES_24)
    assert [CLASSES[each] for each in UNSEEN.labels[:2]] == [
        CLASSES[8 * scenes.color[row, 0] + scenes.shape[row, 0]] for row in (0, 1)
    ]


def test_a_caption_written_for_another_picture_counts_where_it_is_true():
    """The first picture is nearest to the second's caption; whether that is a hit says its truth alone."""
    pixels = np.zeros((2, 64, 64, 3), np.uint8)
    pixels[1] = 255
    rows = {"mine": (0.6, 0.8), "yours": (1.0, 0.1)}
    model = model_of(
        lambda image: (1.0, 0.0) if not image.any() else (0.0, 1.0), lambda text: rows.get(text, (1.0, 1.0))
    )
    for truth, expected in ((True, 1.0), (False, 0.5)):
        true = np.array([[True, True], [truth, True]])
        one = measure.Pictures(pixels, np.array([0, 0]), ("mine", "yours"), true)
        other = measure.Pictures(pixels, np.array([1, 1]), ("mine", "yours"), true)
        found = measure._retrieved(model.embed_images(one.pixels), model.embed_texts(one.captions), true)
        assert found["image_to_text"][0] == expected
        assert of(model, one, other)["metrics"]["test_image_to_text_at_1"] == expected


def test_chances_are_those_of_the_definitions():
    assert CHANCE["heldout_accuracy"] == pytest.approx(1 / 24)
    assert CHANCE["unseen_accuracy"] == CHANCE["harmonic_mean"] == 1 / 64
    assert CHANCE["heldout_image_to_text_at_1"] == pytest.approx(UNSEEN.true.mean())
    assert CHANCE["test_text_to_image_at_1"] == pytest.approx(SEEN.true.mean())


def test_a_model_that_guesses_is_at_chance_in_every_number():
    """Where all are alike exactly; with random embeddings on average over twelve models."""
    alike = of(model_of(lambda _: np.eye(SIZE)[0], lambda _: np.eye(SIZE)[0]))["metrics"]
    assert alike.keys() == CHANCE.keys()
    for name, value in alike.items():
        assert value == pytest.approx(CHANCE[name], rel=1e-6), name
    made = [of(guessing(seed))["metrics"] for seed in range(12)]
    for name, chance in CHANCE.items():
        if name == "harmonic_mean":  # of small numbers it is below their mean
            continue
        values = [each[name] for each in made]
        error = 4 * max(np.std(values, ddof=1), chance / 4) / len(values) ** 0.5
        assert np.mean(values) == pytest.approx(chance, abs=error), name


def test_a_model_that_knows_everything_is_right_in_every_number():
    found = of(knowing())
    captions = [name for name in found["metrics"] if "_at_" in name]
    assert len(captions) == 12
    for name in captions:
        assert found["metrics"][name] == pytest.approx(1.0), name
    assert {row for row, value in enumerate(found["per_class"]) if value is not None} == {*SEEN.labels, *UNSEEN.labels}


@pytest.mark.parametrize("broken", ["the classes", "the images of test", "the captions of test"])
def test_a_model_that_gives_no_numbers_is_refused(broken):
    nothing, something = lambda _: np.full(SIZE, np.nan), lambda _: np.eye(SIZE)[0]
    of_image, of_text = something, something
    if broken == "the images of test":
        of_image = nothing
    elif broken == "the classes":
        of_text = nothing
    else:
        of_text = lambda text: something(text) if re.sub("^an? ", "", text) in CLASSES else nothing(text)  # noqa: E731
    with pytest.raises(ValueError, match=rf"{broken}: row \d+ has a value that is not finite"):
        of(model_of(of_image, of_text))


def test_the_spread_over_runs_is_that_of_one_run():
    runs = [{"metrics": {"a": value}} for value in (0.2, 0.4, 0.9)]
    assert measure.summary(runs) == {"a": {"mean": pytest.approx(0.5), "std": pytest.approx(0.13**0.5)}}
    assert measure.summary(runs[:1]) == {"a": {"mean": 0.2, "std": None}}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two runs' folders, whose models guess."""
    for seed in range(2):
        (tmp_path / f"run{seed}").mkdir()
        (tmp_path / f"run{seed}" / "config.json").write_text(json.dumps({"data": {"name": "shapes24"}}))
    opened = iter(range(9))
    module = sys.modules["vision.training.zero_shot"]
    monkeypatch.setattr(module, "open_images_and_words", lambda *arguments, **options: guessing(next(opened)))
    return [str(tmp_path / f"run{seed}") for seed in range(2)]


def test_the_program_writes_numbers_of_all_runs_and_the_grid(folders, tmp_path, capsys):
    command = ["--workdir", *folders, "--examples", str(COUNT), "--out", str(tmp_path / "out"), "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    kept = json.loads((tmp_path / "out" / "compositional.json").read_text())
    assert {**kept, "page": told["page"]} == told
    assert [run["name"] for run in kept["runs"]] == ["run0", "run1"]
    values = [run["metrics"]["heldout_accuracy"] for run in kept["runs"]]
    assert kept["summary"]["heldout_accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert len(kept["heldout"]) == 24
    page = (tmp_path / "out" / "compositional.html").read_text()
    assert len(re.findall("class='unseen'", page)) == 24
    assert page.count("<td") - page.count("<td>") >= 64
    assert f"{len(SEEN.captions):,} and {len(UNSEEN.captions):,} different captions compete" in page
    for name, color in ((0.0, "244, 140, 70"), (1.0, "120, 180, 245")):
        changed = {**kept, "runs": [{**kept["runs"][0], "per_class": [name] * 64}]}
        assert page.count(color) <= render(changed, command="x").count(f"rgb({color})") == 64


@pytest.mark.slow
def test_the_page_opens_in_a_browser(folders, tmp_path):
    assert main(["--workdir", *folders, "--examples", str(COUNT), "--out", str(tmp_path / "out")]) == 0
    check_page(tmp_path / "out" / "compositional.html", tmp_path)


def test_what_cannot_be_is_one_line(folders, tmp_path):
    (tmp_path / "run1" / "config.json").write_text(json.dumps({"data": {"name": "shapes"}}))
    for options, message in (
        (["--workdir", *folders], "the runs learned from different data: shapes, shapes24; say which with --data"),
        (["--workdir", folders[0], folders[0]], "--workdir: the same run is there twice"),
        (["--workdir", folders[0], "--data", "shape"], "'shape' has no combinations"),
        (["--workdir", folders[0], "--examples", "0"], "--examples must be in [1, 2000]"),
        (["--workdir", folders[0], "--templates", "shape"], "--templates: there are no templates 'shape'; did you"),
        (["--workdir", str(tmp_path)], "does not say what it learned from: it has no config.json; give --data"),
    ):
        with pytest.raises(UserError, match=re.escape(message)) as error:
            main(options)
        assert "\n" not in str(error.value)
