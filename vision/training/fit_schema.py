"""What the config of a fitted estimator may say; that of a trained model is :mod:`vision.training.schema`."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from vision.classic.estimators import ESTIMATORS
from vision.classic.features import FEATURES
from vision.config.calling import fill, fill_named
from vision.data.decode import Decoder
from vision.data.framing import CROPS, Interpolation
from vision.data.host import OnError
from vision.errors import ConfigError
from vision.training.schema import RESERVED

Section = Mapping[str, Any]


def experiment(
    *,
    data: Section,
    estimator: Section,
    features: tuple[Section, ...] = ({"name": "pixels"},),
    seed: int = 0,
    evals: Section = {},
    limits: Section = {},
) -> None:
    """The top level of a config.

    Args:
      data: see :func:`data_section`.
      estimator: ``name`` of one of :data:`vision.classic.estimators.ESTIMATORS`, and its options.
      features: what makes features of images, one after another, each a ``name`` of
        :data:`vision.classic.features.FEATURES` and its options.
      seed: of everything that is random.
      evals: ``name -> section``, see :func:`eval_section`.
      limits: see :func:`limits_section`.
    """


def data_section(
    *,
    name: str,
    split: str = "train",
    data_dir: str | None = None,
    label: str | None = None,
    classes: tuple[int | str, ...] | None = None,
    on_error: OnError = "error",
    image_size: int | tuple[int, int] | None = None,
    channels: Literal[1, 3] | None = None,
    crop: Section = {"name": "center"},
    decoder: Decoder = "opencv",
    interpolation: Interpolation = "bilinear",
) -> None:
    """What is fitted to; the keys are those of :func:`vision.training.schema_data.data_section`."""


def eval_section(*, split: str | None = None) -> None:
    """Where the estimator is evaluated; None for the held-out split."""


def limits_section(*, memory_gib: float = 8.0, minutes: float = 30.0) -> None:
    """What a fit may take before it says so and does not begin: gibibytes and minutes, estimated beforehand."""


def is_fit(config: Section) -> bool:
    """Whether a config describes an estimator that is fitted, not a model that is trained step by step."""
    return "estimator" in config


def resolve(config: Section) -> dict[str, Any]:
    """Returns the config complete with every default.

    Raises:
      ConfigError: naming the key, where anything in it is unknown, missing, of a wrong type or not allowed.
    """
    full = fill(experiment, config, "config")
    full["data"] = fill(data_section, full["data"], "config.data")
    full["data"]["crop"] = fill_named(CROPS, full["data"]["crop"], "config.data.crop", kind="crop")
    if not full["features"]:
        raise ConfigError("config.features: empty; the plain pixels are ({'name': 'pixels'},)")
    full["features"] = tuple(
        fill_named(FEATURES, section, f"config.features[{place}]", kind="feature", provided=("seed",))
        for place, section in enumerate(full["features"])
    )
    full["estimator"] = fill_named(
        ESTIMATORS, full["estimator"], "config.estimator", kind="estimator", provided=("seed", "state")
    )
    if not 0 <= full["seed"] < 2**32:
        raise ConfigError(f"config.seed: must be in [0, 2**32), got {full['seed']}")
    for name, section in full["evals"].items():
        if not re.fullmatch(r"\w+", name) or name in RESERVED:
            raise ConfigError(f"config.evals.{name}: an eval's name is one word, and none of {', '.join(RESERVED)}")
        full["evals"][name] = fill(eval_section, section, f"config.evals.{name}")
    full["limits"] = fill(limits_section, full["limits"], "config.limits")
    for key, value in full["limits"].items():
        if not value > 0:
            raise ConfigError(f"config.limits.{key}: must be more than 0, got {value}")
    return full
