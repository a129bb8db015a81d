"""Training sets of growing size are nested and balanced, and every network takes the same steps on them."""

import itertools
import json

import numpy as np
import pytest
from browser import check_page

from experiments import data_size as program_of
from vision.errors import UserError
from vision.studies.data_size.subsets import nested

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), [40, 30, 50, 20, 60]))


@pytest.mark.parametrize("seed", [0, 1])
def test_subsets_are_nested_and_balanced(seed):
    sizes = (5, 12, 50, 99, 200)
    found = nested(LABELS, sizes, seed=seed)
    for size, positions in found.items():
        assert len(positions) == size == len(set(positions.tolist()))
        counts = np.bincount(LABELS[positions], minlength=5)
        if size <= 100:  # the smallest class has 20
            assert counts.max() - counts.min() <= 1
    for small, large in itertools.pairwise(sizes):
        assert set(found[small]) < set(found[large])


def test_subsets_follow_the_seed_and_do_not_favour_a_class():
    first, again, other = (nested(LABELS, (7,), seed=seed)[7] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)
    doubled = [np.bincount(LABELS[nested(LABELS, (6,), seed=seed)[6]]).argmax() for seed in range(60)]
    assert set(doubled) == set(range(5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "digit"], "unknown 'digit'; did you mean 'digits'"),
        (["--dataset", "digits", "--rungs", "vitt"], "unknown rung 'vitt'; did you mean 'vit'"),
        (["--dataset", "digits", "--sizes", "4"], "4 examples are less than one for each of 10 classes"),
        (["--dataset", "digits", "--sizes", "9999"], "9999 examples are more than the 1437"),
        (["--dataset", "digits", "--seeds", "0"], "--seeds must be at least 1"),
        (["--dataset", "digits", "--steps", "0"], "--steps must be at least 1"),
    ],
)
def test_wrong_input_is_one_line(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        program_of.main([*arguments, "--workdir", str(tmp_path)])


def test_every_run_differs_in_nothing_but_network_seed_and_examples():
    from vision.studies.data_size.study import LEARNERS, config_of
    from vision.studies.ladder.datasets import ground

    configs = [config_of(ground("digits", "medium"), name, steps=40, seed=1) for name in LEARNERS]
    for config in configs:
        assert config["duration"] == {"steps": 40}
        assert config["seed"] == 1
        assert not config["data"]["augment"]
        assert {key: config[key] for key in config if key not in ("model", "data")} == {
            key: configs[0][key] for key in configs[0] if key not in ("model", "data")
        }
    assert len({config["model"]["name"] for config in configs}) == len(LEARNERS)


@pytest.mark.slow
def test_the_program_trains_measures_and_resumes(program, tmp_path):
    arguments = ["experiments.data_size", "--dataset", "digits", "--workdir", tmp_path, "--json"]
    arguments += ["--sizes", "300", "20", "--rungs", "mlp", "cnn", "--seeds", "2", "--steps", "60"]
    done = program(*arguments)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == json.loads((tmp_path / "data_size.json").read_text())
    assert [(row["rung"], row["size"]) for row in result["rows"]] == [
        ("mlp", 20),
        ("mlp", 300),
        ("cnn", 20),
        ("cnn", 300),
    ]
    for few, many in (result["rows"][:2], result["rows"][2:]):
        assert few["accuracy"] + 0.1 < many["accuracy"]
        assert many["accuracy"] == pytest.approx(np.mean(many["accuracies"]))
        assert many["sd"] == pytest.approx(np.std(many["accuracies"], ddof=1))
    assert "<svg" in (tmp_path / "data_size.html").read_text()
    check_page(tmp_path / "data_size.html", tmp_path)
    (tmp_path / "parts" / "cnn_300_1.json").unlink()
    again = program(*arguments)
    assert again.stdout == done.stdout
    assert again.stderr.count("done before") == 7
