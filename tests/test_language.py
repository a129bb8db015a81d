"""Tokens predict tokens: what counts, what is hidden, and that the loss is that of NumPy's own reading."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of

from vision import models
from vision.models.text import until_end
from vision.objectives.language import SCORES, language, token_scores
from vision.objectives.masked_token import chosen_places, hidden, keys_of, masked_token
from vision.objectives.next_token import next_token
from vision.training.accumulate import loss_and_gradients
from vision.training.sharding import batch_sharding

VOCABULARY, LENGTH = 20, 8
START, END = VOCABULARY - 2, VOCABULARY - 1
SMALL = {"width": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16}
SIZES = {"vocab_size": VOCABULARY, "length": LENGTH, "out_size": 0}
CAUSAL = models.build_text("text/small", **SIZES, **SMALL)
BOTH_SIDES = models.build_text("text/small", **SIZES, **SMALL, causal=False, mask_padding=True)
OBJECTIVES = {"next_token": next_token(CAUSAL), "masked_token": masked_token(BOTH_SIDES)}
# Id 0 is padding and a word, the last text was cut, and one holds two different ids of padding.
TEXTS = np.array(
    [
        [START, 3, 0, 5, END, 0, 0, 0],
        [START, 7, END, 0, 0, 0, 0, 0],
        [START, END, 0, 0, 0, 0, 0, 0],
        [START, 1, 2, 3, 4, 5, 6, END],
        [START, 9, 9, 0, END, END, 4, 0],
        [START, 8, 2, END, 0, 0, 0, 0],
        [START, 11, 12, 13, 14, END, 0, 0],
        [START, 0, 0, 0, 0, 0, END, 0],
    ],
    np.int32,
)
WORDS = [3, 1, 0, 6, 3, 2, 4, 5]
BATCH = {"tokens": jnp.asarray(TEXTS)}
SPEC = {"tokens": jax.ShapeDtypeStruct(TEXTS.shape, jnp.int32)}
KEYS = jax.random.split(jax.random.key(1), len(TEXTS))
STEP = jnp.int32(0)


@functools.cache
def made(name):
    """``(objective, params, extra)``; parameters are larger than at first, so that nothing is nearly even."""
    objective = OBJECTIVES[name]
    params, extra = jax.jit(lambda key: objective.init(key, SPEC))(jax.random.key(0))
    params = jax.tree.map(lambda p: 4.0 * p, params)
    return objective._replace(forward=jax.jit(objective.forward, static_argnums=4)), params, extra


def loss_of(name, batch, keys=KEYS, train=True):
    objective, params, extra = made(name)
    outputs, extra = objective.forward(params, extra, batch, keys, train)
    value, (_, metrics) = objective.loss(params, outputs, extra, batch, STEP)
    return float(value), {name: (float(total), float(count)) for name, (total, count) in metrics.items()}


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )


def log_odds_of(text, params, tokens):
    apply = jax.jit(lambda params, tokens: text.apply(params, tokens, keys=None, train=False)[1]["tokens"])
    return log_softmax(text.logits(params, apply(params, jnp.asarray(tokens))))


def test_next_token_is_the_mean_over_all_tokens_up_to_the_first_end():
    _, params, _ = made("next_token")
    log_odds = log_odds_of(CAUSAL, params["text"], TEXTS)
    asked = [
        (text, place + 1)
        for text, tokens in enumerate(TEXTS)
        for place in range(LENGTH - 1)
        if END not in tokens[: place + 1]
    ]
    assert len(asked) == sum(WORDS) + len(TEXTS)
    losses = [-log_odds[text, place - 1, TEXTS[text, place]] for text, place in asked]
    hits = [log_odds[text, place - 1].argmax() == TEXTS[text, place] for text, place in asked]
    value, metrics = loss_of("next_token", BATCH)
    assert value == pytest.approx(np.mean(losses), rel=1e-5)
    assert metrics["token_loss"] == pytest.approx((sum(losses), len(asked)), rel=1e-5)
    assert metrics["token_accuracy"] == (sum(hits), len(asked))


def test_what_stands_after_the_end_never_counts():
    other = np.where(np.cumsum(TEXTS == END, axis=1) - (TEXTS == END) > 0, 17, TEXTS)
    assert (other != TEXTS).any()
    for name in OBJECTIVES:
        value, metrics = loss_of(name, {"tokens": jnp.asarray(other)})
        assert value == pytest.approx(loss_of(name, BATCH)[0], rel=1e-6)
        assert metrics["token_loss"] == pytest.approx(loss_of(name, BATCH)[1]["token_loss"], rel=1e-6)


def test_a_masked_model_that_reads_padding_is_refused():
    with pytest.raises(ValueError, match="its text model needs mask_padding=True"):
        masked_token(models.build_text("text/small", **SIZES, **SMALL, causal=False))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_model_that_knows_nothing_has_the_logarithm_of_the_vocabulary(name):
    objective, params, extra = made(name)
    blank = jax.tree.map(jnp.zeros_like, params)
    outputs, _ = objective.forward(blank, extra, BATCH, KEYS, True)
    assert float(objective.loss(blank, outputs, extra, BATCH, STEP)[0]) == pytest.approx(math.log(VOCABULARY))


def test_label_smoothing_adds_the_mean_over_the_vocabulary_and_is_not_reported():
    logits = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    targets, counted = jnp.array([[0, 1, 4], [2, 2, 3]]), jnp.array([[True, True, False], [True, False, False]])
    scores = token_scores(jnp.asarray(logits), targets, counted, label_smoothing=0.25)
    log_odds = log_softmax(logits)
    losses = -np.take_along_axis(log_odds, np.asarray(targets)[..., None], axis=-1)[..., 0]
    smoothed = 0.75 * losses - 0.25 * log_odds.mean(-1)
    np.testing.assert_allclose(scores["loss"], (smoothed * counted).sum(1), rtol=1e-5)
    np.testing.assert_allclose(scores["log_loss"], (losses * counted).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(scores["predicted"], [2, 1])


def bigrams():
    """The lightest language model there is: a table of the logits of the next token."""

    def scores_of(params, tokens, keys, train):
        return token_scores(params[tokens[:, :-1]], tokens[:, 1:], until_end(tokens, END)[:, 1:])

    table = jax.random.normal(jax.random.key(0), (VOCABULARY, VOCABULARY))
    return language(CAUSAL, scores_of), {"text": table}, {"collections": {}}


@pytest.mark.parametrize("name", ["bigrams", *(pytest.param(name, marks=pytest.mark.slow) for name in OBJECTIVES)])
def test_microbatches_and_devices_have_the_gradients_of_the_whole_batch(name):
    """Texts differ in length, so the mean of the microbatches' means would be another loss."""
    objective, params, extra = bigrams() if name == "bigrams" else made(name)

    def gradients(objective, microbatches, devices):
        batch, keys = jax.device_put((BATCH, KEYS), batch_sharding(mesh_of(devices)))
        run = lambda *given: loss_and_gradients(objective, *given, STEP, microbatches=microbatches)[:2]  # noqa: E731
        return jax.device_get(jax.jit(run)(params, extra, batch, keys))

    def apart(one, other):
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(other))
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        return max(np.abs(a - b).max() for a, b in pairs) / largest

    whole = gradients(objective, 1, 1)
    assert apart(gradients(objective, 4, 2), whole) < 5e-6
    assert apart(gradients(objective._replace(separable=True), 4, 1), whole) > 0.01


def many(tokens, count):
    return jnp.broadcast_to(jnp.asarray(tokens), (count, len(tokens))), jax.random.split(jax.random.key(2), count)


@pytest.mark.parametrize(("fraction", "expected"), [(0.15, [1, 1, 0, 1, 1, 1, 1, 1]), (0.5, [2, 1, 0, 3, 2, 1, 2, 2])])
def test_the_share_of_words_is_hidden_and_never_start_end_or_padding(fraction, expected):
    """Rounded to even halves, as Python rounds: 0.5 of 3 is 2, of 5 is 2; of one word it is that word."""
    choose = jax.jit(lambda keys: chosen_places(keys, BATCH["tokens"], end=END, fraction=fraction))
    there = np.zeros(TEXTS.shape, bool)
    for seed in range(30):
        chosen = np.asarray(choose(jax.random.split(jax.random.key(seed), len(TEXTS))))
        np.testing.assert_array_equal(chosen.sum(1), expected)
        there |= chosen
    words = [[0 < place <= count for place in range(LENGTH)] for count in WORDS]
    np.testing.assert_array_equal(there, words)


def test_of_the_chosen_80_percent_are_hidden_10_replaced_and_10_left():
    tokens, keys = many(TEXTS[3], 4000)
    chosen = chosen_places(keys, tokens, end=END, fraction=0.5)
    seen = np.asarray(hidden(keys, tokens, chosen, end=END))
    chosen, tokens = np.asarray(chosen), np.asarray(tokens)
    np.testing.assert_array_equal(seen[~chosen], tokens[~chosen])
    masks = np.mean(seen[chosen] == START)
    kept = np.mean(seen[chosen] == tokens[chosen])
    # 12,000 tokens: three standard deviations are 0.011 and 0.008; a random id is the old one in 1 of 18 cases.
    assert masks == pytest.approx(0.8, abs=0.012)
    assert kept == pytest.approx(0.1 + 0.1 / 18, abs=0.01)
    others = seen[chosen & (seen != START) & (seen != tokens)]
    assert set(others) == set(range(START)), "any word may stand in, start and end may not"
    assert abs(np.mean(others) - np.mean(range(START))) < 1.0


def test_only_hidden_tokens_are_predicted_from_what_is_seen():
    """With each place chosen in turn by hand the loss is NumPy's; a key decides, not the batch."""
    _, params, _ = made("masked_token")
    draws = jax.vmap(lambda key: jax.random.fold_in(key, 0))(KEYS)
    chosen = chosen_places(draws, BATCH["tokens"], end=END, fraction=0.15)
    seen = hidden(draws, BATCH["tokens"], chosen, end=END)
    log_odds = log_odds_of(BOTH_SIDES, params["text"], seen)
    losses = [-log_odds[text, place, TEXTS[text, place]] for text, place in zip(*np.nonzero(chosen), strict=True)]
    value, metrics = loss_of("masked_token", BATCH)
    assert value == pytest.approx(np.mean(losses), rel=1e-5)
    assert metrics["token_loss"][1] == 7, "one word of each text that has words"


@pytest.mark.slow
def test_a_batch_without_words_has_no_loss_and_finite_gradients():
    objective, params, extra = made("masked_token")
    empty = {"tokens": jnp.asarray(TEXTS[[2, 2]])}

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        outputs, _ = objective.forward(params, extra, empty, KEYS[:2], True)
        return objective.loss(params, outputs, extra, empty, STEP)[0]

    value, gradient = loss(params)
    assert float(value) == 0.0
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(gradient))


def test_without_keys_a_text_is_asked_the_same_wherever_it_stands():
    one, other = keys_of(BATCH["tokens"]), keys_of(BATCH["tokens"][::-1])
    np.testing.assert_array_equal(jax.random.key_data(one), jax.random.key_data(other[::-1]))
    assert len({tuple(map(int, row)) for row in jax.random.key_data(one)}) == len(TEXTS)


@pytest.mark.parametrize("name", ["next_token", pytest.param("masked_token", marks=pytest.mark.slow)])
def test_encode_adds_up_the_captions_that_are_there_and_shows_the_first(name):
    objective, params, extra = made(name)
    captions = jnp.asarray(TEXTS[:6].reshape(3, 2, LENGTH))
    encode = jax.jit(objective.encode)
    encoded = encode(params, extra, {"tokens": captions, "num_captions": jnp.array([2, 1, 2])})
    single = [encode(params, extra, {"tokens": captions[:, number]}) for number in range(2)]
    for score in SCORES:
        expected = single[0][score] + single[1][score] * jnp.array([1, 0, 1])
        np.testing.assert_allclose(encoded[score], expected, rtol=1e-5)
    np.testing.assert_allclose(encoded["output"], single[0]["output"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(encoded["output"], encoded["pre_logits"])
    assert encoded["tokens"].shape == (3, LENGTH, SMALL["width"])


@pytest.mark.parametrize(
    ("objective", "text", "options", "message"),
    [
        (next_token, BOTH_SIDES, {}, "needs causal=True"),
        (masked_token, CAUSAL, {}, "needs causal=False"),
        (next_token, CAUSAL, {"label_smoothing": 1.0}, "label_smoothing must be in"),
        (masked_token, BOTH_SIDES, {"mask_fraction": 0.0}, "mask_fraction must be in"),
        (masked_token, BOTH_SIDES, {"mask_fraction": 15.0}, "mask_fraction must be in"),
    ],
)
def test_what_cannot_be_is_refused(objective, text, options, message):
    with pytest.raises(ValueError, match=message):
        objective(text, **options)
