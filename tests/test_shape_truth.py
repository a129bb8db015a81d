"""Which captions are true of which scenes: retrieval counts a true caption as a hit, whoever it was written for."""

import numpy as np
import pytest

from vision.data.builders.shape_captions import FORMS, captions
from vision.data.builders.shape_scenes import (
    BACKGROUNDS,
    CELLS,
    COLORS,
    SHAPES,
    SHAPES_8,
    SHAPES_24,
    SIZES,
    SPLITS,
    draw,
)
from vision.data.builders.shape_truth import Contents, is_true, of_records, of_scenes, true_of, truth_table

COUNT = 120


def record(background, *objects):
    """An example as the builder stores it."""
    names = ("size", "color", "shape", "cell")
    known = (SIZES, list(COLORS), SHAPES, CELLS)
    columns = {
        name: [words.index(each[place]) for each in objects]
        for place, (name, words) in enumerate(zip(names, known, strict=True))
    }
    return {"background": list(BACKGROUNDS).index(background), "objects": columns}


SCENE = of_records(
    [
        record(
            "white",
            ("large", "red", "circle", "center"),
            ("small", "blue", "square", "bottom left"),
            ("small", "orange", "star", "top left"),
        )
    ]
)
PAIR = of_records([record("navy", ("large", "red", "circle", "top"), ("small", "blue", "square", "top right"))])
SINGLE = of_records([record("black", ("small", "red", "circle", "left"))])


@pytest.mark.parametrize(
    ("caption", "truth"),
    [
        ("a red circle", True),
        ("a blue square", True),  # not the main one
        ("an orange star", True),
        ("a orange star", True),  # a template with its own article
        ("a red square", False),  # both words are there, not of one object
        ("a pink circle", False),
        ("a large red circle", True),
        ("a small red circle", False),
        ("a small blue square", True),
        ("a red circle in the center", True),
        ("a blue square at the bottom left", True),
        ("a blue square at the bottom", False),
        ("a blue square on the left", False),  # that is the cell in the middle of the left side
        ("a red circle at the top left", False),  # something is there, but not that
        ("an orange star on a white background", True),
        ("an orange star on a black background", False),
        ("a small orange star at the top left on a white background", True),
        ("a large orange star at the top left on a white background", False),
        ("a small orange star at the top left on a gray background", False),
        ("three shapes on a white background", True),
        ("two shapes on a white background", False),
        ("three shapes on a beige background", False),
        ("three shapes", True),
        ("one shape", False),
        ("no shapes", False),
        ("a red circle, a blue square and an orange star", True),
        ("an orange star, a red circle and a blue square", True),
        ("a red circle and a blue square", False),  # a list leaves nothing out
        ("a red circle, a blue square and a pink star", False),
        ("a red circle, a red circle and a red circle", False),
        ("a red circle above a blue square", True),
        ("a red circle below a blue square", False),
        ("a blue square below a red circle", True),
        ("a red circle to the right of a blue square", True),  # the same two, sideways
        ("a red circle to the left of a blue square", False),
        ("a blue square below an orange star", True),  # neither is the main one
        ("a blue square to the left of an orange star", False),  # one column
        ("a blue square to the right of an orange star", False),
        ("a red circle above a red circle", False),
        ("a red circle above a pink square", False),
    ],
)
def test_captions_of_one_scene(caption, truth):
    assert is_true(caption, SCENE) is truth


@pytest.mark.parametrize(
    ("caption", "scenes"),
    [
        ("a red circle", "SCENE PAIR SINGLE"),
        ("a red circle and a blue square", "PAIR"),
        ("one shape on a black background", "SINGLE"),
        ("a red circle on the left", "SINGLE"),
        ("a red circle at the top", "PAIR"),
        ("a red circle to the left of a blue square", "PAIR"),
        ("a red circle above a blue square", "SCENE"),  # of the pair both are in the first row
        ("a large red circle", "SCENE PAIR"),
    ],
)
def test_captions_of_several_scenes(caption, scenes):
    every = {"SCENE": SCENE, "PAIR": PAIR, "SINGLE": SINGLE}
    joined = Contents(
        **{name: np.concatenate([getattr(each, name) for each in every.values()]) for name in vars(SCENE)}
    )
    assert [name for name, holds in zip(every, true_of(caption, joined), strict=True) if holds] == scenes.split()


@pytest.mark.parametrize("recipe", [SHAPES_8, SHAPES_24])
@pytest.mark.parametrize("split", SPLITS)
def test_all_captions_of_a_scene_are_true_of_it(split, recipe):
    scenes = draw(split, COUNT, recipe)
    contents = of_scenes(scenes)
    for index in range(COUNT):
        for caption in captions(scenes, index).values():
            assert true_of(caption, contents)[index], caption


def test_a_table_is_the_captions_one_by_one_and_finds_more_than_the_own_ones():
    scenes = draw("test", 60)
    contents = of_scenes(scenes)
    texts = [text for index in range(60) for text in captions(scenes, index).values()]
    own = np.array([index for index in range(60) for _ in captions(scenes, index)])
    table = truth_table(texts, contents)
    assert table.shape == (len(texts), 60)
    assert table[np.arange(len(texts)), own].all()
    np.testing.assert_array_equal(table, np.stack([true_of(text, contents) for text in texts]))
    assert table.sum() > len(texts), "some captions are true of others too"
    full = [row for row, text in enumerate(texts) if "background" in text and "at the" in text]
    assert table[full].sum(axis=1).mean() < 1.5, "but one that tells everything of hardly any"


@pytest.mark.parametrize(
    "caption",
    ["", "a heart", "a red circle!", "A red circle", "four shapes", "a red circle near a blue square", "red circle"],
)
def test_a_text_of_another_form_is_named(caption):
    with pytest.raises(ValueError, match="is no caption of shapes; there are the forms short, size, position"):
        is_true(caption, SCENE)
    assert len(FORMS) == 8


def test_one_scene_is_asked_of_one():
    with pytest.raises(ValueError, match="one scene is asked for, got 4; true_of takes several"):
        is_true("a red circle", of_scenes(draw("test", 4)))
