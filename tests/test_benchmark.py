"""The benchmark: every suite runs to its end and leaves numbers that a person can trust."""

import json

import pytest

from tools.benchmark import SUITES, main
from tools.benchmarks.rows import Row, Settings, table

MEASURED = {
    "start": {"import jax": "s", "import vision.training.loop": "s", "quickstart, filled cache: first step": "s"},
    "loop": {"quickstart, 1 a dispatch: step in the loop": "ms", "quickstart, 100 a dispatch: overhead": "%"},
    "checkpoint": {
        "quickstart, 1.0 MB: later saves, blocking": "ms",
        "quickstart, 1.0 MB: on disk": "MB",
        "quickstart, 1.0 MB: open and restore, digests checked": "ms",
    },
}


@pytest.mark.parametrize("suite", SUITES)
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
