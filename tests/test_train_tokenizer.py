"""tools.train_tokenizer writes what a training would learn, and says how long captions are."""

import json

import numpy as np
import pytest
from PIL import Image

from tools import train_tokenizer
from vision.data.tokenizer import load, train
from vision.errors import UserError

CAPTIONS = ["a red circle", "a red circle on the left", "two birds", "two birds on the left", "a café"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioned")
    lines = ["image,caption,split"]
    for number, caption in enumerate(CAPTIONS):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{caption},{'val' if number == 4 else 'train'}")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"captions:{folder / 'captions.csv'}"


def test_it_writes_what_a_training_would_learn(table, tmp_path, capsys):
    out = tmp_path / "new" / "tokenizer.json"
    assert train_tokenizer.main(["--data", table, "--vocab_size", "530", "--out", str(out), "--json"]) == 0
    expected = train(CAPTIONS[:4], vocab_size=530)
    assert load(out) == expected
    printed = capsys.readouterr().out.splitlines()
    result = json.loads(printed[-1])
    assert result["vocab_size"] == 530
    assert result["captions"] == 4
    needed = sorted(2 + len(expected.tokens(caption)) for caption in CAPTIONS[:4])
    assert result["tokens"] == {
        "median": int(np.median(needed)),
        "quantile_99": needed[-1],
        "longest": needed[-1],
    }
    assert result["example"]["ids"] == [expected.start, *expected.tokens(CAPTIONS[0]), expected.end]
    assert "".join(result["example"]["pieces"]) == CAPTIONS[0].replace(" ", "")
    assert result["file"] == str(out)
    assert result["fingerprint"] == expected.fingerprint
    told = "\n".join(printed[:-1])
    for part in ("530 tokens", f"the longest {needed[-1]}", CAPTIONS[0], str(out), *result["longest_words"]):
        assert part in told


def test_a_vocabulary_that_captions_cannot_fill_is_told(table, tmp_path, capsys):
    out = tmp_path / "tokenizer.json"
    train_tokenizer.main(["--data", table, "--vocab_size", "5000", "--out", str(out), "--json"])
    found = capsys.readouterr()
    size = json.loads(found.out.splitlines()[-1])["vocab_size"]
    assert size < 600
    assert f"nothing more comes twice: {size} of 5,000 ids" in found.err
    assert json.loads(found.out.splitlines()[-1])["longest_words"][:1] == ["circle"]


def test_another_vocabulary_can_be_looked_at(table, tmp_path, capsys):
    path = tmp_path / "other.json"
    other = train(["other words"] * 3, vocab_size=600)
    path.write_text(other.to_json())
    train_tokenizer.main(["--data", table, "--split", "val", "--tokenizer", str(path), "--json"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["fingerprint"], result["captions"], result["file"]) == (other.fingerprint, 1, None)
    assert result["example"]["text"] == "a café"
    assert sorted(path.parent.iterdir()) == [path], "nothing is written"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vocab_size", "100"], "--vocab_size: vocab_size must be at least 514"),
        (["--tokenizer", "x.json", "--out", "y.json"], "--out: nothing is written where --tokenizer"),
    ],
)
def test_arguments_that_cannot_be(table, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        train_tokenizer.main(["--data", table, *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_done_is_one_line(table, tmp_path):
    with pytest.raises(UserError, match="digits has no captions; captions:FILE reads a table"):
        train_tokenizer.main(["--data", "digits"])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out: .* cannot be written: File exists"):
        train_tokenizer.main(["--data", table, "--out", str(tmp_path / "file" / "tokenizer.json")])
    with pytest.raises(UserError, match="the tokenizer .*nowhere.json cannot be read: No such file"):
        train_tokenizer.main(["--data", table, "--tokenizer", str(tmp_path / "nowhere.json")])
