"""Trains the experiment of a config file, or resumes it; a config with an estimator is fitted at once.

The run's folder is --workdir, by default runs/<name of the config>. Running the same command again resumes the
run, or says that it is complete. Over several processes, start the same command once for each, with a folder that
all of them see: SLURM's srun, Open MPI's mpirun and Cloud TPUs tell each process of the others, elsewhere three
options do (tools/launch writes such commands). A signal saves and ends it with exit code 130 or 143; --max_time and
a scheduler's warning (SIGUSR1, SIGUSR2) save and end it with 75, which asks to be started again.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.config.loading import load


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains."""
    parser = program.Parser(__doc__, config=True)
    parser.add_argument("--workdir", help="folder of the run (default: runs/<name of the config>)")
    parser.add_argument("--max_time", type=float, metavar="MINUTES", help="save and stop before so much time is over")
    parser.add_argument(
        "--distributed",
        default="auto",
        metavar="WAY",
        help="who tells of the other processes: auto, off, slurm, openmpi or tpu (default: auto, what there is)",
    )
    parser.add_argument("--coordinator_address", help="host:port of process 0, where nobody else tells of it")
    parser.add_argument("--num_processes", type=int, help="how many there are (default: 1)")
    parser.add_argument("--process_id", type=int, help="which of them this is, from 0")
    parser.add_argument("--join_timeout", type=float, default=300, metavar="SECONDS", help="for the others (300)")
    parser.add_argument("--profile", metavar="A:B", help="trace from when A steps are done until B are, into profile/")
    args = parser.read(argv)
    began = time.monotonic()
    if args.max_time is not None and not args.max_time > 0:
        parser.error(f"--max_time: must be more than 0 minutes, got {args.max_time:g}")
    if not args.join_timeout >= 1:
        parser.error(f"--join_timeout: must be at least 1 second, got {args.join_timeout:g}")
    config = load(args.config, args.overrides)
    workdir = Path(args.workdir or Path("runs") / Path(args.config.partition(":")[0]).stem)
    program.prepare_jax()
    if "estimator" in config and args.profile is not None:
        parser.error("--profile: an estimator is fitted at once, it has no steps")
    if "estimator" in config:
        from vision.training.fit import fit

        program.finish(fit(config, workdir), as_json=args.json)
        return 0
    from vision.training.interrupt import heed_warnings
    from vision.training.loop import train
    from vision.training.processes import join
    from vision.training.profile import window
    from vision.training.stopping import TimeBudget

    profile = None if args.profile is None else window(args.profile)
    heed_warnings()
    options = {"distributed": args.distributed, "timeout": int(args.join_timeout)}
    join(args.coordinator_address, args.num_processes, args.process_id, **options)
    left = None if args.max_time is None else 60 * args.max_time - (time.monotonic() - began)
    program.finish(train(config, workdir, budget=TimeBudget(left), profile=profile), as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
