"""Several runs side by side, and the program that writes reports."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from report_pages import CONFIG, METRICS, look, make

from tools import report as program
from vision.analysis import report
from vision.analysis.runs import read
from vision.errors import UserError


def test_a_comparison_shows_what_differs_and_only_that(tmp_path):
    other = CONFIG | {"seed": 1, "optimizer": {"name": "sgd", "learning_rate": 0.003, "momentum": 0.9}}
    folders = [make(tmp_path / "a"), make(tmp_path / "b", config=other, metrics=METRICS[:1])]
    rows = {row[0]: row[1:] for row in report.side_by_side([read(folder) for folder in folders])}
    assert rows == {
        "": ["a", "b"],
        "state": ["under way", "under way"],
        "steps": ["240 of 480", "120 of 480"],
        "train/loss": ["0.2143", "0.31"],
        "test/loss": ["0.1", "–"],
        "train/accuracy": ["0.95", "0.9"],
        "test/accuracy": ["0.9712", "–"],
        "test/top5_accuracy": ["1", "–"],
        "test/calibration_error": ["0.01", "–"],
        "train/gradient_norm": ["1.2", "1.2"],
        "train/learning_rate": ["0.001", "0.001"],
        "speed/examples_per_second (median)": ["51,234", "51,234"],
        "config.optimizer.momentum": ["–", "0.9"],
        "config.optimizer.name": ["adamw", "sgd"],
        "config.seed": ["0", "1"],
    }
    page = look(report.compare(folders, tmp_path / "both.html"))
    assert "config.optimizer.name adamw sgd" in page.text
    assert "batch_size" not in page.text
    assert page.count("svg") == 9


def test_runs_of_one_name_are_told_apart(tmp_path):
    folders = [make(tmp_path / "a" / "seed0"), make(tmp_path / "b" / "seed0")]
    head = report.side_by_side([read(folder) for folder in folders])[0]
    assert head == ["", *map(str, folders)]


def test_a_notebook_keeps_its_style_and_figures(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    report.write(make(tmp_path / "run"))
    assert dict(matplotlib.rcParams) == before
    report_only = "import sys; from vision.analysis import report; assert not {'jax', 'matplotlib'} & set(sys.modules)"
    drawn = f"report.write({str(tmp_path / 'run')!r}); assert not {{'jax', 'matplotlib.pyplot'}} & set(sys.modules)"
    code = f"{report_only}; {drawn}"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_the_program_writes_pages_and_prints_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "a", metrics=[{"step": 1, "train/loss": math.nan}])
    make(tmp_path / "b")
    assert program.main(["a", "b", "--json"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == ["a/report.html", "b/report.html", "comparison.html"]
    for path in said.err.splitlines():
        look(tmp_path / path)
    *table, last = said.out.splitlines()
    assert table[0].split() == ["a", "b"]
    assert ["train/loss", "nan", "0.2143"] in [line.split() for line in table]
    result = json.loads(last, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert result["comparison"] == "comparison.html"
    assert result["runs"][0]["metrics"] == {"train/loss": None}
    assert result["runs"][1]["metrics"]["test/accuracy"] == 0.9712
    assert (result["runs"][1]["step"], result["runs"][1]["steps"]) == (240, 480)

    assert program.main(["a"]) == 0
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match="--out"):
        program.main(["a", "--out", "page.html"])


def test_a_missing_run_ends_with_one_line_and_nothing_written(tmp_path):
    folder = make(tmp_path / "a")
    command = [sys.executable, "-m", "tools.report", str(folder), str(tmp_path / "missing")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"error: .*missing: no such folder.*\n", done.stderr)
    assert not (folder / "report.html").exists()
