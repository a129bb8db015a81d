"""Features one after another: fitted to some images, computed for others, a few thousand at a time."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from vision.classic.features import FEATURES, cache
from vision.classic.features.descriptors import Descriptors, concatenate
from vision.config.calling import call, fill_named
from vision.errors import ConfigError

_CHUNK = 2048  # images on their way at once
_MANY = 5000  # images from which a progress bar is worth its line


class Chain:
    """What a config's ``features`` describe: each step takes what the one before gives, the first takes images.

    Everything but a step's ``fit`` is done in chunks, so that only what is fitted to and the result are held whole.
    With a fingerprint of the images, features and what was fitted are kept on disk (:mod:`.cache`), under a key of
    the fingerprints, the sections, the seed, the libraries' versions and the code; without one, nothing is.

    Attributes:
      sections: of the config, complete with defaults.
      seed: of every step that takes one.
      steps: the steps in order.
      fitted_to: fingerprint of the images that the steps were fitted to, where they have one.

    Raises:
      ConfigError: there is no section, or one names no feature, has unknown options, or cannot follow the one before.
    """

    def __init__(self, sections: Sequence[Mapping[str, Any]], seed: int):
        self.sections: tuple[dict[str, Any], ...] = ()
        self.seed = seed
        self.steps: list[Any] = []
        self.fitted_to: str | None = None
        given = "images"
        for place, section in enumerate(sections):
            path = f"config.features[{place}]"
            filled = fill_named(FEATURES, section, path, kind="feature", provided=("seed",))
            step = call(FEATURES[filled["name"]], filled, path, **_seeded(FEATURES[filled["name"]], seed))
            if step.takes != given:
                raise ConfigError(f"{path}.name: {filled['name']} takes {step.takes}; what is before it gives {given}")
            given = step.gives
            self.sections += (filled,)
            self.steps.append(step)
        if given != "features":
            cure = "; put bag_of_words behind it" if given == "descriptors" else ""
            raise ConfigError(f"config.features: the last gives {given}, estimators take features{cure}")

    def fit(self, images: np.ndarray, fingerprint: str | None) -> "Chain":
        """Fits every step to uint8 images ``[n, height, width, channels]``, and returns the chain.

        Raises:
          ValueError: a step cannot be fitted to them; the message begins with its name.
        """
        self._fit(images, fingerprint)
        return self

    def fit_transform(self, images: np.ndarray, fingerprint: str | None) -> np.ndarray:
        """Like :meth:`fit`, and returns the features of the images, float32 ``[n, features]``."""
        found = self._fit(images, fingerprint)
        return self.transform(images, fingerprint) if found is None else _told(*found)

    def transform(self, images: np.ndarray, fingerprint: str | None) -> np.ndarray:
        """Returns the features of uint8 images ``[n, height, width, channels]``, float32 ``[n, features]``.

        Raises:
          ValueError: a step cannot take them; the message begins with its name.
        """
        kept = bool(fingerprint and self.fitted_to)
        known = cache.recall(self._key(fingerprint)) if kept else None
        if known is not None and known.keys() == {"features", "empty"} and len(known["features"]) == len(images):
            return _told(known["features"], int(known["empty"]))
        values, empty = _stream(images, self.steps)
        if kept:
            cache.remember(self._key(fingerprint), {"features": values, "empty": np.array(empty)})
        return _told(values, empty)

    def _fit(self, images: np.ndarray, fingerprint: str | None) -> tuple[np.ndarray, int] | None:
        """Fits; returns features and how many images have no descriptor, or None where what was fitted was kept."""
        self.fitted_to = fingerprint
        if fingerprint and self._restore(cache.recall(self._key())):
            return None
        values: Any = images
        empty = 0
        for place, step in enumerate(self.steps):
            values, without = _stream(values, self.steps[place - 1 : place] if place else ())
            empty += without
            step.fit(values)
        values, without = _stream(values, self.steps[-1:])
        if fingerprint:
            cache.remember(self._key(), self._state())
            cache.remember(self._key(fingerprint), {"features": values, "empty": np.array(empty + without)})
        return values, empty + without

    def _key(self, fingerprint: str | None = None) -> str:
        """Of the fitted steps, or of the features of the images with a fingerprint."""
        seed = self.seed if any(hasattr(step, "seed") for step in self.steps) else None
        return cache.key(sections=self.sections, seed=seed, fitted_to=self.fitted_to, images=fingerprint)

    def _state(self) -> dict[str, np.ndarray]:
        """What the steps have learned."""
        return {
            f"{place}.{name}": value
            for place, step in enumerate(self.steps)
            for name, value in vars(step).items()
            if name.endswith("_")
        }

    def _restore(self, state: Mapping[str, np.ndarray] | None) -> bool:
        """Takes what was learned before; returns whether there was any."""
        for key, value in (state or {}).items():
            place, name = key.split(".")
            setattr(self.steps[int(place)], name, value)
        return state is not None


def _seeded(function: Any, seed: int) -> dict[str, Any]:
    return {"seed": seed} if "seed" in inspect.signature(function).parameters else {}


def _stream(values: Any, steps: Sequence[Any]) -> tuple[Any, int]:
    """Sends images, or what became of them, through steps; and how many turned out to have no descriptor."""
    if not steps:
        return values, 0
    count = len(values.counts) if isinstance(values, Descriptors) else len(values)
    silent = count < _MANY or not sys.stderr.isatty()
    parts: list[Descriptors] = []
    whole, empty = np.zeros((0, 0), np.float32), 0
    with tqdm(total=count, desc="features", unit=" images", leave=False, disable=silent) as bar:
        for start in range(0, count, _CHUNK):
            stop = min(start + _CHUNK, count)
            part = values.of_images(start, stop) if isinstance(values, Descriptors) else values[start:stop]
            for step in steps:
                part = step.transform(part)
                empty += int((part.counts == 0).sum()) if isinstance(part, Descriptors) else 0
            if isinstance(part, Descriptors):
                parts.append(part)
            else:
                whole = np.empty((count, part.shape[1]), np.float32) if start == 0 else whole
                whole[start:stop] = part
            bar.update(stop - start)
    return (concatenate(parts) if parts else whole), empty


def _told(features: np.ndarray, empty: int) -> np.ndarray:
    if empty:
        text = f"{empty} of {len(features)} images have no keypoint; their histograms are all zero"
        print(f"features: {text}", file=sys.stderr, flush=True)
    return features
