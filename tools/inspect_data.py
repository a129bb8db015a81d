"""Shows the data of a config: sizes, classes, mean and std, speed, fingerprint, and pictures of what a model is given.

The contact sheet has one row for each example of the first batches, augmented as in training. With --augmentations
a sheet of every augmentation there is, over examples of these data, is written to a folder.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from vision import program
from vision.config.loading import load
from vision.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, looks at the data, prints and draws."""
    parser = program.Parser(__doc__, config=True)
    parser.add_argument("--out", type=Path, help="the contact sheet (default: runs/inspect/<name of the config>.png)")
    parser.add_argument("--batches", type=int, default=20, help="batches that the speed is measured over (default: 20)")
    parser.add_argument("--augmentations", type=Path, metavar="DIR", help="also write a sheet of every augmentation")
    args = parser.read(argv)
    if args.batches < 1:
        parser.error(f"--batches: must be at least 1, got {args.batches}")
    config = load(args.config, args.overrides)
    out = args.out or Path("runs") / "inspect" / f"{Path(args.config.partition(':')[0]).stem}.png"
    program.prepare_jax()
    from vision.analysis import data_report, data_sheets
    from vision.config.calling import call
    from vision.data.host import dtype_of
    from vision.data.inputs import open_inputs
    from vision.training.processes import start_jax
    from vision.training.schema import resolve
    from vision.training.sharding import batch_sharding, check_batch, make_mesh
    from vision.training.state import make_keys

    start_jax()
    resolved = resolve(config)
    mesh = call(make_mesh, resolved["mesh"], "config.mesh")
    check_batch(resolved["batch_size"], mesh, 1)
    inputs = open_inputs(resolved)
    if dtype_of(inputs.source) == "float32":
        raise UserError(f"config.data.name: {resolved['data']['name']} has features, of which there are no pictures")
    data = data_report.Look(inputs, inputs.training_pipeline(batch_sharding(mesh)), make_keys(resolved["seed"]).augment)
    result, lines = data_report.inspect(data, batches=args.batches)
    data_sheets.draw_batches(data, out)
    data.pipeline.close()
    print("\n".join([*lines, data_report.line("sheet", str(out))]))
    result["sheet"] = str(out)
    if args.augmentations:
        names = data_sheets.draw_augmentations(data, args.augmentations)
        print(f"{'sheets':<13}{len(names)} augmentations in {args.augmentations}", file=sys.stderr)
        result["augmentations"] = names
    program.finish(result, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
