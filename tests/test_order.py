"""No example is lost or repeated within an epoch, and any step's batch is known without the steps before it."""

import pickle

import numpy as np
import pytest

from vision.data.order import InOrder, Shuffled, Stratified, permutation, shares_of

GROUPS = (np.arange(0, 7), np.arange(7, 12), np.arange(20, 21))


def all_rows(order, steps):
    rows = [order.rows(step) for step in range(steps)]
    return np.concatenate([row.index for row in rows]), np.concatenate([row.visit for row in rows])


@pytest.mark.parametrize(("examples", "batch"), [(10, 5), (10, 3), (10, 10), (7, 16), (1437, 128), (1, 4)])
def test_every_epoch_holds_every_example_once(examples, batch):
    index, epoch = all_rows(Shuffled(examples, batch, seed=3), -(-3 * examples // batch))
    index, epoch = index[: 3 * examples], epoch[: 3 * examples]
    np.testing.assert_array_equal(epoch, np.repeat([0, 1, 2], examples))
    for number in range(3):
        np.testing.assert_array_equal(np.sort(index[epoch == number]), np.arange(examples))


@pytest.mark.parametrize("repeats", [2, 3])
def test_repeats_come_in_a_row_each_as_a_visit_of_its_own(repeats):
    """The repeated augmentation of Hoffer et al. 2020: the same image, several times in one batch."""
    index, visit = all_rows(Shuffled(5, 5, seed=0, repeats=repeats), 2 * repeats)
    plain, _ = all_rows(Shuffled(5, 5, seed=0), 2)
    np.testing.assert_array_equal(index, np.repeat(plain, repeats))
    np.testing.assert_array_equal(visit[: 5 * repeats], np.tile(np.arange(repeats), 5))
    np.testing.assert_array_equal(visit[5 * repeats :], repeats + np.tile(np.arange(repeats), 5))
    assert len(set(zip(index.tolist(), visit.tolist(), strict=True))) == len(index), "no visit comes twice"


ORDERS = {
    "shuffled": Shuffled(100, 7, seed=1),
    "repeated": Shuffled(30, 7, seed=1, repeats=3),
    "stratified": Stratified(GROUPS, (3, 2, 1), 7, seed=1),
    "in order": InOrder(50, 7),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_batch_does_not_depend_on_what_was_asked_before(order):
    """Nor on the process: the order is pickled for the workers."""
    forwards = [order.rows(step) for step in range(40)]
    other = pickle.loads(pickle.dumps(order))
    backwards = [other.rows(step) for step in reversed(range(40))][::-1]
    for one, two in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(one.index, two.index)
        np.testing.assert_array_equal(one.visit, two.visit)
        assert one.index.dtype == one.visit.dtype == np.int32
        assert one.index.shape == one.visit.shape == (7,)
    assert order.rows(10**6).index.shape == (7,), "a seek, however far"


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = [tuple(permutation(50, seed, epoch)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16, "the order of (seed, epoch + 1) must not be that of (seed + 1, epoch)"


def test_order_is_that_of_philox_raw_draws():
    """Philox-4x64-10 under key (seed, epoch) is fixed for good; its draws come here through NumPy's other interface."""
    generator = np.random.Generator(np.random.Philox(key=np.array([5, 2], np.uint64)))
    draws = generator.integers(0, 2**64, size=20, dtype=np.uint64, endpoint=False)
    np.testing.assert_array_equal(permutation(20, 5, 2), np.argsort(draws, kind="stable"))


def test_first_place_is_uniform_over_examples():
    first = [permutation(8, seed, 0)[0] for seed in range(4000)]
    counts = np.bincount(first, minlength=8)
    chi_square = np.sum((counts - 500.0) ** 2 / 500.0)
    assert chi_square < 29.9, "99.99% quantile of chi-square with 7 degrees of freedom"


@pytest.mark.parametrize("shares", [(1, 1, 1), (3, 2, 1), (5, 1, 4)])
@pytest.mark.parametrize("batch", [1, 6, 7, 100])
def test_every_block_holds_every_group_by_its_share(shares, batch):
    length, blocks = sum(shares), 30
    index, _ = all_rows(Stratified(GROUPS, shares, batch, seed=2), -(-blocks * length // batch))
    group = np.searchsorted([7, 12, 21], index, side="right")
    for block in range(blocks):
        counts = np.bincount(group[block * length : (block + 1) * length], minlength=3)
        assert counts.tolist() == list(shares)


@pytest.mark.parametrize("shares", [(1, 1, 1), (3, 2, 1)])
def test_within_a_group_every_example_comes_before_any_comes_again(shares):
    index, visit = all_rows(Stratified(GROUPS, shares, 9, seed=2), 200)
    for members in GROUPS:
        here = np.isin(index, members)
        of_group, visits = index[here], visit[here]
        for number in range(visits.max()):
            np.testing.assert_array_equal(np.sort(of_group[visits == number]), members)
    assert len(set(zip(index.tolist(), visit.tolist(), strict=True))) == len(index), "no visit comes twice"


def test_blocks_and_groups_have_orders_of_their_own():
    """One order for all groups or blocks would pair the same examples for ever."""
    groups = (np.arange(6), np.arange(6, 12))
    index, visit = all_rows(Stratified(groups, (1, 1), 12, seed=0), 40)
    group = index // 6
    assert len({tuple(group[start : start + 2]) for start in range(0, len(group), 2)}) == 2
    first = [tuple(index[(group == 0) & (visit == number)]) for number in range(40)]
    second = [tuple(index[(group == 1) & (visit == number)] - 6) for number in range(40)]
    assert len({*first, *second}) > 70, "of 80 orders of 6, 80 * 79 / 2 / 720 = 4.4 pairs are alike by chance"


def test_one_pass_in_order():
    order = InOrder(10, 4)
    assert order.num_batches == 3
    index, visit = all_rows(order, 3)
    masks = np.concatenate([order.mask(step) for step in range(3)])
    assert index[masks].tolist() == list(range(10))
    assert index[~masks].tolist() == [0, 0]
    assert not visit.any()
    np.testing.assert_array_equal(order.rows(3).index, order.rows(0).index)
    assert InOrder(8, 4).mask(1).all()
    assert InOrder(1, 4).mask(0).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ((1.0,), (1,)),
        ((0.5, 0.5), (1, 1)),
        ((0.7, 0.3), (7, 3)),
        ((2.0, 1.0, 1.0), (2, 1, 1)),
        ((0.999, 0.001), (999, 1)),
        ((1 / 3, 2 / 3), (333, 667)),
    ],
)
def test_weights_become_whole_shares(weights, shares):
    """Largest remainder of a thousand: 333.3 and 666.7 are 333 and 667."""
    assert shares_of(weights) == shares


@pytest.mark.parametrize("weights", [(), (1.0, 0.0), (1.0, -1.0), (1.0, 1e-5)])
def test_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="weight"):
        shares_of(weights)
