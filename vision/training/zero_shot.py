"""A model of images and words, opened for one's own images and words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from scipy.special import expit, softmax

from vision.data.host import HostPart
from vision.data.tokenizer import Tokenizer
from vision.errors import UserError
from vision.evaluation.prompt_templates import prompts
from vision.evaluation.text_embeddings import IMAGES, class_embeddings, text_embedder
from vision.interop.pair import pair_of
from vision.interop.preprocessing import Preprocessing
from vision.objectives.contrast import contrast
from vision.training.checkpoint import load_arrays
from vision.training.predict import Prediction, decoded_batches
from vision.training.saved_tokenizer import tokenizer_of
from vision.training.state import TrainState


@dataclass(frozen=True)
class ImagesAndWords:
    """Both towers of a checkpoint as functions; embeddings have unit length.

    Attributes:
      name: of the towers.
      embed_images: uint8 ``[n, height, width, channels]`` to float32 ``[n, size]``.
      embed_texts: sentences to float32 ``[n, size]``.
      embed_tokens: int32 ``[n, length]`` to float32 ``[n, size]``.
      tokenizer: of the sentences.
      length: places of a text.
      part: what brings an image to the shape that ``embed_images`` takes.
      preprocessing: what the image tower expects.
      scale: what cosines are multiplied by.
      bias: what is added then; None where the probabilities are a softmax over the words.
    """

    name: str
    embed_images: Callable[[np.ndarray], np.ndarray]
    embed_texts: Callable[[Sequence[str]], np.ndarray]
    embed_tokens: Callable[[np.ndarray], np.ndarray]
    tokenizer: Tokenizer
    length: int
    part: HostPart
    preprocessing: Preprocessing
    scale: float
    bias: float | None

    def embed_classes(self, names: Sequence[str], templates: Sequence[str]) -> Float[np.ndarray, "names size"]:
        """Returns the mean embedding of each name in all sentences, of unit length."""
        return class_embeddings(self.embed_tokens, self.tokenizer, self.length, names, templates)

    def probabilities(
        self, images: Float[np.ndarray, "images size"], classes: Float[np.ndarray, "classes size"]
    ) -> Float[np.ndarray, "images classes"]:
        """Returns those of embeddings: of one class among all (softmax), or of each by itself (sigmoid)."""
        logits = self.scale * (images.astype(np.float64) @ classes.astype(np.float64).T)
        return softmax(logits, axis=1) if self.bias is None else expit(logits + self.bias)


def open_images_and_words(
    workdir: str | Path,
    *,
    step: int | None = None,
    tokenizer: Path | None = None,
    batch_size: int = 32,
    note: Callable[[str], None],
) -> ImagesAndWords:
    """Opens a run that learned from captions, or a converted pair.

    Args:
      workdir: its folder.
      step: which checkpoint; None for the newest.
      tokenizer: a file of it, for a checkpoint that has none.
      batch_size: images at a time.
      note: told what people should know.

    Raises:
      UserError: there is no checkpoint, it has no text tower or no tokenizer, or does not say what it expects of
        images.
    """
    if not (Path(workdir) / "checkpoints").is_dir():
        raise UserError(f"{workdir} is no folder of a run or a conversion: it has no checkpoints")
    _, arrays, metadata = load_arrays(str(workdir), step)
    pair = pair_of(arrays, metadata, source=str(workdir), note=note)
    words = tokenizer_of(workdir, pair.tokenizer, tokenizer, vocab_size=pair.text.vocab_size)
    expected = pair.preprocessing
    if expected is None:
        raise UserError(f"{workdir} does not say what its model expects of images")
    bias = pair.params.get("bias")
    objective = contrast(
        pair.model,
        pair.text,
        embed_dim=pair.objective["embed_dim"],
        loss=pair.objective["loss"],
        image_projection=pair.objective["image_projection"],
    )
    height, width, channels = pair.image_shape
    part = HostPart((height, width), channels, expected.crop, expected.decoder, expected.filter)
    state = TrainState(0, jax.device_put(pair.params), {"collections": jax.device_put(pair.collections)}, ())
    mean, std = (np.asarray(value, np.float32) for value in (expected.mean, expected.std))

    @jax.jit
    def of_batch(params, extra, pixels):
        return objective.encode(params, extra, {"image": (pixels.astype(jnp.float32) / 255 - mean) / std})[IMAGES]

    def embed_images(images: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n size"]:
        parts = []
        for start in range(0, len(images), batch_size):
            chunk = images[start : start + batch_size]
            filled = np.zeros((batch_size, *chunk.shape[1:]), np.uint8)
            filled[: len(chunk)] = chunk
            parts.append(np.asarray(of_batch(state.params, state.extra, filled))[: len(chunk)])
        return np.concatenate(parts)

    embed = text_embedder(objective)

    def embed_tokens(tokens: np.ndarray) -> np.ndarray:
        return embed(state, tokens)

    return ImagesAndWords(
        name=pair.name,
        embed_images=embed_images,
        embed_texts=lambda texts: embed_tokens(words.encode(list(texts), length=pair.text.length)),
        embed_tokens=embed_tokens,
        tokenizer=words,
        length=pair.text.length,
        part=part,
        preprocessing=expected,
        scale=float(np.exp(np.float64(pair.params["scale"]))),
        bias=None if bias is None else float(bias),
    )


def checked_labels(labels: Sequence[str], *, where: str, alone: bool = False) -> tuple[str, ...]:
    """Returns the labels without the space around them.

    Args:
      labels: words for classes.
      where: they come from, for messages.
      alone: whether one is enough.

    Raises:
      UserError: one is empty or there twice, or there are too few.
    """
    found = tuple(label.strip() for label in labels)
    for number, label in enumerate(found, start=1):
        if not label:
            raise UserError(f"{where}: label {number} of {len(found)} is empty")
        if found.index(label) + 1 < number:
            raise UserError(f"{where}: label {number}, {label!r}, is there twice")
    if len(found) < (1 if alone else 2):
        raise UserError(
            f"{where}: {len(found) or 'no'} label{'s' * (len(found) != 1)}; give two or more, as probabilities are "
            "those of one among others"
        )
    return found


def classify(
    model: ImagesAndWords,
    paths: Sequence[Path],
    labels: Sequence[str],
    templates: Sequence[str],
    *,
    top: int,
    batch_size: int = 32,
) -> tuple[list[Prediction], list[tuple[Path, str]]]:
    """Returns what of each image is most probable among the labels, and the files that do not decode with the reason.

    Args:
      model: of images and words.
      paths: of image files.
      labels: words for classes.
      templates: sentences with ``{}`` for a label.
      top: how many labels of each image.
      batch_size: images at a time.
    """
    classes = model.embed_classes(labels, templates)
    predictions: list[Prediction] = []
    broken: list[tuple[Path, str]] = []
    for decoded in decoded_batches(paths, model.part, batch_size=batch_size, broken=broken):
        embedded = model.embed_images(np.stack([pixels for _, pixels in decoded]))
        for (path, pixels), found in zip(decoded, model.probabilities(embedded, classes), strict=True):
            order = np.argsort(-found, kind="stable")[:top]
            predictions.append(Prediction(path, pixels, tuple(order.tolist()), tuple(found[order].tolist())))
    return predictions, broken


def sentences_cut(model: ImagesAndWords, labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Returns the sentences that are longer than the model's texts, which it sees the beginning of."""
    told = [sentence for label in labels for sentence in prompts(templates, label)]
    longer = model.tokenizer.encode(told, length=model.length + 1)
    return [sentence for sentence, ids in zip(told, longer, strict=True) if ids[-1] != 0]
