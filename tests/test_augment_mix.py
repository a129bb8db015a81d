"""Mixtures have the shares they say, and labels to match; devices do not show in them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of
from scipy import stats

from vision.data.augment.mix import MIXES, cutmix, draw_boxes, mixup, mixup_or_cutmix
from vision.training.sharding import batch_sharding, replicated

KEYS = jax.random.split(jax.random.key(3), 3000)
BATCH, SIDE = 4, 12


def images_and_targets(batch=BATCH, side=SIDE):
    """Image and target number i are i everywhere and one-hot, so that what was mixed can be read off."""
    images = jnp.broadcast_to(jnp.arange(batch, dtype=jnp.float32)[:, None, None, None], (batch, side, side, 1))
    return images, jnp.eye(batch)


def many(mix, keys=KEYS):
    return map(np.asarray, jax.jit(jax.vmap(mix, (0, None, None)))(keys, *images_and_targets()))


@pytest.mark.parametrize("name", MIXES)
def test_contract_labels_are_distributions_and_shares_are_of_the_neighbour(name):
    images, targets = many(MIXES[name]())
    assert images.shape == (len(KEYS), BATCH, SIDE, SIDE, 1)
    np.testing.assert_allclose(targets.sum(2), 1.0, atol=1e-6)
    assert targets.min() >= 0.0
    shares = targets[:, np.arange(BATCH), np.arange(BATCH)]
    neighbours = targets[:, np.arange(BATCH), np.arange(BATCH) - 1]
    np.testing.assert_allclose(shares + neighbours, 1.0, atol=1e-6)
    # The mean of image i, of i and i - 1 in the label's shares, with the last image before the first.
    means = np.arange(BATCH) * shares + np.roll(np.arange(BATCH), 1) * neighbours
    np.testing.assert_allclose(images.mean((2, 3, 4)), means, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_shares_are_beta_distributed(alpha):
    images, targets = many(mixup(alpha=alpha))
    shares = targets[:, 0, 0]
    assert (shares[:, None] == targets[:, range(BATCH), range(BATCH)]).all(), "one share for the batch"
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-4
    np.testing.assert_allclose(images.std((2, 3)), 0.0, atol=1e-6)


def test_mixup_per_example_draws_independent_shares():
    _, targets = many(mixup(alpha=0.7, per_example=True))
    shares = targets[:, np.arange(BATCH), np.arange(BATCH)]
    assert stats.kstest(shares.ravel(), stats.beta(0.7, 0.7).cdf).pvalue > 1e-4
    assert np.abs(np.corrcoef(shares.T) - np.eye(BATCH)).max() < 4.5 / np.sqrt(len(KEYS))


def boxes_in_numpy(count, alpha, side):
    """Share kept, and top and left of the pasted box as Yun et al. 2019 (algorithm A1) and timm draw them."""
    random = np.random.Generator(np.random.Philox(1))
    share = random.beta(alpha, alpha, count)
    length = (side * np.sqrt(1 - share)).astype(int)
    row, column = random.integers(0, side, (2, count))
    ends = [np.clip(center + sign * (length // 2), 0, side) for center in (row, column) for sign in (-1, 1)]
    return 1 - (ends[1] - ends[0]) * (ends[3] - ends[2]) / side**2, length


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_cutmix_pastes_one_box_and_keeps_the_share_of_the_paper(alpha):
    images, targets = many(cutmix(alpha=alpha))
    pasted = images[:, 1, :, :, 0] == 0
    assert (images[:, 1, :, :, 0][~pasted] == 1).all()
    rows, columns = pasted.any(2), pasted.any(1)
    assert (pasted.sum((1, 2)) == rows.sum(1) * columns.sum(1)).all(), "a rectangle"
    shares = targets[:, 0, 0]
    np.testing.assert_allclose(shares, 1 - pasted.mean((1, 2)), atol=1e-6)
    expected, _ = boxes_in_numpy(100_000, alpha, SIDE)
    assert stats.ks_2samp(np.round(shares * SIDE**2), np.round(expected * SIDE**2)).pvalue > 1e-4


def test_cutmix_boxes_lie_about_uniform_centers():
    kept = np.asarray(jax.vmap(lambda key: draw_boxes(key, jnp.array([1 - (2.2 / 9) ** 2]), 9, 9))(KEYS))[:, 0]
    # A box of 2 by 2 begins one pixel before its centre; about the first pixel it is cut to one row.
    rows = (kept == 0).any(2)
    assert set(rows.sum(1)) == {1, 2}
    center = np.where(rows.sum(1) == 2, rows.argmax(1) + 1, 0)
    assert stats.chisquare(np.bincount(center, minlength=9)).pvalue > 1e-4


def test_cutmix_per_example_draws_a_box_for_each():
    _, targets = many(cutmix(per_example=True), KEYS[:500])
    shares = targets[:, np.arange(BATCH), np.arange(BATCH)]
    assert np.abs(np.corrcoef(shares.T) - np.eye(BATCH)).max() < 4.5 / np.sqrt(500)


def test_one_of_both_at_its_rates():
    images, targets = many(mixup_or_cutmix(probability=0.7, switch_probability=0.3, mixup_alpha=2.0))
    # CutMix leaves whole pixels; mixup leaves all pixels alike, and with alpha 2 never exactly pure ones.
    inner = images[:, 1, :, :, 0]
    blended = ((inner > 0) & (inner < 1)).all((1, 2))
    untouched = (inner == 1).all((1, 2))
    # A box of less than two pixels a side is empty: sqrt(1 - share) * 12 < 2 has probability 1/36.
    empty = (2 / SIDE) ** 2
    for seen, expected in ((blended, 0.7 * 0.7), (untouched, 0.3 + 0.7 * 0.3 * empty)):
        assert abs(seen.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(KEYS))
    np.testing.assert_array_equal(targets[untouched], np.broadcast_to(np.eye(BATCH), (untouched.sum(), BATCH, BATCH)))
    assert stats.kstest(targets[blended, 0, 0], stats.beta(2, 2).cdf).pvalue > 1e-4


def on_devices(mix, count, images, targets):
    """The compiled mix over a batch that is split over devices."""
    mesh = mesh_of(count)
    rows = batch_sharding(mesh)
    function = jax.jit(mix, in_shardings=(replicated(mesh), rows, rows), out_shardings=(rows, rows))
    arguments = (KEYS[0], jax.device_put(images, rows), jax.device_put(targets, rows))
    return function.lower(*arguments).compile(), arguments


@pytest.mark.parametrize("options", [{}, {"per_example": True}])
@pytest.mark.parametrize("name", MIXES)
def test_eight_devices_give_the_bits_of_one_and_move_only_the_border_rows(name, options):
    if name == "mixup_or_cutmix":
        options = {"switch_probability": 0.0} if options else {}
    mix = MIXES[name](**options)
    random = np.random.Generator(np.random.Philox(5))
    images = random.normal(size=(16, 10, 11, 3)).astype(np.float32)
    targets = np.eye(16, dtype=np.float32)
    results = {}
    for count in (1, 8):
        compiled, arguments = on_devices(mix, count, images, targets)
        results[count] = jax.tree.map(np.asarray, compiled(*arguments))
    program = compiled.as_text()
    assert "collective-permute" in program
    assert "all-gather" not in program
    for one, eight in zip(results[1], results[8], strict=True):
        np.testing.assert_array_equal(one, eight)
    assert (results[1][0] != images).any()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mixup", {"alpha": 0.0}),
        ("cutmix", {"alpha": -1.0}),
        ("mixup_or_cutmix", {"mixup_alpha": 0.0}),
        ("mixup_or_cutmix", {"cutmix_alpha": 0.0}),
        ("mixup_or_cutmix", {"switch_probability": 1.1}),
        ("mixup_or_cutmix", {"probability": -0.1}),
    ],
)
def test_impossible_values_are_named(name, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MIXES[name](**options)


@pytest.mark.parametrize("name", MIXES)
def test_copies_of_a_repeated_example_are_mixed_with_another(name):
    images, targets = images_and_targets(batch=4)
    thrice, labels = jnp.repeat(images, 3, axis=0), jnp.repeat(targets, 3, axis=0)
    _, mixed = MIXES[name](distance=3)(KEYS[0], thrice, labels)
    for row, label in enumerate(np.asarray(mixed)):
        others = {row // 3, (row // 3 - 1) % 4}
        assert set(np.flatnonzero(label)) <= others
        assert label[row // 3] + label[(row // 3 - 1) % 4] == pytest.approx(1)


def test_a_config_with_repeats_keeps_copies_apart():
    from vision.training.assemble import assemble
    from vision.training.schema import resolve

    config = {
        "batch_size": 24,
        "duration": {"steps": 1},
        "data": {"name": "arrays", "repeats": 3, "mix": {"name": "mixup", "alpha": 1.0}},
        "model": {"name": "linear"},
        "objective": {"name": "classify"},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
    }
    arrays = {"image": np.zeros((40, 2, 2, 1), np.uint8), "label": np.arange(40)}
    made = assemble(resolve(config), given={"train": arrays})
    prepare = jax.jit(made.inputs.prepare(training=True))
    batch = prepare(made.pipeline.batch(0), made.pipeline.resident, made.constants.keys.augment, 0)
    assert (np.sum(np.asarray(batch["label"]) > 0, axis=1) == 2).all(), "two classes: every image has its own"
