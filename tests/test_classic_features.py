"""Hand-made features are what their papers say: checked against formulas, scikit-learn and images one can work out."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfTransformer

from vision.classic.features import FEATURES, BagOfWords, DenseSift, Hog, KeypointSift, PatchKmeans, Pixels, Standardize
from vision.classic.features.bag_of_words import level_weight
from vision.classic.features.descriptors import Descriptors, concatenate
from vision.classic.features.patch_kmeans import describe, kmeans, normalize_contrast, random_patches, triangle, zca
from vision.classic.features.sift import root_sift

RANDOM = np.random.default_rng(0)


def noise(*shape):
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def ramp(height, width, down, right):
    """Grey levels that grow by a constant from row to row and from column to column."""
    y, x = np.mgrid[:height, :width]
    return (60 + down * y + right * x).astype(np.uint8)[None, ..., None]


def test_pixels():
    image = np.array([[[[255, 0, 51], [0, 255, 102]]]], np.uint8)
    np.testing.assert_array_equal(Pixels().fit_transform(image), np.float32([[1, 0, 0.2, 0, 1, 0.4]]))
    grey = Pixels(grey=True).fit_transform(image)  # luma of BT.601
    np.testing.assert_allclose(grey, [[0.299 + 0.2 * 0.114, 0.587 + 0.4 * 0.114]], rtol=1e-6)


def test_standardize():
    x = RANDOM.normal(3, [1, 2, 5], (5000, 3)).astype(np.float32)
    x = np.concatenate([x, np.full((5000, 1), 7, np.float32)], axis=1)
    result = Standardize(scale=0.3).fit_transform(x)
    np.testing.assert_allclose(result.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(0), [0.3, 0.3, 0.3, 0], atol=1e-6)
    floored = Standardize(variance_floor=1.0).fit(x)
    np.testing.assert_allclose(floored.transform(x)[:, :3].var(0), x[:, :3].var(0) / (x[:, :3].var(0) + 1), rtol=1e-3)
    x[4000, 1] = np.nan
    with pytest.raises(ValueError, match="infinite in example 4000"):
        Standardize().fit(x)


@pytest.mark.parametrize(("down", "right", "direction"), [(0, 2, 0), (2, 0, 4), (2, 2, 2), (2, -1, 5)])
def test_hog_of_a_ramp_has_the_ramp_s_direction_alone(down, right, direction):
    # 9 bins of 20 degrees; the direction of the gradient is atan2(down, right) modulo 180: 0, 90, 45 and 117 degrees.
    blocks = Hog(cell_size=8, block_size=1).fit_transform(ramp(24, 24, down, right)).reshape(3, 3, 9)
    # All votes of the middle cell are for one bin; L2, clipping at 0.2 and L2 again leave it 1. At a border, where
    # there are no differences, half of a slanted gradient is missing.
    np.testing.assert_allclose(blocks[1, 1], np.eye(9)[direction], atol=1e-4)


def test_hog_of_one_edge():
    # A vertical edge of height h between columns 7 and 8: central differences give h at these two columns, 0 elsewhere,
    # so the cells left and right of it vote h * 8 each, all for bin 0.
    image = np.full((1, 16, 16, 1), 50, np.uint8)
    image[:, :, 8:] = 150
    block = Hog(cell_size=8, block_size=2).fit_transform(image).reshape(2, 2, 9)
    expected = np.zeros((2, 2, 9))
    expected[..., 0] = 0.5  # four equal votes in a block of length 1: clipped to 0.2 each and made length 1 again
    np.testing.assert_allclose(block, expected, atol=1e-4)


def test_hog_takes_the_channel_with_the_largest_gradient():
    image = np.full((1, 16, 16, 3), 100, np.uint8)
    image[:, :, 8:, 2] = 250  # an edge in blue, upright
    image[:, 8:, :, 0] = 120  # a weaker one in red, level
    only_blue = image.copy()
    only_blue[..., 0] = 100
    largest = Hog(gradient="largest").fit_transform(image).reshape(2, 2, 9)
    blue = Hog(gradient="grey").fit_transform(only_blue[..., 2:]).reshape(2, 2, 9)
    assert largest[..., 0].min() > 0.4  # as for blue alone; the red edge adds to bin 4 where blue has no gradient
    np.testing.assert_allclose(largest[..., 0] / blue[..., 0], largest[0, 0, 0] / blue[0, 0, 0], rtol=1e-5)
    assert Hog().fit_transform(noise(3, 32, 32, 3)).shape == (3, 324)


def test_dense_sift_of_an_edge():
    # All gradients point right (orientation bin 0), on both sides of column 8, the middle of the 4 x 4 histograms.
    image = np.full((1, 16, 16, 1), 50, np.uint8)
    image[:, :, 8:] = 150
    found = DenseSift(root=False).fit_transform(image)
    assert found.counts.tolist() == [1]
    np.testing.assert_allclose(found.places, [[0.5, 0.5]])
    histograms = found.values.reshape(4, 4, 8).astype(float)
    assert histograms[..., 0].sum() > 0.98 * histograms.sum()
    assert histograms[:, 1:3].sum() > 0.9 * histograms.sum()


def test_dense_sift_grid():
    found = DenseSift(upsample=2, step=8).fit_transform(noise(3, 16, 12, 3))
    assert found.counts.tolist() == [6, 6, 6]  # 32x24: rows 8, 16, 24 by columns 8, 16
    np.testing.assert_allclose(found.places[:3], [[8 / 24, 8 / 32], [16 / 24, 8 / 32], [8 / 24, 16 / 32]])
    squares = np.square(found.values.astype(np.float32)).sum(1)
    np.testing.assert_allclose(squares, 1, atol=2e-3)  # RootSIFT has length 1


def test_root_sift():
    descriptors = np.array([[4, 0, 12], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(root_sift(descriptors), [[0.5, 0, np.sqrt(0.75)], [0, 0, 0]], rtol=1e-6)


def test_an_image_without_keypoints_is_a_histogram_of_zeros():
    images = np.concatenate([np.full((1, 32, 32, 1), 90, np.uint8), noise(6, 32, 32, 1)])
    found = KeypointSift(contrast_threshold=0.01).fit_transform(images)
    assert found.counts[0] == 0
    assert found.counts.sum() > 8
    histograms = BagOfWords(words=4, weighting="tf_idf", pyramid_levels=1).fit_transform(found)
    np.testing.assert_array_equal(histograms[0], 0)
    np.testing.assert_allclose(np.linalg.norm(histograms, axis=1), found.counts > 0, rtol=1e-5)
    nothing = KeypointSift().fit_transform(images[:1])
    np.testing.assert_array_equal(BagOfWords(words=4).fit(found).transform(nothing), np.zeros((1, 4)))


def words_of(counts, places=None):
    """Descriptors of images whose words are known: word w is the 128-vector that is 100 at w."""
    words = np.concatenate([np.repeat(np.arange(row.size), row) for row in counts])
    values = np.zeros((len(words), 128), np.uint8)
    values[np.arange(len(words)), words] = 100
    places = np.full((len(words), 2), 0.5, np.float32) if places is None else np.asarray(places, np.float32)
    return Descriptors(values, places, np.array([row.sum() for row in counts])), words


def in_order(bag):
    """The known word that each learned one is."""
    assert np.sort(bag.vocabulary_.argmax(1)).tolist() == list(range(len(bag.vocabulary_)))
    return bag.vocabulary_.argmax(1)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("weighting", ["tf", "tf_idf"])
def test_weighting_is_that_of_scikit_learn(weighting, norm):
    counts = np.array([[3, 0, 1, 2], [1, 1, 0, 0], [0, 0, 5, 1], [2, 0, 0, 0]])
    descriptors, _ = words_of(counts)
    bag = BagOfWords(words=4, weighting=weighting, norm=norm)
    result = bag.fit_transform(descriptors)
    expected = TfidfTransformer(norm=norm, use_idf=weighting == "tf_idf").fit_transform(counts).toarray()
    np.testing.assert_allclose(result, expected[:, in_order(bag)], rtol=1e-6)


def test_spatial_pyramid():
    counts = np.array([[2, 1, 1]])
    places = [[0.1, 0.1], [0.9, 0.1], [0.4, 0.6], [0.999, 0.999]]  # x and y of words 0, 0, 1, 2
    descriptors, words = words_of(counts, places)
    bag = BagOfWords(words=3, norm="l1", pyramid_levels=2)
    result = bag.fit_transform(descriptors)[0]
    order = in_order(bag)
    assert [level_weight(level, 2) for level in range(3)] == [1 / 4, 1 / 4, 1 / 2]  # Lazebnik et al., L = 2
    start, offset = 0, {}
    for level in range(3):
        offset[level] = start
        start += 4**level * 3
    assert len(result) == start == 63
    expected = np.zeros(63)
    for word, (x, y) in zip(words, places, strict=True):
        for level, weight in ((0, 1 / 4), (1, 1 / 4), (2, 1 / 2)):
            cell = int(y * 2**level) * 2**level + int(x * 2**level)
            expected[offset[level] + 3 * cell + list(order).index(word)] += weight / 4  # of 4 descriptors
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_descriptors_of_some_images():
    first, _ = words_of(np.array([[2, 0], [0, 0], [0, 3]]))
    whole = concatenate([first, words_of(np.array([[1, 1]]))[0]])
    assert whole.image.tolist() == [0, 0, 2, 2, 2, 3, 3]
    part = whole.of_images(1, 4)
    assert part.counts.tolist() == [0, 3, 2]
    np.testing.assert_array_equal(part.values, whole.values[2:])


def test_triangle_activation():
    patches, centroids = RANDOM.normal(size=(7, 5)), RANDOM.normal(size=(6, 5))
    distance = cdist(patches, centroids)
    expected = np.maximum(0, distance.mean(1, keepdims=True) - distance)  # Coates, Ng and Lee 2011, equation 5
    result = triangle(jnp.asarray(patches, jnp.float32), jnp.asarray(centroids, jnp.float32))
    np.testing.assert_allclose(result, expected, atol=2e-6)


def test_zca_makes_the_covariance_the_identity():
    x = (RANDOM.normal(size=(4000, 4)) @ RANDOM.normal(size=(4, 4)) + 3).astype(np.float32)
    mean, matrix = zca(x, 0.0)
    np.testing.assert_allclose(np.cov((x - mean) @ matrix, rowvar=False), np.eye(4), atol=1e-4)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)  # ZCA is the symmetric one of all whitenings
    values = np.linalg.eigvalsh(np.cov((x - mean) @ zca(x, 0.5)[1], rowvar=False))
    before = np.linalg.eigvalsh(np.cov(x, rowvar=False))
    np.testing.assert_allclose(values, before / (before + 0.5), atol=1e-4)


def test_contrast_normalisation():
    patches = noise(10, 12).astype(np.float32)
    expected = (patches - patches.mean(1, keepdims=True)) / np.sqrt(patches.var(1, keepdims=True) + 10)
    np.testing.assert_allclose(normalize_contrast(jnp.asarray(patches)), expected, atol=1e-5)


def test_patch_features_are_sums_over_quadrants():
    images = noise(2, 7, 6, 3)
    centroids = RANDOM.normal(size=(4, 27)).astype(np.float32)
    mean, whitening = RANDOM.normal(size=27).astype(np.float32), RANDOM.normal(size=(27, 27)).astype(np.float32)
    expected = np.zeros((2, 2, 2, 4))
    for number, image in enumerate(images):
        for y in range(5):
            for x in range(4):
                patch = image[y : y + 3, x : x + 3].reshape(-1).astype(float)
                patch = (patch - patch.mean()) / np.sqrt(patch.var() + 10)
                distance = np.linalg.norm((patch - mean) @ whitening - centroids, axis=1)
                expected[number, int(y >= 3), int(x >= 2)] += np.maximum(0, distance.mean() - distance)
    result = np.asarray(describe(images, mean, whitening, centroids, 3))
    np.testing.assert_allclose(result, expected.reshape(2, -1), atol=1e-4)


def test_random_patches_are_parts_of_the_images():
    images = np.arange(5 * 6 * 7 * 3).reshape(5, 6, 7, 3).astype(np.uint8)
    patches = random_patches(images, 50, 3, np.random.default_rng(1)).reshape(50, 3, 3, 3)
    down, right = np.diff(patches[..., 0], axis=1) % 256, np.diff(patches[..., 0], axis=2) % 256
    assert (down == 21).all()
    assert (right == 3).all()
    assert len(np.unique(patches[:, 0, 0, 0])) > 25


def test_kmeans_is_lloyd_s_algorithm():
    x = RANDOM.normal(size=(600, 3)).astype(np.float32)
    start = np.random.default_rng(2).normal(0, 0.1, (4, 3))
    library = KMeans(4, init=start.astype(np.float32), n_init=1, max_iter=8, tol=0, algorithm="lloyd").fit(x)
    np.testing.assert_allclose(kmeans(x, 4, iterations=8, seed=2), library.cluster_centers_, atol=1e-5)
    alone = kmeans(x[:1], 3, iterations=2, seed=0)  # two centroids have no patch
    assert sorted(np.abs(alone - x[:1]).max(1) < 1e-6) == [False, False, True]
    assert (np.abs(alone).max(1) == 0).sum() == 2


def test_patch_kmeans_learns_from_the_seed_alone():
    images = noise(9, 8, 8, 1)  # 9 is not a whole number of batches
    options = {"centroids": 5, "patches": 400, "patch_size": 3}
    first = PatchKmeans(**options, seed=1).fit(images)
    np.testing.assert_array_equal(first.centroids_, PatchKmeans(**options, seed=1).fit(images).centroids_)
    assert not np.array_equal(first.centroids_, PatchKmeans(**options, seed=2).fit(images).centroids_)
    features = first.transform(images)
    assert features.shape == (9, 20)
    np.testing.assert_allclose(features[8:], first.transform(images[8:]), atol=1e-5)


TOO_SMALL = {
    "hog": (Hog(cell_size=8), "15x20.*a block of 2 cells of 8 pixels, 16x16"),
    "dense_sift": (DenseSift(patch_size=40, upsample=2), "15x20.*a patch of 40 pixels .upsample 2., 20x20"),
    "patch_kmeans": (PatchKmeans(patch_size=16), "15x20.*a patch of 16 pixels.*17x17"),
}


@pytest.mark.parametrize("name", TOO_SMALL)
def test_images_smaller_than_a_window_are_told_with_both_sizes(name):
    feature, text = TOO_SMALL[name]
    with pytest.raises(ValueError, match=f"^{name}: .*{text} pixels$"):
        feature.fit(noise(2, 15, 20, 3))


@pytest.mark.parametrize("name", [name for name, each in FEATURES.items() if each.takes == "images"])
def test_what_is_no_image_is_told_in_one_line(name):
    feature = FEATURES[name]()
    broken = np.zeros((3, 32, 32, 1), np.float32)
    broken[1, 2, 3, 0] = np.nan
    with pytest.raises(ValueError, match=f"^{name}: pixels of 1 of 3 images are NaN, first in image 1$"):
        feature.fit(broken)
    for wrong in (broken[:1], noise(2, 32, 32), noise(2, 32, 32, 4), noise(0, 32, 32, 3)):
        with pytest.raises(ValueError, match=f"^{name}: takes uint8 images"):
            feature.fit(wrong)


@pytest.mark.parametrize(
    ("feature", "text"),
    [
        (Hog(orientations=0), "orientations must be at least 1"),
        (DenseSift(step=0), "step must be at least 1"),
        (KeypointSift(contrast_threshold=-1.0), "must not be negative"),
        (PatchKmeans(centroids=20, patches=10), "10 patches are fewer than 20 centroids"),
        (PatchKmeans(whitening=0.0), "whitening must be positive"),
        (Standardize(scale=0.0), "scale must be positive"),
    ],
)
def test_impossible_options_are_told(feature, text):
    x = noise(2, 32, 32, 1)
    with pytest.raises(ValueError, match=text):
        feature.fit(x.reshape(2, -1).astype(np.float32) if isinstance(feature, Standardize) else x)


def test_fewer_descriptors_than_words_are_told():
    with pytest.raises(ValueError, match="3 descriptors are fewer than 5 words"):
        BagOfWords(words=5).fit(words_of(np.array([[1, 2]]))[0])


@pytest.mark.parametrize("name", FEATURES)
def test_options_are_kept_as_given(name):
    """What scikit-learn's tools rely on: ``get_params`` gives what ``__init__`` took."""
    feature = FEATURES[name]()
    assert {key: getattr(feature, key) for key in feature.get_params()} == feature.get_params()
    assert type(feature)(**feature.get_params()).get_params() == feature.get_params()
