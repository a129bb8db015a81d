"""Convolutional networks of torchvision, timm and transformers, and of papers, beside ours."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tools.golden_cases.case import BATCH_NORM, GREY, LAYER_NORM, LEARN, PUBLISHED, RELU, Case, Options


def cases() -> Iterator[Case]:
    """Small networks for each option, and published ones."""
    yield from _lenets()
    yield from _plain_networks()
    yield from _residual_networks()
    yield from _airbenches()
    yield from _convnexts()
    yield from _clip_resnets()


def _lenets() -> Iterator[Case]:
    def case(name: str, model: str, reference: Options, **more: Any) -> Case:
        return Case(f"torch/{name}", model, "torch/lenet", "lenet", reference, **{"image_shape": GREY, **more})

    yield case("lenet", "lenet/5", {}, scales=RELU, **LEARN)
    yield case("lenet of 3x32x32", "lenet/5", {"padding": 0, "channels": 3}, scales=RELU, image_shape=(32, 32, 3))
    other = {"pooling": "average", "activation": "tanh"}
    yield case("lenet, averages and tanh", "lenet/5", {"average": True, "activation": "tanh"}, options=other)
    yield case("lenet of caffe", "lenet/caffe", {"caffe": True, "padding": 0})
    of_1998: dict[str, Any] = {"naming": "torch/lenet_1998", "source": "lenet of 1998"}
    yield replace(case("lenet of 1998", "lenet/5_1998", {}, **LEARN), **of_1998)
    yield replace(case("lenet of 1998, F6", "lenet/5_1998", {"codes": False}, num_classes=0), **of_1998)


def _plain_networks() -> Iterator[Case]:
    """AlexNet and VGG, with narrow dense layers where the test is to be quick."""
    narrow, theirs = {"hidden_sizes": (48, 48)}, {"hidden": 48, "num_classes": 10}
    alexnet = Case("torchvision/alexnet, narrow", "alexnet/2014", "torchvision/alexnet", "torchvision",
                   {"name": "alexnet", **theirs}, narrow, scales=RELU, **LEARN)  # fmt: skip
    # Of another size some ReLU is so near to zero that float32 rounds it to the other side, which shows in gradients.
    yield replace(alexnet, image_shape=(127, 95, 3))
    yield replace(alexnet, name="torch/alexnet of 2012, narrow", model="alexnet/2012", source="alexnet of 2012",
                  reference=theirs, image_shape=(227, 227, 3), batch=1, train=False, gradients=False)  # fmt: skip
    vgg = Case("torchvision/vgg11, narrow", "vgg/11", "torchvision/vgg", "torchvision", {"name": "vgg11", **theirs},
               narrow, image_shape=(64, 32, 3), scales=RELU)  # fmt: skip
    yield vgg
    yield replace(vgg, name="torchvision/vgg11_bn, narrow", model="vgg/11_bn", reference={"name": "vgg11_bn", **theirs},
                  scales={}, image_shape=(32, 32, 3), batch=4, slow=True, **LEARN)  # fmt: skip
    cifar = replace(vgg, source="vgg cifar", options={}, image_shape=(32, 32, 3), batch=4, slow=True)
    for name, model, scales in (("vgg16", "vgg/16_cifar", RELU), ("vgg16_bn", "vgg/16_bn_cifar", {})):
        yield replace(cifar, name=f"torch/{name} for CIFAR", model=model, reference={"name": name, "num_classes": 10},
                      scales=scales, train=name.endswith("bn"))  # fmt: skip
    yield Case("timm/vgg11", "vgg/11", "timm/vgg", "timm", {"name": "vgg11"}, scales=RELU, **PUBLISHED)
    for name, model in (("alexnet", "alexnet/2014"), ("vgg16", "vgg/16"), ("vgg19_bn", "vgg/19_bn")):
        naming, scales = f"torchvision/{model.partition('/')[0]}", {} if name.endswith("bn") else RELU
        yield Case(f"torchvision/{name}", model, naming, "torchvision", {"name": name}, scales=scales, **PUBLISHED)


def _airbenches() -> Iterator[Case]:
    def case(size: str, reference: Options, **more: Any) -> Case:
        name, model = f"torch/airbench{size}", f"airbench/{size}"
        return Case(name, model, "airbench", "airbench", reference, batch=4, scales=BATCH_NORM, train=True, **more)

    yield case("94", {"widths": (64, 256, 256), "depth": 2, "scale": 1 / 256}, gradients=True)
    yield case("96", {"widths": (128, 384, 512), "depth": 3, "scale": 1 / 9}, slow=True)


def _residual_networks() -> Iterator[Case]:
    def case(name: str, model: str, naming: str, source: str, reference: Options, **more: Any) -> Case:
        return Case(name, model, naming, source, reference, **{"scales": BATCH_NORM, "train": True, **more})

    one, three = {"stage_sizes": (1, 1, 1, 1)}, {"image_shape": (64, 32, 3), "batch": 3}
    tv = {"num_classes": 10, "layers": (1, 1, 1, 1)}
    names, made = "torchvision/resnet", "torchvision resnet"
    yield case("torchvision/resnet, basic", "resnet/18", names, made, {"block": "basic", **tv}, options=one,
               slow=True, **three)  # fmt: skip
    yield case("torchvision/resnet, bottleneck", "resnet/50", names, made, {"block": "bottleneck", **tv}, options=one,
               **three)  # fmt: skip
    cifar = {"block": "basic", "cifar_stem": True, **tv}
    yield case("torchvision/resnet, stem for CIFAR", "resnet/18_cifar", names, made, cifar, options=one, slow=True)
    yield case("torchvision/resnet, wide", "wide_resnet/50_2", names, made,
               {"block": "bottleneck", "width_per_group": 128, **tv}, options=one, train=False, slow=True)  # fmt: skip
    small = {"embedding_size": 16, "hidden_sizes": (16, 32), "depths": (1, 2), "layer_type": "basic", "num_labels": 10}
    yield case("transformers/resnet", "resnet/18", "huggingface/resnet", "transformers",
               {"name": "ResNetForImageClassification", "config": "ResNetConfig", **small},
               options={"width": 16, "stage_sizes": (1, 2)}, gradients=True, **three)  # fmt: skip
    for option, model in (("A", "resnet/20"), ("B", "resnet/20_b"), ("none", "plain/20")):
        short = {"options": {"stage_sizes": (1, 1, 1)}, "gradients": option == "A", "batch": 3}
        reference = {"blocks": 1, "option": option}
        yield case(f"torch/{model}, short", model, "torch/cifar_resnet", "cifar resnet", reference, **short)
        yield case(f"torch/{model}", model, "torch/cifar_resnet", "cifar resnet", {"blocks": 3, "option": option},
                   batch=8, slow=True)  # fmt: skip
    wide: dict[str, Any] = {"model": "wide_resnet/16_8", "naming": "torch/wide_resnet", "source": "wide resnet"}
    yield case("torch/wide_resnet, short", reference={"depth": 10, "k": 2}, **wide, gradients=True,
               options={"depth": 10, "width_factor": 2})  # fmt: skip
    yield case("torch/wide_resnet 16_8", reference={"depth": 16, "k": 8}, **wide, slow=True)
    published: dict[str, Any] = {**PUBLISHED, "scales": BATCH_NORM}
    for depth in (18, 50):
        yield Case(f"torchvision/resnet{depth}", f"resnet/{depth}", names, "torchvision", {"name": f"resnet{depth}"},
                   **published)  # fmt: skip
    yield Case("timm/resnet34", "resnet/34", "timm/resnet", "timm", {"name": "resnet34"}, **published)
    for size in ("50", "101"):
        name = f"wide_resnet{size}_2"
        yield Case(f"torchvision/{name}", f"wide_resnet/{size}_2", names, "torchvision", {"name": name}, **published)


def _convnexts() -> Iterator[Case]:
    more: dict[str, Any] = {"scales": LAYER_NORM, "image_shape": (24, 16, 3)}
    two: Options = {"stage_sizes": (1, 1), "widths": (8, 16)}
    theirs: Options = {"name": "ConvNextForImageClassification", "config": "ConvNextConfig", "num_labels": 10,
                       "num_stages": 2, "depths": (1, 1), "hidden_sizes": (8, 16)}  # fmt: skip
    yield Case("transformers/convnext", "convnext/T", "huggingface/convnext", "transformers", theirs, two, **more)
    theirs = {"depths": (1, 1), "widths": (8, 16), "num_classes": 10}
    yield Case("torchvision/convnext", "convnext/T", "torchvision/convnext", "torchvision convnext", theirs, two,
               slow=True, **LEARN, **more)  # fmt: skip
    theirs = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20), "num_classes": 10}
    four = {"stage_sizes": (1, 1, 1, 1), "widths": (8, 12, 16, 20)}
    yield Case("timm/convnext", "convnext/T", "timm/convnext", "timm convnext", theirs, four, slow=True,
               **{**more, "image_shape": (64, 32, 3)})  # fmt: skip
    yield Case("torchvision/convnext_tiny", "convnext/T", "torchvision/convnext", "torchvision",
               {"name": "convnext_tiny"}, **PUBLISHED)  # fmt: skip


def _clip_resnets() -> Iterator[Case]:
    small = {"stage_sizes": (2, 1, 1, 1), "width": 8, "out_size": 12}
    theirs = {"depths": [2, 1, 1, 1], "width": 8, "img_size": 64, "num_classes": 12}
    yield Case("timm/clip resnet", "clip_resnet/50", "timm/clip_resnet", "timm clip resnet", theirs, small,
               num_classes=0, image_shape=(64, 64, 3), scales=BATCH_NORM, **LEARN)  # fmt: skip
    whole = {**PUBLISHED, "num_classes": 0}
    yield Case("timm/resnet50_clip", "clip_resnet/50", "timm/clip_resnet", "timm", {"name": "resnet50_clip"}, **whole)
