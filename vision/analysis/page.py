"""A self-contained page: escaped text, tables, the style for light, dark and narrow screens, written whole."""

import html
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vision.errors import UserError

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --box: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e3e7ec; --soft: #9aa5b1; --line: #343b44; --box: #1d2228; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0.5rem 0 0; font-size: 1.6rem; }
h2 { margin: 2rem 0 0.5rem; font-size: 1.2rem; border-bottom: 1px solid var(--line); }
p { margin: 0.5rem 0; }
.soft, figcaption, .note { color: var(--soft); }
.state { display: inline-block; padding: 0 0.6rem; border: 1px solid; border-radius: 1rem; font-weight: 600; }
.complete { color: #2f9e44; } .under { color: #1c7ed6; } .stopped { color: #e8590c; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.8rem 0.2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: normal; color: var(--soft); }
.numbers td { min-width: 5.5rem; max-width: 20rem; overflow-wrap: break-word; }
.numbers th { min-width: 5.5rem; overflow-wrap: normal; }
.numbers tbody th { min-width: 8rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1.2rem 2rem; }
figure { margin: 0; min-width: 0; }
figcaption b { color: var(--ink); }
figcaption span { white-space: nowrap; margin-left: 0.8rem; }
figcaption i { display: inline-block; width: 1.1rem; height: 0; margin-right: 0.3rem; vertical-align: middle;
  border-top: 3px solid; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: system-ui, sans-serif !important; }
.note { font-size: 0.9rem; }
.confusion table { border-collapse: separate; border-spacing: 1px; font-size: 0.8rem; line-height: 1; }
.confusion th, .confusion td { padding: 0; border: 0; white-space: nowrap; overflow-wrap: normal;
  color: inherit; font-weight: normal; }
.confusion tbody th { padding-right: 0.4rem; text-align: right; vertical-align: middle; }
.confusion thead th { padding-bottom: 0.3rem; text-align: center; }
.confusion .long thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left;
  padding: 0.3rem 0 0; }
.confusion td { width: 1.75rem; min-width: 1.75rem; height: 1.75rem; text-align: center; vertical-align: middle;
  background: var(--box); }
.confusion thead td { background: none; }
.confusion .many { font-size: 0.6rem; }
.confusion .many td { width: 0.75rem; min-width: 0.75rem; height: 0.75rem; }
pre { margin: 0.2rem 0 0.8rem; padding: 0.5rem 0.7rem; background: var(--box); border-radius: 0.4rem;
  white-space: pre; overflow-x: auto; font: 0.9rem/1.4 ui-monospace, monospace; user-select: all; }
summary { cursor: pointer; }
"""


def escape(value: Any) -> str:
    """Returns a value as text that can stand anywhere in a page, also between the quotes of an attribute."""
    return html.escape(readable(value), quote=True)


def readable(value: Any) -> str:
    """Returns a value of a config as one printable line: plain strings as they are, everything else as JSON."""
    if isinstance(value, str) and value.isprintable() and value.strip():
        return value
    return json.dumps(value, ensure_ascii=not json.dumps(value, ensure_ascii=False).isprintable())


def number(value: float) -> str:
    """Returns a metric with four significant digits, large ones in full, such as ``0.9823``, ``51,234``, ``3e-06``."""
    if math.isfinite(value) and 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], *, kind: str = "") -> str:
    """Returns a table that scrolls by itself where the screen is narrow; the first cell of a row names it."""
    body = "".join(
        f"<tr><th scope='row'>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>\n"
        for row in rows
    )
    top = "".join(f"<th scope='col'>{escape(cell) if cell else ''}</th>" for cell in head)
    opening = f"<thead><tr>{top}</tr></thead>" if head else ""
    return f"<div class='wide'><table class='{kind}'>{opening}<tbody>{body}</tbody></table></div>\n"


def section(title: str, body: str) -> str:
    """Returns a section with a heading; ``body`` is HTML already."""
    return f"<section><h2>{escape(title)}</h2>\n{body}</section>\n"


def folded(title: str, body: str) -> str:
    """Returns a section that opens on a click; ``body`` is HTML already."""
    return f"<details><summary>{escape(title)}</summary>\n{body}</details>\n"


def document(title: str, body: str) -> str:
    """Returns a whole page that needs nothing from outside; ``body`` is HTML already."""
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )


def save(path: Path, text: str) -> Path:
    """Writes a page whole or not at all, and returns its path.

    Raises:
      UserError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path
