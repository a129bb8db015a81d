"""One policy for the types of parameters, computation and output."""

from dataclasses import dataclass

import jax.numpy as jnp

_TYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
FLOAT32 = "params=float32,compute=float32,output=float32"


@dataclass(frozen=True)
class Precision:
    """Types of what is stored, of what is computed with, and of what a model returns."""

    params: jnp.dtype
    compute: jnp.dtype
    output: jnp.dtype

    @classmethod
    def parse(cls, policy: str) -> "Precision":
        """Reads ``"params=float32,compute=bfloat16,output=float32"``.

        Raises:
          ValueError: a part is missing, unknown, or names an unknown type.
        """
        parts = dict(part.partition("=")[::2] for part in policy.replace(" ", "").split(","))
        if set(parts) != {"params", "compute", "output"} or not set(parts.values()) <= set(_TYPES):
            raise ValueError(f"precision {policy!r}: write {FLOAT32!r} with types {', '.join(_TYPES)}")
        return cls(**{part: jnp.dtype(_TYPES[name]) for part, name in parts.items()})
