"""Proves that a run reproduces: trains it twice, once killed and resumed, and compares every bit.

The first run goes straight through. The second is killed with SIGKILL after --interrupt steps and started again;
it goes on from its last finished checkpoint. Then parameters, extra state, optimizer state and logged metrics are
compared. Exit code 0 if all are equal bit for bit, 1 if not.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.config.loading import load
from vision.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, runs the trainings in processes of their own, compares."""
    parser = program.Parser(__doc__, config=True)
    parser.add_argument("--steps", type=int, required=True, help="length of the training")
    parser.add_argument("--interrupt", type=int, required=True, help="steps after which the second run is killed")
    parser.add_argument(
        "--perturb_seed", action="store_true", help="give the second run another seed, to see a failure"
    )
    parser.add_argument("--workdir", help="keep both runs here (default: a temporary folder, removed)")
    parser.add_argument("--child", choices=("straight", "killed", "resumed"), help="used by the program itself")
    args = parser.read(argv)
    if not 2 <= args.interrupt < args.steps:
        raise UserError(f"--interrupt: must be in [2, --steps), got {args.interrupt} with --steps {args.steps}")
    if args.child:
        _train(args)
        return 0
    workdir = Path(args.workdir or tempfile.mkdtemp(prefix="reproduce-"))
    try:
        for name in ("straight", "interrupted"):
            if (workdir / name).exists():
                raise UserError(f"--workdir {workdir} holds a run already; choose an empty folder")
        return _compare(args, workdir, list(sys.argv[1:] if argv is None else argv))
    finally:
        if not args.workdir:
            shutil.rmtree(workdir, ignore_errors=True)


def _compare(args, workdir: Path, arguments: list[str]) -> int:
    straight, interrupted = workdir / "straight", workdir / "interrupted"
    _run_child(arguments, straight, "straight", 0)
    _run_child(arguments, interrupted, "killed", -signal.SIGKILL)
    saved = sorted(int(path.name) for path in (interrupted / "checkpoints").glob("*") if path.name.isdigit())
    if not saved:
        raise UserError("the killed run left no checkpoint, so nothing would be proved; choose a later --interrupt")
    print(f"killed after step {args.interrupt}; goes on from step {saved[-1]}", file=sys.stderr)
    _run_child(arguments, interrupted, "resumed", 0)
    program.prepare_jax()
    from vision.training.compare import compare, compare_metrics, table

    rows, metrics = compare(straight, interrupted), compare_metrics(straight, interrupted)
    print(table(rows))
    print(f"logged metrics: {'equal' if not metrics else f'{len(metrics)} differences, the first at {metrics[0]}'}")
    different = [row.path for row in rows if not row.equal]
    if different:
        print(f"not reproduced: {len(different)} of {len(rows)} arrays differ, the first is {different[0]}")
    elif metrics:
        print("not reproduced: the arrays are equal, the logged metrics differ")
    else:
        print(f"bitwise equal: {len(rows)} arrays and the metrics of {args.steps} steps")
    result = {"equal": not different and not metrics, "arrays": len(rows), "different": different, "metrics": metrics}
    program.finish({**result, "resumed_from": saved[-1]}, as_json=args.json)
    return 0 if result["equal"] else 1


def _run_child(arguments: list[str], workdir: Path, role: str, expected: int) -> None:
    command = [sys.executable, "-m", "experiments.reproduce", *arguments, "--workdir", str(workdir), "--child", role]
    done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    if done.returncode != expected:
        sys.stderr.write(done.stderr)
        if done.returncode == 2:
            raise UserError(f"the {role} run could not be made")
        raise UserError(f"the {role} run ended with exit code {done.returncode}, not {expected}")


def _train(args) -> None:
    config = load(args.config, args.overrides)
    config["duration"] = {"steps": args.steps}
    # Two saves before the kill, so that one is finished; the next may be under way.
    config["checkpoint"] = {**config.get("checkpoint", {}), "every": {"steps": args.interrupt // 2}}
    if args.perturb_seed and args.child != "straight":
        config["seed"] = config.get("seed", 0) + 1
    program.prepare_jax()
    from vision.training.loop import train

    kill = {args.interrupt: lambda: os.kill(os.getpid(), signal.SIGKILL)} if args.child == "killed" else {}
    train(config, args.workdir, at_step=kill)


if __name__ == "__main__":
    program.run(main)
