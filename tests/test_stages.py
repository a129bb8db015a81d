"""Images that grow while a network learns: each stage has its size, and a run resumes within any of them."""

import jax
import numpy as np
import pytest
from conftest import Killed, killed, tiny

from vision.config.loading import plain
from vision.errors import ConfigError
from vision.training import assemble as module
from vision.training.checkpoint import load_arrays
from vision.training.loop import train
from vision.training.schema import resolve
from vision.training.stages import resized

RESNET = {"name": "resnet/20", "stage_sizes": (1, 1, 1), "width": 4}


def config(progressive, model=RESNET, **changes):
    made = plain(tiny()) | {"model": model, "ema": None, "evals": {}} | changes
    return made | {"data": made["data"] | {"progressive": progressive}}


def test_every_stage_has_images_of_its_size():
    built = module.assemble(resolve(config(((4, {"steps": 3}), (6, {"steps": 2})))))
    assert [(stage.first, stage.image_size) for stage in built.stages] == [(0, 4), (3, 6), (5, None)]
    assert [built.stage_at(step).image_size for step in (0, 2, 3, 4, 5, 11)] == [4, 4, 6, 6, None, None]
    sizes = [
        stage.step.lower(built.abstract_state, built.pipeline.batch(0), built.constants).cost_analysis()["flops"]
        for stage in built.stages
    ]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(("lasts", "told"), [(8, False), (9, True)])
def test_a_training_that_ends_with_small_images_says_so(lasts, told, capsys):
    module.assemble(resolve(config(((4, {"steps": 3}), (6, {"steps": lasts})))))
    assert ("the training ends with images of 6x6" in capsys.readouterr().err) == told


def test_smaller_images_are_means_of_what_they_cover():
    image = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    constant = np.full((2, 8, 8, 1), 3.0, np.float32)
    prepare = resized(lambda batch, resident, key, step: dict(batch), 4)
    smaller = lambda x: np.asarray(prepare({"image": jax.numpy.asarray(x)}, {}, jax.random.key(0), 0)["image"])  # noqa: E731
    assert smaller(image).shape == (2, 4, 4, 1)
    np.testing.assert_allclose(smaller(constant), 3.0, rtol=1e-6)
    # A pixel of half the size is a weighted mean of the four it covers, 3/8 each way, and their neighbours, 1/8.
    weights = np.array([1, 3, 3, 1]) / 8
    inner = np.einsum("i,j,bij->b", weights, weights, image[:, 1:5, 1:5, 0])
    np.testing.assert_allclose(smaller(image)[:, 1, 1, 0], inner, rtol=1e-5)


@pytest.mark.slow
def test_a_run_with_growing_images_resumes_to_the_same_bits(tmp_path, capsys):
    made = config(((4, {"steps": 5}), (6, {"steps": 3})), steps_per_dispatch=4, checkpoint={"every": {"steps": 2}})
    train(made, tmp_path / "straight")
    told = capsys.readouterr().err
    assert "at first images of 4x4" in told
    assert "step 5  from here on images of 6x6" in told

    with pytest.raises(Killed):
        train(made, tmp_path / "resumed", at_step={6: killed})
    train(made, tmp_path / "resumed")
    one, other = (load_arrays(tmp_path / name, 12)[1] for name in ("straight", "resumed"))
    assert all(other[path].tobytes() == leaf.tobytes() for path, leaf in one.items())


@pytest.mark.parametrize(
    ("progressive", "model", "told"),
    [
        (((4, {"steps": 20}),), RESNET, "20 steps are more than the 12"),
        (((4, {"steps": 0}),), RESNET, "more than 0 steps"),
        (((0, {"steps": 2}),), RESNET, "must be >= 1"),
        (((4, {"steps": 2}),), {"name": "mlp/128", "hidden_sizes": (4,)}, "built for images of 8x8x1"),
    ],
)
def test_what_cannot_be_is_said(progressive, model, told):
    with pytest.raises(ConfigError) as error:
        module.assemble(resolve(config(progressive, model)))
    assert told in str(error.value)
    assert "config.data.progressive" in str(error.value)
