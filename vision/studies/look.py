"""Pictures of what a network sees and has learned, each where the network has what it needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from vision.analysis import pictures_of_images, pictures_of_numbers, pictures_of_weights
from vision.analysis.embedding import neighbour_agreement, tsne
from vision.analysis.gallery import Picture
from vision.analysis.guided import Rule
from vision.errors import UserError, did_you_mean
from vision.evaluation.knn_search import Neighbours, search
from vision.models.positions import sincos_2d
from vision.studies import look_inside, look_network
from vision.studies.look_data import Browsed, RunData, Sample
from vision.studies.look_network import Attention, Missing
from vision.training.pretrained import Pretrained

T = TypeVar("T", Sample, Browsed)
_NEIGHBOURS = 5
_BANK, _POINTS, _EXAMPLES, _OF_CLASSES = 2000, 1000, 10_000, 500
_AGREEMENT_OVER = 10
_MIXING_BLOCKS = 3


@dataclass(frozen=True)
class Look:
    """A network and what it is looked at with; pictures share what is computed.

    Attributes:
      pretrained: the network.
      sample: the images that pictures over images show.
      data: of the run; None where weights are no run.
      folder: where files go.
      block: whose attention is shown; None for the last.
      keep: share of the attention that its mask keeps.
      threshold: of the foreground, see :func:`vision.analysis.patch_pca.foreground`.
      bank: how many training examples neighbours are looked for in; None for what is soon computed, at most 2000.
      points: how many examples stand on the plane; None for what is soon computed, at most 1000.
      layers: features whose maps are shown with what excites them; the first, middle and last block by default.
      maps: how many of each.
      examples: among how many the strongest are looked for; None for what is soon computed, at most 10,000.
      rule: how gradients go back through ReLUs.
      smooth: noisy copies of each image whose gradients are averaged; None for what is soon computed, at most 16.
    """

    pretrained: Pretrained
    sample: Sample
    data: RunData | None
    folder: Path
    block: int | None = None
    keep: float = 0.6
    threshold: float = 0.0
    bank: int | None = None
    points: int | None = None
    layers: tuple[str, ...] = ()
    maps: int = 8
    examples: int | None = None
    rule: Rule = "guided"
    smooth: int | None = None

    @cached_property
    def attention(self) -> Attention:
        """Over the sample."""
        return look_network.attention(self.pretrained, self.sample.images)

    def of_run(self) -> RunData:
        """Returns the data of the run.

        Raises:
          Missing: there is none.
        """
        if self.data is None:
            raise Missing("these weights are no run, which would have data of its own")
        return self.data


def draw(look: Look, names: Sequence[str] = ()) -> dict[str, Picture | str]:
    """Writes the pictures and returns each by name, or why there is none.

    Args:
      look: what is looked at.
      names: of :data:`PICTURES`; all by default.

    Raises:
      UserError: there is no such picture, or a file cannot be written.
    """
    drawn: dict[str, Picture | str] = {}
    for name in check_names(names):
        try:
            drawn[name] = PICTURES[name](look)
        except (Missing, ValueError) as reason:
            drawn[name] = str(reason)
    return drawn


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names of pictures in the order of the page, all where none is given.

    Raises:
      UserError: one is unknown.
    """
    for name in names:
        if name not in PICTURES:
            known = ", ".join(PICTURES)
            raise UserError(f"--pictures: no picture {name!r}{did_you_mean(name, PICTURES)}; known: {known}")
    return tuple(name for name in PICTURES if not names or name in names)


def _attention(look: Look) -> Picture:
    depth = look.attention.maps.shape[1]
    block = depth - 1 if look.block is None else look.block
    if not 0 <= block < depth:
        raise UserError(f"--block {block}: {look.pretrained.name} has the blocks 0 to {depth - 1}")
    token = look.pretrained.model.module.class_token
    return pictures_of_images.attention(
        look.folder,
        look.sample.images,
        look.sample.names,
        look.attention.maps[:, block],
        block=f"block{block:02}",
        queries="the class token" if token else "all patches on average (there is no class token)",
        keep=look.keep,
    )


def _patch_pca(look: Look) -> Picture:
    feature, values = look_network.patch_features(look.pretrained, look.sample.images)
    images, names = look.sample.images, look.sample.names
    return pictures_of_images.patch_pca(look.folder, images, names, values, feature=feature, threshold=look.threshold)


def _tsne(look: Look) -> Picture:
    sample = _data(look.of_run().held_out, look.points or look_network.affordable(look.pretrained, _POINTS))
    embeddings = look_network.embed(look.pretrained, sample.images)
    points = tsne(embeddings)
    numbers: dict[str, float] = {"examples": float(len(points))}
    if sample.labels is not None:
        by_cosine = neighbour_agreement(embeddings, sample.labels, k=_AGREEMENT_OVER, metric="cosine")
        on_plane = neighbour_agreement(points, sample.labels, k=_AGREEMENT_OVER, metric="euclidean")
        numbers |= {"label_agreement": by_cosine, "label_agreement_on_plane": on_plane}
    return pictures_of_numbers.embedding(
        look.folder, points, sample.labels, sample.class_names, where=sample.where, numbers=numbers
    )


def _positions(look: Look) -> Picture:
    pretrained = look.pretrained
    grid, kind = look_network.grid_of(pretrained), getattr(pretrained.model.module, "positions", None)
    if kind == "rotary":
        raise Missing("its positions are rotary: they turn queries and keys, and no vector is added to a patch")
    if kind is None or grid is None:
        raise Missing(f"{pretrained.name} adds no positions to its patches")
    learned = kind == "learned"
    values = np.asarray(pretrained.params["position_embedding"]) if learned else sincos_2d(grid, _width(pretrained))
    return pictures_of_weights.positions(look.folder, values, kind="Learned" if learned else "Sine and cosine")


def _width(pretrained: Pretrained) -> int:
    return np.shape(pretrained.params["patch_embedding"]["kernel"])[1]


def _distance(look: Look) -> Picture:
    return pictures_of_numbers.attention_distance(
        look.folder,
        look.attention.distances.mean(axis=0),
        patch_size=look.pretrained.model.module.patch_size,
        images=len(look.sample.images),
    )


def _mixing(look: Look) -> Picture:
    params, grid = look.pretrained.params, look_network.grid_of(look.pretrained)
    names = [f"block{number:02}" for number in range(_MIXING_BLOCKS)]
    kernels = {name: params[f"{name}_tokens"]["hidden"]["kernel"] for name in names if f"{name}_tokens" in params}
    if grid is None or not kernels:
        raise Missing(f"{look.pretrained.name} is no Mixer: no MLP of it mixes tokens")
    return pictures_of_weights.token_mixing(
        look.folder, {name: np.asarray(kernel) for name, kernel in kernels.items()}, grid
    )


def _neighbours(look: Look) -> Picture:
    most = look.bank or look_network.affordable(look.pretrained, _BANK)
    bank, sample = _data(look.of_run().training, most), look.sample
    k = min(_NEIGHBOURS, len(bank.images))
    ours, theirs = (look_network.embed(look.pretrained, each.images) for each in (sample, bank))
    pixels = [each.images.reshape(len(each.images), -1).astype(np.float32) / 255 for each in (sample, bank)]
    by_embedding = search(ours, theirs, k=k, metric="cosine")
    by_pixels = search(*pixels, k=k, metric="l2")
    numbers: dict[str, float] = {}
    if sample.labels is not None and bank.labels is not None:
        numbers = {
            "label_agreement": _agreement(by_embedding, sample.labels, bank.labels),
            "label_agreement_of_pixels": _agreement(by_pixels, sample.labels, bank.labels),
        }
    return pictures_of_images.neighbours(
        look.folder,
        sample.images,
        sample.names,
        bank.images,
        bank.captions(),
        (by_embedding.distance, by_embedding.rows),
        (by_pixels.distance, by_pixels.rows),
        where=bank.where,
        numbers=numbers,
    )


def _agreement(found: Neighbours, labels: np.ndarray, of_bank: np.ndarray) -> float:
    return float(np.mean(of_bank[found.rows] == labels[:, None]))


def _filters(look: Look) -> Picture:
    what, pixels = look_network.first_layer(look.pretrained)
    return pictures_of_weights.filters(look.folder, pixels, what=what)


def _activations(look: Look) -> Picture:
    most = look.examples or look_network.affordable(look.pretrained, _EXAMPLES)
    images = look.sample.browsed() if look.data is None else _data(look.data.browsed, most)
    return look_inside.activations(
        look.pretrained, images, look.folder, layers=look.layers, maps=look.maps, rule=look.rule
    )


def _saliency(look: Look) -> Picture:
    look_inside.check_classifier(look.pretrained)
    of_classes = None if look.data is None else _data(look.data.held_out, _OF_CLASSES)
    return look_inside.saliency(look.pretrained, look.sample, of_classes, look.folder, smooth=look.smooth)


def _data(sample: Callable[[int], T], most: int) -> T:
    """Data that have moved away leave one picture out, not all."""
    try:
        return sample(most)
    except UserError as error:
        raise Missing(f"the run's data cannot be read: {error}") from error


PICTURES: dict[str, Callable[[Look], Picture]] = {
    "attention": _attention,
    "pca": _patch_pca,
    "tsne": _tsne,
    "positions": _positions,
    "distance": _distance,
    "mixing": _mixing,
    "neighbours": _neighbours,
    "filters": _filters,
    "activations": _activations,
    "saliency": _saliency,
}
