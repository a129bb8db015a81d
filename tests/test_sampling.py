"""What a language model writes, which words it holds for alike, and how well it predicts a split."""

import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import write
from vision.analysis.sampling import MASK, make_sampler, probable_words, prompt_of
from vision.analysis.word_neighbours import whole_words, word_neighbours
from vision.data.sources.captions import pack
from vision.data.tokenizer import train as train_tokenizer
from vision.errors import UserError
from vision.models.precision import FLOAT32, Precision
from vision.models.text_interface import TextModel
from vision.training.loop import train

LENGTH, VOCABULARY = 6, 7
A, B, C, D, E, START, END = range(VOCABULARY)


class Bigrams(nn.Module):
    """Adds up tables of the neighbours; with an identity for embeddings its hidden tokens are the logits."""

    causal: bool
    size: int = VOCABULARY

    @nn.compact
    def __call__(self, tokens, *, train=False, keys=None):
        tables = {name: self.param(name, nn.initializers.zeros, (self.size, self.size)) for name in ("left", "right")}
        self.param("token_embedding", nn.initializers.zeros, (self.size, self.size))
        if self.causal:
            x = tables["left"][tokens]
        else:
            before, after = jnp.roll(tokens, 1, axis=1), jnp.roll(tokens, -1, axis=1)
            x = tables["left"][before] + tables["right"][after]
        return x[:, -1], {"tokens": x}


def model(causal):
    return TextModel(Bigrams(causal), Precision.parse(FLOAT32), LENGTH, VOCABULARY)


def params(left=(), right=()):
    """Logarithms of the odds of a token given its neighbour; what is not named is nearly impossible."""
    tables = {name: np.full((VOCABULARY, VOCABULARY), -30.0, np.float32) for name in ("left", "right")}
    for name, given in (("left", left), ("right", right)):
        for neighbour, token, odds in given:
            tables[name][neighbour, token] = math.log(odds)
    return {**tables, "token_embedding": np.eye(VOCABULARY, dtype=np.float32)}


def keys(count, seed=0):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(count))


def many(tokens, blank, count):
    tokens = np.array([*tokens, *[A] * (LENGTH - len(tokens))], np.int32)
    return np.tile(tokens, (count, 1)), np.tile(np.array(blank, bool), (count, 1))


AFTER_TWO = [False, False, True, True, True, True]


def test_the_most_probable_words_follow_up_to_the_end():
    sample = make_sampler(model(True), temperature=0.0)
    chain = params([(B, C, 3), (B, D, 1), (C, E, 1), (E, END, 9), (E, A, 1), (END, D, 1)])
    texts, log_odds = sample(chain, *many([START, B], AFTER_TWO, 1), keys(1))
    assert texts.tolist() == [[START, B, C, E, END, A]], "after the end everything stays as it was"
    assert log_odds[0] == pytest.approx(math.log(0.75) + math.log(0.9), rel=1e-4)


def test_the_prompt_stands_and_start_is_never_written():
    sample = make_sampler(model(True), temperature=0.0)
    texts, _ = sample(params([(B, START, 9), (B, B, 1)]), *many([START, B], AFTER_TWO, 1), keys(1))
    assert texts.tolist() == [[START, B, B, B, B, B]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {A: 0.6, C: 0.3, D: 0.1}),
        ({"temperature": 0.5}, {A: 0.36 / 0.46, C: 0.09 / 0.46, D: 0.01 / 0.46}),
        ({"top_k": 2}, {A: 2 / 3, C: 1 / 3}),
    ],
    ids=str,
)
def test_draws_have_the_probabilities_of_the_model(options, expected):
    count = 3000
    sample = make_sampler(model(True), **options)
    start = params([(B, A, 6), (B, C, 3), (B, D, 1)])
    texts, log_odds = sample(start, *many([START, B], [False, False, True, False, False, False], count), keys(count))
    found = np.bincount(texts[:, 2], minlength=VOCABULARY) / count
    for token in range(VOCABULARY):
        share = expected.get(token, 0.0)
        assert found[token] == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / count) + 1e-9)
    odds = {A: 0.6, C: 0.3, D: 0.1}
    np.testing.assert_allclose(log_odds, [math.log(odds[int(token)]) for token in texts[:, 2]], rtol=1e-4)


def test_a_sample_is_its_keys_alone_and_one_program_serves_every_prompt():
    sample = make_sampler(model(True))
    even = params([(one, other, 1) for one in range(VOCABULARY) for other in (A, B, C, D, E)])
    five, _ = sample(even, *many([START, B], AFTER_TWO, 5), keys(5))
    again, _ = sample(even, *many([START, C], AFTER_TWO, 5), keys(5))
    np.testing.assert_array_equal(five[:, 2:], again[:, 2:])
    assert sample._cache_size() == 1
    np.testing.assert_array_equal(sample(even, *many([START, B], AFTER_TWO, 2), keys(2))[0], five[:2])
    other, _ = sample(even, *many([START, B], AFTER_TWO, 5), keys(5, seed=1))
    assert (np.asarray(other) != np.asarray(five)).any()
    assert len({tuple(row) for row in np.asarray(five).tolist()}) > 1


def test_blanks_are_filled_from_both_sides_and_left_to_right():
    """The first blank stands beside an open one, which it sees as hidden; the second beside the first, filled."""
    blanks = [False, False, True, True, False, False]
    both = params(
        [(B, C, 8), (B, D, 2), (C, A, 1), (START, A, 1)],
        [(START, C, 1), (START, D, 1), (E, A, 1), (E, B, 1)],
    )
    sample = make_sampler(model(False), temperature=0.0)
    texts, log_odds = sample(both, *many([START, B, E, E, E, END], blanks, 1), keys(1))
    assert texts.tolist() == [[START, B, C, A, E, END]]
    assert log_odds[0] == pytest.approx(math.log(0.8), rel=1e-3)


@pytest.mark.parametrize("token", [START, END])
def test_a_blank_is_never_filled_by_start_or_end(token):
    sample = make_sampler(model(False), temperature=0.0)
    wish = params([(B, token, 9), (B, C, 1)], [(END, token, 9), (END, C, 1)])
    texts, _ = sample(wish, *many([START, B, A, END], [False, False, True, False, False, False], 1), keys(1))
    assert texts[0, 2] == C


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"top_k": 0}, r"top_k must be in \[1, 7\]"),
        ({"top_k": 8}, r"top_k must be in \[1, 7\]"),
    ],
)
def test_draws_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_sampler(model(True), **options)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["a red circle", "a blue circle", "a red square"] * 3, vocab_size=600)


def test_a_prompt_is_whole_words_and_what_follows_is_blank(tokenizer):
    a, red, circle = (tokenizer.tokens(word)[0] for word in ("a", "red", "circle"))
    begun = prompt_of("A red", tokenizer, length=6, causal=True)
    assert begun.tokens.tolist() == [tokenizer.start, a, red, 0, 0, 0]
    assert begun.blank.tolist() == [False] * 3 + [True] * 3
    nothing = prompt_of("", tokenizer, length=3, causal=True)
    assert nothing.blank.tolist() == [False, True, True]
    blanks = prompt_of(f"a {MASK}{MASK} circle", tokenizer, length=7, causal=False)
    hidden = tokenizer.start
    assert blanks.tokens.tolist() == [tokenizer.start, a, hidden, hidden, circle, tokenizer.end, 0]
    assert blanks.blank.tolist() == [False, False, True, True, False, False, False]


@pytest.mark.parametrize(
    ("prompt", "causal", "message"),
    [
        (f"a {MASK}", True, r"writes from left to right and fills no \[mask\]"),
        ("a red", False, r"write \[mask\] for each"),
        ("a red circle", True, "4 tokens leave no room in the model's 4"),
        (f"a {MASK} circle", False, "5 tokens leave no room in the model's 4"),
    ],
)
def test_prompts_that_cannot_be_filled_are_refused(prompt, causal, message, tokenizer):
    with pytest.raises(UserError, match=message):
        prompt_of(prompt, tokenizer, length=4, causal=causal)


def test_words_at_a_blank_are_listed_with_their_probabilities(tokenizer):
    size = tokenizer.vocab_size
    text = TextModel(Bigrams(False, size), Precision.parse(FLOAT32), LENGTH, size)
    red, blue, a, circle = (tokenizer.tokens(word)[0] for word in ("red", "blue", "a", "circle"))
    tables = {name: np.full((size, size), -30.0, np.float32) for name in ("left", "right")}
    tables["left"][a, [red, blue]] = math.log(3), 0.0
    tables["right"][circle, [red, blue]] = 0.0
    weights = {**tables, "token_embedding": np.eye(size, dtype=np.float32)}
    prompt = prompt_of(f"a {MASK} circle", tokenizer, length=LENGTH, causal=False)
    (found,) = probable_words(text, weights, prompt, tokenizer, count=2)
    assert [word for word, _ in found] == ["red", "blue"]
    assert [odds for _, odds in found] == pytest.approx([0.75, 0.25], rel=1e-4)


def test_neighbours_are_whole_words_by_their_cosine(tokenizer):
    words = whole_words(tokenizer)
    assert {"a", "red", "blue", "circle", "square"} <= set(words)
    assert "circl" not in words
    table = np.random.default_rng(0).normal(size=(tokenizer.vocab_size, 3)).astype(np.float32)
    table[list(words.values())] = (0, 0, -1)
    table[words["red"]], table[words["blue"]], table[words["circle"]] = (2, 0, 0), (8, 6, 0), (0, 0, 5)
    found = word_neighbours(table, tokenizer, ["red"], count=2)
    (first, near), (_, far) = found["red"]
    assert first == "blue"
    assert near == pytest.approx(0.8)
    assert far == pytest.approx(0.0)


def test_a_word_that_is_none_is_told_with_the_nearest(tokenizer):
    with pytest.raises(UserError, match=r"'circel' is no word of the vocabulary but \d tokens; did you mean 'circle'"):
        word_neighbours(np.zeros((tokenizer.vocab_size, 2), np.float32), tokenizer, ["circel"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --prompt, --neighbours, or both"),
        (["--prompt", "a", "--samples", "0"], "--samples must be at least 1"),
        (["--neighbours", "a", "--count", "0"], "--count must be at least 1"),
    ],
)
def test_what_nobody_can_answer_is_refused(flags, message):
    with pytest.raises(UserError, match=message):
        write.main(["--workdir", "nowhere", *flags])


COLORS, SHAPES = ("red", "green", "blue"), ("circle", "square", "star")


def captions(count):
    """Every color with every shape, in captions of two lengths."""
    each = [(COLORS[number % 3], SHAPES[number // 3 % 3]) for number in range(count)]
    texts = [[f"a {color} {shape}", f"there is one {color} {shape}"] for color, shape in each]
    return {"image": np.zeros((count, 2, 2, 1), np.uint8), **pack(texts)}


def config(objective, steps, **more):
    causal = objective == "next_token"
    return {
        "batch_size": 16,
        "duration": {"steps": steps},
        "data": {"name": "arrays", "tokens": {"vocab_size": 560, "length": 8}},
        "model": {
            **{"name": "text/small", "width": 32, "depth": 2, "num_heads": 2, "mlp_dim": 64},
            **{"causal": causal, "mask_padding": not causal},
        },
        "objective": {"name": objective},
        "optimizer": {"name": "adamw", "learning_rate": 1e-2},
        "evals": {"words": {"name": "perplexity", "split": "test", "batch_size": 8}},
        "checkpoint": {"every": {"steps": steps}},
        "logging": {"every": {"steps": steps}, "tensorboard": False, "progress": False},
        **more,
    }


@pytest.mark.slow
def test_a_model_learns_captions_and_writes_them(tmp_path, capsys):
    """Nothing tells color and shape beforehand, and the kind of caption: the best perplexity is known.

    A caption begins in one of two ways, then come a color and a shape, three of each: ln 2 + 2 ln 3 nats for 4 and 6
    tokens in turn, so exp((ln 2 + 2 ln 3) / 5) = 1.78 on average.
    """
    run = tmp_path / "next"
    data = {"train": captions(45), "test": captions(11)}
    summary = train(config("next_token", 150, ema={"decay": 0.9}), run, sources=data)
    best = math.exp((math.log(2) + 2 * math.log(3)) / 5)
    assert best * 0.99 < summary["words"]["perplexity"] < best * 1.1
    assert summary["words"]["tokens"] == 11 * (4 + 6)
    assert write.main(["--workdir", str(run), "--prompt", "a red", "--samples", "6", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    texts = [each["text"] for each in result["samples"]]
    assert set(texts) <= {f"a red {shape}" for shape in SHAPES}
    assert len(set(texts)) > 1
    assert all(each["log_probability"] == pytest.approx(math.log(1 / 3), abs=0.4) for each in result["samples"])

    assert write.main(["--workdir", str(run), "--neighbours", "red", "--count", "2", "--json"]) == 0
    near = json.loads(capsys.readouterr().out.splitlines()[-1])["neighbours"]["red"]
    assert {each["word"] for each in near} == {"green", "blue"}


@pytest.mark.slow
def test_a_masked_model_fills_in_what_can_stand_there(tmp_path, capsys):
    run = tmp_path / "masked"
    train(config("masked_token", 250), run, sources={"train": captions(45), "test": captions(11)})
    capsys.readouterr()
    flags = ["--workdir", str(run), "--prompt", f"a {MASK} circle", "--samples", "4", "--count", "3"]
    assert write.main(flags) == 0
    probable, *samples = capsys.readouterr().out.splitlines()
    assert {word for word in probable.split() if word.isalpha()} == set(COLORS)
    assert all(line.split("  ")[0] in {f"a {color} circle" for color in COLORS} for line in samples)
    with pytest.raises(UserError, match=r"write \[mask\] for each"):
        write.main(["--workdir", str(run), "--prompt", "a red"])


@pytest.mark.slow
def test_a_run_of_contrast_has_neighbours_and_writes_nothing(tmp_path):
    run = tmp_path / "pair"
    both = {"text": config("next_token", 2)["model"], "model": {"name": "mlp/128", "hidden_sizes": (8,)}}
    more = {**both, "objective": {"name": "contrast", "embed_dim": 8}, "evals": {}}
    train({**config("next_token", 2), **more}, run, sources={"train": captions(32)})
    assert write.main(["--workdir", str(run), "--neighbours", "red,circle"]) == 0
    with pytest.raises(UserError, match="trained by contrast and predicts no tokens"):
        write.main(["--workdir", str(run), "--prompt", "a red"])


@pytest.mark.slow
def test_a_run_of_images_alone_has_no_words(tmp_path):
    run = tmp_path / "images"
    section = {**config("next_token", 1), "data": {"name": "arrays"}, "model": {"name": "linear"}, "evals": {}}
    images = {"image": np.zeros((32, 2, 2, 1), np.uint8), "label": np.arange(32, dtype=np.int32) % 2}
    train({**section, "objective": {"name": "classify"}}, run, sources={"train": images})
    with pytest.raises(UserError, match="has no text model; runs of contrast, next_token and masked_token have one"):
        write.main(["--workdir", str(run), "--neighbours", "red"])
