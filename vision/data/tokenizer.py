"""Texts as numbers: the byte-pair encoding of CLIP, with its published vocabulary or one learned from captions."""

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from vision.data.byte_pairs import ALPHABET, END_OF_WORD, LETTERS, Merge, learn, merged, symbols
from vision.data.text_cleaning import END, START, clean, split
from vision.errors import UserError

CLIP_MERGES = 48_894
LEAST_SIZE = len(ALPHABET) + 2
_BYTES = {letter: byte for byte, letter in LETTERS.items()}
_FORMAT = "byte pairs"
_WORDS_REMEMBERED = 2**17
_CURE = "expected CLIP's bpe_simple_vocab_16e6.txt.gz, or a tokenizer.json of tools.train_tokenizer or of a CLIP model"


@dataclass(frozen=True)
class Tokenizer:
    """Byte-pair encoding with the ids of CLIP (Radford et al. 2021): any text has tokens, and none is unknown.

    Ids are the 256 bytes inside a word, the 256 at the end of one, the merges in the order in which they were learned,
    and at last the start and the end of a text. 0, with which rows are filled up, is a byte too, ``!`` inside a word:
    what belongs to a text is told by the first ``end``, never by the id. A text that has ``<|endoftext|>`` written out
    gets the token, as in CLIP, and ends there.

    Attributes:
      merges: pairs of symbols that are joined, oldest first.

    Raises:
      ValueError: a merge joins what is not known by then, or gives a symbol that is known.
    """

    merges: tuple[Merge, ...] = field(repr=False)

    def __post_init__(self):
        known = set(ALPHABET)
        for number, pair in enumerate(self.merges):
            joined = "".join(pair)
            if len(pair) != 2 or not known.issuperset(pair) or joined in known:
                raise ValueError(
                    f"merge {number + 1} joins {' '.join(pair)!r}, which does not follow from those before"
                )
            known.add(joined)

    def __reduce__(self):
        return Tokenizer, (self.merges,)  # worker processes get the merges alone and work the rest out

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return LEAST_SIZE + len(self.merges)

    @property
    def start(self) -> int:
        """The id before a text."""
        return self.vocab_size - 2

    @property
    def end(self) -> int:
        """The id after a text, the largest of all."""
        return self.vocab_size - 1

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The symbols by id, bytes as printable letters, ``</w>`` at the end of words."""
        return (*ALPHABET, *map("".join, self.merges), START, END)

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over :meth:`to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.vocabulary)}

    @cached_property
    def _ranks(self) -> dict[Merge, int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _words(self) -> dict[str, tuple[int, ...]]:
        """The words seen so far; captions have few different ones."""
        return {START: (self.start,), END: (self.end,)}

    def tokens(self, text: str) -> list[int]:
        """Returns the ids of a text's words, without start and end, however many there are."""
        return [number for word in split(clean(text)) for number in self._of_word(word)]

    def _of_word(self, word: str) -> tuple[int, ...]:
        found = self._words.get(word)
        if found is None:
            found = tuple(self._ids[symbol] for symbol in merged(symbols(word), self._ranks))
            if len(self._words) < _WORDS_REMEMBERED:
                self._words[word] = found
        return found

    def encode(self, texts: Sequence[str], *, length: int) -> Int32[np.ndarray, "texts length"]:
        """Returns the ids of texts, cleaned as :func:`vision.data.text_cleaning.clean` does.

        Each row is ``start``, the text, ``end``, and zeros. Of a text that is too long the last tokens are left out, so
        that every row has its ``end``.

        Args:
          texts: any number of them.
          length: tokens of a row; CLIP's is 77.

        Raises:
          ValueError: ``length`` leaves no room for a token, or ``texts`` is a single one.
        """
        if isinstance(texts, str):
            raise ValueError(f"encode takes a list of texts, got the text {texts[:40]!r}")
        check_length(length)
        rows = np.zeros((len(texts), length), np.int32)
        for row, text in zip(rows, texts, strict=True):
            ids = (self.start, *self.tokens(text)[: length - 2], self.end)
            row[: len(ids)] = ids
        return rows

    def decode(self, ids: Sequence[int] | Int[np.ndarray, " length"]) -> str:
        """Returns the text up to the first ``end``: cleaned, with a space between any two words.

        Whatever the ids, this gives a text; bytes that are no UTF-8, as a cut may leave them, become U+FFFD.

        Raises:
          ValueError: a number is no id.
        """
        text = bytearray()
        for number in map(int, ids):
            if number == self.end:
                break
            if not 0 <= number < self.end:
                raise ValueError(f"{number} is no token; ids reach from 0 to {self.end}")
            if number != self.start:
                symbol = self.vocabulary[number]
                text += bytes(_BYTES[letter] for letter in symbol.removesuffix(END_OF_WORD))
                text += b" " * symbol.endswith(END_OF_WORD)
        return text.decode(errors="replace").strip()

    def to_json(self) -> str:
        """Returns a text from which :meth:`from_json` makes this tokenizer again; the same for equal ones."""
        return json.dumps({"format": _FORMAT, "merges": [" ".join(pair) for pair in self.merges]})

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Returns the tokenizer of :meth:`to_json`, or of Hugging Face's ``tokenizer.json`` of a CLIP model.

        Raises:
          UserError: it is of neither form, or has other ids than CLIP would give.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise UserError(f"this is no JSON of a tokenizer ({error}); {_CURE}") from error
        theirs = data.get("model") if isinstance(data, dict) else None
        if not isinstance(theirs, dict) and not (isinstance(data, dict) and data.get("format") == _FORMAT):
            raise UserError(f"this JSON describes no tokenizer; {_CURE}")
        if theirs and theirs.get("type", "BPE") != "BPE":
            raise UserError(f"this tokenizer is a {theirs['type']} model, and byte pairs alone are read; {_CURE}")
        merges = (theirs or data).get("merges")
        try:
            pairs = [each.split(" ") if isinstance(each, str) else each for each in merges]
            tokenizer = cls(tuple((str(first), str(second)) for first, second in pairs))
        except (TypeError, ValueError) as error:
            raise UserError(f"the merges of this tokenizer cannot be used ({error}); {_CURE}") from error
        if theirs and theirs.get("vocab") != tokenizer._ids:
            raise UserError(f"the ids of this tokenizer are not in the order of CLIP's vocabulary; {_CURE}")
        return tokenizer


def check_length(length: int) -> None:
    """Raises a ValueError for rows without room for a token between start and end."""
    if length < 3:
        raise ValueError(f"length must be at least 3 (start, a token, end), got {length}")


def load(path: str | Path) -> Tokenizer:
    """Returns the tokenizer of a file: CLIP's vocabulary, packed or not, or JSON (:meth:`Tokenizer.from_json`).

    Raises:
      UserError: there is no such file, or it holds something else.
    """
    place = Path(path).expanduser()
    try:
        content = place.read_bytes()
    except OSError as error:
        raise UserError(f"the tokenizer {path} cannot be read: {error.strerror}; {_CURE}") from error
    try:
        text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} does not unpack ({error}); fetch it again") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no vocabulary: it is no UTF-8; {_CURE}") from error
    try:
        return Tokenizer.from_json(text) if text.lstrip()[:1] in ("{", "[") else _of_lines(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _of_lines(text: str) -> Tokenizer:
    """Reads CLIP's file: a heading, then a merge on each line, of which the first 48,894 count."""
    lines: list[Any] = [tuple(line.split()) for line in text.split("\n")[1 : CLIP_MERGES + 1] if line.strip()]
    odd = next((number for number, pair in enumerate(lines) if len(pair) != 2), None)
    if odd is not None:
        raise UserError(f"line {odd + 2} holds {len(lines[odd])} words where a pair belongs; {_CURE}")
    if len(lines) < CLIP_MERGES:
        raise UserError(f"{len(lines):,} merges, where CLIP's vocabulary has {CLIP_MERGES:,}; {_CURE}")
    try:
        return Tokenizer(tuple(lines))
    except ValueError as error:
        raise UserError(f"{error}; {_CURE}") from error


def train(captions: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Returns a tokenizer that joins what comes together most often in captions; the same for the same captions.

    Where nothing is left that comes twice, it has fewer than ``vocab_size`` ids.

    Args:
      captions: as they are; they are cleaned here.
      vocab_size: ids, bytes, start and end among them.

    Raises:
      ValueError: ``vocab_size`` is below 514, which every tokenizer has.
    """
    if vocab_size < LEAST_SIZE:
        raise ValueError(
            f"vocab_size must be at least {LEAST_SIZE} (bytes inside and at the end of words, start, end), "
            f"got {vocab_size}"
        )
    words = Counter(word for caption in captions for word in split(clean(caption)))
    del words[START], words[END]
    return Tokenizer(tuple(learn(words, vocab_size - LEAST_SIZE)))
