"""Linear and softmax regression: one matrix from pixels to outputs."""

import einops
import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.interface import Features, Variant


class Linear(nn.Module):
    """An affine map of the flattened image.

    With a softmax this is multinomial logistic regression (7,850 parameters for 28x28 images and 10 classes).

    Attributes:
      num_classes: size of the output.
      zero_init: start from zero weights, the minimum-norm start of least squares, instead of LeCun's random ones.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    zero_init: bool = True
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        keys: Key[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch num_classes"], Features]:
        """Returns the outputs and the flattened pixels as ``pre_logits``."""
        x = einops.rearrange(images, "b h w c -> b (h w c)").astype(self.dtype)
        if self.num_classes == 0:
            return x, {"pre_logits": x}
        kernel_init = nn.initializers.zeros if self.zero_init else nn.initializers.lecun_normal()
        head = nn.Dense(
            self.num_classes, kernel_init=kernel_init, dtype=self.dtype, param_dtype=self.param_dtype, name="head"
        )
        return head(x), {"pre_logits": x}


VARIANTS = {"linear": Variant(Linear, {}, (28, 28, 1), 10)}
