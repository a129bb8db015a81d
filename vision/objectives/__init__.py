"""Objectives by name. A new way to learn is a function here, never another trainer."""

from collections.abc import Callable

from vision.objectives.base import Objective
from vision.objectives.classify import classify
from vision.objectives.distill import distill
from vision.objectives.masked_autoencoder import masked_autoencoder
from vision.objectives.regress import regress
from vision.objectives.simclr import simclr

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "classify": classify,
    "distill": distill,
    "masked_autoencoder": masked_autoencoder,
    "regress": regress,
    "simclr": simclr,
}
# These take a model without a head, and images alone.
VIEWS = {"distill": ("global", "local"), "simclr": ("global",)}  # what an objective reads of config.data.views
WITHOUT_LABELS = frozenset({"distill", "simclr", "masked_autoencoder"})
