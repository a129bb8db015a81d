"""How the cost of a step grows: with the batch, tokens, classes, parameters and devices; of memory; of searches.

Each axis is a row of sizes, of which a time is measured (the least of several, on one device) or a count is read off
the compiled program. The exponent is the slope of a straight line through the logarithms of the last three points;
beside it stands what theory says at the same sizes. Writes a page with a picture and a table for each axis.

  python -m tools.growth --out runs/growth.html
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.benchmarks.growth_axes import AXES, Axis
from vision import program
from vision.errors import UserError, did_you_mean

DEVICES = 8


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, measures, prints a table and writes the page."""
    parser = program.Parser(__doc__)
    parser.add_argument("--only", nargs="+", metavar="AXIS", help=f"of {', '.join(AXES)} (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="of every time (default: 5)")
    parser.add_argument("--quick", action="store_true", help="three sizes an axis, once; the times say nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/growth.html"), help="page (default: runs/growth.html)")
    args = parser.read(argv)
    for name in args.only or ():
        if name not in AXES:
            raise UserError(f"--only {name}: no such axis{did_you_mean(name, AXES)}; known: {', '.join(AXES)}")
    if args.repeats < 1:
        raise UserError(f"--repeats must be at least 1, got {args.repeats}")
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={DEVICES}".strip()
    program.prepare_jax()
    from vision.analysis import page

    axes = []
    for name in args.only or AXES:
        print(f"growth: {name}", file=sys.stderr, flush=True)
        axes.append(AXES[name](1 if args.quick else args.repeats, args.quick))
    for axis in axes:
        print("\n".join(table(axis)))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    page.save(args.out, render(axes))
    print(f"{args.out}: {len(axes)} pictures")
    rows = [
        {"axis": axis.name, "line": label, "sizes": sizes, "values": values, "exponent": axis.exponents()[label]}
        | {"theory": axis.theory[0], "what": axis.what}
        for axis in axes
        for label, (sizes, values) in axis.lines.items()
    ]
    program.finish({"page": str(args.out), "rows": rows}, as_json=args.json)
    return 0


def table(axis: Axis) -> list[str]:
    """Returns the lines of an axis as text: its quantity, its sizes, and a line of values each with its exponent."""
    sizes = next(iter(axis.lines.values()))[0]
    head = "".join(f"{size:>11,.0f}" for size in sizes)
    rows = [
        f"  {label:<36}" + "".join(f"{value:>11.4g}" for value in values) + f"{axis.exponents()[label]:>10.2f}"
        for label, (_, values) in axis.lines.items()
    ]
    return [f"{axis.what}; theory {axis.theory[0]:.2f}", f"  {axis.size:<36}{head}  exponent", *rows]


def render(axes: Sequence[Axis]) -> str:
    """Returns the page."""
    from vision.analysis import charts, page

    parts = ["<h1>How the cost grows</h1>\n"]
    for axis in axes:
        lines = [charts.Line(label, *points, place=place) for place, (label, points) in enumerate(axis.lines.items())]
        picture = charts.chart(axis.what, lines, x=axis.size, identifier=axis.name, log_x=True, log_y=True)
        sizes = next(iter(axis.lines.values()))[0]
        head = [axis.size, *[f"{size:,g}" for size in sizes], "exponent", "theory"]
        found = axis.exponents()
        rows = [
            [label, *[f"{value:,.4g}" for value in values], f"{found[label]:.2f}", f"{axis.theory[0]:.2f}"]
            for label, (_, values) in axis.lines.items()
        ]
        parts += [f"<h2>{page.escape(axis.size)}</h2>\n<p>{page.escape(axis.theory[1])}</p>\n", picture]
        parts.append(charts.numbers(head, rows))
    return page.document("How the cost grows", "".join(parts))


if __name__ == "__main__":
    program.run(main)
