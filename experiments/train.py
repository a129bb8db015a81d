"""Trains the experiment of a config file, or resumes it; a config with an estimator is fitted at once.

The run's folder is --workdir, by default runs/<name of the config>. Running the same command again resumes the
run, or says that it is complete. Over several processes, start the same command once for each, with the three
options of jax.distributed and a folder that all of them see.
"""

from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.config.loading import load


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains."""
    parser = program.Parser(__doc__, config=True)
    parser.add_argument("--workdir", help="folder of the run (default: runs/<name of the config>)")
    parser.add_argument("--coordinator_address", help="host:port of process 0, for a run of several processes")
    parser.add_argument("--num_processes", type=int, default=1, help="how many there are (default: 1)")
    parser.add_argument("--process_id", type=int, default=0, help="which of them this is, from 0")
    args = parser.read(argv)
    config = load(args.config, args.overrides)
    workdir = Path(args.workdir or Path("runs") / Path(args.config.partition(":")[0]).stem)
    program.prepare_jax()
    if "estimator" in config:
        from vision.training.fit import fit

        program.finish(fit(config, workdir), as_json=args.json)
        return 0
    from vision.training.loop import train
    from vision.training.processes import join

    join(args.coordinator_address, args.num_processes, args.process_id)
    program.finish(train(config, workdir), as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
