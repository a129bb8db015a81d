"""How well an accelerator is used: its memory, and the share of its peak that training takes."""

from collections.abc import Mapping

import jax

from vision.models.cost import multiply_adds
from vision.training.assemble import Experiment
from vision.training.chips import chip_of

_GIB = 2**30


class Gauges:
    """Adds what the devices say of themselves to a line of metrics; on a CPU that is nothing."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        self._device = jax.local_devices()[0]
        self._flops: dict[int, float] = {}

    def of(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Returns ``speed/mfu``, ``speed/memory_gib`` and ``speed/peak_memory_gib``, as far as they are known.

        MFU is model FLOPs utilisation (Chowdhery et al. 2022, PaLM, appendix B): the FLOPs of the step's convolutions
        and matrix products over the peak of all devices in bfloat16. What the step computes again to save memory
        (``remat``, microbatches of a loss that is not separable, attention's scores on a TPU) counts here, which the
        paper leaves out.

        Args:
          step: at the end of the line.
          values: of the line, with ``speed/examples_per_second``.
        """
        found = {}
        chip = chip_of(self._device.device_kind)
        rate = values.get("speed/examples_per_second", 0.0) / self._experiment.config["batch_size"]
        if chip is not None and rate:
            devices = self._experiment.mesh.size
            found["speed/mfu"] = rate * self._flops_at(max(step - 1, 0)) / (devices * chip.flops)
        stats = self._device.memory_stats() or {}
        for name, key in (("memory", "bytes_in_use"), ("peak_memory", "peak_bytes_in_use")):
            if key in stats:
                found[f"speed/{name}_gib"] = stats[key] / _GIB
        return found

    def _flops_at(self, step: int) -> float:
        """FLOPs of one step of the stage at ``step``, over all devices."""
        stage, experiment = self._experiment.stage_at(step), self._experiment
        if stage.first not in self._flops:
            made = jax.make_jaxpr(stage.step)(
                experiment.abstract_state, experiment.pipeline.spec(), experiment.constants
            )
            try:
                self._flops[stage.first] = 2.0 * multiply_adds(made)
            except ValueError:  # a loop whose end is not known
                self._flops[stage.first] = 0.0
        return self._flops[stage.first]
