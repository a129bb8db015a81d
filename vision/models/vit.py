"""The Vision Transformer, with the options that make it DeiT, DINO's, DINOv2's, CLIP's, SigLIP's or the plain one."""

import math
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from vision.models.activations import Activation, activation_function
from vision.models.attention import AttentionPool, Initializer, flat
from vision.models.interface import Features, ImageShape
from vision.models.layers import DropMode, Dropout
from vision.models.patches import drop_patches, patch_grid, patchify
from vision.models.positions import resize_positions, rotary_angles, sincos_2d
from vision.models.transformer import Remat, Stack, clip_inits
from vision.models.vit_variants import variants

Grid = tuple[int, int]


class ViT(nn.Module):
    """A transformer over patches of the image (Dosovitskiy et al. 2021, section 3.1).

    Attributes:
      num_classes: size of the output; 0 for none.
      patch_size: side of a patch in pixels.
      width: of a token.
      depth: number of blocks.
      num_heads: of the attention.
      mlp_dim: width of the hidden layer of a block.
      pool: what becomes of the tokens: the class token, the mean of the patches, or a learned query's attention (MAP).
      class_token: whether there is one.
      distillation_token: a second one with its own head (Touvron et al. 2021, DeiT, section 4); the output is the
        mean of both heads, which are also the features ``class_logits`` and ``distillation_logits``.
      num_registers: tokens without a place or a use, between the class token and the patches (Darcet et al. 2024).
      mask_token: a learned token that takes the place of masked patches (Zhou et al. 2022, iBOT, section 3).
      positions: ``learned`` and ``sincos2d`` are added to the patches, ``rotary`` turns queries and keys.
      resize_positions: whether images of another size are taken, with learned positions interpolated to their grid;
        otherwise they are refused.
      position_antialias: see :func:`vision.models.positions.resize_positions`.
      position_offset: likewise.
      mlp: ``dense`` with ``activation``, or ``swiglu``.
      activation: of the MLP; ``gelu`` is the exact one of PyTorch's ViTs, ``gelu_tanh`` that of big_vision.
      epsilon: of the layer normalisations.
      patch_bias: whether the embedding of patches is affine.
      pre_norm: a layer normalisation before the first block (Radford et al. 2021, CLIP, section 2.4).
      qkv_bias: whether query, key and value are affine.
      layer_scale: initial value of the scale per channel of each branch, or None.
      representation: a dense layer with tanh before the head (Dosovitskiy et al. 2021, section 3.1).
      head_bias: initial bias of the head, such as -6.9 under sigmoid cross-entropy over 1000 classes.
      dropout: rate after the positions, the attention and the layers of the MLP.
      patch_dropout: share of the patches left out of each training image (Li et al. 2023, FLIP, section 3).
      stochastic_depth: rate of the last block; the others' rise linearly from 0.
      uniform_depth: the same rate for all blocks, as in DINOv2.
      drop_mode: ``batch_subset`` is DINOv2's, see :class:`vision.models.layers.Residual`; not for microbatches.
      attention_weights: whether ``block00/attention`` and its like, ``[batch, heads, tokens, tokens]``, are features.
      scan: compile one block and loop over it: compiles several times faster, runs a little slower.
      remat: what the backward pass computes again to save memory.
      initialisation: ``xavier`` is big_vision's, ``normal`` that of timm, DeiT and DINO (deviation 0.02), ``clip`` that
        of :func:`vision.models.transformer.clip_inits`, with class token and positions of deviation ``width**-0.5``.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    pool: Literal["token", "gap", "map"] = "token"
    class_token: bool = True
    distillation_token: bool = False
    num_registers: int = 0
    mask_token: bool = False
    positions: Literal["learned", "sincos2d", "rotary"] = "learned"
    resize_positions: bool = False
    position_antialias: bool = True
    position_offset: float = 0.0
    mlp: Literal["dense", "swiglu"] = "dense"
    activation: Activation = "gelu"
    epsilon: float = 1e-6
    patch_bias: bool = True
    pre_norm: bool = False
    qkv_bias: bool = True
    layer_scale: float | None = None
    representation: bool = False
    head_bias: float = 0.0
    dropout: float = 0.0
    patch_dropout: float = 0.0
    stochastic_depth: float = 0.0
    uniform_depth: bool = False
    drop_mode: DropMode = "example"
    attention_weights: bool = False
    scan: bool = False
    remat: Remat = "none"
    initialisation: Literal["xavier", "normal", "clip"] = "xavier"
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    def __post_init__(self):
        for name in ("patch_size", "width", "depth", "num_heads", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("dropout", "patch_dropout", "stochastic_depth"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.width % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide the width {self.width}")
        if (self.pool == "token" or self.distillation_token) and not self.class_token:
            raise ValueError(f"pool {self.pool!r} and the distillation token need class_token=True")
        if self.distillation_token and self.pool != "token":
            raise ValueError("the distillation token needs pool='token'")
        if self.drop_mode == "batch_subset" and self.scan and not self.uniform_depth and self.stochastic_depth:
            raise ValueError("a scan over blocks with drop_mode='batch_subset' needs uniform_depth=True")
        if self.needs_whole_batch and self.patch_dropout and self.positions == "rotary":
            raise ValueError("drop_mode='batch_subset', patch_dropout and rotary positions do not go together")
        if self.positions == "sincos2d":
            sincos_2d((1, 1), self.width)
        if self.positions == "rotary":
            rotary_angles((1, 1), self.width // self.num_heads)
        super().__post_init__()

    @property
    def any_size(self) -> bool:
        """Whether the same parameters take images of other sizes."""
        return self.resize_positions or self.positions != "learned"

    @property
    def needs_whole_batch(self) -> bool:
        """Whether an example's output in training depends on its neighbours."""
        return self.drop_mode == "batch_subset" and self.stochastic_depth > 0

    def check(self, image_shape: ImageShape) -> None:
        """Raises ValueError where patches do not divide the image."""
        patch_grid(image_shape, self.patch_size)

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        keys: Key[Array, " batch"] | None = None,
        masks: Bool[Array, "batch patches"] | None = None,
        kept: Int[Array, "batch kept"] | None = None,
    ) -> tuple[Float[Array, "batch num_classes"], Features]:
        """Returns the outputs and the features of every block.

        Beside the blocks' tokens ``[batch, tokens, width]`` these are ``stem`` (what enters the first block),
        ``patch_tokens`` (normalised; without those dropped), ``class_token``, ``registers`` and ``pre_logits``, and of
        every block the normalised ``block00/class_token``, which linear probes take several of.

        Args:
          images: normalised.
          train: whether anything is dropped.
          keys: one per example.
          masks: True for patches, row by row, whose content is replaced by the mask token.
          kept: numbers of the patches, row by row, that are used; the others are left out (He et al. 2022, MAE). All
            are used where there is none.
        """
        keys = keys if train else None
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        kernel_init = self._kernel_init()
        grid = patch_grid((images.shape[1], images.shape[2], images.shape[3]), self.patch_size)
        of_patches: dict[str, Any] = {"use_bias": self.patch_bias, "kernel_init": self._patch_init(), **types}
        embedding = nn.Dense(self.width, name="patch_embedding", **of_patches)
        x = flat(embedding, patchify(images.astype(self.dtype), self.patch_size))
        if masks is not None and not self.mask_token:
            raise ValueError("masks need mask_token=True")
        if self.mask_token:
            token = self.param("mask_token", nn.initializers.zeros, (self.width,), self.param_dtype)
            x = x if masks is None else jnp.where(masks[..., None], token.astype(self.dtype), x)
        x, angles = self._with_positions(x, grid)
        if kept is not None:
            if self.patch_dropout:
                raise ValueError("kept patches and patch_dropout do not go together")
            x = jnp.take_along_axis(x, kept[..., None], axis=1)
            angles = angles if angles is None else angles[kept]
        if keys is not None and self.patch_dropout:
            x, left = drop_patches(x, self.patch_dropout, keys, self.make_rng("dropout"))
            angles = angles if angles is None else angles[left]
        tokens = self._prefix(len(images))
        x = jnp.concatenate([*tokens, x], axis=1) if tokens else x
        x = Dropout(self.dropout)(x, keys=keys)
        if self.pre_norm:
            x = nn.LayerNorm(epsilon=self.epsilon, name="pre_norm", **types)(x)
        features = {"stem": x}
        x, of_blocks = self._stack(kernel_init)(x, keys=keys, angles=angles)
        features |= of_blocks
        norm = nn.LayerNorm(epsilon=self.epsilon, name="norm", **types)
        x = norm(x)
        num_prefix = sum(token.shape[1] for token in tokens)
        features["patch_tokens"] = x[:, num_prefix:]
        if self.class_token:
            features["class_token"] = x[:, 0]
            blocks = [f"block{number:02d}" for number in range(self.depth)]
            of_each = norm(jnp.stack([of_blocks[block][:, 0] for block in blocks], axis=1))
            features |= {f"{block}/class_token": of_each[:, number] for number, block in enumerate(blocks)}
        if self.num_registers:
            features["registers"] = x[:, num_prefix - self.num_registers : num_prefix]
        return self._head(x, features, kernel_init)

    def _kernel_init(self) -> Initializer:
        if self.initialisation == "clip":
            return clip_inits(self.width, self.depth)["kernel_init"]
        return nn.initializers.xavier_uniform() if self.initialisation == "xavier" else nn.initializers.normal(0.02)

    def _patch_init(self) -> Initializer:
        return nn.initializers.normal(0.02) if self.initialisation == "normal" else nn.initializers.lecun_normal()

    def _with_positions(self, x: Array, grid: Grid) -> tuple[Array, Array | None]:
        """Adds positions to the patches, or returns the angles that stand for them."""
        if self.positions == "rotary":
            return x, jnp.asarray(rotary_angles(grid, self.width // self.num_heads))
        if self.positions == "sincos2d":
            return x + jnp.asarray(sincos_2d(grid, self.width).reshape(-1, self.width), self.dtype), None
        name = "position_embedding"
        if self.has_variable("params", name):
            positions: Any = self.get_variable("params", name)
        else:
            positions = self.param(name, self._position_init(), (*grid, self.width), self.param_dtype)
        if tuple(positions.shape[:2]) != grid and not self.resize_positions:
            there, here = ("x".join(map(str, each)) for each in (positions.shape[:2], grid))
            raise ValueError(
                f"learned positions are for {there} patches, these images have {here}; set resize_positions=True"
            )
        if tuple(positions.shape[:2]) != grid:
            options: dict[str, Any] = {"antialias": self.position_antialias, "offset": self.position_offset}
            positions = resize_positions(positions, grid, **options)
        return x + positions.reshape(-1, self.width).astype(self.dtype), None

    def _position_init(self) -> Initializer:
        return nn.initializers.normal(0.02 if self.initialisation == "normal" else 1 / math.sqrt(self.width))

    def _prefix(self, batch: int) -> list[Array]:
        """The tokens before the patches; with learned positions the class and distillation tokens have one each."""
        deviations = {"xavier": 0.0, "normal": 1e-6, "clip": self.width**-0.5}
        deviation = deviations[self.initialisation]
        init = nn.initializers.normal(deviation) if deviation else nn.initializers.zeros
        tokens = []
        for name, there, count in (
            ("class", self.class_token, 1),
            ("distillation", self.distillation_token, 1),
            ("register", self.num_registers > 0, self.num_registers),
        ):
            if there:
                token = self.param(f"{name}_token", init, (count, self.width), self.param_dtype)
                if self.positions == "learned" and name != "register":
                    # Not in place: parameters may be NumPy arrays, and are the caller's.
                    place = self.param(f"{name}_position", self._position_init(), (1, self.width), self.param_dtype)
                    token = token + place
                tokens.append(jnp.broadcast_to(token.astype(self.dtype), (batch, count, self.width)))
        return tokens

    def _stack(self, kernel_init: Initializer) -> Stack:
        biases = nn.initializers.normal(1e-6) if self.initialisation == "xavier" else nn.initializers.zeros
        block: dict[str, Any] = {
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "swiglu": self.mlp == "swiglu",
            "activation": self.activation,
            "epsilon": self.epsilon,
            "qkv_bias": self.qkv_bias,
            "layer_scale": self.layer_scale,
            "dropout": self.dropout,
            "drop_mode": self.drop_mode,
            "return_weights": self.attention_weights,
            "kernel_init": kernel_init,
            **(clip_inits(self.width, self.depth) if self.initialisation == "clip" else {}),
            "bias_init": biases,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }
        depth: dict[str, Any] = {"stochastic_depth": self.stochastic_depth, "uniform_depth": self.uniform_depth}
        return Stack(self.depth, block, **depth, scan=self.scan, remat=self.remat, name="encoder")

    def _head(self, x: Array, features: Features, kernel_init: Initializer) -> tuple[Array, Features]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        if self.pool == "map":
            activation = activation_function(self.activation)
            pooling: dict[str, Any] = {"epsilon": self.epsilon, "kernel_init": kernel_init, **types}
            x_pooled = AttentionPool(self.num_heads, self.mlp_dim, activation=activation, name="pool", **pooling)(
                features["patch_tokens"]
            )
        else:
            x_pooled = x[:, 0] if self.pool == "token" else jnp.mean(features["patch_tokens"], axis=1)
        if self.representation:
            x_pooled = nn.tanh(nn.Dense(self.width, kernel_init=kernel_init, name="representation", **types)(x_pooled))
        features["pre_logits"] = x_pooled
        if not self.num_classes:
            return x_pooled, features
        # Zero weights: the first predictions are those of the bias alone, whatever the features.
        head_init = kernel_init if self.initialisation == "normal" else nn.initializers.zeros
        bias_init = nn.initializers.constant(self.head_bias)
        head: dict[str, Any] = {"kernel_init": head_init, "bias_init": bias_init, **types}
        logits = nn.Dense(self.num_classes, name="head", **head)(x_pooled)
        if not self.distillation_token:
            return logits, features
        distilled = nn.Dense(self.num_classes, name="distillation_head", **head)(x[:, 1])
        return (logits + distilled) / 2, {**features, "class_logits": logits, "distillation_logits": distilled}


VARIANTS = variants(ViT)
