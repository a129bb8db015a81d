"""Names of MLP-Mixers."""

from vision.interop.names import Naming, Pair, dense_layer, norm_layer, patch_kernel, same
from vision.models.mixer import Mixer


def timm(module: Mixer) -> list[Pair]:
    """Returns the arrays under the names of timm."""
    found = [
        patch_kernel("params/patch_embedding/kernel", "stem.proj.weight", module.patch_size),
        same("params/patch_embedding/bias", "stem.proj.bias"),
    ]
    for index in range(module.depth):
        ours, theirs = f"block{index:02}", f"blocks.{index}"
        for which, norm in (("tokens", "norm1"), ("channels", "norm2")):
            found += norm_layer(f"{ours}_{which}_norm", f"{theirs}.{norm}")
            found += dense_layer(f"{ours}_{which}/hidden", f"{theirs}.mlp_{which}.fc1")
            found += dense_layer(f"{ours}_{which}/out", f"{theirs}.mlp_{which}.fc2")
    found += norm_layer("norm", "norm")
    return found + (dense_layer("head", "head") if module.num_classes else [])


NAMINGS = {"timm/mixer": Naming(Mixer, timm)}
