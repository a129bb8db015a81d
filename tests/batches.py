"""Small data of every kind of source, and the batches that a config makes of them.

As a program it is one process of several: python tests/batches.py ROOT OUT ADDRESS COUNT ID WORKERS
"""

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cat")
STEPS = (0, 3)


def write(root: Path) -> None:
    """Writes 45 photographs of three classes and different sizes as a folder, a table, tar shards and arrays."""
    rng = np.random.default_rng(0)
    lines, members = [], []
    for number in range(45):
        name = CLASSES[number % 3]
        height, width = (int(side) for side in rng.integers(20, 44, 2))
        coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        encoded = io.BytesIO()
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(encoded, "JPEG")
        path = root / "folder" / name / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.getvalue())
        captions = [f"{word} {name}" for word in ("a", "one", "some")[: 1 + number % 3]]
        lines.append({"image": f"folder/{name}/{number:02d}.jpg", "captions": captions, "label": name})
        members.append((f"{number:02d}", encoded.getvalue(), number % 3))
    (root / "table.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for shard in range(3):
        with tarfile.open(root / f"shard-{shard:03d}.tar", "w") as archive:
            for key, image, label in members[shard::3]:
                for suffix, content in (("jpg", image), ("cls", str(label).encode())):
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    images = rng.integers(0, 256, (40, 20, 24, 3), dtype=np.uint8)
    labels = np.arange(40) % 3
    np.savez(root / "arrays.npz", x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])


def configs(root: Path) -> dict[str, dict]:
    """The data section of each kind, with a random crop on the host and one on the device."""
    names = {
        "tfds": "digits",
        "folder": f"folder:{root / 'folder'}",
        "captions": f"captions:{root / 'table.jsonl'}",
        "tar": f"tar:{root}/shard-{{000..002}}.tar",
        "npz": f"npz:{root / 'arrays.npz'}",
        "arrays": "arrays",
        "mixture": f"mixture:folder:{root / 'folder'}=0.7,tar:{root}/shard-*.tar=0.3",
        "balanced": f"folder:{root / 'folder'}",
        "repeated": f"folder:{root / 'folder'}",
    }
    common = {
        "image_size": 16,
        "channels": 3,
        "crop": {"name": "random_resized"},
        "augment": ({"name": "random_resized_crop"}, {"name": "random_flip"}),
    }
    sections = {kind: {"name": name, **common} for kind, name in names.items()}
    sections["mixture"]["name"] = f"mixture:folder:{root / 'folder'}=0.7,captions:{root / 'table.jsonl'}=0.3"
    sections["balanced"] |= {"balance": "class"}
    sections["repeated"] |= {"repeats": 3}
    # The same on the device, without a crop on the host.
    resident = {key: value for key, value in sections["folder"].items() if key != "crop"}
    return {**sections, "resident": {**resident, "residency": "device"}}


def experiment(root: Path, kind: str, workers: int = 0):
    """The assembled experiment of one kind."""
    from vision.training.assemble import assemble
    from vision.training.schema import resolve

    section = {**configs(root)[kind], "workers": workers}
    config = {
        "batch_size": 48,
        "duration": {"steps": 10},
        "data": section,
        "model": {"name": "linear"},
        "objective": {"name": "classify"},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
    }
    with np.load(root / "arrays.npz") as file:
        given = {"train": {"image": file["x_train"], "label": file["y_train"]}}
    return assemble(resolve(config), given=given if kind == "arrays" else None)


def batches(made, steps=STEPS) -> dict[str, np.ndarray]:
    """The prepared batches of some steps, gathered from all processes."""
    import jax
    from jax.experimental import multihost_utils

    prepare = jax.jit(made.inputs.prepare(training=True))
    found = {}
    for step in steps:
        batch = prepare(made.pipeline.batch(step), made.pipeline.resident, made.constants.keys.augment, step)
        for name, array in batch.items():
            several = jax.process_count() > 1
            whole = multihost_utils.process_allgather(array, tiled=True) if several else array
            found[f"{step}/{name}"] = np.asarray(whole)
    made.pipeline.close()
    return found


if __name__ == "__main__":
    import jax

    ROOT, OUT, ADDRESS, COUNT, ID, WORKERS = sys.argv[1:]
    if int(COUNT) > 1:
        jax.distributed.initialize(ADDRESS, int(COUNT), int(ID))
    seen = {}
    for kind in configs(Path(ROOT)):
        of_kind = batches(experiment(Path(ROOT), kind, int(WORKERS)))
        seen |= {f"{kind}/{name}": array for name, array in of_kind.items()}
    if ID == "0":
        np.savez(OUT, **seen)
