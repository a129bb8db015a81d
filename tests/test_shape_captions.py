"""Captions of the shapes tell the truth: read back word by word, they name what is in the picture."""

import re

import pytest

from vision.data.builders.shape_captions import FORMS, captions
from vision.data.builders.shape_scenes import BACKGROUNDS, CELLS, COLORS, SHAPES, SIZES, SPLITS, draw

COUNT = 400


@pytest.fixture(scope="module")
def scenes():
    return {split: draw(split, COUNT) for split in SPLITS}


def parse(text):
    """Reads a caption word by word; knows the vocabulary, not how captions are made."""
    thing = rf"an? (?:({'|'.join(SIZES)}) )?({'|'.join(COLORS)}) ({'|'.join(SHAPES)})"
    place = rf"(?: (?:at|in|on) the ({'|'.join(sorted(CELLS, key=len, reverse=True))}))?"
    ground = rf"(?: on a ({'|'.join(BACKGROUNDS)}) background)?"
    objects = re.findall(thing, text)
    shell = re.sub(thing, "X", text)
    cell = background = count = relation = None
    if found := re.fullmatch(rf"(one|two|three) shapes?{ground}", shell):
        count, background = ("one", "two", "three").index(found[1]) + 1, found[2]
    elif found := re.fullmatch(rf"X{place}{ground}", shell):
        cell, background = found[1], found[2]
    elif found := re.fullmatch(r"X (to the left of|to the right of|above|below) X", shell):
        relation = found[1]
    else:
        assert re.fullmatch(r"X(, X)? and X", shell), text
    return {"objects": objects, "cell": cell, "background": background, "count": count, "relation": relation}


@pytest.mark.parametrize("split", SPLITS)
def test_captions_say_what_is_in_the_picture(scenes, split):
    each = scenes[split]
    seen = set()
    for index in range(COUNT):
        told = captions(each, index)
        seen |= set(told)
        number = int(each.num_objects[index])
        assert tuple(told) == (FORMS if number > 1 else FORMS[:6])
        known = [(list(COLORS)[each.color[index, k]], SHAPES[each.shape[index, k]]) for k in range(number)]
        for form, text in told.items():
            assert text.isascii()
            assert len(text.encode()) < 160
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text)
            found = parse(text)
            words = [words[1:] for words in found["objects"]]
            sizes = [words[0] for words in found["objects"]]
            wanted = {
                "count": [],
                "all": known,
                "relation": [known[0], known[int(each.partner[index])]] if number > 1 else None,
            }.get(form, known[:1])
            assert words == wanted, text
            large = SIZES[each.size[index, 0]] if form in ("size", "full") else ""
            assert sizes == [large] * len(words), text
            assert found["cell"] == (CELLS[each.cell[index, 0]] if form in ("position", "full") else None)
            ground = list(BACKGROUNDS)[each.background[index]]
            assert found["background"] == (ground if form in ("background", "full", "count") else None)
            assert found["count"] == (number if form == "count" else None)
            if form == "relation":
                assert_relation(each, index, found["relation"])
    assert seen == set(FORMS), "every form occurs"


def assert_relation(scenes, index, relation):
    """The main object really is there, by the pixels' own coordinates, at least half a cell away."""
    partner = int(scenes.partner[index])
    assert 1 <= partner < scenes.num_objects[index]
    down, right = (
        (scenes.cell[index, 0] // 3 - scenes.cell[index, partner] // 3),
        (scenes.cell[index, 0] % 3 - scenes.cell[index, partner] % 3),
    )
    holds = {"above": down < 0, "below": down > 0, "to the left of": right < 0, "to the right of": right > 0}
    assert holds[relation]
    y, x = scenes.center[index, 0] - scenes.center[index, partner]
    truth = {"above": y < 0, "below": y > 0, "to the left of": x < 0, "to the right of": x > 0}
    assert truth[relation]


def test_all_relations_and_places_occur(scenes):
    told = [captions(scenes["train"], index) for index in range(COUNT)]
    assert {parse(each["relation"])["relation"] for each in told if "relation" in each} == {
        "above",
        "below",
        "to the left of",
        "to the right of",
    }
    assert {parse(each["position"])["cell"] for each in told} == set(CELLS)
