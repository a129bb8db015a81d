"""What a model asks of a training: single steps on a CPU, whole batches, images that it takes; and what it says."""

import numpy as np
import pytest

from vision.errors import ConfigError
from vision.training.assemble import assemble
from vision.training.schema import resolve

VIT = {"name": "vit/B16", "width": 16, "depth": 1, "num_heads": 2, "mlp_dim": 8, "patch_size": 4}
SUBSET = {**VIT, "drop_mode": "batch_subset", "stochastic_depth": 0.2, "uniform_depth": True}
RESNET = {"name": "resnet/20", "stage_sizes": (1,), "width": 4}


def assembled(model, **more):
    images = np.zeros((16, 8, 8, 3), np.uint8)
    config = {
        "batch_size": 16,
        "duration": {"steps": 20},
        "data": {"name": "arrays"},
        "model": model,
        "objective": {"name": "classify"},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        **more,
    }
    return assemble(resolve(config), given={"train": {"image": images, "label": np.arange(16, dtype=np.int32) % 2}})


def test_a_model_that_convolves_takes_single_steps_on_a_cpu_and_others_what_is_asked():
    assert assembled(RESNET, steps_per_dispatch=10).steps_per_dispatch == 1
    assert assembled(VIT, steps_per_dispatch=10).steps_per_dispatch == 10


def test_what_draws_from_the_whole_batch_refuses_microbatches():
    assembled(SUBSET)
    with pytest.raises(ConfigError, match=r"config\.microbatches: .*batch_subset.*set 1"):
        assembled(SUBSET, microbatches=2)


@pytest.mark.parametrize(("model", "said"), [(RESNET, True), (VIT, False)], ids=["batch norm", "layer norm"])
def test_batch_norm_says_that_microbatches_have_their_own_statistics(model, said, capsys):
    assembled(model, microbatches=2)
    assert ("each of the 2 microbatches" in capsys.readouterr().err) == said


def test_images_that_patches_do_not_divide_are_one_line_before_anything_compiles():
    with pytest.raises(ConfigError, match=r"config\.model: vit/B16: patches of 3x3 do not divide an image of 8x8"):
        assembled({**VIT, "patch_size": 3})
