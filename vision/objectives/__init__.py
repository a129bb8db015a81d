"""Objectives by name. A new way to learn is a function here, never another trainer."""

from collections.abc import Callable

from vision.objectives.base import Objective
from vision.objectives.classify import classify
from vision.objectives.contrast import contrast
from vision.objectives.distill import distill
from vision.objectives.knowledge_distillation import knowledge_distillation
from vision.objectives.masked_autoencoder import masked_autoencoder
from vision.objectives.masked_token import masked_token
from vision.objectives.next_token import next_token
from vision.objectives.regress import regress
from vision.objectives.simclr import simclr

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "classify": classify,
    "contrast": contrast,
    "distill": distill,
    "knowledge_distillation": knowledge_distillation,
    "masked_autoencoder": masked_autoencoder,
    "masked_token": masked_token,
    "next_token": next_token,
    "regress": regress,
    "simclr": simclr,
}
VIEWS = {"distill": ("global", "local"), "simclr": ("global",)}  # what an objective reads of config.data.views
# These learn from captions: from images and captions, or from captions alone.
OF_IMAGES_AND_WORDS = frozenset({"contrast"})
OF_WORDS = frozenset({"next_token", "masked_token"})
# These learn from a trained network too.
WITH_TEACHER = frozenset({"knowledge_distillation"})
# These need no labels, and take a model without a head.
WITHOUT_LABELS = frozenset({"distill", "simclr", "masked_autoencoder"}) | OF_IMAGES_AND_WORDS | OF_WORDS
