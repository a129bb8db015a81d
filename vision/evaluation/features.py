"""Features of splits, made once for all evaluators of one state."""

import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any

from vision.evaluation.base import EvalSet, State
from vision.evaluation.feature_files import FeatureFiles
from vision.evaluation.outputs import Gathered, gathered
from vision.objectives.base import Objective


class Features:
    """What a model gives of splits: evaluators say beforehand what they will ask for, then one pass makes all of it.

    It is held in the host's memory for the state that was asked about last, and let go with that state. Every process
    of several holds the same.
    """

    def __init__(
        self, objective: Objective, *, outputs: Mapping[str, Any] | None = None, files: FeatureFiles | None = None
    ):
        """Makes nothing yet.

        Args:
          objective: whose ``encode`` gives the outputs.
          outputs: name -> shape of each, with a leading example axis; None where they are not known.
          files: where features are looked for first, and kept. They are of one state: only this is asked about then.
        """
        self.outputs = outputs
        self._objective, self._files = objective, files
        # The split itself stands beside its wishes, so that its id stays its own.
        self._wanted: dict[int, tuple[EvalSet, dict[str, None]]] = {}
        self._passes: dict[tuple[int, tuple[str, ...]], Callable[[State], Gathered]] = {}
        self._found: dict[int, Gathered] = {}
        self._state: Callable[[], State | None] = lambda: None

    def of(self, eval_set: EvalSet, names: Collection[str]) -> Callable[[State], Gathered]:
        """Returns a function of the state that gives these outputs of a split, see :func:`outputs.named`.

        Evaluators that share a split hand over the same ``EvalSet``.
        """
        _, wanted = self._wanted.setdefault(id(eval_set), (eval_set, {}))
        wanted.update(dict.fromkeys(names))

        def read(state: State) -> Gathered:
            found = self._all(eval_set, state)
            return Gathered({name: found.outputs[name] for name in names}, found.labels)

        return read

    def _all(self, eval_set: EvalSet, state: State) -> Gathered:
        if self._state() is not state:
            self._found.clear()
            self._state = weakref.ref(state, lambda _: self._found.clear())
        key, wanted = id(eval_set), self._wanted[id(eval_set)][1]
        found = self._found.get(key)
        if found is None and self._files is not None:
            found = self._files.read(eval_set.pipeline, wanted)
        known = {} if found is None else found.outputs
        missing = tuple(name for name in wanted if name not in known)
        if missing or found is None:
            if (key, missing) not in self._passes:
                self._passes[key, missing] = gathered(eval_set, self._objective, missing)
            made = self._passes[key, missing](state)
            if self._files is not None:
                self._files.write(eval_set.pipeline, made)
            found = Gathered({**known, **made.outputs}, made.labels)
        self._found[key] = found
        return found
