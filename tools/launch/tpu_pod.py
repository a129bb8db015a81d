"""Starts a command on all hosts of a Cloud TPU pod slice over gcloud's ssh, and again after exit code 75 or a kill.

The code must be on the hosts, in --directory; the run's folder must be one that all of them see, such as a mounted
bucket. The processes find each other by the TPU's metadata. Without --submit the gcloud command is printed.
"""

import subprocess
from collections.abc import Sequence

from tools.launch.command import Launch, add_submit, check_at_least, check_name, check_variables, quoted, read
from vision import program
from vision.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, prints the command, or runs it."""
    parser = program.Parser(__doc__)
    parser.add_argument("--name", required=True, help="of the TPU")
    parser.add_argument("--zone", required=True, help="where it is, such as us-central1-a")
    parser.add_argument("--project", help="of the account (default: gcloud's own)")
    parser.add_argument("--directory", default="vision", help="where the code is on the hosts (default: vision)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a variable of the command")
    parser.add_argument("--max_restarts", type=int, default=100, help="how often to start it again (default: 100)")
    add_submit(parser, "run it, and wait for its end")
    launch = read(parser, argv)
    command = gcloud(launch)
    code = 0
    if launch.options.submit:
        try:
            code = subprocess.run(command, check=False).returncode
        except FileNotFoundError as error:
            raise UserError("there is no gcloud on this machine; run the printed command where there is") from error
    else:
        print(quoted(command))
    program.finish({"command": command, "exit_code": code}, as_json=launch.options.json)
    return code


def on_host(launch: Launch) -> str:
    """Returns what the shell of each host runs."""
    options = launch.options
    check_at_least(options.max_restarts, 0, "--max_restarts")
    variables = [f"{name}={value}" for name, value in check_variables(options.env).items()]
    started = quoted([*(["env", *variables] if variables else []), *launch.command])
    # A run that stops for 75 does so on all hosts, so that all of them start again. The process that was killed ends
    # with 137, and those that JAX ends after it, where that is quicker than they are themselves, with 134.
    return (
        f"cd {quoted([options.directory])} || exit 2; restarts=0; "
        f'while :; do {started}; code=$?; case "$code" in 75 | 134 | 137) ;; *) break ;; esac; '
        f'[ "$restarts" -lt {options.max_restarts} ] || break; '
        'restarts=$((restarts + 1)); sleep 5; done; exit "$code"'
    )


def gcloud(launch: Launch) -> list[str]:
    """Returns the words of the gcloud command."""
    options = launch.options
    command = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", check_name(options.name), f"--zone={options.zone}"]
    command += [f"--project={options.project}"] if options.project else []
    return [*command, "--worker=all", f"--command={on_host(launch)}"]


if __name__ == "__main__":
    program.run(main)
