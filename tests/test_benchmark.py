"""The benchmark: every suite runs to its end and leaves numbers that a person can trust."""

import importlib.util
import json
import time
from itertools import count

import numpy as np
import pytest
from PIL import Image

from tools.benchmark import SUITES, main
from tools.benchmarks import jpegs
from tools.benchmarks.contenders import Contender, Timed, Turn, find_peer, ratios, take_turns
from tools.benchmarks.rows import Row, Settings, table
from tools.peers import Stream, Work, timed
from vision.errors import UserError

MEASURED = {
    "start": {
        **{
            "import jax": "s",
            "import vision": "s",
            "experiments.train --help": "s",
            "import vision.training.loop": "s",
        },
        "quickstart, filled cache: first step": "s",
    },
    "loop": {"quickstart, 1 a dispatch: step in the loop": "ms", "quickstart, 100 a dispatch: overhead": "%"},
    "checkpoint": {
        "quickstart, 1.0 MB: later saves, blocking": "ms",
        "quickstart, 1.0 MB: on disk": "MB",
        "quickstart, 1.0 MB: open and restore, digests checked": "ms",
    },
    "data": {
        "JPEG, 1 core: host path, opencv": "images/s",
        "JPEG, 1 core: host path, pillow, bicubic": "images/s",
        "JPEG, 1 core: whole pipeline, opencv": "images/s",
        "JPEG, 1 core: whole pipeline, opencv, of CPU time": "images/s",
        "JPEG, 2 cores: batches, threads": "images/s",
        "JPEG, 2 cores: batches, processes": "images/s",
        "32-pixel images, batch 64: device, 1 core": "batches/s",
        "32-pixel images, batch 8: input / ResNet-8 step": "%",
        "2x32 + 2x16 views: device, 1 core": "images/s",
        "overlap, step 2 x host: loop beyond the longer": "%",
        "overlap, step 4 x host: loop / (step + host)": "%",
    },
    "models": {
        "LeNet-5, batch 4, 1 core: forwards": "ms",
        "ResNet-18, batch 1, 2 cores: train step": "ms",
        "ViT-Ti/4, batch 1, 1 core: train step": "ms",
        "Mixer-192/4, batch 1, 1 core: train step: of the product's pace": "%",
        "product of two matrices of 1,536 rows, 1 core": "GFLOP/s",
    },
    "knn": {
        "l2, 20 in 200 x 16, k = 5": "queries/s",
        "l1, 20 in 200 x 16, k = 5, sklearn": "queries/s",
        "cosine, 20 in 200 x 16, k = 20: house / sklearn": "x",
    },
}
_STEP = "ViT-32/8, 2x32 + 2x16, K 32, batch 2"
MEASURED["distill"] = {
    f"{_STEP}: step on ready views": "images/s",
    f"{_STEP}: step with its views": "images/s",
    f"{_STEP}: memory of the step with its views": "MiB",
    f"{_STEP}: multiplications and additions": "GFLOP/image",
}
MEASURED["contrast"] = {
    "softmax, batch 8 x 4: whole": "ms",
    "sigmoid, batch 8 x 4: chunks of 4": "ms",
    "sigmoid, batch 8 x 4: chunks of 4: memory, laid out": "MiB",
    "CLIP, ViT-32/8 at 16, batch 4: train step": "images/s",
}
MEASURED["freeze"] = {
    "ViT-Ti/4, batch 32: step, first half frozen": "ms",
    "ResNet-18, batch 32: frozen / trained": "x",
}
MEASURED["attention"] = {
    "ViT-Ti/4, 2x5x2x8, float32: house": "ms",
    "ViT-Ti/4, 2x5x2x8, float32: JAX, xla / house": "x",
}
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.mark.parametrize("suite", [pytest.param(s, marks=[pytest.mark.slow] * (s != "checkpoint")) for s in SUITES])
def test_a_suite_runs_and_writes_what_it_measured(suite, program, tmp_path):
    out, scratch = tmp_path / "new" / "benchmark.json", tmp_path / "scratch"
    scratch.mkdir()
    done = program(
        *("tools.benchmark", "--suite", suite, "--quick", "--repeats", 1, "--out", out, "--json"),
        environment={"TMPDIR": str(scratch), "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=true"},
    )
    written = json.loads(out.read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == written
    assert not list(scratch.iterdir()), "the benchmark leaves its working files behind"

    rows = {row["name"]: row for row in written["rows"]}
    assert {row["suite"] for row in written["rows"]} == {suite}
    assert MEASURED[suite].items() <= {name: row["unit"] for name, row in rows.items()}.items()
    for name, row in rows.items():
        assert row["repeats"] == len(row["values"])
        assert row["min"] <= row["median"] <= row["max"], name
        assert row["unit"] == "%" or row["min"] > 0, name
        assert name in done.stdout

    if suite in ("data", "models", "distill", "contrast") and not HAS_TORCH:
        assert "pip install torch" in done.stderr
        assert "--peer_python" in done.stderr
        assert not any("DataLoader" in name or "torch" in name for name in rows)

    machine = written["machine"]
    assert machine["cores"] >= 1
    assert machine["memory_gib"] > 0
    assert set(machine["versions"]) == {"jax", "jaxlib", "flax", "optax", "orbax-checkpoint"}
    assert machine["flags"]["XLA_FLAGS"] == "--xla_cpu_multi_thread_eigen=true"


def test_the_table_says_which_aim_is_missed_by_the_median_and_not_by_the_worst():
    rows = [Row("s", "good", (9.0, 1.0, 2.0), "ms", aim=5.0), Row("s", "bad", (6.0, 1.0, 7.0), "ms", aim=5.0)]
    header, good, bad = table(rows).splitlines()
    assert header.split()[:3] == ["suite", "what", "median"]
    assert good.split()[1:3] == ["good", "2.00"]
    assert good.endswith("< 5.00  met")
    assert bad.endswith("< 5.00  MISSED")


def test_more_may_be_wanted_of_a_quantity_and_the_aim_itself_is_enough():
    values = {"good": (1.5, 1.0, 2.0), "bad": (1.4, 1.0, 9.0)}
    rows = [Row("s", name, each, "x", aim=1.5, better="more") for name, each in values.items()]
    _, good, bad = table(rows).splitlines()
    assert good.endswith(">= 1.50  met")
    assert bad.endswith(">= 1.50  MISSED")
    assert [row.as_json()["better"] for row in rows] == ["more", "more"]
    assert Row("s", "no aim", (1.0,), "x", better="more").met is None


def test_quartiles_hold_the_middle_half():
    assert Row("s", "x", (4.0, 1.0, 5.0, 2.0, 3.0), "ms").quartiles == (2.0, 4.0)
    assert Row("s", "x", (4.0,), "ms").quartiles == (4.0, 4.0)


def test_repeats_are_the_suites_own_unless_given(tmp_path):
    assert Settings(tmp_path).times(5) == 5
    assert Settings(tmp_path, repeats=2, quick=True).times(5) == 2
    assert Settings(tmp_path, quick=True).times(5) == 1


@pytest.mark.parametrize("arguments", [["--suite", "strat"], ["--repeats", "0"], ["--repeat", "3"]])
def test_a_wrong_flag_ends_with_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "benchmark" not in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--peer_python", "--tf_python"])
def test_a_python_that_is_not_there_is_named(flag, program, tmp_path):
    arguments = ("--suite", "data", "--quick", "--out", tmp_path / "benchmark.json", flag, tmp_path / "none")
    done = program("tools.benchmark", *arguments, check=2)
    assert done.stderr.endswith(f"error: {flag} {tmp_path / 'none'}: No such file or directory\n")
    assert not done.stdout


def test_a_python_without_the_package_is_told_what_it_lacks(tmp_path):
    empty = tmp_path / "python"
    empty.write_text("#!/bin/sh\nexit 1\n")
    empty.chmod(0o755)
    with pytest.raises(UserError, match=r"--tf_python .*python: this Python lacks tensorflow; pip install tensorflow"):
        find_peer("tensorflow", empty)


def test_a_folder_without_jpegs_is_named(program, tmp_path):
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "note.txt").write_text("no image")
    arguments = ("--suite", "data", "--quick", "--out", tmp_path / "benchmark.json", "--jpegs", tmp_path)
    assert "there is no JPEG file" in program("tools.benchmark", *arguments, check=2).stderr


def test_made_up_photographs_are_the_same_every_time_and_as_large_as_real_ones(tmp_path):
    for name in ("a", "b"):
        jpegs.write_folder(tmp_path / name, 30)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.jpg"))
    assert len(files) == 30
    assert len({path.parent for path in files}) == 10
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)
    # The training images of ImageNet have 108 KB on average: 138 GB in 1,281,167 files.
    assert 80e3 < np.mean([(tmp_path / "a" / path).stat().st_size for path in files]) < 130e3
    sizes = []
    for path in files:
        with Image.open(tmp_path / "a" / path) as image:
            sizes.append(image.size)
    assert sum(width < height for width, height in sizes) == 10
    assert np.median([max(size) for size in sizes]) == 500
    assert len(set(sizes)) > 5


def test_the_power_of_made_up_photographs_falls_with_the_frequency_as_that_of_photographs():
    slopes = []
    for number in range(8):
        pixels = jpegs.picture(number, 256, 256).mean(axis=-1)
        power = np.abs(np.fft.fft2((pixels - pixels.mean()) * np.hanning(256)[:, None] * np.hanning(256))) ** 2
        frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))
        inside = (frequency > 0.02) & (frequency < 0.4)
        slopes.append(np.polyfit(np.log(frequency[inside]), np.log(power[inside]), 1)[0])
    # Natural images: an exponent around -2, from -1.5 to -3 (Field 1987; Tolhurst et al. 1992).
    assert -3.0 < np.mean(slopes) < -1.5


def test_batches_that_lie_ready_are_not_counted():
    def batches():
        for number in count():
            if number >= 3:
                time.sleep(0.01)
            yield number

    measured = timed(Stream(batches(), images=8, ahead=3), 4)
    assert measured["images"] == 32
    assert measured["seconds"] >= 0.04


def test_what_is_still_in_flight_is_waited_for_off_the_clock():
    waited = []

    def settle():
        time.sleep(0.05)
        waited.append(True)

    assert timed(Stream(count(), images=1, settle=settle), 3)["seconds"] < 0.05
    assert waited == [True]


def test_the_time_of_a_loop_has_the_steps_in_it():
    measured = timed(Stream(count(), images=1, ahead=2), 5, step_seconds=0.01)
    assert measured["seconds"] >= 0.05
    assert measured["cpu_seconds"] < 0.05


def test_contenders_take_turns_and_every_other_round_goes_backwards():
    calls = []

    class Fake:
        def measure(self, name, batches):
            calls.append(name)
            return Timed(seconds={"a": 1.0, "b": 2.0}[name] * len(calls), cpu_seconds=0.0, images=batches, ahead=0)

    measured = take_turns([Turn("first", Fake(), "a", 3), Turn("second", Fake(), "b", 3)], repeats=2)
    assert calls == ["a", "b", "a", "b", "b", "a"]
    # Rates are 3 / (3, 6) and 3 / (8, 10): each round's own are divided, by hand.
    assert ratios(measured, "first", "second") == pytest.approx((8 / 3, 10 / 6))


@pytest.mark.skipif(HAS_TORCH, reason="it would run")
def test_a_contender_that_ends_is_an_error_that_says_why(tmp_path):
    contender = Contender(None, "tools.peers.torch_loader", Work("none", "none", cores=1), tmp_path / "log.txt")
    with pytest.raises(UserError, match=r"tools.peers.torch_loader, jpeg: ended with code 1: .*No module named 'torch"):
        contender.measure("jpeg", 1)
    contender.close()


def test_the_network_that_input_is_measured_against_is_trained_and_has_the_published_size():
    import jax

    from tools.benchmarks.model_steps import make_step

    images, labels = np.zeros((2, 32, 32, 3), np.float32), np.zeros(2, np.int32)
    functions = []

    def new_state(images):
        state, *rest = make_step("resnet/20", images)
        functions.extend(rest)
        return state

    state = jax.eval_shape(new_state, images)
    step, predict = functions
    # 0.27 million (He et al. 2016, table 6); in full by hand: convolutions 267,696, their scales and offsets 1,376,
    # and 650 of the last layer.
    assert sum(leaf.size for leaf in jax.tree.leaves(state[0])) == 269_722
    assert jax.eval_shape(predict, state, images).shape == (2, 10)
    after, loss = jax.eval_shape(step, state, images, labels)
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(lambda leaf: leaf.shape, state)
    assert loss.shape == ()


def test_a_step_lowers_the_loss_and_a_prediction_shows_it():
    from tools.benchmarks.model_steps import make_step

    random = np.random.default_rng(0)
    images, labels = random.standard_normal((8, 28, 28, 1), np.float32), np.arange(8) % 3
    state, step, predict = make_step("lenet/5", images)
    losses = []
    for _ in range(40):
        state, loss = step(state, images, labels)
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    logits = np.asarray(predict(state, images), np.float64)
    shifted = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert -shifted[np.arange(8), labels].mean() < losses[0]


def test_networks_are_as_large_as_those_that_they_are_compared_with():
    from tools.benchmarks.counts import count_parameters

    # LeNet-5: 156 + 2,416 + 48,120 + 10,164 + 850; ResNet-18 and ViT-Ti/4 as torchvision counts them for 10 classes.
    assert count_parameters("LeNet-5") == 61_706
    assert count_parameters("ResNet-18") == 11_173_962
    assert count_parameters("ViT-Ti/4") == 5_362_762
    assert count_parameters("ResNet-20") == 269_722  # He et al. 2016, table 6: 0.27M


def test_a_step_s_share_counts_the_products_of_papers():
    from tools.benchmarks.counts import count_products

    # LeNet-5 on 28 pixels: convolutions, then dense layers; ResNet-20 has 41 million pairs (He et al. 2016).
    pairs = 28 * 28 * 25 * 6 + 100 * 150 * 16 + 400 * 120 + 120 * 84 + 84 * 10
    assert count_products("LeNet-5") == 2 * pairs
    assert count_products("ResNet-20") == pytest.approx(2 * 40.8e6, rel=0.01)


@pytest.mark.slow
def test_networks_of_imagenet_are_measured_in_half_precision(monkeypatch, tmp_path):
    """As on a GPU, whose peak this machine does not have: so no utilisation is told."""
    from tools.benchmarks import models_gpu
    from tools.benchmarks.rows import Settings

    monkeypatch.setattr(models_gpu, "_BATCH_SIZES", {"ViT-S/16": 256})
    (row,) = models_gpu.run(Settings(tmp_path, quick=True))
    assert row.name == "ViT-S/16, batch 1, bfloat16: train step"
    assert row.unit == "images/s"
    assert row.median > 0


def test_self_distillation_is_measured_at_the_published_size():
    from tools.benchmarks.distill import count_parameters
    from tools.peers import Distillation

    network = {"patch_size": 16, "width": 384, "depth": 12, "num_heads": 6, "mlp_dim": 1536}
    found = count_parameters(Distillation("", "", cores=1, network=network, batch_size=8))
    # ViT-S/16 without a head; the published head has 22,352,128, of which 65,536 are gains that are not trained.
    assert found == {"backbone": 21_665_664, "head": 22_352_128 - 65_536}


def test_utilisation_is_the_share_of_the_peak_of_a_known_device():
    from tools.benchmarks.distill import utilisation

    rates = [
        Row("distill", "step", (100.0, 200.0), "images/s"),
        Row("distill", "step, torch", (50.0,), "images/s"),
        Row("distill", "step: house / torch", (2.0,), "x"),
    ]
    (row,) = utilisation(rates, 989e9, "NVIDIA H100 80GB HBM3")
    assert row.name == "step: MFU"
    assert row.values == pytest.approx((10.0, 20.0))
    assert utilisation(rates, 989e9, "cpu") == []


def test_only_peers_that_a_suite_has_and_that_are_asked_for_are_looked_for(program, tmp_path):
    flags = ("--suite", "models", "--quick", "--out", tmp_path / "out.json", "--peer_python", tmp_path / "none")
    done = program("tools.benchmark", *flags, "--tf_python", tmp_path / "none", check=2)
    assert "--peer_python" in done.stderr
    from tools.benchmark import PEERS, SUITES

    assert set(PEERS) <= set(SUITES)


def test_the_growth_of_a_process_is_that_of_its_peak():
    from tools.peers import grown_by

    size = 64 * 2**20
    grown = grown_by(lambda: np.ones(size, np.uint8).sum())
    if grown is None:
        pytest.skip("this system does not say how large a process was")
    assert 0.9 * size < grown < 1.5 * size
    held = np.ones(size, np.uint8)
    assert (grown_by(held.sum) or 0) < 0.5 * size, "what is there already does not count"


def test_the_loss_that_is_measured_is_that_of_the_objective():
    """At equal embeddings: ln n, and the closed form of n equal logits of scale + bias = 0."""
    import jax.numpy as jnp

    from tools.benchmarks.house_contrast import value_of

    same = jnp.ones((4, 1))
    for options in ({}, {"form": "chunked", "chunk_size": 2}):
        assert float(value_of("softmax", **options)(same, same)) == pytest.approx(np.log(4), rel=1e-6)
        assert float(value_of("sigmoid", **options)(same, same)) == pytest.approx(4 * np.log(2), rel=1e-6)
