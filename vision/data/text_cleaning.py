"""Text as CLIP's vocabulary knows it: repaired, in lower case, cut into words."""

import html

import ftfy
import regex

START, END = "<|startoftext|>", "<|endoftext|>"
# Letters together, every digit by itself, endings of English, runs of anything else that is no space.
_WORD = regex.compile(
    rf"{regex.escape(START)}|{regex.escape(END)}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+",
    regex.IGNORECASE,
)
_SPACE = regex.compile(r"\s+")
_PLAIN = regex.compile(r"[ -%'-~]*")  # printable ASCII but the ampersand: there is nothing to repair


def clean(text: str) -> str:
    """Returns the text repaired, without HTML entities, with single spaces and in lower case (Radford et al. 2021).

    Wrong encodings are undone by ftfy, curly quotes and wide letters become plain ones; entities are resolved twice,
    as they are found escaped twice on the web.
    """
    if not _PLAIN.fullmatch(text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return _SPACE.sub(" ", text).strip().lower()


def split(cleaned: str) -> list[str]:
    """Returns the words of a cleaned text; together they hold all of it but the spaces."""
    return _WORD.findall(cleaned)
