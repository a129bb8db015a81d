"""Writes the report of each run anew; with several runs also a page and a table with the runs side by side.

Each run's page is report.html in its own folder; it opens offline. Where the pages are goes to standard error, the
table to standard output.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vision import program
from vision.analysis.runs import Run, read
from vision.errors import UserError

_WIDEST = 40  # characters of a column


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and writes the pages."""
    parser = program.Parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, such as runs/quickstart")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="page with several runs side by side (default: comparison.html here)"
    )
    args = parser.read(argv)
    several = len(args.runs) > 1
    if args.out and not several:
        raise UserError("--out is the page that compares several runs; name at least two, or leave --out away")

    from vision.analysis import page, report

    # All are read before anything is written: a mistyped folder leaves nothing half done.
    runs = [read(path) for path in args.runs]
    result: dict[str, Any] = {"runs": [_of(run) for run in runs]}
    pages = [(run.workdir / "report.html", report.render(run)) for run in runs]
    if several:
        out = args.out or Path("comparison.html")
        pages.append((out, report.render_comparison(runs)))
        result["comparison"] = str(out)
    for path, text in pages:
        print(page.save(path, text), file=sys.stderr)
    if several:
        print(_as_text(report.side_by_side(runs)))
    program.finish(result, as_json=args.json)
    return 0


def _of(run: Run) -> dict[str, Any]:
    """Returns what ``--json`` says of a run; a value that is not finite becomes null, as JSON has no other word."""
    metrics = {name: each.value if math.isfinite(each.value) else None for name, each in sorted(run.final().items())}
    place = {"workdir": str(run.workdir), "report": str(run.workdir / "report.html")}
    return {**place, "state": run.state, "step": run.step, "steps": run.steps, "metrics": metrics}


def _as_text(table: list[list[str]]) -> str:
    """Returns the table with aligned columns; a cell too long for a terminal is cut, the page has it whole."""
    table = [[cell if len(cell) <= _WIDEST else f"{cell[: _WIDEST - 1]}…" for cell in row] for row in table]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


if __name__ == "__main__":
    program.run(main)
