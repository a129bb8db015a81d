"""Pages in a real browser: headless Chromium without a network, where there is one."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# The page stands in a frame as wide as a screen: a window of Chromium is never narrower than 500 pixels.
_FRAME = """<!DOCTYPE html><html><body style="margin:0"><iframe id="page" style="border:0;width:{width}px;height:2000px"
srcdoc="{page}"></iframe><script>
addEventListener("load", () => {{
  const inside = document.getElementById("page").contentDocument, whole = inside.documentElement;
  const wide = [...inside.querySelectorAll("body *")].filter(e => !e.closest(".wide, pre, details:not([open]), svg") &&
    e.getBoundingClientRect().right > {width} + 1).map(e => e.tagName + ": " + e.textContent.slice(0, 40));
  const broken = [...inside.images].filter(e => e.complete && !e.naturalWidth).length;
  document.title = JSON.stringify({{
    scroll: whole.scrollWidth, text: inside.body.innerText.length, images: inside.images.length, broken, wide
  }});
}});
</script></body></html>"""


class Seen(NamedTuple):
    """What a browser made of a page.

    Attributes:
      console: lines that were written to the console.
      scroll_width: of the document, in pixels; more than the width where the whole page scrolls sideways.
      wide: elements that reach beyond the width, other than those that scroll by themselves.
      text: length of the visible text.
      images: how many there are.
      broken: how many of them have no pixels.
    """

    console: list[str]
    scroll_width: int
    wide: list[str]
    text: int
    images: int
    broken: int


def look(page: Path, folder: Path, *, width: int) -> Seen:
    """Opens a page in a frame of some width."""
    browser = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    framed = folder / f"frame{width}.html"
    framed.write_text(_FRAME.format(width=width, page=html.escape(page.read_text(), quote=True)))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    flags += [f"--window-size={max(width, 500)},2000", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    flags += [f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run([browser, *flags, framed.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, f"the frame's script did not run\n{done.stderr[-2000:]}"
    found = json.loads(html.unescape(title.group(1)))
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Seen(console, found["scroll"], found["wide"], found["text"], found["images"], found["broken"])


def check_page(page: Path, folder: Path) -> None:
    """Asserts that a page opens without a network or a console error, and fits a desktop's and a phone's screen."""
    text = page.read_text()
    outside = re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:|#)[^"'\s>]+|url\((?!#|["']?data:)[^)]*\)|@import""", text)
    assert not outside, f"{page} needs something from outside: {outside[:3]}"
    for width in (1280, 390):
        seen = look(page, folder, width=width)
        assert not seen.console, seen.console
        assert seen.scroll_width <= width, f"{width} pixels wide, the page {seen.scroll_width}: {seen.wide[:5]}"
        assert not seen.wide, f"beyond {width} pixels: {seen.wide[:5]}"
        assert seen.text > 200
        assert not seen.broken, f"{seen.broken} of {seen.images} images are broken"
