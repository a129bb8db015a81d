"""Colour, tone, blur and the operations of AutoAugment by torchvision on PIL images."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torchvision.transforms import InterpolationMode, autoaugment, functional

SEED = 20240229
HEIGHT, WIDTH = 24, 20
FACTORS = (0.0, 0.3, 0.9, 1.0, 1.1, 1.9)
HUES = (-0.5, -0.26, -0.1, 0.0, 0.03, 0.3, 0.5)
BLURS = ((5, 0.1), (3, 0.5), (9, 1.0), (9, 2.0))  # kernel size, sigma
OPERATIONS = {
    "ShearX": (-0.3, 0.03, 0.99),
    "ShearY": (-0.3, 0.03, 0.99),
    "TranslateX": (-9.0634, 0.9, 5.5),
    "TranslateY": (-9.0634, 0.9, 5.5),
    "Rotate": (-135.0, -30.0, 7.0, 90.0),
    "Brightness": (-0.9, 0.27, 0.99),
    "Color": (-0.9, 0.27, 0.99),
    "Contrast": (-0.9, 0.27, 0.99),
    "Sharpness": (-0.9, 0.27, 0.99),
    "Posterize": (2.0, 4.0, 7.0),
    "Solarize": (0.0, 127.5, 255.0),
    "AutoContrast": (0.0,),
    "Equalize": (0.0,),
    "Invert": (0.0,),
    "Identity": (0.0,),
}
GEOMETRIC = 5
SIZES = ((HEIGHT, WIDTH), (32, 32), (224, 199))


def our_name(name: str) -> str:
    """The name that the project has for an operation of torchvision: ShearX is shear_x."""
    renamed = {"Color": "saturation", "AutoContrast": "autocontrast"}
    return renamed.get(name, re.sub("([XY])$", r"_\1", name).lower())


def images() -> dict[str, np.ndarray]:
    """A smooth image with an edge, noise, one colour, and the first in grey and darker."""
    rng = np.random.Generator(np.random.Philox(SEED))
    y, x = np.mgrid[:HEIGHT, :WIDTH, :1][:2] / HEIGHT
    waves = sum(
        rng.uniform(10, 40, 3) * np.sin(2 * np.pi * (rng.uniform(-2, 2) * x + rng.uniform(-2, 2) * y + rng.uniform()))
        for _ in range(6)
    )
    smooth = 120 + waves + 50 * (x + 0.5 * y > 0.7) * rng.uniform(-1, 1, 3)
    photo = np.clip(smooth + rng.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)
    return {
        "photo": photo,
        "noise": rng.integers(0, 256, photo.shape, dtype=np.uint8),
        "constant": np.broadcast_to(np.array([201, 30, 97], np.uint8), photo.shape).copy(),
        "grey": (photo[..., :1] * 0.6 + 20).astype(np.uint8),
    }


def over(image: np.ndarray, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> np.ndarray:
    """What a function of a PIL image gives at each of several arguments, stacked."""
    picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
    return np.stack([np.asarray(function(picture, *each)).reshape(image.shape) for each in arguments])


def cases() -> dict[str, np.ndarray]:
    """Arrays by name: ``image/NAME``, ``CASE/arguments`` and ``CASE/NAME``, one result for each argument."""
    adjustments: dict[str, tuple[Callable[..., Any], list[tuple[Any, ...]]]] = {
        **{
            name: (getattr(functional, name), [(factor,) for factor in FACTORS])
            for name in ("adjust_brightness", "adjust_contrast", "adjust_saturation", "adjust_sharpness")
        },
        "adjust_hue": (functional.adjust_hue, [(hue,) for hue in HUES]),
        "posterize": (functional.posterize, [(1,), (4,), (6,)]),
        "solarize": (functional.solarize, [(0,), (100.5,), (128,), (256,)]),
        "equalize": (functional.equalize, [()]),
        "autocontrast": (functional.autocontrast, [()]),
        "invert": (functional.invert, [()]),
        "gaussian_blur": (functional.gaussian_blur, list(BLURS)),
    }
    made = {"versions": np.array([torch.__version__.split("+")[0], torchvision.__version__, PIL.__version__])}
    pictures = images()
    made |= {f"image/{name}": image for name, image in pictures.items()}
    for case, (function, arguments) in adjustments.items():
        made[f"{case}/arguments"] = np.array(arguments)
        for name, image in pictures.items():
            made[f"{case}/{name}"] = over(image, function, arguments)
    for position, (operation, magnitudes) in enumerate(OPERATIONS.items()):
        made[f"operation/{our_name(operation)}/arguments"] = np.array(magnitudes)
        for mode in (InterpolationMode.NEAREST, InterpolationMode.BILINEAR)[: 1 + (position < GEOMETRIC)]:
            for name in ("photo", "grey"):
                arguments = [(operation, magnitude, mode, [77.0]) for magnitude in magnitudes]
                made[f"operation/{our_name(operation)}/{mode.value}/{name}"] = over(
                    pictures[name], autoaugment._apply_op, arguments
                )
    return made | tables()


def tables() -> dict[str, np.ndarray]:
    """Magnitudes of every operation at every bin, and the sub-policies of AutoAugment as text."""
    made = {}
    for height, width in SIZES:
        spaces = {
            "autoaugment": autoaugment.AutoAugment()._augmentation_space(10, (height, width)),
            "randaugment": autoaugment.RandAugment()._augmentation_space(31, (height, width)),
            "trivialaugment": autoaugment.TrivialAugmentWide()._augmentation_space(31),
            "augmix": autoaugment.AugMix()._augmentation_space(10, (height, width)),
        }
        for space, of_names in spaces.items():
            for operation, (magnitudes, signed) in of_names.items():
                key = f"magnitudes/{space}/{height}x{width}/{our_name(operation)}/{'signed' if signed else 'unsigned'}"
                made[key] = magnitudes.numpy().astype(np.float32)
    for policy in autoaugment.AutoAugmentPolicy:
        rows = autoaugment.AutoAugment()._get_policies(policy)
        made[f"policies/{policy.value}"] = np.array(
            [[f"{our_name(name)} {chance} {level}" for name, chance, level in row] for row in rows]
        )
    return made
