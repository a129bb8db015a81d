"""Trains the experiment of a config file, or resumes it.

The run's folder is --workdir, by default runs/<name of the config>. Running the same command again resumes the
run, or says that it is complete.
"""

from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.config.loading import load


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains."""
    parser = program.Parser(__doc__, config=True)
    parser.add_argument("--workdir", help="folder of the run (default: runs/<name of the config>)")
    args = parser.read(argv)
    config = load(args.config, args.overrides)
    workdir = Path(args.workdir or Path("runs") / Path(args.config.partition(":")[0]).stem)
    program.prepare_jax()
    from vision.training.loop import train

    program.finish(train(config, workdir), as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
