"""Features from a dictionary of small patches that k-means learned, with the triangle activation."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from sklearn.base import BaseEstimator, TransformerMixin

from vision.classic.features.images import check_images

_BATCH = 4  # images at once: their distances, 19 MB at 1,600 centroids, stay near the cache; 32 took twice as long
_BLOCK = 8192  # patches at once in k-means
_CONTRAST = 10.0  # added to the variance of a patch, on the scale 0 to 255 (Coates, Ng and Lee)


class PatchKmeans(TransformerMixin, BaseEstimator):
    """How near each patch is to each of many typical patches, summed over the quarters of the image.

    Coates, Ng and Lee, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011,
    section 3: random patches, contrast-normalised and whitened, are clustered by k-means. A patch x is then described
    by ``f_k = max(0, mean(z) - z_k)`` with ``z_k = ||x - c_k||`` (equation 5), and an image by the sums of f over the
    patches in its four quadrants, at stride 1. A linear classifier wants these standardised, with a variance floor of
    0.01.

    Args:
      centroids: number of clusters.
      patch_size: side of a patch in pixels.
      patches: how many random patches are clustered.
      whitening: added to the variances before whitening (ZCA), in units of contrast-normalised pixels.
      iterations: of k-means.
      seed: of the patches and of the first centroids.

    Attributes:
      mean_: of the patches, float32 ``[inputs]`` with ``inputs = patch_size ** 2 * channels``.
      whitening_: symmetric float32 ``[inputs, inputs]``.
      centroids_: float32 ``[centroids, inputs]``, in whitened coordinates.

    Raises:
      ValueError: an option is out of range, or the images are smaller than a patch or than 2x2 patches' positions.
    """

    takes, gives = "images", "features"

    def __init__(
        self,
        *,
        centroids: int = 1600,
        patch_size: int = 6,
        patches: int = 200_000,
        whitening: float = 0.1,
        iterations: int = 30,
        seed: int = 0,
    ):
        self.centroids = centroids
        self.patch_size = patch_size
        self.patches = patches
        self.whitening = whitening
        self.iterations = iterations
        self.seed = seed

    def fit(self, x: np.ndarray, y: np.ndarray | None = None):
        """Learns whitening and centroids from uint8 images ``[n, height, width, channels]``."""
        self._check(x)
        raw = random_patches(x, self.patches, self.patch_size, np.random.default_rng(self.seed))
        patches = np.asarray(normalize_contrast(jnp.asarray(raw)))
        self.mean_, self.whitening_ = zca(patches, self.whitening)
        whitened = (patches - self.mean_) @ self.whitening_
        self.centroids_ = kmeans(whitened, self.centroids, iterations=self.iterations, seed=self.seed)
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Returns float32 ``[n, 4 * centroids]``, the quadrants top left, top right, bottom left, bottom right."""
        self._check(x)
        learned = self.patch_size**2 * x.shape[-1]
        if learned != len(self.mean_):
            raise ValueError(f"patch_kmeans: learned patches of {len(self.mean_)} values, these images' have {learned}")
        result = np.empty((len(x), 4 * self.centroids), np.float32)
        for start in range(0, len(x), _BATCH):
            batch = x[start : start + _BATCH]
            full = np.pad(batch, ((0, min(_BATCH, len(x)) - len(batch)), (0, 0), (0, 0), (0, 0)))  # one compilation
            described = describe(full, self.mean_, self.whitening_, self.centroids_, self.patch_size)
            result[start : start + _BATCH] = described[: len(batch)]
        return result

    def _check(self, x: np.ndarray) -> None:
        for name in ("centroids", "patch_size", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"patch_kmeans: {name} must be at least 1, got {getattr(self, name)}")
        if self.patches < self.centroids:
            raise ValueError(f"patch_kmeans: {self.patches} patches are fewer than {self.centroids} centroids")
        if not self.whitening > 0:
            raise ValueError(f"patch_kmeans: whitening must be positive, got {self.whitening}")
        window = f"a patch of {self.patch_size} pixels and a second place for it"
        check_images(x, "patch_kmeans", least=self.patch_size + 1, window=window)


def random_patches(images: np.ndarray, count: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Returns patches at random places, float32 ``[count, size * size * channels]``, 0 to 255."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    places = [generator.integers(0, limit, count) for limit in windows.shape[:3]]
    return windows[places[0], places[1], places[2]].transpose(0, 2, 3, 1).reshape(count, -1).astype(np.float32)


def normalize_contrast(patches: Float[Array, "*places inputs"]) -> Float[Array, "*places inputs"]:
    """Subtracts a patch's mean and divides by its standard deviation; flat patches stay near zero."""
    centered = patches - patches.mean(-1, keepdims=True)
    return centered / jnp.sqrt(jnp.square(centered).mean(-1, keepdims=True) + _CONTRAST)


def zca(patches: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and the symmetric matrix that makes the patches' covariance the identity, up to ``floor``.

    With the covariance ``V diag(d) V'`` it is ``V diag(1 / sqrt(d + floor)) V'``.
    """
    mean = patches.mean(0, dtype=np.float64)
    values, vectors = np.linalg.eigh(np.cov(patches, rowvar=False, dtype=np.float64))
    matrix = (vectors / np.sqrt(np.maximum(values, 0) + floor)) @ vectors.T
    return mean.astype(np.float32), matrix.astype(np.float32)


def kmeans(patches: np.ndarray, count: int, *, iterations: int, seed: int) -> np.ndarray:
    """Returns centroids, float32 ``[count, inputs]``, after some iterations of Lloyd's algorithm.

    They begin near zero, at ``N(0, 0.1^2)``, and one without patches returns there, to zero: the start of Coates's own
    program. Libraries begin at patches and move empty clusters to the farthest patch; both spend centroids on outliers
    that hardly any image has (a tenth of 1,600 on CIFAR-10).

    Args:
      patches: whitened, float32 ``[n, inputs]``.
      count: of the centroids.
      iterations: of the algorithm.
      seed: of the start.
    """
    start = np.random.default_rng(seed).normal(0, 0.1, (count, patches.shape[1]))
    centroids = jnp.asarray(start, jnp.float32)
    blocks = [patches[first : first + _BLOCK] for first in range(0, len(patches), _BLOCK)]
    for _ in range(iterations):
        sums, members = jnp.zeros_like(centroids), jnp.zeros(count)
        for block in blocks:
            sums, members = _gathered(sums, members, block, centroids)
        centroids = sums / jnp.maximum(members, 1)[:, None]
    return np.asarray(centroids)


@jax.jit
def _gathered(
    sums: Float[Array, "centroids inputs"],
    members: Float[Array, " centroids"],
    patches: Float[np.ndarray, "block inputs"] | Float[Array, "block inputs"],
    centroids: Float[Array, "centroids inputs"],
) -> tuple[Float[Array, "centroids inputs"], Float[Array, " centroids"]]:
    """Adds each patch, and one, to what is gathered for the nearest centroid."""
    products = jnp.matmul(patches, centroids.T, precision="highest")
    nearest = jnp.argmax(products - jnp.square(centroids).sum(-1) / 2, axis=-1)
    return sums.at[nearest].add(patches), members.at[nearest].add(1.0)


def triangle(
    patches: Float[Array, "*places inputs"], centroids: Float[Array, "centroids inputs"]
) -> Float[Array, "*places centroids"]:
    """Returns how much nearer than on average each centroid is, zero for those farther away (equation 5)."""
    products = jnp.matmul(patches, centroids.T, precision="highest")
    squared = jnp.square(patches).sum(-1, keepdims=True) - 2 * products + jnp.square(centroids).sum(-1)
    distance = jnp.sqrt(jnp.maximum(squared, 0))
    return jax.nn.relu(distance.mean(-1, keepdims=True) - distance)


@jax.jit(static_argnames="size")
def describe(
    images: UInt8[Array, "batch height width channels"] | UInt8[np.ndarray, "batch height width channels"],
    mean: Float[Array, " inputs"] | Float[np.ndarray, " inputs"],
    whitening: Float[Array, "inputs inputs"] | Float[np.ndarray, "inputs inputs"],
    centroids: Float[Array, "centroids inputs"] | Float[np.ndarray, "centroids inputs"],
    size: int,
) -> Float[Array, "batch features"]:
    """Returns the features of one batch: every patch, its activations, their sums over quadrants.

    Where the places cannot be halved, the first half has one more.
    """
    rows, columns = images.shape[1] - size + 1, images.shape[2] - size + 1
    shifted = [images[:, i : i + rows, j : j + columns] for i in range(size) for j in range(size)]
    patches = normalize_contrast(jnp.concatenate(shifted, -1).astype(jnp.float32))
    whitened = jnp.matmul(patches - mean, whitening, precision="highest")
    active = triangle(whitened, jnp.asarray(centroids))
    down, right = -(-rows // 2), -(-columns // 2)
    halves = (slice(None, down), slice(down, None)), (slice(None, right), slice(right, None))
    return jnp.concatenate([active[:, y, x].sum((1, 2)) for y in halves[0] for x in halves[1]], -1)
