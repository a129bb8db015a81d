"""Lines, circles and objects of known place are found there, without learning; and where that ends is told."""

import json
import math

import cv2
import numpy as np
import pytest
from report_pages import Page
from sklearn.datasets import load_sample_image

from experiments import without_learning as without_learning_program
from vision.classic.hough import find_circles, find_lines
from vision.classic.matching import corners, match
from vision.errors import UserError
from vision.studies import hough_trials, matching_objects, matching_trials, without_learning
from vision.studies.matching_objects import Objects

SIDE = 120


def drawn(distance_to_ink):
    """A picture with ink where a signed distance is negative, antialiased: closed form, no drawing library."""
    ink = np.clip(0.5 - distance_to_ink, 0, 1)
    return np.rint(255 * (1 - ink)).astype(np.uint8)[..., None]


def to_line(distance, angle):
    y, x = np.mgrid[:SIDE, :SIDE]
    return x * math.cos(angle) + y * math.sin(angle) - distance


def to_circle(x, y, radius):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.hypot(columns - x, rows - y) - radius


LINES = [(70.3, 0.4), (40.0, math.pi / 2), (60.6, 0.0), (-21.4, 2.3), (55.5, 0.02), (-60.2, math.pi - 0.02)]


@pytest.mark.parametrize(("distance", "angle"), LINES)
@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_drawn_line_is_found_once_within_a_pixel(distance, angle, width):
    found = find_lines(drawn(abs(to_line(distance, angle)) - width / 2))
    assert len(found) == 1
    turns = round((found[0].angle - angle) / math.pi)  # angles just below pi are near 0
    assert found[0].angle - turns * math.pi == pytest.approx(angle, abs=math.radians(0.7))
    assert found[0].distance * (-1) ** turns == pytest.approx(distance, abs=1)
    assert 0 <= found[0].angle < math.pi


def test_several_lines_are_found_strongest_first():
    long, short = to_line(60, 0.7), to_line(10, 2.5)
    y, _ = np.mgrid[:SIDE, :SIDE]
    picture = np.minimum(drawn(abs(long) - 1), np.where(y[..., None] > SIDE / 2, drawn(abs(short) - 1), 255))
    found = find_lines(picture.astype(np.uint8), support=0.3)
    assert [round(each.angle, 1) for each in found] == [0.7, 2.5]
    assert find_lines(np.full((40, 40, 3), 90, np.uint8)) == []


@pytest.mark.parametrize("circle", [(60.3, 55.8, 20.4), (40.0, 70.5, 33.0), (80.9, 41.2, 9.3)])
@pytest.mark.parametrize("filled", [False, True])
def test_a_drawn_circle_is_found_once_within_a_pixel(circle, filled):
    distance = to_circle(*circle)
    found = find_circles(drawn(distance if filled else abs(distance) - 1))
    assert len(found) == 1
    np.testing.assert_allclose(found[0], circle, atol=0.3)  # OpenCV alone is off by up to a pixel


def test_a_square_is_no_circle():
    rows, columns = np.mgrid[:SIDE, :SIDE]
    assert find_circles(drawn(np.maximum(abs(rows - 60), abs(columns - 60)) - 20)) == []


HOMOGRAPHIES = {
    "moved": [[1, 0, 30], [0, 1, 12], [0, 0, 1]],
    "turned": [[0.8, -0.5, 90], [0.5, 0.8, 5], [0, 0, 1]],
    "smaller": [[0.6, 0, 20], [0, 0.6, 30], [0, 0, 1]],
    "from the side": [[0.8, -0.2, 60], [0.25, 0.7, 20], [3e-4, -2e-4, 1]],
}


@pytest.mark.parametrize("name", HOMOGRAPHIES)
def test_a_known_homography_is_given_back(name):
    wanted = load_sample_image("china.jpg")[150:350, 200:400]
    homography = np.array(HOMOGRAPHIES[name], np.float64)
    scene = cv2.warpPerspective(wanted, homography, (320, 260))
    found = match(wanted, scene)
    assert found.found
    assert found.inliers == found.explained.sum() > 20
    astray = corners(found.homography, wanted.shape) - corners(homography, wanted.shape)
    assert np.hypot(*astray.T).max() < 1
    moved = cv2.perspectiveTransform(found.in_object[None], homography)[0]
    assert np.hypot(*(moved - found.in_scene)[found.explained].T).max() < 5  # each inlier is where it belongs


def test_upsampled_keypoints_are_in_pixels_of_the_image_as_given():
    wanted = load_sample_image("china.jpg")[150:350, 200:400]
    small = cv2.resize(wanted, (70, 70), interpolation=cv2.INTER_AREA)
    scene = np.full((90, 100, 3), 127, np.uint8)
    scene[11:81, 17:87] = small
    found = match(small, scene, upsample=3)
    assert found.found
    np.testing.assert_allclose(corners(found.homography, small.shape)[0], [17, 11], atol=0.3)


def test_corners_are_those_of_the_outer_pixels():
    shifted = corners(np.array([[1.0, 0, 5], [0, 1, 7], [0, 0, 1]]), (10, 20, 3))
    np.testing.assert_allclose(shifted, [[5, 7], [24, 7], [24, 16], [5, 16]])


def test_another_image_is_not_the_object():
    wanted = load_sample_image("china.jpg")[150:350, 200:400]
    assert not match(wanted, load_sample_image("flower.jpg")).found
    flat = np.full((64, 64, 3), 80, np.uint8)  # without a keypoint
    nothing = match(wanted, flat)
    assert (nothing.found, nothing.inliers, nothing.homography, len(nothing.in_object)) == (False, 0, None, 0)
    assert not match(flat, wanted).found


def test_a_mirrored_object_is_another():
    """A homography that turns the object over, or onto a line, is no view of something flat."""
    from vision.classic.matching import _is_sound

    for matrix, sound in (
        (np.eye(3), True),
        (np.diag([-1.0, 1, 1]), False),
        (np.diag([1.0, 1e-5, 1]), False),
        (np.array([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1.0]]), False),
    ):
        assert _is_sound(matrix, (100, 100, 3)) == sound


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda image: find_lines(image, support=0.0), "support must be positive"),
        (lambda image: find_circles(image, perfectness=2.0), "perfectness must be in"),
        (lambda image: find_circles(image[:5]), "images of 5x40 pixels are smaller than what can show a circle, 8x8"),
        (lambda image: match(image, image, ratio=1.0), "ratio must be in"),
        (lambda image: match(image, image[:, :4]), "images of 40x4 pixels are smaller than what can have a keypoint"),
        (lambda image: find_lines(image.astype(np.float32) * np.nan), "are NaN"),
    ],
)
def test_what_cannot_be_is_told(call, text):
    with pytest.raises(ValueError, match=text):
        call(np.full((40, 40, 3), 90, np.uint8))


def test_clean_drawings_are_found_and_a_shaky_hand_s_are_not():
    found = hough_trials.rates(6, seed=0)
    for kind in ("lines", "circles"):
        assert found[kind]["clean"]["found"] > 0.9
        assert found[kind]["clean"]["false"] == 0
        assert found[kind]["hand-drawn"]["found"] < 0.8


def test_a_find_counts_where_it_belongs():
    circle = hough_trials.Circle(50, 50, 20)
    line, across = hough_trials.Line(30, 0.01), hough_trials.Line(-30, math.pi - 0.01)
    picture = np.zeros((128, 128, 3), np.uint8)
    scene = hough_trials.Scene(picture, [circle], [circle._replace(x=53), circle._replace(radius=30)])
    assert (scene.hits, scene.false) == (1, 1)
    scene = hough_trials.Scene(picture, [line, hough_trials.Line(30, 1.0)], [across])
    assert (scene.hits, scene.false) == (1, 0)


@pytest.mark.parametrize("name", matching_trials.VIEWS)
def test_a_view_is_the_image_under_its_homography(name):
    rows, columns = np.mgrid[:100, :140]
    smooth = np.stack([60 + rows, 60 + columns, 60 + rows // 2 + columns // 2], -1).astype(np.uint8)
    scene, homography = matching_trials.view(name, smooth, np.random.default_rng(2))
    assert scene.shape == smooth.shape
    places = np.array([[30.0, 20], [70, 50], [100, 80]])
    moved = cv2.perspectiveTransform(places[None], homography)[0]
    for (x, y), (column, row) in zip(places, moved, strict=True):
        expected = smooth[round(y), round(x)] * (0.5 if name == "darker" else 1)
        np.testing.assert_allclose(scene[round(row), round(column)], expected, atol=3)


def test_a_rate_counts_only_finds_in_the_right_place():
    image = load_sample_image("china.jpg")[150:300, 200:350]
    pair = matching_trials.same("rotated", image, np.random.default_rng(0), upsample=1)
    elsewhere = pair._replace(truth=np.array([[1.0, 0, 20], [0, 1, 0], [0, 0, 1]]) @ pair.truth)
    assert matching_trials.rate([pair, elsewhere]).found == 0.5
    without = matching_trials.other(image, image, upsample=1)  # found, though it should not be
    assert matching_trials.rate([without]).found == 1


def test_partners_are_of_the_class_asked_for():
    objects = Objects([np.zeros((8, 8, 3), np.uint8)] * 5, np.array([0, 1, 0, 1, 2]))
    generator = np.random.default_rng(0)
    assert {objects.another(0, generator, same_class=True) for _ in range(20)} == {2}
    assert {objects.another(0, generator, same_class=False) for _ in range(40)} == {1, 3, 4}
    assert objects.another(4, generator, same_class=True) is None
    photographs = matching_objects.photographs()
    assert all((photographs.classes == label).sum() == 2 for label in photographs.classes)


def test_the_short_form_stands_in_another_page():
    text = without_learning.section(0)
    page = Page(text)
    assert page.count("section") == 1
    assert page.count("img") >= 6
    for name, attributes in page.tags:
        assert name != "img" or attributes["src"].startswith("data:image/png;base64,")
    assert "perspective" in page.text
    assert "other half of its photograph" in page.text


def test_the_program_needs_no_data(tmp_path, capsys):
    arguments = ["--workdir", str(tmp_path / "new"), "--pairs", "3", "--pictures", "4", "--json"]
    assert without_learning_program.main(arguments) == 0
    out, err = capsys.readouterr()
    result = json.loads(out.splitlines()[-1])
    assert result == json.loads((tmp_path / "new" / "without_learning.json").read_text())
    rates = result["matching"]["halves of photographs"]
    assert rates["rotated"]["found"] > 0.6
    assert rates["other half of its photograph"]["found"] == 0
    assert result["circles_among_shapes"]["square"] == 0
    page = Page((tmp_path / "new" / "without_learning.html").read_text())
    assert page.count("script") == page.count("link") == 0
    assert "rotated: found 100%" in err


def test_the_program_takes_a_folder(tmp_path, capsys):
    photograph = load_sample_image("china.jpg")
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(12):
            part = photograph[20 * number :][:120, 40 * number :][:, :150]
            cv2.imwrite(str(tmp_path / "data" / name / f"{number}.png"), part)
    arguments = ["--workdir", str(tmp_path / "out"), "--pairs", "2", "--pictures", "1", "--json"]
    data = f"folder:{tmp_path / 'data'}"
    assert without_learning_program.main([*arguments, "--data", data]) == 0
    rates = json.loads(capsys.readouterr().out.splitlines()[-1])["matching"][data]
    assert set(rates) >= {"rotated", "one of another class"}


@pytest.mark.parametrize(
    ("arguments", "text"), [(["--pairs", "0"], "--pairs: must be 1"), (["--data", "nothing:x"], "unknown kind")]
)
def test_wrong_arguments_are_one_line(arguments, text, tmp_path):
    with pytest.raises(UserError, match=text):
        without_learning_program.main([*arguments, "--workdir", str(tmp_path)])
