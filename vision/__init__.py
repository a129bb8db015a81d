"""Image recognition as learning from data, in functional JAX: models, objectives, one train step, evaluators."""
