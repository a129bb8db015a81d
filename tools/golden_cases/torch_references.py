"""Networks of torchvision, timm and transformers, and the few that these lack, by the names that cases give them."""

import math
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import timm.layers
import timm.models
import torch
import torchvision
import transformers
from safetensors.torch import save_file
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.convnext import ConvNeXt
from timm.models.deit import VisionTransformerDistilled
from timm.models.mlp_mixer import MlpMixer
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models import convnext, resnet
from transformers.core_model_loading import revert_weight_conversion

from tools.golden_cases import torch_airbench, torch_convnets, torch_lenet
from tools.peers import torch_dino

transformers.utils.logging.disable_progress_bar()


class Reference(NamedTuple):
    """A network that somebody else wrote.

    Attributes:
      module: its parameters and statistics.
      call: images ``[batch, channels, height, width]`` to its output; with a second argument, patches are masked.
      looks: images to what else is compared, by name; None where there is nothing else.
    """

    module: nn.Module
    call: Callable[..., torch.Tensor]
    looks: Callable[[torch.Tensor], dict[str, torch.Tensor]] | None = None

    def renamed(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns tensors under the names of weight files, in which transformers names and cuts them another way."""
        is_theirs = isinstance(self.module, transformers.PreTrainedModel)
        return revert_weight_conversion(self.module, tensors) if is_theirs else tensors

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over the parameters and statistics of a weight file; transformers reads a real one."""
        tensors = {name: torch.tensor(array) for name, array in arrays.items()}
        if isinstance(self.module, transformers.PreTrainedModel):
            with tempfile.TemporaryDirectory() as folder:
                self.module.config.save_pretrained(folder)
                save_file(tensors, f"{folder}/model.safetensors", {"format": "pt"})
                read = type(self.module).from_pretrained(folder)
            tensors = read.state_dict()
        missing, unexpected = self.module.load_state_dict(tensors, strict=False)
        left = [name for name in missing if not name.endswith("num_batches_tracked")]
        if left or unexpected:
            raise ValueError(f"not loaded: {left}, not known: {unexpected}")


def build(source: str, options: dict[str, Any]) -> Reference:
    """Returns the network of a case, in float64 and without dropout."""
    made = _SOURCES[source](**options)
    reference = made if isinstance(made, Reference) else Reference(made, made)
    reference.module.double()
    for part in reference.module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return reference


def _torchvision(name: str, hidden: int | None = None, **options: Any) -> nn.Module:
    """``hidden`` narrows the dense layers of AlexNet and VGG, which hold most of their parameters."""
    network = getattr(torchvision.models, name)(weights=None, **options)
    if hidden:
        layers = [index for index, layer in enumerate(network.classifier) if isinstance(layer, nn.Linear)]
        sizes = [network.classifier[layers[0]].in_features, hidden, hidden, options["num_classes"]]
        for index, before, after in zip(layers, sizes[:-1], sizes[1:], strict=True):
            network.classifier[index] = nn.Linear(before, after)
    return network


def _torchvision_resnet(block: str, layers: list[int], cifar_stem: bool = False, **options: Any) -> nn.Module:
    kinds = {"basic": resnet.BasicBlock, "bottleneck": resnet.Bottleneck}
    network = resnet.ResNet(kinds[block], list(layers), **options)
    if cifar_stem:
        network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    return network


def _torchvision_convnext(widths: list[int], depths: list[int], num_classes: int) -> nn.Module:
    after = [*widths[1:], None]
    stages = [convnext.CNBlockConfig(*each) for each in zip(widths, after, depths, strict=True)]
    return convnext.ConvNeXt(stages, layer_scale=1e-6, num_classes=num_classes)


def _vgg_cifar(name: str, num_classes: int) -> nn.Module:
    """The convolutions of VGG, which make one pixel of 32, and a single matrix."""
    network = getattr(torchvision.models, name)(weights=None)
    network.avgpool = nn.Identity()
    network.classifier = nn.Linear(512, num_classes)
    return network


def _timm(name: str, **options: Any) -> nn.Module:
    return timm.create_model(name, pretrained=False, **options)


def _timm_vit(mlp_layer: str | None = None, distilled: bool = False, **options: Any) -> nn.Module:
    if mlp_layer:
        options["mlp_layer"] = getattr(timm.layers, mlp_layer)
    return (VisionTransformerDistilled if distilled else VisionTransformer)(**options)


def _timm_clip_resnet(depths: list[int], width: int, img_size: int, num_classes: int) -> nn.Module:
    """CLIP's residual network of another size."""
    strides = (1, 2, 2, 2)
    blocks = [
        ByoBlockCfg(type="bottle", d=depth, c=4 * width * 2**stage, s=stride, br=0.25)
        for stage, (depth, stride) in enumerate(zip(depths, strides, strict=True))
    ]
    config = ByoModelCfg(blocks=tuple(blocks), stem_chs=(width // 2, width // 2, width), stem_type="",
                         stem_pool="avg2", downsample="avg", aa_layer="avg", head_type="attn_abs")  # fmt: skip
    return ByobNet(config, num_classes=num_classes, img_size=img_size)


class PlainVit(VisionTransformer):
    """The simple ViT of big_vision (Beyer et al. 2022): positions by sines and cosines, and the mean of the patches.

    Attributes:
      pre_logits: a layer with tanh before the head, which the code of the paper still had.
    """

    def __init__(self, **options: Any):
        super().__init__(pos_embed="none", class_token=False, global_pool="avg", fc_norm=False,
                         act_layer="gelu_tanh", **options)  # fmt: skip
        self.pre_logits = nn.ModuleDict({"fc": nn.Linear(self.embed_dim, self.embed_dim)})

    def _pos_embed(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = self.patch_embed.grid_size
        frequencies = [1 / 10000 ** (i / (self.embed_dim // 4 - 1)) for i in range(self.embed_dim // 4)]
        places = [
            [f(at * w) for at in (column, row) for f in (math.sin, math.cos) for w in frequencies]
            for row in range(rows)
            for column in range(columns)
        ]
        return x + torch.tensor(places, dtype=x.dtype)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Returns logits of tokens."""
        return self.head(torch.tanh(self.pre_logits["fc"](x.mean(dim=1))))


def _transformers(name: str, config: str, output: str = "logits", **options: Any) -> Reference:
    made = getattr(transformers, config)(**options, attn_implementation="eager")
    network = getattr(transformers, name)(made)

    def call(images: torch.Tensor, *masks: torch.Tensor) -> torch.Tensor:
        return getattr(network(images, *masks), output)

    return Reference(network, call)


def _transformers_vit(**options: Any) -> Reference:
    """Looks at the attention weights of every block, and at the tokens before the first and after every block."""
    reference = _transformers("ViTForImageClassification", "ViTConfig", **options)

    def looks(images: torch.Tensor) -> dict[str, torch.Tensor]:
        made = reference.module(images, output_attentions=True, output_hidden_states=True)
        return {"attention": torch.stack(made.attentions), "tokens": torch.stack(made.hidden_states)}

    return reference._replace(looks=looks)


_SOURCES: dict[str, Callable[..., Any]] = {
    "torchvision": _torchvision,
    "torchvision resnet": _torchvision_resnet,
    "torchvision convnext": _torchvision_convnext,
    "torchvision vit": torchvision.models.VisionTransformer,
    "vgg cifar": _vgg_cifar,
    "timm": _timm,
    "timm vit": _timm_vit,
    "plain vit": PlainVit,
    "timm convnext": ConvNeXt,
    "timm clip resnet": _timm_clip_resnet,
    "timm mixer": MlpMixer,
    "dino vit": torch_dino.VisionTransformer,
    "transformers": _transformers,
    "transformers vit": _transformers_vit,
    "lenet": torch_lenet.LeNet,
    "lenet of 1998": torch_lenet.LeNet1998,
    "alexnet of 2012": torch_convnets.AlexNet2012,
    "cifar resnet": torch_convnets.CifarResNet,
    "wide resnet": torch_convnets.WideResNet,
    "airbench": torch_airbench.Airbench,
}
