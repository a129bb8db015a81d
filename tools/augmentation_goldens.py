"""Writes tests/goldens/augment_*.npz: what torchvision and Pillow make of a few small images.

Images are drawn from a seed and stored beside what becomes of them; the cases stand in tools/golden_cases.

PyTorch is no dependency of the project. In an environment of its own:
pip install torch==2.14.1 torchvision==0.29.1
"""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.errors import UserError

INSTALL = "pip install torch==2.14.1 torchvision==0.29.1"
KINDS = ("photometric", "geometric")


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and writes the files."""
    parser = program.Parser(__doc__)
    parser.add_argument("--out", default="tests/goldens", help="folder of the files (default: tests/goldens)")
    parser.add_argument("--only", choices=KINDS, help="write one of the files")
    args = parser.read(argv)
    if not all(importlib.util.find_spec(name) for name in ("torch", "torchvision")):
        raise UserError(f"torch and torchvision are not installed here; in an environment of its own: {INSTALL}")
    import numpy as np

    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for kind in (args.only,) if args.only else KINDS:
        cases = importlib.import_module(f"tools.golden_cases.{kind}").cases()
        path = folder / f"augment_{kind}.npz"
        np.savez_compressed(path, **cases)
        written[str(path)] = len(cases)
        print(f"{path}: {len(cases)} arrays, {path.stat().st_size} bytes")
    program.finish({"arrays": written}, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
