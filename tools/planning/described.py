"""The data of a training by their description alone: a plan needs shapes, and no example."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vision.data.host import dtype_of
from vision.data.inputs import LARGEST_TYPICAL, Inputs, host_part, open_inputs
from vision.data.order import InOrder
from vision.data.pipeline import RESIDENT_BYTES, Pipeline
from vision.data.source import Example
from vision.data.sources import Opener
from vision.data.sources.splits import positions_of
from vision.data.tokenizer import ALPHABET, LEAST_SIZE, Tokenizer, load
from vision.errors import UserError, did_you_mean

KEYS = ("examples", "classes", "size", "channels", "captions", "vocabulary")
CLIP_VOCABULARY = 49_408  # Radford et al. 2021, the published byte pairs


@dataclass(frozen=True)
class Facts:
    """What a plan needs to know of data.

    Attributes:
      examples: of the train split; with the batch size they make the steps of an epoch.
      classes: that a label can name; 0 without labels.
      size: side of an image in pixels, where the config does not say it.
      channels: of an image.
      captions: most that an image has; 0 without.
      vocabulary: ids of the tokenizer, where the config has a file that is not there.
    """

    examples: int
    classes: int = 0
    size: int = LARGEST_TYPICAL
    channels: int = 3
    captions: int = 0
    vocabulary: int = CLIP_VOCABULARY


# TFDS's own numbers of its data sets.
KNOWN = {
    "cifar10": Facts(50_000, 10, 32),
    "cifar100": Facts(50_000, 100, 32),
    "mnist": Facts(60_000, 10, 28, 1),
    "fashion_mnist": Facts(60_000, 10, 28, 1),
    "imagenet2012": Facts(1_281_167, 1000),
    "coco_captions": Facts(82_783, 0, captions=5),
    "oxford_flowers102": Facts(1_020, 102),
    "oxford_iiit_pet": Facts(3_680, 37),
    "food101": Facts(75_750, 101),
}


@dataclass(frozen=True)
class DescribedSource:
    """A source of as many examples as the data have, all of them black.

    Attributes:
      facts: what is known of the data.
      length: of a row of tokens; 0 without captions.
      num_examples: of the split.
    """

    facts: Facts
    length: int
    num_examples: int

    @property
    def num_classes(self) -> int:
        """How many classes a label can name."""
        return self.facts.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Not known."""
        return ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The entries of an example."""
        return (
            "image",
            *(("label",) if self.facts.classes else ()),
            *(("tokens", "num_captions") if self.length else ()),
        )

    def __len__(self) -> int:
        return self.num_examples

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Returns an example for each index."""
        facts = self.facts
        example: Example = {"image": np.zeros((facts.size, facts.size, facts.channels), np.uint8)}
        if facts.classes:
            example["label"] = np.asarray(0, np.int32)
        if self.length:
            example["tokens"] = np.zeros((facts.captions, self.length), np.int32)
            example["num_captions"] = np.asarray(facts.captions, np.int32)
        return [example for _ in indices]

    def where(self, index: int) -> str:
        """Returns the example's number."""
        return f"example {index}"

    def labels(self) -> np.ndarray:
        """Returns labels that have every class."""
        return np.arange(self.num_examples, dtype=np.int32) % max(1, self.facts.classes)

    @property
    def fingerprint(self) -> str:
        """Of nothing."""
        return "0" * 16


def read_facts(text: str) -> Facts:
    """Returns what ``examples=1000000,classes=10`` says.

    Raises:
      UserError: a key that there is not, a value that is no number, or no number of examples.
    """
    values: dict[str, int] = {}
    for part in text.split(","):
        key, _, number = part.partition("=")
        if key not in KEYS:
            raise UserError(f"--data {part}: unknown key{did_you_mean(key, KEYS)}; known: {', '.join(KEYS)}")
        if not number.isdecimal():
            raise UserError(f"--data {part}: write {key}=N with a whole number")
        values[key] = int(number)
    if not values.get("examples"):
        raise UserError(f"--data {text}: say how many examples there are, as examples=1000000")
    return Facts(**values)


def describe_inputs(config: Mapping[str, Any], facts: Facts | None) -> tuple[Inputs, str]:
    """Returns the inputs of a config and where what is known of them comes from, for people.

    Args:
      config: resolved.
      facts: what a person said of the data, or None: then data sets that are known are described, others are opened.

    Raises:
      UserError: the data are not known, and cannot be opened.
    """
    data = config["data"]
    known = KNOWN.get(data["name"].partition(":")[0])
    if facts is None and known is None:
        try:
            return open_inputs(config), "as they are"
        except UserError as error:
            raise UserError(
                f"{error}; a plan needs no data: describe them, as --data examples=1000000,classes=10 "
                f"({', '.join(KEYS)})"
            ) from error
    facts, origin = (facts, "as --data says") if facts is not None else (known, "as published")
    assert facts is not None
    tokens = data["tokens"]
    tokenizer = None if tokens is None else _tokenizer(tokens, facts)
    if tokens is not None and not facts.captions:
        raise UserError("--data: the config wants captions, say how many an image has at most, as captions=1")
    source = DescribedSource(facts, tokens["length"] if tokens else 0, _examples(data["split"], facts.examples))
    note = lambda text: None  # noqa: E731
    part = host_part(data, source, seed=config["seed"], note=note)
    return Inputs(config, Opener.of(data, note=note), source, part, tokenizer), origin


def described_pipeline(inputs: Inputs, sharding: NamedSharding) -> Pipeline:
    """Returns the pipeline of training with shapes in place of the data; see :func:`vision.training.assemble.build`."""
    source, part = inputs.source, inputs.part
    data = inputs.config["data"]
    (example,) = source.read([0])
    columns = {name: np.asarray(example[name]) for name in source.fields if name != "image"}
    columns["image"] = np.broadcast_to(np.zeros((), dtype_of(source)), part.shape)
    fits = len(source) * sum(column.nbytes for column in columns.values()) < RESIDENT_BYTES and not part.draws
    order = InOrder(len(source), inputs.config["batch_size"])
    if data["residency"] == "device" or (data["residency"] == "auto" and fits):
        everywhere = NamedSharding(sharding.mesh, PartitionSpec())
        resident: Any = {
            name: jax.ShapeDtypeStruct((len(source), *column.shape), column.dtype, sharding=everywhere)
            for name, column in columns.items()
        }
        return Pipeline(source, order, sharding, part.shape, resident)
    arrays = {name: np.broadcast_to(column, (len(source), *column.shape)) for name, column in columns.items()}
    return Pipeline(source, order, sharding, part.shape, arrays=arrays)


def _examples(split: str, examples: int) -> int:
    """Of a split or a part of it; every split counts as the train split does."""
    base = split.split("[")[0].split("+")[0].strip()
    return len(positions_of(split, {base: np.arange(examples)}, "--data")) if "[" in split else examples


def _tokenizer(section: Mapping[str, Any], facts: Facts) -> Tokenizer:
    """The config's where its file is there, else one of the same size."""
    path = section["tokenizer"]
    if path is not None and Path(path).expanduser().is_file():
        return load(path)
    size = section["vocab_size"] if path is None else facts.vocabulary
    pairs = (pair for pair in product(ALPHABET, ALPHABET) if "".join(pair) not in ALPHABET)
    merges = tuple(pair for pair, _ in zip(pairs, range(max(0, size - LEAST_SIZE)), strict=False))
    return Tokenizer(merges)
