"""The names of other libraries for the arrays of our families, by ``source/family``."""

from vision.interop.names import Naming
from vision.interop.namings import airbench, alexnet, clip, convnext, lenet, mixer, resnet, vgg, vit

FAMILIES = (lenet, alexnet, vgg, resnet, airbench, convnext, vit, clip, mixer)
NAMINGS: dict[str, Naming] = {key: naming for family in FAMILIES for key, naming in family.NAMINGS.items()}
