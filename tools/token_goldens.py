"""Writes tests/goldens/tokens.json: what open_clip's tokenizer makes of odd texts, ids and decoded again.

Its tokenizer is OpenAI's code for CLIP, and it brings the vocabulary. It is no dependency of the project. In an
environment of its own: pip install torch==2.14.1 torchvision==0.29.1 open_clip_torch==3.3.0

It spells the start and the end of a text otherwise than OpenAI; texts that have them are translated for it.
"""

import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError

TEXTS = (
    "a photo of a cat.",
    "a photo of a dog",
    "a diagram",
    "Hello World!",
    "it's  2024 &amp; counting",
    'a photo of the number: "7".',
    "café",
    "你好",
    "",
    "   ",
    "!",
    "!!!",
    "wow!wow",
    "Don't, WON'T, they're; we'll I'd I'VE 'tis",
    "rock'n'roll's",
    "3.14159 and 1,000,000",
    "½ ² Ⅻ ٣ 二",
    "line one\nline two\r\n\ttabbed\x0bvertical",
    "non\u00a0breaking\u2009thin\u3000wide",
    "zero\u200bwidth and \ufeffmark",
    "Jürgen Müller, Straße, ŒUVRE, ÅNGSTRÖM",
    "JU\u0308RGEN decomposed",
    "İstanbul ıssız",
    "ΑΒΓ όσος ς",
    "Привет, МИР",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "こんにちは世界 カタカナ",
    "안녕하세요 세계",
    "😀 a face, 👩‍👩‍👧‍👦 a family, 🇫🇷 a flag, ❤️ a heart",
    "𝒻𝒶𝓃𝒸𝓎 ｗｉｄｅ ﬁ ligature",
    "“curly” ‘quotes’ – dashes — and…ellipsis",
    "schÃ¶n mojibake â€œquotedâ€\x9d",
    "&lt;b&gt;bold&lt;/b&gt; &quot;q&quot; &#39;s &#x1F600;",
    "&amp;lt;twice&amp;gt; &nbsp; &eacute;",
    "AT&T &notanentity; & &&",
    "<p>tags <br/> stay</p>",
    "http://example.com/a?b=c&d=e#f",
    "user@example.com #hashtag @name",
    "C++ / C# \\ ~ ` ^ | { } [ ]",
    "a_b-c d__e",
    "\x1b[31mred\x1b[0m and \x00 control \x7f",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "<|startoftext|>a cat<|endoftext|> and more",
    "<|EndOfText|> in capitals, <|other|> none",
    "ſ 'ſ long s, K kelvin, Å angstrom",
    "A child in a pink dress is climbing up a set of stairs in an entry way .",
    "two dogs of different breeds looking at each other on the road, "
    "a man and a woman, a boy and a girl, and a horse that jumps over a fence " * 3,
)
LENGTH = 77


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and writes the file."""
    parser = program.Parser(__doc__)
    parser.add_argument("--out", default="tests/goldens/tokens.json", help="the file")
    args = parser.read(argv)
    if not importlib.util.find_spec("open_clip"):
        raise UserError("open_clip is not installed here; in an environment of its own: pip install open_clip_torch")
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    cases = []
    for text in TEXTS:
        theirs = re.sub(r"<\|(start|end)oftext\|>", r"<\1_of_text>", text, flags=re.IGNORECASE)
        row = tokenizer([theirs], context_length=LENGTH)[0].tolist()
        words = tokenizer.encode(theirs)
        ids = row[: min(len(words) + 2, LENGTH)]
        cases.append({"text": text, "ids": ids, "tokens": len(words), "decoded": tokenizer.decode(words)})
    path = Path(args.out)
    path.write_text(json.dumps({"length": LENGTH, "cases": cases}, indent=1) + "\n")
    print(f"{path}: {len(cases)} texts, {path.stat().st_size} bytes")
    program.finish({"texts": len(cases)}, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
