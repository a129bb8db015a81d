"""What devices tell each other grows with their number only where it must: a pod would wait for its links."""

import pytest

from tools.planning.table import CASES, SLICES
from tools.planning.weak_scaling import CASES as TRAININGS
from tools.planning.weak_scaling import PER_DEVICE, payloads, table


def test_classification_exchanges_the_gradients_and_nothing_that_grows():
    found = payloads(TRAININGS["classify"], (2, 8))
    assert set(found) == {"parameters", "all-reduce"}
    gradients, sums = found["parameters"], found["all-reduce"]
    assert sums[0] == sums[1]
    assert gradients[0] <= sums[0] < gradients[0] + 256  # and sums of the metrics


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TRAININGS if name.startswith("distill") and "KoLeo" not in name])
def test_the_teacher_is_centred_by_sums_over_prototypes_whatever_the_batch(name):
    found = payloads(TRAININGS[name], (4, 8))
    assert set(found) == {"parameters", "all-reduce"}
    assert found["all-reduce"][0] == found["all-reduce"][1]


@pytest.mark.slow
def test_pairs_and_nearest_neighbours_need_the_embeddings_of_the_whole_batch():
    found = payloads(TRAININGS["contrast"], (2, 8))
    gathered = found["all-gather"]
    whole = 4 * 8 * PER_DEVICE * 32  # bytes of a tower's embeddings
    assert whole <= gathered[1] <= 2 * whole + 4096
    assert found["all-reduce"][1] - found["all-reduce"][0] < 2 * whole
    spread = payloads(TRAININGS["distill, Sinkhorn-Knopp and KoLeo"], (4, 8))["all-gather"]
    assert spread[1] == pytest.approx(2 * spread[0], rel=0.1)


def test_the_table_has_a_row_for_each_collective():
    text = table({"classify": {"parameters": [4096, 4096], "all-reduce": [4100, 4100]}}, (2, 4))
    assert text.splitlines()[-1] == "| classify | 4.0 KiB | all-reduce | 4.0 KiB | 4.0 KiB |"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("chips", SLICES)
def test_plans_of_the_documentation_have_a_mesh_of_all_chips_and_the_same_work_on_each(case, chips):
    arguments = case.arguments(chips)
    mesh = dict(part.split("=") for part in arguments[arguments.index("--mesh") + 1].split(","))
    sizes = [int(size) for size in mesh.values()]
    assert sizes[0] * (sizes[1] if len(sizes) > 1 else 1) == chips
    assert f"--config.batch_size={case.per_chip * chips}" in arguments
