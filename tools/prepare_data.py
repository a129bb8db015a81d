"""Prepares a data set: downloads it where it has to be, and writes it as TFDS array records.

NAME is one of ours (digits, shapes, shapes24: no download, no TensorFlow) or any data set of TFDS, as name,
name/config or name:version: mnist, cifar10, imagenet2012, oxford_flowers102, imagenette/160px-v2. Preparing those
mostly needs TensorFlow, pip install -e ".[prepare]"; reading them afterwards does not.

Data sets lie in --data_dir, or TFDS_DATA_DIR, or ~/tensorflow_datasets. What is there already is left alone. The
command may be stopped at any time and given again: files whose download ended are kept, a half-written data set
never counts as prepared and is removed. Two at once wait for each other.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vision import program
from vision.errors import Stopped, UserError

_FIRST_NOTE = 10.0  # seconds; then after twice as long each time
_LONGEST_PAUSE = 120.0


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and prepares the data set."""
    parser = program.Parser(__doc__)
    parser.add_argument(
        "name", metavar="NAME", help="ours: digits, shapes, shapes24; or a TFDS name, name/config, name:version"
    )
    parser.add_argument("--data_dir", metavar="DIR", help="folder of prepared data sets (default: TFDS_DATA_DIR)")
    parser.add_argument("--force", action="store_true", help="prepare it anew from its downloads, even if it is there")
    args = parser.read(argv)
    from vision.data.preparation import prepared

    folder = prepared.data_folder(args.data_dir).absolute()
    there = None if args.force else prepared.find(args.name, folder)
    with _stoppable(args.name, folder):
        place, was_there = (there, True) if there else _prepare(args.name, folder, force=args.force)
    result = {"name": args.name, "path": str(place), "was_prepared": was_there, **_contents(place, was_there=was_there)}
    program.finish(result | {"bytes": _bytes(place)}, as_json=args.json)
    return 0


def _prepare(name: str, folder: Path, *, force: bool) -> tuple[Path, bool]:
    """Returns where the data set is, and whether it was there before."""
    from vision.data.preparation import prepared

    wanted = prepared.Wanted.parse(name)
    if wanted.name in prepared.OWN_BUILDERS:
        if str(wanted) != wanted.name:
            raise UserError(f"{wanted.name} has no configs and one version; leave {name[len(wanted.name) :]!r} away")
        return prepared.prepare_own(name, folder, overwrite=force), False
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # TensorFlow would take all memory of a GPU to encode images
    from absl import logging as absl_logging

    from vision.data.preparation import plan, stock

    absl_logging.set_verbosity(absl_logging.ERROR)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a line for each of ten tries to reach a server
    builder = stock.stock_builder(name, folder)
    default = Path(builder.data_dir)
    if (default / "dataset_info.json").is_file() and not force:
        return default, True
    ahead = plan.plan(builder, folder)
    _note(f"{ahead}; into {default}")
    if not ahead.by_hand or any((folder / "downloads" / "manual").glob("*")):
        plan.require_room(ahead, _note)
    plan.require_network(ahead)
    with _progress(builder.name, folder):
        return stock.prepare_stock(builder, folder, overwrite=force, report=_note), False


def _contents(place: Path, *, was_there: bool) -> dict[str, Any]:
    """Returns the number of examples by split, and prints them for people."""
    import tensorflow_datasets as tfds

    from vision.data.preparation.plan import size

    try:
        info = tfds.builder_from_directory(place).info
    except Exception as error:
        message = f"{place} is there but TFDS cannot read it ({type(error).__name__}); prepare it anew: --force"
        raise UserError(message) from error
    splits = {name: split.num_examples for name, split in info.splits.items()}
    words = ", ".join(f"{name} {count:,}" for name, count in splits.items())
    _note(f"{'already ' if was_there else ''}prepared in {place}: {size(_bytes(place))}; {words}")
    return {"splits": splits}


def _bytes(*places: Path) -> int:
    """Returns the size of all files below some folders; a file that goes away meanwhile counts nothing."""
    total = 0
    for place in places:
        for path in place.rglob("*"):
            with contextlib.suppress(OSError):
                total += path.stat().st_size if path.is_file() else 0
    return total


@contextlib.contextmanager
def _progress(name: str, folder: Path) -> Iterator[None]:
    """Says now and then how much has arrived and how much is written, where there is no terminal for bars."""
    from vision.data.preparation.plan import size

    done = threading.Event()

    def watch() -> None:
        began, pause = time.monotonic(), _FIRST_NOTE
        while not done.wait(pause):
            pause = min(2 * pause, _LONGEST_PAUSE)
            written = _bytes(*(folder / name).glob("**/incomplete.*"))
            note = f"{name}: {size(_bytes(folder / 'downloads' / name))} downloaded"
            note += f", {size(written)} written" if written else ""
            _note(f"{note} after {time.monotonic() - began:.0f} s")

    watcher = threading.Thread(target=watch, daemon=True)
    if not sys.stderr.isatty():
        watcher.start()
    try:
        yield
    finally:
        done.set()


@contextlib.contextmanager
def _stoppable(name: str, folder: Path) -> Iterator[None]:
    """Turns Ctrl-C and SIGTERM into one line that says how to go on."""
    from vision.data.preparation import prepared

    received = [signal.SIGINT]

    def terminate(number, frame):
        received[0] = signal.Signals(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        downloads = folder / "downloads" / prepared.Wanted.parse(name).name
        kept = f"; finished downloads stay in {downloads}" if downloads.is_dir() else ""
        message = f"stopped; {name} is not prepared{kept}; to go on, run it again"
        raise Stopped(message, signal_number=received[0]) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        program.run(main)
    except SystemExit as end:
        # Python would wait for the downloads that TFDS still has under way in threads; nobody needs them any more.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
