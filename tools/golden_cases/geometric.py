"""What torchvision and Pillow make of small images: crops, affine maps, and the boxes that torchvision draws."""

import numpy as np

ANGLES = (0.0, 17.0, -45.0, 90.0, 133.7)
AFFINE = (  # angle, (right, down), scale, (horizontal, vertical) shear
    (0.0, (3, -2), 1.0, (0.0, 0.0)),
    (0.0, (0, 0), 1.27, (0.0, 0.0)),  # 1.3 would send pixels to edges between pixels, where rounding decides
    (0.0, (0, 0), 1.0, (20.0, 0.0)),
    (0.0, (0, 0), 1.0, (0.0, -15.0)),
    (25.0, (-4, 1), 0.8, (10.0, 5.0)),
    (-140.0, (2, 2), 1.1, (-12.0, 8.0)),
)
CROPS = (  # of a 40 by 36 image: top, left, height, width, and the side of the result
    (0, 0, 40, 36, 24),
    (3, 5, 17, 30, 24),
    (10, 2, 24, 24, 24),
    (1, 1, 7, 9, 24),
    (20, 30, 1, 1, 8),
    (0, 6, 40, 25, 16),
)
BOXES = {  # name -> height, width, scale, ratio
    "square": (224, 224, (0.08, 1.0), (3 / 4, 4 / 3)),
    "wide": (32, 96, (0.4, 1.0), (3 / 4, 4 / 3)),
    "local": (256, 256, (0.05, 0.4), (3 / 4, 4 / 3)),
}
ERASED = (64, 48, (0.02, 0.33), (0.3, 3.3))
QUANTILES = np.linspace(0.0, 1.0, 101)
_DRAWS = 20_000


def cases() -> dict[str, np.ndarray]:
    """Returns the inputs and what comes out; needs torch and torchvision."""
    import torch
    from PIL import Image
    from torchvision.transforms import InterpolationMode, RandomErasing, RandomResizedCrop, functional

    random = np.random.Generator(np.random.Philox(20))
    image = random.integers(0, 256, (40, 36, 3), dtype=np.uint8)
    picture = Image.fromarray(image)
    found: dict[str, np.ndarray] = {"image": image}
    modes = {"nearest": InterpolationMode.NEAREST, "bilinear": InterpolationMode.BILINEAR}
    for name, mode in modes.items():
        turned = [functional.rotate(picture, angle, mode, fill=[10, 10, 10]) for angle in ANGLES]
        mapped = [functional.affine(picture, *values, mode, fill=[200, 200, 200]) for values in AFFINE]
        found[f"rotate/{name}"] = np.stack([np.asarray(each) for each in turned])
        found[f"affine/{name}"] = np.stack([np.asarray(each) for each in mapped])
    modes = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
    for name, mode in modes.items():
        for number, (top, left, height, width, side) in enumerate(CROPS):
            # In two steps, since Pillow 13 chooses the order of the directions by the shape.
            rows = functional.resized_crop(picture, top, left, height, width, [height, side], mode)
            found[f"crop/{name}/{number}"] = np.asarray(functional.resize(rows, [side, side], mode))
    torch.manual_seed(0)
    for name, (height, width, scale, ratio) in BOXES.items():
        blank = torch.zeros(1, height, width)
        drawn = [RandomResizedCrop.get_params(blank, scale, ratio) for _ in range(_DRAWS)]
        found[f"boxes/{name}"] = _quantiles(np.array(drawn))
    height, width, scale, ratio = ERASED
    erased = [RandomErasing.get_params(torch.zeros(1, height, width), scale, ratio, [0.0])[:4] for _ in range(_DRAWS)]
    found["boxes/erased"] = _quantiles(np.array(erased))
    return found


def statistics(boxes: np.ndarray) -> np.ndarray:
    """Returns top, left, area and width over height of boxes ``[boxes, (top, left, height, width)]``, one per row."""
    top, left, height, width = np.asarray(boxes, np.float64).T
    return np.stack([top, left, height * width, width / height])


def _quantiles(boxes: np.ndarray) -> np.ndarray:
    return np.quantile(statistics(boxes), QUANTILES, axis=1).T.astype(np.float32)
