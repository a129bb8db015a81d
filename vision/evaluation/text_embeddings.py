"""Embeddings of sentences, and of classes as means over sentences."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from vision.data.tokenizer import Tokenizer
from vision.errors import UserError
from vision.evaluation.base import State
from vision.evaluation.features import Features
from vision.evaluation.prompt_templates import prompts
from vision.objectives.base import Objective

IMAGES, TEXTS = "image_embedding", "text_embedding"
_BATCH = 256


def check_words(features: Features, tokenizer: Tokenizer | None, what: str) -> Tokenizer:
    """Returns the tokenizer.

    Raises:
      UserError: the objective knows no words, or has no tokenizer.
    """
    if tokenizer is None and features.outputs is not None and IMAGES in features.outputs:
        raise UserError(
            f"{what} needs the tokenizer that the model was trained with, and its weights have none; give its file: "
            "--tokenizer"
        )
    if tokenizer is None or (features.outputs is not None and IMAGES not in features.outputs):
        raise UserError(
            f"{what} needs a model of images and words: config.objective.name='contrast', config.text and "
            "config.data.tokens"
        )
    return tokenizer


def text_embedder(
    objective: Objective, *, mesh: Mesh | AbstractMesh | None = None
) -> Callable[[State, np.ndarray], np.ndarray]:
    """Returns a function of the state and tokens, int32 ``[n, length]``, to float32 ``[n, size]`` of unit length.

    It is compiled once: the last batch is filled up.

    Args:
      objective: whose ``encode`` gives ``text_embedding``.
      mesh: of the state's devices; every process of several gets the same.
    """
    placed = {} if mesh is None else {"out_shardings": NamedSharding(mesh, PartitionSpec())}

    @partial(jax.jit, **placed)
    def of_batch(params, extra, tokens):
        return objective.encode(params, extra, {"tokens": tokens})[TEXTS]

    def embed(state: State, tokens: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(tokens), _BATCH):
            part = tokens[start : start + _BATCH]
            filled = np.concatenate([part, np.repeat(part[-1:], _BATCH - len(part), axis=0)])
            parts.append(np.asarray(jax.device_get(of_batch(state.params, state.extra, filled)))[: len(part)])
        return np.concatenate(parts)

    return embed


def class_embeddings(
    embed: Callable[[np.ndarray], np.ndarray],
    tokenizer: Tokenizer,
    length: int,
    names: Sequence[str],
    templates: Sequence[str],
) -> np.ndarray:
    """Returns float32 ``[names, size]``: the mean embedding of each name in all sentences, of unit length.

    Every sentence is embedded and brought to unit length, then their mean is (Radford et al. 2021, section 3.1.4).
    Sentences are tokenized at every call, and each different one is embedded once.

    Args:
      embed: tokens to embeddings of unit length.
      tokenizer: of the model.
      length: places of a text.
      names: of the classes.
      templates: sentences with ``{}`` for the name.
    """
    told = [sentence for name in names for sentence in prompts(templates, name)]
    different = list(dict.fromkeys(told))
    place = {sentence: number for number, sentence in enumerate(different)}
    embedded = embed(tokenizer.encode(different, length=length))
    each = embedded[[place[sentence] for sentence in told]].reshape(len(names), len(templates), -1)
    mean = each.mean(axis=1)
    return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
