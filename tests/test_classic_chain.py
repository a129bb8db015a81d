"""A chain of features computes each thing once, and never takes from the disk what is not the same."""

import os

import numpy as np
import pytest

from vision.classic.features import cache, chain
from vision.classic.features.chain import Chain
from vision.errors import ConfigError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
OTHERS = RANDOM.integers(0, 256, (11, 16, 16, 3), dtype=np.uint8)
SECTIONS = ({"name": "hog", "cell_size": 4}, {"name": "standardize", "scale": 0.3})
WORDS = ({"name": "keypoint_sift", "contrast_threshold": 0.01}, {"name": "bag_of_words", "words": 3, "sample": 20})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "functional-vision" / "features"


@pytest.fixture
def computed(monkeypatch):
    """How many images went through steps."""
    counts = []
    original = chain._stream

    def counted(values, steps):
        if steps:
            counts.append(len(values))
        return original(values, steps)

    monkeypatch.setattr(chain, "_stream", counted)
    return counts


def test_a_chain_is_its_steps_one_after_another(monkeypatch):
    monkeypatch.setattr(chain, "_CHUNK", 7)  # no divisor of the number of images
    from vision.classic.features import Hog, Standardize

    hog, standardize = Hog(cell_size=4), Standardize(scale=0.3)
    expected = standardize.fit_transform(hog.fit_transform(IMAGES))
    made = Chain(SECTIONS, seed=0)
    np.testing.assert_array_equal(made.fit(IMAGES, None).transform(IMAGES, None), expected)
    np.testing.assert_array_equal(Chain(SECTIONS, seed=0).fit_transform(IMAGES, None), expected)
    np.testing.assert_array_equal(made.transform(OTHERS, None), standardize.transform(hog.transform(OTHERS)))
    assert made.sections[0] == {
        "name": "hog",
        "orientations": 9,
        "cell_size": 4,
        "block_size": 2,
        "gradient": "grey",
    }


def test_descriptors_pass_in_chunks(monkeypatch):
    whole = Chain(WORDS, seed=3).fit_transform(IMAGES, None)
    monkeypatch.setattr(chain, "_CHUNK", 4)
    np.testing.assert_array_equal(Chain(WORDS, seed=3).fit_transform(IMAGES, None), whole)
    assert whole.shape == (30, 3)


def test_what_was_computed_is_kept(folder, computed, capsys):
    first = Chain(SECTIONS, seed=0).fit(IMAGES, "a" * 16)
    features = first.transform(IMAGES, "a" * 16)
    others = first.transform(OTHERS, "b" * 16)
    assert f"kept in {folder} (at most 8.00 GiB)" in capsys.readouterr().err
    assert len(list(folder.iterdir())) == 3
    assert sum(computed) == 30 + 30 + 11  # for the second step to learn from, and both results
    computed.clear()
    second = Chain(SECTIONS, seed=1).fit(IMAGES, "a" * 16)  # no step takes a seed
    np.testing.assert_array_equal(second.transform(IMAGES, "a" * 16), features)
    np.testing.assert_array_equal(second.transform(OTHERS, "b" * 16), others)
    assert computed == []
    np.testing.assert_array_equal(second.transform(OTHERS, None), others)  # what was fitted came back too
    assert not any(path.name.endswith(".partial") for path in folder.iterdir())


CHANGES = {
    "fitted to other images": (SECTIONS, 0, "c" * 16),
    "another option": (({"name": "hog", "cell_size": 4}, {"name": "standardize", "scale": 0.5}), 0, "a" * 16),
    "another order of the same": (({"name": "pixels"}, {"name": "standardize", "scale": 0.3}), 0, "a" * 16),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_the_same_is_computed(change, folder, computed):
    Chain(SECTIONS, seed=0).fit(IMAGES, "a" * 16).transform(OTHERS, "b" * 16)
    computed.clear()
    sections, seed, fingerprint = CHANGES[change]
    expected = Chain(sections, seed).fit(IMAGES, None).transform(OTHERS, None)
    computed.clear()
    result = Chain(sections, seed).fit(IMAGES, fingerprint).transform(OTHERS, "b" * 16)
    assert sum(computed) == 30 + 30 + 11
    np.testing.assert_array_equal(result, expected)


def test_the_key_has_the_seed_the_versions_and_the_code(folder, monkeypatch):
    made = Chain(WORDS, seed=0)
    keys = {made._key(), Chain(WORDS, seed=1)._key(), made._key("b" * 16)}
    monkeypatch.setattr(cache.metadata, "version", lambda name: "0.0")
    keys.add(made._key())
    monkeypatch.setattr(cache, "_code", lambda: "other")
    keys.add(made._key())
    assert len(keys) == 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no archive"])
def test_a_broken_file_is_computed_anew(damage, folder, computed):
    fitted = Chain(SECTIONS, seed=0).fit(IMAGES, "a" * 16)
    expected = fitted.transform(OTHERS, "b" * 16)
    for path in folder.iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        cut = bytes(content[: len(content) // 2])
        path.write_bytes({"cut": cut, "flipped": bytes(content), "empty": b"", "no archive": b"text"}[damage])
    computed.clear()
    again = Chain(SECTIONS, seed=0).fit(IMAGES, "a" * 16)
    np.testing.assert_array_equal(again.transform(OTHERS, "b" * 16), expected)
    assert sum(computed) == 30 + 30 + 11
    computed.clear()
    assert Chain(SECTIONS, seed=0).fit(IMAGES, "a" * 16).transform(OTHERS, "b" * 16).shape == expected.shape
    assert computed == []  # the file is whole again


def test_the_oldest_go_when_there_is_no_room(folder, monkeypatch, capsys):
    arrays = {"features": np.zeros(1000, np.float32)}  # 4,000 bytes, and as many hundred for the archive
    for number, name in enumerate(("first", "second")):
        cache.remember(name, arrays)
        os.utime(folder / f"{name}.npz", (number + 1, number + 1))
    cache.recall("first")  # is used, so the second is now the oldest
    monkeypatch.setattr(cache, "MOST_BYTES", 10_000)
    capsys.readouterr()
    cache.remember("third", arrays)
    assert sorted(path.stem for path in folder.iterdir()) == ["first", "third"]
    assert "the 1 oldest files" in capsys.readouterr().err
    cache.remember("large", {"features": np.zeros(10_000, np.float32)})
    assert sorted(path.stem for path in folder.iterdir()) == ["first", "third"]
    assert "are not kept" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    result = Chain(SECTIONS, seed=0).fit_transform(IMAGES, "a" * 16)
    np.testing.assert_array_equal(result, Chain(SECTIONS, seed=0).fit_transform(IMAGES, None))
    assert "nothing is kept in" in capsys.readouterr().err


def test_images_without_keypoints_are_counted(folder, capsys):
    images = IMAGES.copy()
    images[4:6] = 100
    empty = int((Chain(WORDS, seed=0).steps[0].transform(images).counts == 0).sum())
    assert empty >= 2
    for _ in range(2):  # computed, then read
        made = Chain(WORDS, seed=0).fit(images, "a" * 16)
        capsys.readouterr()
        made.transform(images, "a" * 16)
        assert f"{empty} of 30 images have no keypoint; their histograms are all zero" in capsys.readouterr().err


def test_without_fingerprint_nothing_is_kept(folder):
    Chain(SECTIONS, seed=0).fit(IMAGES, None).transform(OTHERS, "b" * 16)
    assert not folder.exists()


REFUSED = {
    "no feature": (({"name": "hogg"},), "config.features.0..name: unknown feature 'hogg'; did you mean 'hog'?"),
    "no option": (({"name": "hog", "cells": 8},), "config.features.0..cells: unknown key.*cell_size"),
    "no value": (({"name": "hog", "gradient": "blue"},), "config.features.0..gradient: 'blue' is not one of"),
    "a seed": (({"name": "patch_kmeans", "seed": 1},), "config.features.0..seed: unknown key"),
    "images late": (({"name": "pixels"}, {"name": "hog"}), "1..name: hog takes images; what is before it gives feat"),
    "no images": (({"name": "standardize"},), "0..name: standardize takes features; what is before it gives images"),
    "no words": (({"name": "dense_sift"},), "the last gives descriptors.*put bag_of_words behind it"),
    "nothing": ((), "the last gives images, estimators take features"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_chain_is_told(case):
    sections, text = REFUSED[case]
    with pytest.raises(ConfigError, match=text) as caught:
        Chain(sections, seed=0)
    assert "\n" not in str(caught.value)


def test_images_too_small_are_told_by_the_step():
    with pytest.raises(ValueError, match="^hog: images of 6x6 pixels are smaller than a block"):
        Chain(SECTIONS, seed=0).fit(IMAGES[:, :6, :6], None)
    fitted = Chain(SECTIONS, seed=0).fit(IMAGES, None)
    with pytest.raises(ValueError, match="^standardize: learned 324 features, got 36$"):
        fitted.transform(IMAGES[:, :8, :8], None)
