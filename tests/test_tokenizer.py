"""Tokens are CLIP's, id for id; what is learned from captions is the same everywhere; nothing is lost on the way."""

import gzip
import json
import pickle
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, child_environment

from vision.data.byte_pairs import ALPHABET, LETTERS, learn, merged, symbols
from vision.data.text_cleaning import END, START, clean, split
from vision.data.tokenizer import CLIP_MERGES, Tokenizer, load, train
from vision.errors import UserError

GOLDENS = json.loads((Path(__file__).parent / "goldens" / "tokens.json").read_text())
CASES = [pytest.param(case, id=ascii(case["text"][:24])) for case in GOLDENS["cases"]]
CAPTIONS = ["a red circle", "a large red circle at the top left", "two shapes on a red background", "a blue square"] * 3
# Ids of CLIP's reference code, as documented beside it.
DOCUMENTED = {
    "a photo of a cat.": [320, 1125, 539, 320, 2368, 269],
    "a diagram": [320, 22697],
    "Hello World!": [3306, 1002, 256],
    "it's  2024 &amp; counting": [585, 568, 273, 271, 273, 275, 261, 9723],
    'a photo of the number: "7".': [320, 1125, 539, 518, 2842, 281, 257, 278, 2811],
    "café": [15304],
    "你好": [47466, 254, 29290, 377],
    "": [],
}


@pytest.fixture(scope="module")
def vocabulary():
    path = REPOSITORY.parent / "shared" / "data" / "clip_bpe" / "bpe_simple_vocab_16e6.txt.gz"
    if not path.is_file():
        pytest.skip("there is no folder clip_bpe of development data beside the repository")
    return path


@pytest.fixture(scope="module")
def clip(vocabulary):
    return load(vocabulary)


@pytest.fixture(scope="module")
def small():
    return train(CAPTIONS, vocab_size=600)


# CLIP's vocabulary


@pytest.mark.data
def test_clip_has_the_published_sizes(clip):
    assert (clip.vocab_size, clip.start, clip.end) == (49408, 49406, 49407)
    assert len(set(clip.vocabulary)) == 49408
    assert [clip.vocabulary[each] for each in (0, 256, 320)] == ["!", "!</w>", "a</w>"]
    for text, ids in DOCUMENTED.items():
        assert clip.tokens(text) == ids, text


@pytest.mark.data
@pytest.mark.parametrize("case", CASES)
def test_odd_texts_get_the_ids_of_open_clip(clip, case):
    row = clip.encode([case["text"]], length=GOLDENS["length"])[0]
    assert row[: len(case["ids"])].tolist() == case["ids"]
    assert not row[len(case["ids"]) :].any()
    assert len(clip.tokens(case["text"])) == case["tokens"], "before anything is cut"


@pytest.mark.data
@pytest.mark.parametrize("case", CASES)
def test_ids_become_the_text_of_open_clip(clip, case):
    expected = case["decoded"].partition("<end_of_text>")[0]  # a text ends where it says so
    assert clip.decode(clip.tokens(case["text"])) == expected.replace("<start_of_text>", "").strip()


@pytest.mark.data
def test_other_files_of_the_vocabulary_give_the_same(clip, vocabulary, tmp_path):
    """Unpacked; as Hugging Face's merges.txt, without what follows; and as tokenizer.json, merges in both its forms."""
    text = gzip.decompress(vocabulary.read_bytes())
    lines = text.decode().split("\n")[1 : CLIP_MERGES + 1]
    (tmp_path / "plain.txt").write_bytes(text)
    (tmp_path / "merges.txt").write_text(
        "#version: 0.2\r\n" + "\r\n".join(lines) + "\r\n", newline="", encoding="utf-8"
    )
    model = {"type": "BPE", "vocab": {symbol: number for number, symbol in enumerate(clip.vocabulary)}}
    for name, merges in (("strings", lines), ("pairs", [line.split() for line in lines])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"version": "1.0", "model": {**model, "merges": merges}}))
    for path in sorted(tmp_path.iterdir()):
        assert load(path) == clip, path


# Both ways, cut and filled up


ODD = [
    "naïve café — “quoted” don’t",
    "12 o'clock; it's 100% ok!!",
    "日本語のテキスト と 😀👩‍👩‍👧‍👦",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ǅ ß İ ﬃ",
    "a\u0301 combining, \u200bzero width, \u00adsoft",
    "!x !! ! !a!",
    "\x00\x07 controls \x1b[0m",
    "\ud800 a lone surrogate",
    "ελληνικά русский עברית العربية हिन्दी ไทย",
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_decoding_gives_the_cleaned_text_with_words_apart(small, text):
    expected = clean(text).encode(errors="replace").decode()
    (row,) = small.encode([text], length=300)
    decoded = small.decode(row)
    assert decoded == " ".join(split(expected))
    assert decoded.replace(" ", "") == expected.replace(" ", ""), "nothing but spaces is added or lost"
    np.testing.assert_array_equal(small.encode([decoded], length=300)[0], row)


def test_every_byte_has_a_token():
    """All characters of two bytes, and every byte that UTF-8 can have in longer ones."""
    bare = train([], vocab_size=514)
    text = "".join(map(chr, [*range(0x21, 0x7F), *range(0xA1, 0x250), 0x4E00, 0xABCD, 0x1F600, 0x10FFFD]))
    cleaned = clean(text)
    assert bare.decode(bare.tokens(text)).replace(" ", "") == cleaned.replace(" ", "")
    assert (bare.vocab_size, bare.start, bare.end) == (514, 512, 513)
    assert len(LETTERS) == 256 == len(set(LETTERS.values()))
    assert len(ALPHABET) == 512 == len(set(ALPHABET))
    assert all(letter.isprintable() and not letter.isspace() for letter in LETTERS.values())


def test_rows_are_cut_so_that_the_end_stays(small):
    rows = small.encode(["a red circle", "a large red circle at the top left", ""], length=5)
    assert rows.dtype == np.int32
    assert rows[:, 0].tolist() == [small.start] * 3
    whole = small.tokens("a large red circle at the top left")
    assert rows[1].tolist() == [small.start, *whole[:3], small.end]
    assert rows[2].tolist() == [small.start, small.end, 0, 0, 0]
    assert (rows == small.end).sum(axis=1).tolist() == [1, 1, 1]
    assert small.encode([], length=5).shape == (0, 5)


def test_filling_is_told_from_an_exclamation_mark_by_the_end():
    bare = train([], vocab_size=514)
    (row,) = bare.encode(["!a"], length=7)
    assert row.tolist() == [512, *bare.tokens("!"), *bare.tokens("a"), 513, 0, 0, 0]
    (row,) = bare.encode(["!!"], length=7)
    assert row[1] == 0, "the token 0 inside a text"
    assert bare.decode(row) == "!!"


def test_decoding_of_odd_ids(small):
    assert small.decode([]) == ""
    assert small.decode([small.end, 5]) == ""
    assert small.decode([ALPHABET.index(LETTERS[0xC3])]) == "\N{REPLACEMENT CHARACTER}", "half a character"
    assert small.decode(np.asarray(small.tokens("a circle"), np.int64)) == "a circle"
    for number in (-1, small.vocab_size):
        with pytest.raises(ValueError, match=f"{number} is no token; ids reach from 0 to {small.end}"):
            small.decode([number])


def test_special_tokens_written_out_are_the_tokens_wherever_they_are_learned_from():
    """As in CLIP. Captions that hold them do not teach their letters."""
    tokenizer = train([f"{START}a cat{END}"] * 5, vocab_size=600)
    assert tokenizer.tokens(f"{START}a cat{END}") == [
        tokenizer.start,
        *tokenizer.tokens("a"),
        *tokenizer.tokens("cat"),
        tokenizer.end,
    ]
    assert set(tokenizer.vocabulary[512:-2]) == {"at</w>", "cat</w>"}


# Cleaning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Two\t\n Words ", "two words"),
        ("&amp;lt;b&amp;gt;", "<b>"),
        ("schÃ¶n", "schön"),
        ("“don’t”", '"don\'t"'),
        ("ＷＩＤＥ ﬁ", "wide fi"),
        ("A&B", "a&b"),
        ("\x1b[31mred\x1b[0m", "red"),
    ],
)
def test_texts_are_cleaned_as_the_original_does(text, expected):
    assert clean(text) == expected


def test_plain_text_needs_no_repair():
    """The short way for printable ASCII gives what the long way would."""
    import html

    import ftfy

    numbers = np.random.default_rng(0)
    plain = [chr(code) for code in range(32, 127) if chr(code) != "&"]
    for text in ("".join(numbers.choice(plain, 40)) for _ in range(200)):
        assert html.unescape(html.unescape(ftfy.fix_text(text))) == text
        assert clean(text) == " ".join(text.split()).lower()


def test_words():
    assert split("don't they'll 'tis 12.5 a_b c++ é") == [
        *("don", "'t", "they", "'ll", "'t", "is", "1", "2", ".", "5", "a", "_", "b", "c", "++", "é")
    ]


# Learning


def plainly_learned(words, count):
    """Counts all pairs anew for each merge; the definition, and slow."""
    spelled = {word: symbols(word) for word in words}
    ages, found = list(ALPHABET), []
    while len(found) < count:
        totals = Counter()
        for word, spelling in spelled.items():
            for pair in pairwise(spelling):
                totals[pair] += words[word]
        usable = {pair: total for pair, total in totals.items() if total > 1 and "".join(pair) not in ages}
        if not usable:
            break
        best = min(usable, key=lambda pair: (-usable[pair], ages.index(pair[0]), ages.index(pair[1])))
        found.append(best)
        ages.append("".join(best))
        spelled = {word: merged(symbols(word), {pair: n for n, pair in enumerate(found)}) for word in words}
    return found


def test_learned_pairs_are_the_most_frequent_ones():
    """Also where letters repeat, and where two ways of joining would give one symbol."""
    numbers = np.random.default_rng(1)
    words = {
        "".join(numbers.choice(list("abc"), numbers.integers(1, 9))): int(numbers.integers(1, 9)) for _ in range(80)
    }
    for count in (1, 7, 60, 500):
        assert learn(words, count) == plainly_learned(words, count)


def test_the_example_of_the_paper():
    """Sennrich et al. 2016, section 3.2: of low, lower, newest, widest the ending est is learned first, then lo."""
    words = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    assert learn(words, 3) == [("e", "s"), ("es", "t</w>"), ("l", "o")]


def test_frequent_words_become_tokens_and_rare_ones_stay_spelled(small):
    assert {"red</w>", "circle</w>", "large</w>"} <= set(small.vocabulary)
    assert len(small.tokens("a red circle")) == 3
    once = train(["zebra", "a cat", "a cat"], vocab_size=600)
    assert len(once.tokens("zebra")) == 5
    assert small.vocab_size < 600, "nothing is left to join"
    assert train(CAPTIONS, vocab_size=520).vocabulary[:518] == small.vocabulary[:518], "a larger one begins alike"


def test_learning_depends_on_the_captions_alone():
    """Not on their order, nor on the process and its hash seed."""
    text = train(CAPTIONS, vocab_size=560).to_json()
    assert train(reversed(CAPTIONS), vocab_size=560).to_json() == text
    code = f"from vision.data.tokenizer import train; print(train({CAPTIONS!r}, vocab_size=560).to_json())"
    environment = child_environment() | {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == text


@pytest.mark.slow
@pytest.mark.data
def test_five_thousand_captions_are_learned_from_in_a_second():
    path = REPOSITORY.parent / "shared" / "data" / "flickr8k_1000" / "captions.txt"
    if not path.is_file():
        pytest.skip("there is no folder flickr8k_1000 of development data beside the repository")
    code = (
        "import pathlib, sys, time; from vision.data.tokenizer import train;"
        "captions = [line.partition(',')[2] for line in pathlib.Path(sys.argv[1]).read_text().splitlines()[1:]];"
        "began = time.process_time(); train(captions, vocab_size=2000).encode(captions, length=77);"
        "print(len(captions), time.process_time() - began)"
    )
    arguments = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=child_environment())
    count, seconds = done.stdout.split()
    assert int(count) == 5000
    assert float(seconds) < 1.0


# Saving


def test_a_tokenizer_is_its_merges(small):
    again = Tokenizer.from_json(small.to_json())
    assert again == small
    assert again.to_json() == small.to_json()
    assert again.fingerprint == small.fingerprint != train(CAPTIONS, vocab_size=540).fingerprint
    assert len(small.fingerprint) == 16
    small.encode(CAPTIONS, length=9)
    sent = pickle.dumps(small)
    assert pickle.loads(sent) == small
    assert len(sent) < 10_000, "what was worked out does not travel"
    assert len(repr(small)) < 80


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory; expected CLIP's bpe_simple_vocab_16e6.txt.gz, or"),
        (b"", "0 merges, where CLIP's vocabulary has 48,894"),
        (b"#version\na b\nab c\n", "2 merges, where CLIP's vocabulary has 48,894"),
        (b"name,text\nx,one two three\n", "line 2 holds 3 words where a pair belongs"),
        (b"\x89PNG\r\n\x1a\n", "is no vocabulary: it is no UTF-8"),
        (b"\x1f\x8b\x08\x00\x00\x00", "does not unpack .*fetch it again"),
        (b"{", "this is no JSON of a tokenizer"),
        (b"[1]", "this JSON describes no tokenizer"),
        (b'{"a": 1}', "this JSON describes no tokenizer"),
        (b'{"model": {"type": "Unigram", "vocab": []}}', "is a Unigram model, and byte pairs alone are read"),
        (b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}', "not in the order of CLIP's vocabulary"),
        (b'{"format": "byte pairs", "merges": ["a b", "x yz"]}', r"merge 2 joins 'x yz', which does not follow"),
        (b'{"format": "byte pairs", "merges": ["a b", "a b"]}', r"merge 2 joins 'a b', which does not follow"),
        (b'{"format": "byte pairs", "merges": ["a b c"]}', r"the merges of this tokenizer cannot be used"),
        (b'{"format": "byte pairs", "merges": 3}', r"the merges of this tokenizer cannot be used"),
        (b'{"format": "byte pairs"}', r"the merges of this tokenizer cannot be used"),
    ],
)
def test_a_file_of_something_else_is_told_with_its_path(tmp_path, content, message):
    path = tmp_path / "vocabulary"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.data
def test_a_vocabulary_whose_lines_were_mixed_up_is_refused(vocabulary, tmp_path):
    lines = gzip.decompress(vocabulary.read_bytes()).decode().split("\n")
    lines[1], lines[2000] = lines[2000], lines[1]
    (tmp_path / "mixed.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError, match="merge 1 joins .*, which does not follow from those before"):
        load(tmp_path / "mixed.txt")


def test_sizes_that_cannot_be(small):
    with pytest.raises(ValueError, match=r"length must be at least 3 \(start, a token, end\), got 2"):
        small.encode(["a"], length=2)
    with pytest.raises(ValueError, match="vocab_size must be at least 514 .* got 513"):
        train(CAPTIONS, vocab_size=513)
    with pytest.raises(ValueError, match="encode takes a list of texts, got the text 'a cat'"):
        small.encode("a cat", length=9)
