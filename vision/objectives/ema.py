"""An exponential moving average of the parameters, beside any objective."""

import jax

from vision.objectives.base import Objective, copied


def with_ema(objective: Objective, *, decay: float) -> Objective:
    """Returns the objective with ``extra["ema"] <- decay * ema + (1 - decay) * params`` after every update.

    The average starts at the initial parameters and is kept in float32 at least; ``encode`` (and so every
    evaluator) uses it in place of the parameters (Polyak and Juditsky 1992).

    Raises:
      ValueError: ``decay`` is not in [0, 1).
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"decay must be in [0, 1), got {decay}")

    def init(key, batch_spec):
        params, extra = objective.init(key, batch_spec)
        return params, start(params, extra)

    def start(params, extra):
        return {**objective.start(params, extra), "ema": copied(params)}

    def refresh(params, extra, step):
        extra = objective.refresh(params, extra, step)
        average = jax.tree.map(lambda e, p: decay * e + (1.0 - decay) * p.astype(e.dtype), extra["ema"], params)
        return {**extra, "ema": average}

    def encode(params, extra, batch):
        average = jax.tree.map(lambda e, p: e.astype(p.dtype), extra["ema"], params)
        return objective.encode(average, extra, batch)

    return objective._replace(init=init, refresh=refresh, encode=encode, start=start)
