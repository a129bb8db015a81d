"""Where training starts, decided here and nowhere else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vision.errors import UserError
from vision.training.assemble import Experiment
from vision.training.checkpoint import Checkpoints, Note, open_existing, pick_step
from vision.training.state import TrainState


class Start(NamedTuple):
    """A state, the number of its step, the metrics since the last written line, and a sentence for people."""

    state: TrainState
    step: int
    window: Mapping[str, Sequence[float]]
    reason: str


def where_to_start(experiment: Experiment, checkpoints: Checkpoints, note: Note) -> Start:
    """Returns the start: the newest good checkpoint of this run; ``config.resume``; from scratch.

    Raises:
      UserError: there are checkpoints but none is good, they hold other arrays, or they saw other data.
    """
    found = checkpoints.restore_newest(experiment.abstract_state)
    if found is not None:
        state, metadata = found
        step = int(metadata["step"])
        saved, here = metadata["environment"]["data_fingerprint"], experiment.source.fingerprint
        if saved != here:
            raise UserError(
                f"config.data: the training data are not those of the checkpoint of step {step} (fingerprint {saved} "
                f"there, {here} here); give back the data or choose another --workdir"
            )
        return Start(state, step, metadata["window"], f"resumed at step {step}")
    other = experiment.config["resume"]
    if other is not None:
        source = open_existing(Path(other))
        step = pick_step(source, None)
        state, metadata = source.restore(experiment.abstract_state, step)
        return Start(state, step, metadata["window"], f"started from step {step} of {other}")
    return Start(experiment.init(experiment.constants.keys.init), 0, {}, "started from scratch")
