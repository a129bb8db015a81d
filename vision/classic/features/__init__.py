"""Hand-made features by name, each with scikit-learn's conventions.

Beyond these, the class of a feature says what it ``takes`` and ``gives``: ``images``, ``descriptors`` (any number for
each image) or ``features`` (float32 ``[n, features]``); and fitted attributes, which end in ``_``, are arrays.
"""

from collections.abc import Callable

from vision.classic.features.bag_of_words import BagOfWords
from vision.classic.features.hog import Hog
from vision.classic.features.patch_kmeans import PatchKmeans
from vision.classic.features.pixels import Pixels
from vision.classic.features.sift import DenseSift, KeypointSift
from vision.classic.features.standardize import Standardize

FEATURES: dict[str, Callable] = {
    "bag_of_words": BagOfWords,
    "dense_sift": DenseSift,
    "hog": Hog,
    "keypoint_sift": KeypointSift,
    "patch_kmeans": PatchKmeans,
    "pixels": Pixels,
    "standardize": Standardize,
}
