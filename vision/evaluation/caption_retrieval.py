"""Retrieval between images and their captions, in both directions."""

from collections.abc import Iterator
from functools import partial
from typing import Literal

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vision.data.tokenizer import Tokenizer
from vision.evaluation.base import EvalSet, Evaluator, State, Value
from vision.evaluation.features import Features
from vision.evaluation.knn_search import check_finite
from vision.evaluation.ranking import by_chance, hits
from vision.evaluation.text_embeddings import IMAGES, TEXTS, check_words
from vision.objectives.base import Objective

DIRECTIONS = ("image_to_text", "text_to_image")


def caption_retrieval(
    eval_set: EvalSet,
    objective: Objective,
    features: Features,
    tokenizer: Tokenizer | None = None,
    *,
    k: tuple[int, ...] = (1, 5, 10),
    equal_texts: Literal["hit", "miss"] = "hit",
    chunk: int = 1024,
) -> Evaluator:
    """Returns an evaluator that yields Recall@k from images to captions and from captions to images.

    ``image_to_text_recall_at_5`` is the share of the images for which any of their captions is among the 5 nearest of
    all captions of the split, ``text_to_image_recall_at_5`` the share of the captions for which their image is among
    the 5 nearest of all images; beside each ``..._chance_at_5``, what guessing reaches. ``images`` and ``texts`` are
    how many compete. Nearness is the cosine; equally near ones stand in random order, so that a model to which all
    are alike gets what guessing gets (see :func:`vision.evaluation.ranking.hits`).

    Two images may have the same caption. With ``equal_texts="hit"`` it is one text, which competes once, is right for
    both images, and finds either. With ``"miss"`` every caption competes for itself and only that of the image is
    right, as in the published figures of Flickr30k and COCO, where this is rare.

    Args:
      eval_set: images with their captions, ``tokens`` ``[batch, captions, length]`` and ``num_captions``.
      objective: whose ``encode`` gives ``image_embedding`` and ``text_embedding``.
      features: says what the model has.
      tokenizer: of the captions; None where the run has none.
      k: numbers of nearest ones.
      equal_texts: what one caption of several images is.
      chunk: images or captions that are held against all others at a time.

    Raises:
      UserError: the run knows no words.
      ValueError: an option that cannot be, or data without captions.
    """
    check_words(features, tokenizer, "caption_retrieval")
    source = eval_set.pipeline.source
    if "tokens" not in source.fields:
        raise ValueError("caption_retrieval needs images with captions, and the data have none")
    if not k or min(k) < 1 or len(set(k)) < len(k):
        raise ValueError(f"k must be one or several different numbers >= 1, got {k}")
    if max(k) > len(source):
        raise ValueError(f"k must be in [1, {len(source)}], the number of images, got {max(k)}")
    if chunk < 1:
        raise ValueError(f"chunk must be >= 1, got {chunk}")
    everything = _everything(eval_set, objective)

    def run(state: State) -> Iterator[tuple[str, Value]]:
        images, texts, tokens, owner = everything(state)
        check_finite(images, "caption_retrieval: the images")
        check_finite(texts, "caption_retrieval: the captions")
        if equal_texts == "hit":
            _, first, text = np.unique(tokens, axis=0, return_index=True, return_inverse=True)
            texts, text = texts[first], text.reshape(-1)
        else:
            text = np.arange(len(texts))
        pairs = np.unique(np.stack([owner, text]), axis=1)  # an image may have one caption twice
        with_captions, captions_of = _grouped(*pairs)
        if max(k) > len(texts):
            raise ValueError(f"k must be in [1, {len(texts)}], the number of captions, got {max(k)}")
        images_of = _grouped(*pairs[::-1])[1]
        asked = {
            "image_to_text": (images[with_captions], texts, captions_of),
            "text_to_image": (texts, images, images_of),
        }
        for direction in DIRECTIONS:
            queries, candidates, right = asked[direction]
            recall = hits(queries, candidates, right, k=k, chunk=chunk).mean(axis=0)
            chance = by_chance(np.array([len(each) for each in right]), len(candidates), k=k)
            for number, count in enumerate(k):
                yield f"{direction}_recall_at_{count}", float(recall[number])
                yield f"{direction}_chance_at_{count}", float(chance[number])
        yield "images", float(len(images))
        yield "texts", float(len(texts))

    each = tuple(
        f"{direction}_{what}_at_{count}" for direction in DIRECTIONS for count in k for what in ("recall", "chance")
    )
    return Evaluator(run, (*each, "images", "texts"), source.class_names)


def _grouped(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The different keys, ascending, and the values that stand beside each."""
    order = np.argsort(keys, kind="stable")
    different, starts = np.unique(keys[order], return_index=True)
    return different, np.split(values[order], starts[1:])


def _everything(eval_set: EvalSet, objective: Objective):
    """A function of the state to images, captions, the captions' tokens, and the image of each caption."""
    everywhere = NamedSharding(eval_set.pipeline.sharding.mesh, PartitionSpec())

    @partial(jax.jit, out_shardings=everywhere)
    def of_batch(params, extra, batch, resident):
        examples = eval_set.prepare(batch, resident, jax.random.key(0), 0)  # nothing is drawn without augmentation
        encoded = objective.encode(params, extra, examples)
        return encoded[IMAGES], encoded[TEXTS], examples["tokens"], examples["num_captions"]

    def pass_over(state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        images, texts, tokens, owners = [], [], [], []
        seen = 0
        for step, mask in enumerate(eval_set.masks):
            batch = eval_set.pipeline.batch(step)
            found = jax.device_get(of_batch(state.params, state.extra, batch, eval_set.pipeline.resident))
            of_images, of_texts, ids, counts = (np.asarray(each)[mask] for each in found)
            there = np.arange(ids.shape[1]) < counts[:, None]
            images.append(of_images)
            texts.append(of_texts[there])
            tokens.append(ids[there])
            owners.append(seen + np.nonzero(there)[0])
            seen += len(of_images)
        eval_set.pipeline.close()
        return np.concatenate(images), np.concatenate(texts), np.concatenate(tokens), np.concatenate(owners)

    return pass_over
