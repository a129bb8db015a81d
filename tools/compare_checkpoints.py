"""Compares the checkpoints of two runs array by array. Exit code 0 if every bit is equal, 1 if not."""

from collections.abc import Sequence

from vision import program


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, compares, prints a table."""
    parser = program.Parser(__doc__)
    parser.add_argument("runs", nargs=2, metavar="RUN", help="folder of a run")
    parser.add_argument("--step", type=int, nargs="+", help="one step for both, or one each (default: the newest)")
    args = parser.read(argv)
    if args.step and len(args.step) > 2:
        parser.error("--step takes one or two numbers")
    steps = (args.step or [None]) * 2
    program.prepare_jax()
    from vision.training.compare import compare, table

    rows = compare(*args.runs, step_a=steps[0], step_b=steps[1])
    different = [row.path for row in rows if not row.equal]
    print(table(rows))
    print(f"{len(different)} of {len(rows)} arrays differ" if different else f"bitwise equal: {len(rows)} arrays")
    program.finish({"equal": not different, "arrays": len(rows), "different": different}, as_json=args.json)
    return 1 if different else 0


if __name__ == "__main__":
    program.run(main)
