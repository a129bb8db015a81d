"""The losses of self-distillation, their schedules and heads: values of papers, closed forms and plain loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision.models.projection import PrototypeHead
from vision.objectives.block_masks import block_mask, masked_patches
from vision.objectives.collapse import feature_meters, prototype_meters, prototype_warning
from vision.objectives.koleo import koleo
from vision.objectives.self_distillation import centred, moved_centre, patch_loss, sinkhorn_knopp, view_loss

ONES = jnp.ones


def test_loss_and_centre_of_the_worked_example():
    """Two global views, three prototypes: 15.0034029, worked out by hand from DINOLoss of the published code."""
    teacher = jnp.asarray([[[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]]])
    student = jnp.asarray([[[0.5, 1.0, 0.0], [1.0, 0.0, 2.0]]])
    centre = jnp.asarray([0.1, 0.2, 0.3])
    loss = view_loss(student, centred(teacher, centre, temperature=0.04), temperature=0.1)
    assert float(loss) == pytest.approx(15.0034029, abs=2e-6)
    after = moved_centre(centre, teacher[0], ONES(2), momentum=0.9)
    np.testing.assert_allclose(after, [0.14, 0.33, 0.42], rtol=1e-6)


@pytest.mark.parametrize(
    ("prototypes", "value"),
    [(256, 5.545177), (1024, 6.931472), (4096, 8.317766), (8192, 9.010913), (65536, 11.090355), (131072, 11.783502)],
)
def test_loss_of_uniform_collapse_is_ln_k(prototypes, value):
    logits = jnp.full((2, 3, prototypes), 0.7)
    target = centred(logits[:, :2], jnp.zeros(prototypes), temperature=0.04)
    assert float(view_loss(logits, target, temperature=0.1)) == pytest.approx(value, rel=2e-6)


def test_view_loss_is_the_mean_over_pairs_of_different_views():
    random = np.random.default_rng(0)
    student, teacher = random.normal(size=(5, 6, 7)), random.normal(size=(5, 2, 7))
    target = np.exp(teacher / 0.5) / np.exp(teacher / 0.5).sum(-1, keepdims=True)
    log_student = student / 0.3 - np.log(np.exp(student / 0.3).sum(-1, keepdims=True))
    terms = [-(target[:, t] * log_student[:, v]).sum(-1).mean() for t in range(2) for v in range(6) if v != t]
    found = view_loss(jnp.asarray(student, jnp.float32), jnp.asarray(target, jnp.float32), temperature=0.3)
    assert float(found) == pytest.approx(sum(terms) / 10, rel=1e-5)
    assert len(terms) == 10


def test_koleo_of_three_directions():
    rows = jnp.asarray([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    assert float(koleo(rows)) == pytest.approx(-0.11947729, abs=1e-7)
    assert float(koleo(rows * jnp.asarray([[3.0], [0.1], [7.0]]))) == pytest.approx(-0.11947729, abs=1e-6)


def test_sinkhorn_knopp_loses_no_row_beside_one_of_much_larger_logits():
    found = sinkhorn_knopp(jnp.asarray([[3.0, 0, 0], [-3, -3.1, -3.2], [-3, -2.9, -3]]), ONES(3), temperature=0.04)
    np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-5)


def test_features_of_zeros_have_a_finite_gradient():
    value, gradient = jax.value_and_grad(koleo)(jnp.zeros((4, 3)))
    assert bool(jnp.isfinite(value))
    assert not np.any(gradient)


def test_koleo_of_equal_features_is_large_and_has_a_finite_gradient():
    value, gradient = jax.value_and_grad(koleo)(ONES((4, 3)))
    assert float(value) > 15
    assert bool(jnp.isfinite(gradient).all())


def test_sinkhorn_knopp_of_the_worked_example():
    logits = jnp.asarray([[0.1, 0.2, 0.0], [0.0, 0.1, 0.3], [0.2, 0.2, 0.1], [0.3, 0.0, 0.0]])
    found = sinkhorn_knopp(logits, ONES(4), temperature=0.07)
    np.testing.assert_allclose(found[0], [0.115865, 0.829400, 0.054735], atol=1e-6)
    np.testing.assert_allclose(found.sum(0), [1.387863, 1.437289, 1.174848], atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-6)


def test_sinkhorn_knopp_takes_no_notice_of_rows_that_do_not_count_nor_of_large_logits():
    logits = jax.random.normal(jax.random.key(0), (6, 5))
    valid = jnp.asarray([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    kept = sinkhorn_knopp(logits[jnp.asarray([0, 2, 3, 5])], ONES(4), temperature=0.5)
    padded = sinkhorn_knopp(logits.at[1].set(1e4), valid, temperature=0.5)
    np.testing.assert_allclose(padded[jnp.asarray([0, 2, 3, 5])], kept, rtol=1e-5)
    assert float(jnp.abs(padded[jnp.asarray([1, 4])]).max()) == 0.0
    shifted = sinkhorn_knopp(logits + 500.0, valid, temperature=0.5)
    np.testing.assert_allclose(shifted[0], kept[0], rtol=1e-3)  # 500 in float32 leaves 5 digits of the rest


def test_patch_loss_weighs_images_alike_however_many_of_their_patches_are_masked():
    random = np.random.default_rng(1)
    student = random.normal(size=(3, 4, 5))
    target = random.dirichlet(ONES(5), size=(3, 4))
    counts = (4, 1, 0)
    valid = np.asarray([[float(p < count) for p in range(4)] for count in counts])
    log_student = student / 0.1 - np.log(np.exp(student / 0.1).sum(-1, keepdims=True))
    total = 0.0
    for image, count in enumerate(counts):
        for p in range(count):
            total += -(target[image, p] * log_student[image, p]).sum() / count
    arrays = [jnp.asarray(each, jnp.float32) for each in (student, target, valid)]
    assert float(patch_loss(*arrays, temperature=0.1, crops=2)) == pytest.approx(total / 6, rel=1e-5)


@pytest.mark.parametrize(("width", "count"), [(384, 22_352_128), (768, 23_138_560)])
def test_heads_have_the_published_number_of_parameters(width, count):
    head = PrototypeHead(65536, trained_gain=True)
    shapes = jax.eval_shape(lambda: head.init(jax.random.key(0), jnp.zeros((1, width))))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_head_gives_cosines_and_the_gains_scale_them():
    x = jax.random.normal(jax.random.key(1), (9, 6))
    head = PrototypeHead(11, hidden_dim=8, bottleneck_dim=4, trained_gain=True)
    params = head.init(jax.random.key(0), x)["params"]
    logits = head.apply({"params": params}, x)
    assert float(jnp.abs(logits).max()) <= 1.0 + 1e-6
    hidden = x
    for name in ("hidden_0", "hidden_1"):
        z = np.asarray(hidden @ params[name]["kernel"] + params[name]["bias"], np.float64)
        hidden = z * 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
    z = hidden @ np.asarray(params["bottleneck"]["kernel"], np.float64) + np.asarray(params["bottleneck"]["bias"])
    w = np.asarray(params["prototypes"], np.float64)
    cosine = (z / np.linalg.norm(z, axis=1, keepdims=True)) @ (w / np.linalg.norm(w, axis=0))
    np.testing.assert_allclose(logits, cosine, atol=2e-5)
    doubled = {**params, "gain": 2 * params["gain"]}
    np.testing.assert_allclose(head.apply({"params": doubled}, x), 2 * cosine, atol=4e-5)


# Shares that DINOv2's own MaskingGenerator masks in 20,000 draws at these ratios; their deviation is 0.116 in both.
@pytest.mark.parametrize(("grid", "share"), [((14, 14), 0.298), ((7, 7), 0.288), ((4, 6), None)])
def test_block_masks_have_at_most_the_share_asked_for_and_mostly_nearly_it(grid, share):
    patches = grid[0] * grid[1]
    found = jax.jit(lambda keys: masked_patches(keys, grid, (0.1, 0.5)))(jax.random.split(jax.random.key(0), 200))
    counts = np.asarray(found.mask.sum(1))
    assert counts.max() <= int(0.5 * patches)
    assert found.places.shape == (200, int(0.5 * patches))
    np.testing.assert_array_equal(found.valid.sum(1), counts)
    for mask, places, valid in zip(*map(np.asarray, found), strict=True):
        assert sorted(places[valid > 0]) == list(np.flatnonzero(mask))
    if share is not None:
        assert counts.mean() / patches == pytest.approx(share, abs=0.02)
        assert counts.std() / patches == pytest.approx(0.116, abs=0.015)


def test_a_block_mask_is_made_of_rectangles():
    mask = np.asarray(block_mask(jax.random.key(3), (14, 14), jnp.float32(0.05))).reshape(14, 14)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert 0 < mask.sum() <= 9
    assert mask[np.ix_(rows, columns)].all() or mask.sum() < len(rows) * len(columns)


def test_meters_of_features_tell_a_sphere_from_a_point_and_from_a_line():
    random = np.random.default_rng(0)
    spread = {
        name: float(total)
        for name, (total, _) in feature_meters(jnp.asarray(random.normal(size=(4000, 8)), jnp.float32)).items()
    }
    assert spread["feature_std"] == pytest.approx(1.0, abs=0.02)
    assert spread["effective_rank"] == pytest.approx(8.0, rel=0.02)
    point = feature_meters(ONES((16, 8)))
    assert float(point["feature_std"][0]) == pytest.approx(0.0, abs=1e-5)
    line = feature_meters(jnp.asarray(np.sign(random.normal(size=(100, 1))) * np.ones((1, 8)), jnp.float32))
    assert float(line["effective_rank"][0]) == pytest.approx(1.0, abs=1e-4)


def test_effective_rank_is_the_same_with_fewer_rows_than_width():
    x = jax.random.normal(jax.random.key(0), (6, 20))
    unit = np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float64)
    spectrum = np.linalg.eigvalsh(np.cov(unit.T, bias=True))
    assert float(feature_meters(x)["effective_rank"][0]) == pytest.approx(
        spectrum.sum() ** 2 / (spectrum**2).sum(), rel=1e-4
    )


def values_of(target, loss):
    meters = {name: float(total) for name, (total, _) in prototype_meters(target, jnp.float32(loss)).items()}
    return {**meters, "distillation_loss": loss, "effective_rank": 9.0}


def test_warnings_name_both_kinds_of_collapse_and_no_other_state():
    k = 64
    uniform = values_of(jnp.full((8, 2, k), 1 / k), math.log(k))
    assert "sits at ln K = 4.158883" in prototype_warning(uniform, num_prototypes=k)
    one = values_of(jnp.zeros((8, 2, k)).at[:, :, 5].set(1.0), 0.1)
    assert one["prototype_usage"] == pytest.approx(1 / k)
    assert "the same of all images" in prototype_warning(one, num_prototypes=k)
    any_one = jax.nn.softmax(jax.random.normal(jax.random.key(0), (k,)))  # neither one prototype nor all of them
    between = values_of(jnp.broadcast_to(any_one, (8, 2, k)), 3.9)
    assert "the same of all images" in prototype_warning(between, num_prototypes=k)
    healthy = values_of(jax.nn.one_hot(jnp.arange(16).reshape(8, 2), k), 3.0)
    assert prototype_warning(healthy, num_prototypes=k) is None
    assert healthy["prototype_usage"] == pytest.approx(16 / k, rel=1e-5)
    line = {**healthy, "effective_rank": 1.19}
    assert "effective rank near 1, images differ along one direction" in prototype_warning(line, num_prototypes=k)
