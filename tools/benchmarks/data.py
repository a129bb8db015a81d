"""Input: JPEG files to batches, small images on the device, many views of an image, and whether a step hides them.

Each contender is a process that times itself, kept to one core or two, and they take turns. torch and TensorFlow
take part where there is an interpreter that has them.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tools.benchmarks import data_device, data_host, data_overlap, jpegs
from tools.benchmarks.contenders import Contender, Contenders
from tools.benchmarks.rows import Row, Settings, say
from tools.peers import Work
from vision.errors import UserError

_MODULES = {"house": "tools.benchmarks.house", "torch": "tools.peers.torch_loader", "tensorflow": "tools.peers.tf_data"}
_QUICK: dict[str, Any] = {
    **{"batch_size": 8, "size": 32, "small_images": 256, "small_batch": 64, "step_batch": 8, "step_blocks": 1},
    **{"views_batch": 2, "global_size": 32, "local_size": 16, "num_local": 2},
}


def run(settings: Settings) -> list[Row]:
    """Measures all of it; where a peer is not there, its rows and those that compare with it are left out.

    Raises:
      UserError: the folder of JPEG files has none, or a contender ended.
    """
    scratch = settings.scratch / "data"
    scratch.mkdir()
    folder = settings.jpegs or _make_jpegs(scratch / "jpegs", 16 if settings.quick else 384)
    _describe(folder)
    views = scratch / "views.npy"
    side = 64 if settings.quick else 256
    np.save(views, np.stack([jpegs.picture(number, side, side) for number in range(4 if settings.quick else 64)]))
    work = Work(str(folder.resolve()), str(views), cores=1, **(_QUICK if settings.quick else {}))
    pythons = {"house": None, **settings.peers}
    settle = 0.1 if settings.quick else 1.5
    with ExitStack() as stack:

        def start(cores: int) -> Contenders:
            started = {}
            for name, python in pythons.items():
                log = scratch / f"{name}-{cores}.txt"
                started[name] = Contender(
                    python, _MODULES[name], replace(work, cores=cores), log, settle_seconds=settle
                )
                stack.callback(started[name].close)
            return started

        one, two = start(1), start(2)
        return [
            *data_host.run(settings, work, one, two),
            *data_device.run(settings, work, one, two),
            *data_overlap.run(settings, work, two["house"]),
        ]


def _make_jpegs(folder: Path, count: int) -> Path:
    say(f"data: making {count} JPEG files")
    jpegs.write_folder(folder, count)
    return folder


def _describe(folder: Path) -> None:
    sizes = [path.stat().st_size for path in folder.glob("*/*") if path.suffix.lower() in (".jpg", ".jpeg")]
    if not sizes:
        raise UserError(f"--jpegs {folder}: there is no JPEG file in a folder of a class below it")
    say(f"data: {len(sizes)} JPEG files of {sum(sizes) / len(sizes) / 1e3:.0f} KB on average")
