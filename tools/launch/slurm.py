"""Writes a batch script for SLURM that starts a command in one task for each host or GPU, and submits it if asked to.

The tasks find each other by what SLURM tells them. Some time before the time limit, and where the machine is wanted
back, the job is warned; the command saves and ends with exit code 75, upon which the script requeues the job, and the
same command goes on. A host that fails requeues the job too. Without --submit the script is printed, or written.
"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.launch.command import Launch, add_submit, check_at_least, check_name, quoted, read
from vision import program
from vision.errors import UserError

_SCRIPT = """\
#!/bin/bash
{directives}

# The batch shell is warned by USR1 and hands it on; exit code 75 asks to be started again.
set -u
cd {directory} || exit 2
{setup}warned=
trap 'warned=1; kill -USR1 "$step" 2>/dev/null' USR1
trap 'warned=1; kill -TERM "$step" 2>/dev/null' TERM
srun --kill-on-bad-exit=0 {command} &
step=$!
wait "$step"
code=$?
while [ -n "$warned" ]; do # a trap ends wait early
    warned=
    wait "$step"
    again=$?
    [ "$again" -eq 127 ] || code=$again
done
restarts=${{SLURM_RESTART_COUNT:-0}}
if [ "$code" -eq 75 ] && [ "$restarts" -lt {restarts} ]; then
    echo "exit code 75: requeued, $((restarts + 1)) of {restarts} times" >&2
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, writes the script, and submits it if asked to."""
    parser = program.Parser(__doc__)
    parser.add_argument("--name", default="vision", help="of the job (default: vision)")
    parser.add_argument("--nodes", type=int, default=1, help="hosts (default: 1)")
    parser.add_argument(
        "--tasks_per_node", type=int, default=1, help="processes on each (default: 1, with all its GPUs)"
    )
    parser.add_argument("--gpus_per_node", type=int, default=0, help="GPUs of each host (default: 0)")
    parser.add_argument("--cpus_per_task", type=int, default=8, help="cores of each process (default: 8)")
    parser.add_argument("--time", default="04:00:00", help="the time limit, as SLURM writes it (default: 04:00:00)")
    parser.add_argument("--warn", type=int, default=120, help="seconds before its end to be warned (default: 120)")
    parser.add_argument("--max_restarts", type=int, default=100, help="how often it is requeued (default: 100)")
    parser.add_argument("--directory", default=".", help="where the command runs, on all hosts (default: this one)")
    parser.add_argument("--setup", action="append", default=[], metavar="LINE", help="of the shell, before it")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION", help="another, as --sbatch=--qos=x")
    parser.add_argument("--out", type=Path, help="where to write the script (default: printed)")
    add_submit(parser, "submit it with sbatch")
    launch = read(parser, argv)
    text = script(launch)
    if launch.options.out:
        launch.options.out.write_text(text)
    elif not launch.options.submit:
        print(text, end="")
    if launch.options.submit:
        _submit(text)
    program.finish({"script": text}, as_json=launch.options.json)
    return 0


def script(launch: Launch) -> str:
    """Returns the batch script."""
    options = launch.options
    for flag in ("nodes", "tasks_per_node", "cpus_per_task", "warn"):
        check_at_least(getattr(options, flag), 1, f"--{flag}")
    minutes = limit_minutes(options.time)
    if 60 * minutes <= 2 * options.warn:
        raise UserError(f"--time: {options.time} must be more than twice --warn, {options.warn} s")
    directives = [
        f"--job-name={check_name(options.name)}",
        f"--nodes={options.nodes}",
        f"--ntasks-per-node={options.tasks_per_node}",
        f"--cpus-per-task={options.cpus_per_task}",
        *([f"--gpus-per-node={options.gpus_per_node}"] if options.gpus_per_node else []),
        f"--time={options.time}",
        f"--signal=B:USR1@{options.warn}",
        "--requeue",
        "--open-mode=append",
        f"--output={options.name}-%j.log",
        *options.sbatch,
    ]
    for each in directives:
        if not re.fullmatch(r"--?[a-zA-Z][\w-]*([= ]\S+)?", each):
            raise UserError(f"--sbatch: must be an option of sbatch without spaces, got {each!r}")
    # The warning is for what the program's own estimate of the time did not foresee.
    command = launch.with_max_time(round(minutes - options.warn / 60, 2))
    return _SCRIPT.format(
        directives="\n".join(f"#SBATCH {each}" for each in directives),
        directory=quoted([str(Path(options.directory).resolve())]),
        setup="".join(f"{line}\n" for line in options.setup),
        command=quoted(command),
        restarts=options.max_restarts,
    )


def limit_minutes(text: str) -> float:
    """Returns the minutes of a time limit: minutes, minutes:seconds, h:m:s, days-h, days-h:m or days-h:m:s.

    Raises:
      UserError: it is none of these.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if found is None:
        raise UserError(f"--time: must be minutes, hours:minutes:seconds or days-hours:minutes:seconds, got {text!r}")
    days, first, second, third = found.groups()
    if days is None and third is None:
        return int(first) + int(second or 0) / 60
    return int(days or 0) * 1440 + int(first) * 60 + int(second or 0) + int(third or 0) / 60


def _submit(text: str) -> None:
    try:
        done = subprocess.run(["sbatch"], input=text, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError(
            "there is no sbatch on this machine; write the script with --out and submit it there"
        ) from error
    if done.returncode:
        raise UserError(f"sbatch ended with exit code {done.returncode}; its message is above")


if __name__ == "__main__":
    program.run(main)
