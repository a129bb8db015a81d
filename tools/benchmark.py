"""Measures the house against its aims: the start, what the loop adds to a step, what a save costs, how fast data come.

start       import times, and the time from launching the quickstart to the end of its first dispatch, in fresh
            processes, with an empty and with a filled compilation cache
loop        time per step inside training against the bare compiled step, with 1 and 100 steps a dispatch
checkpoint  how long a save holds training up, its time to disk, its size, the time of a restore
data        images per second from JPEG files, of small images and of views on the device, their share of a train
            step, and whether reading ahead hides them; side by side with torch's DataLoader and with tf.data, where
            an interpreter that has them is there
models      predictions and train steps of networks of every kind on small images, beside PyTorch's of the same networks
            on the same cores; on an accelerator, train steps of networks of ImageNet in bfloat16
knn         searches of nearest neighbours a second, beside scikit-learn's brute force on the same cores
distill     steps of self-distillation (DINO), with and without the making of its views, beside PyTorch's of the same
            networks; on an accelerator at the published size in bfloat16, with its memory and utilisation
contrast    the loss of CLIP and of SigLIP over a batch with its gradients, whole and in chunks: time and memory,
            beside open_clip's in PyTorch; and a train step of CLIP, on an accelerator with ViT-B/16 in bfloat16
freeze      a train step with the first half of a network frozen, against the whole
attention   attention with its gradients in the forms that the device has: the house's, JAX's by XLA, by cuDNN

The table goes to standard output, progress to standard error, and everything with the machine, the versions and
each single repeat to --out. What is written while measuring goes to a temporary folder (TMPDIR chooses where) that
is removed. A missed aim is marked in the table; the exit code is 0 all the same, as times depend on the machine.
"""

import importlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vision import program
from vision.errors import UserError

SUITES = ("start", "loop", "checkpoint", "data", "models", "knn", "distill", "contrast", "freeze", "attention")
# Whom a suite compares with, where there is an interpreter that has it.
PEERS = {"data": ("torch", "tensorflow"), "models": ("torch",), "distill": ("torch",), "contrast": ("torch",)}


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, measures, prints the table and writes the file."""
    parser = program.Parser(__doc__)
    parser.add_argument(
        "--suite", action="append", choices=SUITES, help="what to measure (may be repeated; default: all)"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        metavar="N",
        help="of every measurement (default: start 5, loop 25, checkpoint 12, data 5 to 9, models 7, others 5)",
    )
    parser.add_argument(
        "--against",
        action="append",
        choices=("torch", "tensorflow"),
        help="whom to compare with (may be repeated; default: whoever is found)",
    )
    parser.add_argument(
        "--jpegs",
        type=Path,
        metavar="DIR",
        help="photographs for the suite data, a folder for each class (default: 384 made-up ones of 500x375 and 91 KB)",
    )
    parser.add_argument(
        "--peer_python",
        type=Path,
        metavar="PATH",
        help="a Python that has torch and torchvision, to compare with (default: this one, where it has them)",
    )
    parser.add_argument(
        "--tf_python",
        type=Path,
        metavar="PATH",
        help="a Python that has tensorflow, to compare with (default: this one, where it has it)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/benchmark.json"),
        metavar="FILE.json",
        help="where the numbers are written (default: runs/benchmark.json)",
    )
    parser.add_argument("--quick", action="store_true", help="run everything at its smallest; the times say nothing")
    args = parser.read(argv)
    if args.repeats is not None and args.repeats < 1:
        parser.error(f"--repeats: must be at least 1, got {args.repeats}")
    pythons = {"torch": args.peer_python, "tensorflow": args.tf_python}
    pythons = {name: python for name, python in pythons.items() if name in (args.against or pythons)}
    result = measure(
        args.suite or SUITES, repeats=args.repeats, quick=args.quick, out=args.out, jpegs=args.jpegs, pythons=pythons
    )
    program.finish(result, as_json=args.json)
    return 0


def measure(
    suites: Sequence[str],
    *,
    repeats: int | None,
    quick: bool,
    out: Path,
    jpegs: Path | None,
    pythons: Mapping[str, Path | None],
) -> dict[str, Any]:
    """Runs suites, prints their table, writes and returns ``{"machine", "peers", "quick", "rows"}``.

    Raises:
      UserError: the file cannot be written, a peer is not where it was said to be, or a measured program failed.
    """
    # On an accelerator this process must not take all memory from those that it measures.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    program.prepare_jax()
    from tools.benchmarks import machine, rows
    from tools.benchmarks.contenders import find_peer
    from vision.training.workdir import write_json

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror or error}") from error
    here = machine.describe()
    wanted = {name for suite in suites for name in PEERS.get(suite, ())}
    peers = {name: peer for name, python in pythons.items() if name in wanted and (peer := find_peer(name, python))}
    versions = {package: version for peer in peers.values() for package, version in peer.versions.items()}
    measured: list[rows.Row] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        settings = rows.Settings(
            Path(scratch), repeats, quick, jpegs, {name: peer.python for name, peer in peers.items()}
        )
        for suite in SUITES:
            if suite in suites:
                measured += importlib.import_module(f"tools.benchmarks.{suite}").run(settings)
    compared = "".join(f", {package} {version}" for package, version in versions.items())
    note = f"\npeers     {compared[2:]}" if compared else ""
    print(f"{machine.lines(here)}{note}\n\n{rows.table(measured)}", flush=True)
    result = {"machine": here, "peers": versions, "quick": quick, "rows": [row.as_json() for row in measured]}
    write_json(out, result)
    print(f"written to {out}", file=sys.stderr)
    return result


if __name__ == "__main__":
    program.run(main)
