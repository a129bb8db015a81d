"""What ``experiments.train`` does, up to the end of its first dispatch; tells how long after its launch that was.

Command: python -m tools.benchmarks.first_step TIME_OF_LAUNCH --config FILE --workdir DIR
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.config.loading import load


def main(argv: Sequence[str] | None = None) -> int:
    """Trains until the first dispatch has been computed, and prints the seconds since the launch."""
    parser = program.Parser(__doc__, config=True)
    parser.add_argument("launched", type=float, help="time.time() of the parent when it launched this process")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    args = parser.read(argv)
    config = load(args.config, args.overrides)
    program.prepare_jax()
    from vision.training.loop import train

    imported = time.time() - args.launched

    def report() -> None:
        import jax

        jax.block_until_ready(jax.live_arrays())
        print(json.dumps({"imported": imported, "first_step": time.time() - args.launched}), flush=True)
        sys.exit(0)

    # A hook at step 1 would make the first dispatch a single step, which is not the program that the run compiles.
    train(config, args.workdir, at_step={config.get("steps_per_dispatch", 1): report})
    return 1


if __name__ == "__main__":
    program.run(main)
