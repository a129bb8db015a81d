"""Starts a command in several processes of this machine, each with the options that tell it of the others.

A program runs so as it will over several hosts, with devices of a CPU if need be. Signals go to all the processes.
The exit code is that of the first process that failed by itself, or 75 where they only ask to be started again;
with --restarts they are. --dry_run prints the commands.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from tools.launch.command import Launch, check_at_least, quoted, read
from vision import program

REQUEUE = 75
_GRACE = 30.0  # seconds that the others have, once one failed


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, starts the processes and waits for them."""
    parser = program.Parser(__doc__)
    parser.add_argument("--processes", type=int, default=2, help="how many (default: 2)")
    parser.add_argument("--devices", type=int, metavar="N", help="run on the CPU, as N devices in each process")
    parser.add_argument("--port", type=int, help="of process 0 (default: a free one)")
    parser.add_argument("--restarts", type=int, default=0, help="how often to start again after exit code 75 (0)")
    parser.add_argument("--dry_run", action="store_true", help="print the commands and start nothing")
    launch = read(parser, argv)
    options = launch.options
    check_at_least(options.processes, 1, "--processes")
    if options.dry_run:
        print("\n".join(f"{line} &" for line in _lines(launch, options.port or 61000)) + "\nwait")
        return 0
    for attempt in range(options.restarts + 1):
        code = _run(launch, options.port or _free_port())
        if code != REQUEUE or attempt == options.restarts:
            break
        print(f"exit code {code}: started again, {attempt + 1} of {options.restarts} times", file=sys.stderr)
    program.finish({"exit_code": code}, as_json=options.json)
    return code


def _commands(launch: Launch, port: int) -> list[list[str]]:
    count = launch.options.processes
    together = ["--coordinator_address", f"127.0.0.1:{port}", "--num_processes", str(count), "--process_id"]
    return [[*launch.command, *(together if count > 1 else []), *([str(n)] if count > 1 else [])] for n in range(count)]


def _environment(launch: Launch) -> dict[str, str]:
    devices = launch.options.devices
    if devices is None:
        return {}
    check_at_least(devices, 1, "--devices")
    flags = os.environ.get("XLA_FLAGS", "").split()
    kept = [flag for flag in flags if not flag.startswith("--xla_force_host_platform_device_count")]
    return {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join([*kept, f"--xla_force_host_platform_device_count={devices}"]),
    }


def _lines(launch: Launch, port: int) -> list[str]:
    words = [f"{name}={value}" for name, value in _environment(launch).items()]
    return [quoted([*(["env", *words] if words else []), *command]) for command in _commands(launch, port)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(launch: Launch, port: int) -> int:
    environment = {**os.environ, **_environment(launch)}
    # Sessions of their own: a Ctrl-C reaches each once, from here.
    children = [
        subprocess.Popen(command, env=environment, start_new_session=True) for command in _commands(launch, port)
    ]

    def hand_on(number: int, _: object) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        return _wait(children)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for child in children:
            if child.poll() is None:
                child.kill()


def _wait(children: Sequence["subprocess.Popen[bytes]"]) -> int:
    """Waits until all have ended, or long enough after the first that failed; returns the code that says most."""
    end = float("inf")
    codes: list[int] = []  # in the order in which they ended
    waiting = list(children)
    while waiting and time.monotonic() < end:
        for child in [child for child in waiting if child.poll() is not None]:
            waiting.remove(child)
            codes.append(child.returncode if child.returncode >= 0 else 128 - child.returncode)
            if codes[-1] and end == float("inf"):
                end = time.monotonic() + _GRACE
        time.sleep(0.05)
    failed = [code for code in codes if code not in (0, REQUEUE)]
    return failed[0] if failed else max(codes, default=1)


if __name__ == "__main__":
    program.run(main)
