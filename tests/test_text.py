"""Text models see what they should of a text, start as they were published, and have their published sizes."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision import models
from vision.errors import ConfigError
from vision.models.scanning import stack_blocks
from vision.models.text import until_end

TINY = {"width": 16, "depth": 2, "num_heads": 2, "mlp_dim": 24}
VOCABULARY, LENGTH = 20, 8
START, END = 18, 19


def build(**options):
    sizes = {"vocab_size": VOCABULARY, "length": LENGTH, "out_size": 6}
    return models.build_text("text/small", **{**sizes, **TINY, **options})


def variables(model, seed=0):
    """Parameters that are all away from their initial values, so that none is without effect."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.normal(0, 0.4, leaf.shape).astype(np.float32), params)


def texts():
    """Two texts with padding, one that ends at the last place, and one that does not end."""
    return np.array(
        [
            [START, 3, 0, END, 0, 0, 0, 0],
            [START, 5, END, 7, END, 0, 2, 0],
            [START, 1, 2, 3, 4, 5, 6, END],
            [START, 1, 2, 3, 4, 5, 6, 7],
        ],
        np.int32,
    )


def embedded(model, params, tokens, **options):
    return np.asarray(model.apply(params, jnp.asarray(tokens), keys=None, train=False, **options)[0])


BLIND = [
    {},
    {"causal": False, "mask_padding": True},
    {"causal": False, "mask_padding": True, "pool": "map"},
]


@pytest.mark.parametrize("options", BLIND, ids=["causal", "masked", "masked, attention pooling"])
def test_what_follows_the_end_changes_nothing(options):
    model = build(**options)
    params, tokens = variables(model), texts()
    changed = np.where(np.asarray(until_end(jnp.asarray(tokens), END)), tokens, 11)
    assert (changed != tokens).sum() == 9
    whole = embedded(model, params, tokens)
    np.testing.assert_allclose(embedded(model, params, changed), whole, atol=1e-5)
    np.testing.assert_allclose(embedded(model, params, tokens[:2, :4]), whole[:2], atol=1e-5)
    for place in range(1, 3):  # what stands before it does
        moved = tokens[:2].copy()
        moved[0, place] = 9
        assert np.abs(embedded(model, params, moved)[0] - whole[0]).max() > 1e-3
        np.testing.assert_allclose(embedded(model, params, moved)[1], whole[1], atol=1e-5)


@pytest.mark.parametrize("pool", ["end", "last", "map"])
def test_without_causality_and_mask_padding_is_seen(pool):
    model = build(causal=False, pool=pool, sticky_end=False)
    params, tokens = variables(model), texts()
    changed = tokens.copy()
    changed[0, -1] = 11
    difference = np.abs(embedded(model, params, changed) - embedded(model, params, tokens)).max(axis=1)
    assert difference[0] > 1e-3
    assert difference[1:].max() < 1e-5


def test_what_pads_a_text_whose_last_place_counts_is_its_end():
    """SigLIP's padding, whatever the tokens were padded with; before the end every word counts."""
    sticky, plain = (build(causal=False, pool="last", sticky_end=each) for each in (True, False))
    params, tokens = variables(plain), texts()
    padded = np.where(np.asarray(until_end(jnp.asarray(tokens), END)), tokens, END)
    expected = embedded(plain, params, padded)
    np.testing.assert_array_equal(embedded(sticky, params, tokens), expected)
    differs = np.abs(embedded(plain, params, tokens) - expected).max(axis=1) > 1e-3
    assert differs.tolist() == [True, True, False, False]
    assert models.build_text("text/siglip_B").module.sticky_end


def test_a_causal_model_tells_nothing_of_the_future_at_any_place():
    model = build()
    params, tokens = variables(model), texts()[3:]
    hidden = model.apply(params, jnp.asarray(tokens), keys=None, train=False)[1]["tokens"]
    for place in (1, 4, LENGTH - 1):
        changed = tokens.copy()
        changed[0, place] = 12
        other = model.apply(params, jnp.asarray(changed), keys=None, train=False)[1]["tokens"]
        np.testing.assert_allclose(other[:, :place], hidden[:, :place], atol=1e-5)
        assert np.abs(other - hidden)[:, place:].max(axis=-1).min() > 1e-4


def test_the_pooled_token_is_that_of_the_first_end_or_the_last_place():
    tokens = texts()
    for options, places in (({}, [3, 2, 7, 7]), ({"causal": False, "pool": "last"}, [7, 7, 7, 7])):
        model = build(**options)
        params = variables(model)
        output, features = model.apply(params, jnp.asarray(tokens), keys=None, train=False)
        np.testing.assert_array_equal(features["pre_logits"], features["tokens"][np.arange(4), places])
        expected = np.asarray(features["pre_logits"]) @ params["projection"]["kernel"]
        np.testing.assert_allclose(output, expected, atol=1e-5)
        assert {"block00", "block01"} <= features.keys()
    alone = build(out_size=0)
    params = variables(alone)
    assert "projection" not in params
    output, features = alone.apply(params, jnp.asarray(tokens), keys=None, train=False)
    np.testing.assert_array_equal(output, features["pre_logits"])


def test_a_block_is_the_formula_of_causal_attention():
    """One head, one layer, in NumPy: softmax over the past, the residual sum, the MLP with x sigmoid(1.702 x)."""
    model = build(depth=1, num_heads=1, out_size=0, activation="quick_gelu")
    params, tokens = variables(model), texts()
    block = params["encoder"]["block00"]

    def norm(x, layer):
        spread = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return (x - x.mean(axis=-1, keepdims=True)) / spread * layer["scale"] + layer["bias"]

    x = params["token_embedding"][tokens] + params["position_embedding"]
    attention = block["attention"]
    projected = np.einsum("btw,wno->btno", norm(x, block["attention_norm"]), attention["qkv"]["kernel"])
    query, key, value = np.moveaxis(projected + attention["qkv"]["bias"], 2, 0)
    scores = np.einsum("bqw,bkw->bqk", query, key) / 4
    scores = np.where(np.tri(LENGTH, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = np.einsum("bqk,bkw->bqw", weights / weights.sum(axis=-1, keepdims=True), value)
    x = x + mixed @ attention["out"]["kernel"] + attention["out"]["bias"]
    hidden = norm(x, block["mlp_norm"]) @ block["mlp"]["hidden"]["kernel"] + block["mlp"]["hidden"]["bias"]
    hidden = hidden / (1 + np.exp(-1.702 * hidden))
    x = norm(x + hidden @ block["mlp"]["out"]["kernel"] + block["mlp"]["out"]["bias"], params["norm"])
    features = model.apply(params, jnp.asarray(tokens), keys=None, train=False)[1]
    np.testing.assert_allclose(features["tokens"], x, atol=2e-5)


def test_logits_are_products_with_the_table_of_the_input():
    model = build(out_size=0, precision="params=float32,compute=bfloat16,output=float32")
    params = variables(model)
    hidden = model.apply(params, jnp.asarray(texts()), keys=None, train=False)[1]["tokens"]
    assert hidden.dtype == jnp.bfloat16
    logits = model.logits(params, hidden)
    assert (logits.shape, logits.dtype) == ((4, LENGTH, VOCABULARY), jnp.float32)
    np.testing.assert_allclose(logits, np.asarray(hidden, np.float32) @ params["token_embedding"].T, atol=1e-5)


def test_everything_starts_from_the_deviations_of_clip():
    """Radford's code: of a width d and L blocks."""
    d, depth = 64, 3
    model = build(width=d, depth=depth, mlp_dim=4 * d, vocab_size=200, length=40, out_size=32)
    params = jax.jit(model.init)(jax.random.key(0))
    block = params["encoder"]["block01"]
    expected = {
        0.02: params["token_embedding"],
        0.01: params["position_embedding"],
        d**-0.5: [params["projection"]["kernel"], block["attention"]["qkv"]["kernel"]],
        d**-0.5 * (2 * depth) ** -0.5: [block["attention"]["out"]["kernel"], block["mlp"]["out"]["kernel"]],
        (2 * d) ** -0.5: block["mlp"]["hidden"]["kernel"],
    }
    for deviation, leaves in expected.items():
        for leaf in leaves if isinstance(leaves, list) else [leaves]:
            assert np.std(leaf) == pytest.approx(deviation, rel=0.06)


def test_scanned_blocks_and_those_computed_again_give_the_same():
    plain = build(causal=False, mask_padding=True)
    params, tokens = variables(plain), texts()
    scanned = build(causal=False, mask_padding=True, scan=True, remat="full")
    found = embedded(scanned, stack_blocks(params), tokens)
    np.testing.assert_allclose(found, embedded(plain, params, tokens), atol=1e-5)


def test_dropout_belongs_to_the_text():
    model = build(dropout=0.5)
    params, tokens = variables(model), np.repeat(texts()[:1], 4, axis=0)
    keys = jax.random.split(jax.random.key(0), 4)
    tokens = jnp.asarray(tokens)
    apply = lambda t, k, train=True: np.asarray(model.apply(params, t, keys=k, train=train)[0])  # noqa: E731
    whole = apply(tokens, keys)
    np.testing.assert_allclose(apply(tokens[2:], keys[2:]), whole[2:], atol=1e-5)
    assert np.abs(whole[0] - whole[1]).max() > 1e-3
    np.testing.assert_array_equal(apply(tokens, keys, train=False), embedded(model, params, tokens))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_heads": 3}, "num_heads 3 does not divide the width 16"),
        ({"mask_padding": True}, "causal=False"),
        ({"pool": "last"}, "pool='end'"),
        ({"causal": False, "pool": "last", "mask_padding": True}, "pool='end'"),
        ({"vocab_size": 1}, "vocab_size must be at least 2"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"lenght": 3}, "unknown key"),
        ({"activation": "relu"}, "'relu' is not one of"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_built(options, words):
    with pytest.raises(ConfigError, match=words):
        build(**options)
    with pytest.raises(ConfigError, match="did you mean 'text/clip_512'"):
        models.build_text("text/clip_521")


def test_texts_of_another_length_are_refused():
    model = build()
    params = variables(model)
    with pytest.raises(ValueError, match="built for 8 tokens, these texts have 9"):
        embedded(model, params, np.zeros((1, 9), np.int32))
    last = build(causal=False, pool="last")
    with pytest.raises(ValueError, match="built for 8 tokens, these texts have 7"):
        embedded(last, variables(last), np.zeros((1, 7), np.int32))


def test_published_sizes():
    counts = {"text/clip_512": 63_428_096, "text/clip_768": 123_650_304, "text/siglip_B": 110_271_744}
    for name, count in counts.items():
        params = jax.eval_shape(models.build_text(name).init, jax.random.key(0))
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    assert all(re.fullmatch(r"text/\w+", name) for name in models.TEXT_VARIANTS)
