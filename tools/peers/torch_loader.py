"""torch's DataLoader with torchvision: what one would take instead of the house's pipeline.

Command: python -m tools.peers.torch_loader WORK, see :mod:`tools.peers`. It needs torch and torchvision alone.
"""

from collections.abc import Iterator
from functools import partial

from tools.peers import MEAN, STD, Start, Stream, Work, begin, serve


def main() -> None:
    """Serves batches of JPEG files, of small images in memory, and of views."""
    work = begin(Work)
    serve(streams(work))


def streams(work: Work) -> dict[str, Start]:
    """Returns what can be timed: ``jpeg``, ``jpeg uint8``, ``small`` and ``views``.

    ``jpeg`` is the input of PyTorch's ImageNet example (pytorch/examples, imagenet/main.py): float32 images,
    normalised on the host. ``jpeg uint8`` leaves that out. ``views`` is the augmentation of DINO
    (facebookresearch/dino, main_dino.py). Pillow makes all pixels, and a core more than one is a worker process.
    """
    from torchvision import datasets, transforms

    normalize = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    flip = transforms.RandomHorizontalFlip()

    def jpeg(last: list) -> Stream:
        chain = transforms.Compose([transforms.RandomResizedCrop(work.size), flip, *last])
        return _stream(datasets.ImageFolder(work.folder, chain), work.batch_size, work)

    def small() -> Stream:
        import numpy as np

        images = np.random.default_rng(0).integers(0, 256, (work.small_images, 32, 32, 3), np.uint8)
        chain = transforms.Compose([transforms.RandomCrop(32, padding=4), flip, *normalize])
        return _stream(InMemory(images, chain), work.small_batch, work)

    def views() -> Stream:
        import numpy as np

        return _stream(InMemory(np.load(work.views), Views(work, normalize)), work.views_batch, work)

    return {
        "jpeg": partial(jpeg, normalize),
        "jpeg uint8": partial(jpeg, [transforms.PILToTensor()]),
        "small": small,
        "views": views,
    }


def _stream(dataset, batch_size: int, work: Work) -> Stream:
    from torch.utils.data import DataLoader

    workers = 0 if work.cores == 1 else work.cores
    loader = DataLoader(dataset, batch_size, sampler=Endless(len(dataset)), num_workers=workers)
    return Stream(iter(loader), batch_size, ahead=2 * workers)


class Endless:
    """A permutation of the examples after another, so that a measurement meets no end of an epoch."""

    def __init__(self, count: int):
        self._count = count

    def __iter__(self) -> Iterator[int]:
        import torch

        while True:
            yield from torch.randperm(self._count).tolist()


class InMemory:
    """A data set of images in an array, as torchvision's CIFAR10 holds them."""

    def __init__(self, images, transform):
        self._images, self._transform = images, transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int):
        from PIL import Image

        return self._transform(Image.fromarray(self._images[index]))


class Views:
    """The views of DINO: two global ones, the second at times solarized, and the local ones."""

    def __init__(self, work: Work, normalize: list):
        from torchvision import transforms

        bicubic = transforms.InterpolationMode.BICUBIC
        colours = [
            transforms.RandomHorizontalFlip(0.5),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
            transforms.RandomGrayscale(0.2),
        ]

        def chain(size: int, scale: tuple[float, float], blurred: float, *more):
            crop = transforms.RandomResizedCrop(size, scale, interpolation=bicubic)
            blur = transforms.RandomApply([Blur()], blurred)
            return transforms.Compose([crop, *colours, blur, *more, *normalize])

        solarize = transforms.RandomSolarize(128, 0.2)
        local = chain(work.local_size, (0.05, 0.4), 0.5)
        self._chains = [
            chain(work.global_size, (0.4, 1.0), 1.0),
            chain(work.global_size, (0.4, 1.0), 0.1, solarize),
            *[local] * work.num_local,
        ]

    def __call__(self, image) -> list:
        """Returns float32 tensors ``[3, height, width]``, the global views first."""
        return [chain(image) for chain in self._chains]


class Blur:
    """Pillow's Gaussian blur with a radius uniform in [0.1, 2]."""

    def __call__(self, image):
        """Returns a Pillow image of the same size."""
        import random

        from PIL import ImageFilter

        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


if __name__ == "__main__":
    main()
