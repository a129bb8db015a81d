"""Where training starts, decided here and nowhere else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vision.errors import UserError
from vision.training.assemble import Experiment
from vision.training.checkpoint import Checkpoints, Note, open_existing, pick_step
from vision.training.from_images import weights_from_images
from vision.training.init_from import given_weights, teacher_weights
from vision.training.state import TrainState
from vision.training.workdir import as_json, differences

TOPOLOGY = ("versions", "device_kind", "device_count", "process_count", "cpu_count", "mesh")


class Start(NamedTuple):
    """A state, the number of its step, the metrics since the last written line, and a sentence for people."""

    state: TrainState
    step: int
    window: Mapping[str, Sequence[float]]
    reason: str


def where_to_start(
    experiment: Experiment, checkpoints: Checkpoints, environment: Mapping[str, Any], note: Note
) -> Start:
    """Returns the start: the newest good checkpoint; ``config.resume``; ``config.init_from``; from scratch.

    Args:
      experiment: what is trained.
      checkpoints: of this run.
      environment: what it runs on now.
      note: told what a person should know, such as another topology than the checkpoint's.

    Raises:
      UserError: there are checkpoints but none is good, they hold other arrays, or they saw other data.
    """
    found = checkpoints.restore_newest(experiment.abstract_state)
    if found is not None:
        state, metadata = found
        step = int(metadata["step"])
        then = metadata["environment"]
        if then["data_fingerprint"] != environment["data_fingerprint"]:
            raise UserError(
                f"config.data: the training data are not those of the checkpoint of step {step} (fingerprint "
                f"{then['data_fingerprint']} there, {environment['data_fingerprint']} here); give back the data or "
                "choose another --workdir"
            )
        changed = [key for key in TOPOLOGY if then.get(key) != environment[key]]
        if changed:
            note(
                f"resuming on another {', '.join(changed)}: equal to an undisturbed run up to rounding, not bit for bit"
            )
        return Start(state, step, metadata["window"], f"resumed at step {step}")
    other = experiment.config["resume"]
    if other is not None:
        source = open_existing(Path(other))
        step = pick_step(source, None)
        if step >= experiment.total_steps:
            raise UserError(
                f"config.resume: {other} has {step} steps already, config.duration asks for {experiment.total_steps}"
            )
        state, metadata = source.restore(experiment.abstract_state, step)
        differing = [
            key for key, _, _ in differences(metadata["config"], as_json(experiment.config)) if key != "resume"
        ]
        if differing:
            note(f"config.resume: {other} was trained with another {', '.join(f'config.{key}' for key in differing)}")
        return Start(state, step, {}, f"started from step {step} of {other}")
    key = experiment.constants.keys.init
    given, reason = None, "started from scratch"
    if experiment.teacher is not None:
        given = teacher_weights(experiment, note)
    if experiment.config["init_from"] is None:
        made = weights_from_images(experiment)
        if made is not None:
            given = made if given is None else made._replace(teacher=given.teacher)
    if experiment.config["init_from"] is not None:
        weights, reason = given_weights(experiment.config["init_from"], experiment, note)
        given = weights if given is None else weights._replace(teacher=given.teacher)
    return Start(experiment.init(key, given), 0, {}, reason)
