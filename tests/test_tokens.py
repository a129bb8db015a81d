"""Sources give tokens in place of captions, whatever they are made of, and shuffled ones give everyone another's."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import mesh_of

from vision.data.byte_pairs import LETTERS
from vision.data.host import HostPart
from vision.data.materialize import materialize
from vision.data.order import Shuffled
from vision.data.pipeline import make_pipeline
from vision.data.records import RecordSource
from vision.data.source import ArraySource, Source, Subset
from vision.data.sources.captions import pack
from vision.data.sources.mixture import Mixture
from vision.data.tokenizer import Tokenizer, train
from vision.data.tokens import TokenSource, captions_of
from vision.training.sharding import batch_sharding

TEXTS = [
    ["a red circle", "a red circle on the left"],
    ["a blue square"],
    ["two shapes", "a green star", "a green star above a red circle"],
    ["a red circle"],
    ["!", "a blue square and a red circle"],
]
LENGTH = 20


@dataclass(frozen=True)
class Unreadable:
    """Encoded images that nobody may look at."""

    def __len__(self) -> int:
        return len(TEXTS)

    def read(self, index: int) -> bytes:
        raise AssertionError("an image was read")

    def where(self, index: int) -> str:
        return f"image {index}"

    def files(self) -> list[Path]:
        return []


@dataclass(frozen=True)
class Wrapped:
    """A source of a kind of its own, whose examples are asked for."""

    source: Source

    def __getattr__(self, name):
        if name in ("arrays", "source"):
            raise AttributeError(name)
        return getattr(self.source, name)

    def __len__(self):
        return len(self.source)


def arrays(texts=TEXTS):
    image = np.arange(len(texts) * 4 * 4 * 3, dtype=np.uint8).reshape(-1, 4, 4, 3)
    return {"image": image, "label": np.arange(len(texts), dtype=np.int32) % 2, **pack(texts)}


def source():
    return ArraySource(arrays(), 2, ("even", "odd"))


@pytest.fixture(scope="module")
def tokenizer():
    return train([text for each in TEXTS for text in each] * 2, vocab_size=800)


def told(tokens, counts, tokenizer):
    """The texts of rows of tokens."""
    return [[tokenizer.decode(row) for row in rows[:count]] for rows, count in zip(tokens, counts, strict=True)]


def texts_of(made, tokenizer):
    examples = made.read(range(len(made)))
    return told([e["tokens"] for e in examples], [e["num_captions"] for e in examples], tokenizer)


def records():
    return RecordSource(Unreadable(), {name: each for name, each in arrays().items() if name != "image"}, 2)


KINDS = {
    "arrays": source,
    "subset": lambda: Subset(source(), np.array([4, 0, 2])),
    "subset of a subset": lambda: Subset(Subset(source(), np.array([4, 0, 2])), np.array([2, 1])),
    "mixture": lambda: Mixture(
        (source(), ArraySource(arrays([["a square"], ["a star"]]), 2, ("even", "odd"))), (0.5, 0.5)
    ),
    "another": lambda: Wrapped(source()),
}
EXPECTED = {
    "subset": [TEXTS[4], TEXTS[0], TEXTS[2]],
    "subset of a subset": [TEXTS[2], TEXTS[0]],
    "mixture": [*TEXTS, ["a square"], ["a star"]],
}


@pytest.mark.parametrize("kind", KINDS)
def test_captions_become_tokens(tokenizer, kind):
    whole = KINDS[kind]()
    expected = EXPECTED.get(kind, TEXTS)
    assert list(captions_of(whole)) == [text for each in expected for text in each]
    made = TokenSource(whole, tokenizer, LENGTH)
    assert isinstance(made, Source)
    assert texts_of(made, tokenizer) == expected
    assert len(made) == len(expected)
    assert set(made.fields) == {"image", "label", "tokens", "num_captions"}
    assert (made.num_classes, made.class_names) == (whole.num_classes, whole.class_names)
    np.testing.assert_array_equal(made.labels(), whole.labels())
    assert made.where(1) == whole.where(1)
    for index, example in enumerate(made.read(range(len(made)))):
        (other,) = whole.read([index])
        assert set(example) == set(made.fields)
        np.testing.assert_array_equal(example["image"], other["image"])
        assert example["label"] == other["label"]
        assert example["num_captions"].dtype == np.int32
        assert example["tokens"].dtype == np.int32
        assert example["tokens"].shape == (3, LENGTH)
        there = int(example["num_captions"])
        assert ((example["tokens"] == tokenizer.end).sum(axis=1) == 1)[:there].all(), "every caption has its end"
        assert not example["tokens"][there:].any(), "places without a caption stay empty"


def test_images_are_not_read_for_their_captions(tokenizer):
    made = TokenSource(records(), tokenizer, LENGTH)
    assert list(captions_of(records())) == [text for each in TEXTS for text in each]
    with pytest.raises(AssertionError, match="an image was read"):
        made.read([0])


def test_a_prepared_data_set(tokenizer, tmp_path, monkeypatch):
    """Of array records on disk: shapes, ten to a split."""
    from vision.data.builders import shapes
    from vision.data.sources.tfds import read

    monkeypatch.setattr(shapes, "SPLITS", dict.fromkeys(shapes.SPLITS, 10))
    shapes.Shapes(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    whole = read("shapes", "val", data_dir=str(tmp_path))
    tokenizer = train(captions_of(whole), vocab_size=800)
    made = TokenSource(whole, tokenizer, 30)
    expected = list(captions_of(whole))
    assert len(expected) > 60
    found = [text for each in texts_of(made, tokenizer) for text in each]
    assert found == [text.replace(",", " ,") for text in expected]
    again = TokenSource(read("shapes", "val", data_dir=str(tmp_path)), tokenizer, 30)
    assert again.fingerprint == made.fingerprint


def test_long_captions_are_cut_and_the_end_stays(tokenizer):
    made = TokenSource(source(), tokenizer, 4)
    whole = TokenSource(source(), tokenizer, LENGTH)
    for short, long in zip(made.read(range(5)), whole.read(range(5)), strict=True):
        for caption in range(short["num_captions"]):
            end = min(3, int(np.argmax(long["tokens"][caption] == tokenizer.end)))
            assert short["tokens"][caption, end] == tokenizer.end
            np.testing.assert_array_equal(short["tokens"][caption, :end], long["tokens"][caption, :end])


@pytest.mark.parametrize("count", [2, 3, 257])
def test_shuffled_captions_are_those_of_another_image(tokenizer, count):
    texts = [[f"number {n}", "again"][: 1 + n % 2] for n in range(count)]
    made = TokenSource(ArraySource(arrays(texts), 2), tokenizer, 20, shuffled_seed=3)
    found = [each[0] for each in texts_of(made, tokenizer)]
    numbers = [int(text.removeprefix("number ").replace(" ", "")) for text in found]
    assert sorted(numbers) == list(range(count)), "each image's captions are given once"
    assert all(number != own for own, number in enumerate(numbers))
    counts = [int(example["num_captions"]) for example in made.read(range(count))]
    assert counts == [1 + number % 2 for number in numbers], "the number of captions goes with them"
    np.testing.assert_array_equal(made.labels(), np.arange(count) % 2)
    other = TokenSource(ArraySource(arrays(texts), 2), tokenizer, 20, shuffled_seed=4)
    if count > 3:  # of few there are few orders
        assert texts_of(other, tokenizer) != texts_of(made, tokenizer)


def test_fingerprints_tell_tokens_apart(tokenizer):
    other = train(["something else"] * 2, vocab_size=560)
    made = [
        TokenSource(source(), tokenizer, LENGTH),
        TokenSource(source(), other, LENGTH),
        TokenSource(source(), tokenizer, 21),
        TokenSource(source(), tokenizer, LENGTH, shuffled_seed=0),
        TokenSource(source(), tokenizer, LENGTH, shuffled_seed=1),
        TokenSource(Subset(source(), np.arange(4)), tokenizer, LENGTH),
    ]
    assert len({each.fingerprint for each in made} | {source().fingerprint}) == 7
    assert made[0].fingerprint == TokenSource(source(), tokenizer, LENGTH).fingerprint


def test_a_process_that_is_sent_the_source_reads_the_same(tokenizer):
    made = TokenSource(source(), tokenizer, LENGTH, shuffled_seed=0)
    sent = pickle.loads(pickle.dumps(made))
    for ours, theirs in zip(made.read(range(5)), sent.read(range(5)), strict=True):
        for name in made.fields:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_large_vocabularies_keep_their_ids():
    """Ids beyond 16 bits."""
    letters = list(LETTERS.values())
    pairs = [(first, second) for first in letters for second in letters if (first, second) != ("z", "z")]
    big = Tokenizer((*pairs, ("z", "z")))
    assert big.vocab_size > 2**16
    made = TokenSource(ArraySource(arrays([["zzz"], ["a"]]), 2), big, LENGTH)
    assert texts_of(made, big) == [["zzz"], ["a"]]
    assert made.read([0])[0]["tokens"][0, :4].tolist() == [big.start, big.start - 1, *big.tokens("z"), big.end]


def test_what_cannot_be_is_told(tokenizer):
    with pytest.raises(ValueError, match=r"length must be at least 3 \(start, a token, end\), got 2"):
        TokenSource(source(), tokenizer, 2)
    with pytest.raises(ValueError, match="captions of a single image cannot be shuffled"):
        TokenSource(Subset(source(), np.arange(1)), tokenizer, LENGTH, shuffled_seed=0)


def test_decoded_once_they_are_arrays(tokenizer):
    made = materialize(TokenSource(source(), tokenizer, LENGTH), HostPart((4, 4), 3))
    assert made.arrays["tokens"].shape == (5, 3, LENGTH)
    assert told(made.arrays["tokens"], made.arrays["num_captions"], tokenizer) == TEXTS


@pytest.mark.parametrize(
    ("residency", "workers"),
    [("device", 0), ("host", 0), pytest.param("host", 1, marks=pytest.mark.slow)],
)
def test_batches_hold_the_tokens_of_their_images(tokenizer, residency, workers):
    made = TokenSource(source(), tokenizer, LENGTH)
    order = Shuffled(5, 8, seed=1)
    sharding = batch_sharding(mesh_of(1))
    pipeline = make_pipeline(made, order, HostPart((4, 4), 3), sharding=sharding, residency=residency, workers=workers)
    try:
        batch = pipeline.batch(3)
    finally:
        pipeline.close()
    if pipeline.resident:
        batch = {**batch, **{name: each[batch["index"]] for name, each in pipeline.resident.items()}}
    batch = jax.tree.map(np.asarray, batch)
    assert batch["tokens"].shape == (8, 3, LENGTH)
    assert told(batch["tokens"], batch["num_captions"], tokenizer) == [TEXTS[index] for index in batch["index"]]
    np.testing.assert_array_equal(batch["image"], arrays()["image"][batch["index"]])
