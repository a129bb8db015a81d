"""Writes tests/goldens/models.npz: what the networks of torchvision, timm and transformers make of drawn weights.

Weights and images are drawn from a seed by tools/golden_cases/weights.py, on this side and in the tests, so only
outputs, losses, and two numbers for each gradient and each running statistic are stored. The networks compute in
float64. The cases stand in tools/golden_cases/models.py. With --check nothing is written: what is stored is made
again and compared, and the exit code is 1 where it differs.

PyTorch is no dependency of the project. In an environment of its own:
pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31 transformers==5.24.0
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vision import program
from vision.errors import TrainingFailed, UserError

INSTALL = "pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31 transformers==5.24.0"
TOLERANCE = 1e-6  # of float64 networks stored in float32


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, and writes or checks the file."""
    parser = program.Parser(__doc__)
    parser.add_argument("--out", default="tests/goldens", help="folder of the file (default: tests/goldens)")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    args = parser.read(argv)
    if not all(importlib.util.find_spec(name) for name in ("torch", "torchvision", "timm", "transformers")):
        raise UserError(f"torch and its libraries are not installed here; in an environment of its own: {INSTALL}")
    import numpy as np

    from tools.golden_cases.torch_run import goldens

    path = Path(args.out) / "models.npz"
    made: Any = goldens(note=lambda text: print(text, file=sys.stderr))
    if args.check:
        if not path.is_file():
            raise UserError(f"{path} is not there; without --check it is written")
        with np.load(path) as stored:
            different = differences(dict(stored), made)
        print("\n".join(different) if different else f"{path}: all {len(made)} arrays are made again the same")
        program.finish({"arrays": len(made), "different": different}, as_json=args.json)
        if different:
            raise TrainingFailed(f"{path}: {len(different)} of {len(made)} arrays differ from what is made here")
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **made)
    print(f"{path}: {len(made)} arrays, {path.stat().st_size} bytes")
    program.finish({"arrays": {str(path): len(made)}}, as_json=args.json)
    return 0


def differences(stored: dict[str, Any], made: dict[str, Any]) -> list[str]:
    """Says which arrays are only on one side or differ; versions may."""
    import numpy as np

    lines = [f"{name}: only {'stored' if name in stored else 'made'}" for name in sorted(stored.keys() ^ made.keys())]
    for name in sorted((stored.keys() & made.keys()) - {"versions"}):
        there, here = stored[name], made[name]
        if there.shape != here.shape or there.dtype != here.dtype:
            lines.append(f"{name}: {there.dtype}{there.shape} stored, {here.dtype}{here.shape} made")
        elif there.dtype.kind != "f":
            lines += [] if np.array_equal(there, here) else [f"{name}: other entries"]
        elif (error := np.abs(there - here).max()) > TOLERANCE * max(np.abs(there).max(), 1e-30):
            lines.append(f"{name}: off by {error:.1e}, of numbers up to {np.abs(there).max():.1e}")
    return lines


if __name__ == "__main__":
    program.run(main)
