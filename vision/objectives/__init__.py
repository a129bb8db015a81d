"""Objectives by name. A new way to learn is a function here, never another trainer."""

from collections.abc import Callable

from vision.objectives.base import Objective
from vision.objectives.classify import classify
from vision.objectives.regress import regress

OBJECTIVES: dict[str, Callable[..., Objective]] = {"classify": classify, "regress": regress}
