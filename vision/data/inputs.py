"""From the data section of a config to sources, the host's part, pipelines and the device's part."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from vision.config.calling import call
from vision.data import augment, framing
from vision.data.augment.mix import MIXES
from vision.data.host import HostPart, probe
from vision.data.materialize import usable
from vision.data.order import InOrder, Order, Shuffled, Stratified, shares_of
from vision.data.pipeline import Pipeline, make_pipeline
from vision.data.prepare import Prepare, make_prepare
from vision.data.source import Source
from vision.data.sources import Given, Opener, to_stderr
from vision.data.sources.mixture import Mixture
from vision.data.tokenizer import Tokenizer, load, train
from vision.data.tokens import TokenSource, captions_of
from vision.errors import ConfigError, UserError

LARGEST_TYPICAL = 224
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """The data of a config, opened.

    Attributes:
      config: resolved.
      opener: opens splits.
      source: the training examples.
      part: what the host does to them.
      tokenizer: what makes tokens of captions; None where the config asks for none.
      failures: what went wrong in this process while others went on; see :class:`vision.data.pipeline.Pipeline`.
    """

    config: Config
    opener: Opener
    source: Source
    part: HostPart
    tokenizer: Tokenizer | None = None
    failures: list[str] = field(default_factory=list)

    @property
    def evaluation_part(self) -> HostPart:
        """What the host does to images in evaluations."""
        data = self.config["data"]
        size = data["eval_image_size"] or self.part.size
        return replace(self.part, crop=data["eval_crop"], size=size if isinstance(size, tuple) else (size, size))

    def training_pipeline(self, sharding: NamedSharding) -> Pipeline:
        """Returns the endless pipeline of training."""
        data = self.config["data"]
        order = order_of(data, self.source, batch_size=self.config["batch_size"], seed=self.config["seed"])
        options = {"residency": data["residency"], "workers": data["workers"]}
        return self._pipeline(options, self.source, order, self.part, sharding, data["split"])

    def evaluation_source(self, split: str | None) -> Source:
        """Returns the examples of a split that can be used; None for the held-out one."""
        data = self.config["data"]
        source = usable(self.opener(split), self.part, data["on_error"], self.opener.note)
        if self.tokenizer is None or "caption" not in source.fields:
            return source
        return TokenSource(source, self.tokenizer, data["tokens"]["length"])

    def evaluation_pipeline(
        self, split: str | None, *, batch_size: int, sharding: NamedSharding, what: str
    ) -> tuple[Pipeline, tuple[np.ndarray, ...]]:
        """Returns one pass over a split in order, and the mask of each batch, False where it is filled up.

        Raises:
          UserError: there is no such split, or it has other classes than the training data.
        """
        data, part = self.config["data"], self.evaluation_part
        source = self.evaluation_source(split)
        if source.num_classes != self.source.num_classes:
            raise ConfigError(
                f"config.evals.{what}: split {split!r} has {source.num_classes} classes, the training data have "
                f"{self.source.num_classes}"
            )
        order = InOrder(len(source), batch_size)
        # A pass is short: threads start at once, processes would not.
        options = {"residency": data["residency"]}
        pipeline = self._pipeline(options, source, order, part, sharding, f"{what}, {split or 'held out'}")
        return pipeline, tuple(order.mask(step) for step in range(order.num_batches))

    def _pipeline(self, options, source, order, part, sharding, what: str) -> Pipeline:
        places = {"source": source, "order": order, "part": part, "sharding": sharding}
        options = {**options, "failures": self.failures if jax.process_count() > 1 else None}
        return call(make_pipeline, options, "config.data", **places, note=self.opener.note, what=what)

    def prepare(self, *, training: bool) -> Prepare:
        """Returns the device's part; only training augments, makes views and mixes.

        Raises:
          ConfigError: an option that cannot be, or nothing to mix.
        """
        mix = self.config["data"]["mix"]
        if training and mix is not None and "label" not in self.source.fields:
            raise ConfigError(f"config.data.mix: {mix['name']} mixes labels, and the data have none")
        if training and mix is not None and self.tokenizer is not None:
            raise ConfigError(f"config.data.mix: {mix['name']} mixes images, and captions cannot be mixed")
        if training and mix is not None and self.config["data"]["views"] is not None:
            raise ConfigError(f"config.data.mix: {mix['name']} mixes images; config.data.views makes several")
        return make_prepare_of(self.config, self.part.channels, self.source.num_classes, training=training)


def open_inputs(config: Config, *, given: Given | None = None, tokenizer: Tokenizer | None = None) -> Inputs:
    """Opens the training data of a config.

    Args:
      config: resolved.
      given: split -> source or arrays, where ``config.data.name`` is ``arrays``.
      tokenizer: of a model that is there already; captions, if there are any, become its tokens.

    Raises:
      UserError: the data are not there, or cannot be used.
    """
    data = config["data"]
    note = to_stderr if jax.process_index() == 0 else _ignore
    opener = Opener.of(data, note=note, given=given)
    source = opener(data["split"])
    part = host_part(data, source, seed=config["seed"], note=note)
    source = usable(source, part, data["on_error"], note)
    if data["tokens"] is None or (tokenizer is not None and "caption" not in source.fields):
        return Inputs(config, opener, source, part)
    source, tokenizer = _tokenized(source, data, tokenizer, seed=config["seed"], note=note)
    return Inputs(config, opener, source, part, tokenizer)


def _tokenized(
    source: Source, data: Config, tokenizer: Tokenizer | None, *, seed: int, note: Callable[[str], None]
) -> tuple[Source, Tokenizer]:
    """The training examples with tokens in place of captions, and what makes them."""
    section = data["tokens"]
    if "caption" not in source.fields:
        raise ConfigError(f"config.data.tokens: {data['name']} has no captions")
    if tokenizer is None and section["tokenizer"] is not None:
        tokenizer = load(section["tokenizer"])
    if tokenizer is None:
        tokenizer = call(
            train, {"vocab_size": section["vocab_size"]}, "config.data.tokens", captions=captions_of(source)
        )
        note(f"{tokenizer.vocab_size:,} tokens are learned from the captions of {data['split']}")
    shuffled = seed if section["shuffled"] else None
    tokens = {"length": section["length"], "shuffled_seed": shuffled}
    made = call(TokenSource, tokens, "config.data.tokens", source=source, tokenizer=tokenizer)
    if made.share_cut:
        note(f"{made.share_cut:.1%} of the different captions are cut to {section['length']} tokens")
    return made, tokenizer


def make_prepare_of(config: Config, channels: int, num_classes: int, *, training: bool) -> Prepare:
    """Returns the device's part for images of so many channels; see :meth:`Inputs.prepare`."""
    data, path = config["data"], "config.data"
    options: dict[str, Any] = {"mean": data["mean"], "std": data["std"]}
    if training and data["augment"]:
        options["augmentation"] = augment.compose(data["augment"], f"{path}.augment")
    if training and data["views"] is not None:
        options["views"] = augment.compose_views(data["views"], f"{path}.views")
    if training and data["mix"] is not None:
        # The copies of a repeated example are neighbours; each is mixed with another example.
        options["mix"] = call(MIXES[data["mix"]["name"]], data["mix"], f"{path}.mix", distance=data["repeats"])
    fixed = {"channels": channels, "num_classes": num_classes, "draw_caption": training}
    return call(make_prepare, options, path, **fixed)


def _ignore(text: str) -> None:
    """For processes other than the first."""


def host_part(data: Mapping[str, Any], source: Source, *, seed: int, note: Callable[[str], None]) -> HostPart:
    """Returns what the host does to an image in training; size and channels are found where the config leaves them.

    Images of different sizes are brought to squares as large as their shorter sides mostly are, at most 224.

    Raises:
      UserError: no image decodes, or a crop's option cannot be.
    """
    for key in ("crop", "eval_crop"):
        call(framing.CROPS[data[key]["name"]], data[key], f"config.data.{key}")
    if data["name"].startswith("features:"):
        _check_left_alone(data)
    size, channels = data["image_size"], data["channels"]
    if size is None or channels is None:
        try:
            found = probe(source)
        except (ValueError, OSError) as error:
            raise UserError(f"config.data.name: {data['name']}: {error}") from error
        channels = channels or found.channels
        if size is None and found.common is None:
            size = min(LARGEST_TYPICAL, found.typical)
            smallest, largest = ("x".join(map(str, each)) for each in (found.smallest, found.largest))
            note(f"images from {smallest} to {largest} are brought to {size}x{size} (config.data.image_size)")
        size = size or found.common
    height, width = size if isinstance(size, tuple) else (size, size)
    return HostPart((height, width), channels, data["crop"], data["decoder"], data["interpolation"], seed)


def _check_left_alone(data: Mapping[str, Any]) -> None:
    """Raises a ConfigError for what is done to pixels, where there are features."""
    keys = ("image_size", "eval_image_size", "channels", "augment", "views", "mean", "std")
    asked = [key for key in keys if data.get(key)] + ["crop"] * (data["crop"]["name"] in framing.DRAWS)
    if asked:
        cure = " ".join(f"--config.data.{key}={'()' if key == 'augment' else None}" for key in asked if key != "crop")
        raise ConfigError(
            f"config.data.{asked[0]}: is for pixels, and {data['name']} has features, which are taken as they are; "
            + (cure or "leave it out")
        )


def order_of(data: Mapping[str, Any], source: Source, *, batch_size: int, seed: int) -> Order:
    """Returns the order of training.

    Raises:
      ConfigError: balanced classes of data that have no single label each, or together with something else.
    """
    source = source.source if isinstance(source, TokenSource) else source
    repeats, balance = data["repeats"], data["balance"]
    mixed = isinstance(source, Mixture) and len(source.sources) > 1
    if repeats > 1 and (balance or mixed):
        raise ConfigError("config.data.repeats: not together with balanced classes or a mixture")
    if balance and mixed:
        raise ConfigError("config.data.balance: not together with a mixture, whose weights say what is drawn")
    if isinstance(source, Mixture) and mixed:
        return Stratified(source.groups, _shares(source.weights, data["name"]), batch_size, seed)
    if balance:
        labels = source.labels() if "label" in source.fields else None
        if labels is None or labels.ndim != 1:
            raise ConfigError("config.data.balance: balanced classes need one label for each example")
        groups = tuple(np.flatnonzero(labels == label) for label in np.unique(labels))
        return Stratified(groups, (1,) * len(groups), batch_size, seed)
    return Shuffled(len(source), batch_size, seed, repeats)


def _shares(weights: tuple[float, ...], name: str) -> tuple[int, ...]:
    try:
        return shares_of(weights)
    except ValueError as error:
        raise ConfigError(f"config.data.name: {name}: {error}") from error
