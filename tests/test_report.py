"""The report of a run, from folders written by hand."""

import fcntl
import math
import re

import pytest
from report_pages import Page, evaluation, look, make

from vision.analysis import report
from vision.analysis.runs import read
from vision.errors import UserError


def test_a_complete_run_shows_its_numbers_curves_and_mistakes(tmp_path):
    confusion = [[30, 0, 2], [1, 29, 0], [7, 0, 25]]
    folder = make(
        tmp_path / "digits",
        evaluations={"test": evaluation(confusion, ("zero", "one", "<two>"))},
        summary={"workdir": "digits", "step": 480, "steps": 480, "complete": True, "test": {"accuracy": 0.9876}},
    )
    (folder / "checkpoints" / "480").mkdir(parents=True)
    path = report.write(folder)
    assert path == folder / "report.html"
    page = look(path)
    assert page.text.startswith("digits: complete: 480 steps")
    for number in ("0.9876", "0.2143", "51,234", "0.0123", "1.2 percentage points"):
        assert number in page.text
    assert "0.9712" not in page.text  # the evaluation at step 480 is newer
    # loss, accuracy, top-5, calibration error, gradient norm, learning rate, speed
    assert page.count("svg") == 7
    assert "<two> taken for zero : 7 of 32 (21.9%)" in page.text
    assert page.text.index("<two> taken for zero") < page.text.index("zero taken for <two>")
    titles = {attributes.get("title") for tag, attributes in page.tags if tag == "td"}
    assert "zero taken for <two>: 2 of 32" in titles
    assert "optimizer.learning_rate 0.003" in page.text
    assert "data_fingerprint f00dfeed" in page.text
    assert sorted(entry.name for entry in folder.iterdir() if "report" in entry.name) == ["report.html"]


def test_the_commands_can_be_pasted(tmp_path):
    folder = make(tmp_path / "a run; rm x")
    page = look(report.write(folder))
    quoted = f"'{folder}'"
    train = "python -m experiments.train --config configs/a.py:big --config.seed=0 --workdir"
    assert f"{train} {quoted}" in page.text
    assert f"python -m experiments.evaluate --workdir {quoted} --split test" in page.text
    assert f"python -m tools.report {quoted}" in page.text
    assert "tools.compare_checkpoints" in page.text


def test_training_and_evaluation_share_a_figure(tmp_path):
    html = report.write(make(tmp_path / "run")).read_text()
    captions = [Page(caption).text for caption in re.findall(r"<figcaption>.*?</figcaption>", html)]
    assert "loss train test" in captions
    assert "accuracy train test" in captions


def test_the_state_is_what_the_folder_says(tmp_path):
    folder = make(tmp_path / "run")
    assert read(folder).headline == "under way at step 240 of 480"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert read(folder).headline == "under way at step 240 of 480"
    assert read(folder).headline == "stopped at step 240 of 480"
    (folder / "summary.json").write_text('{"step": 250, "steps": 500, "complete": false}')
    assert read(folder).headline == "stopped at step 250 of 500"
    (folder / "summary.json").write_text('{"step": 480, "steps": 480, "complete": true}')
    assert read(folder).headline == "complete: 480 steps"


def test_a_run_that_has_only_begun_has_a_report(tmp_path):
    page = look(report.write(make(tmp_path / "run", config={"seed": 0}, metrics=None, environment=None)))
    assert "under way at step 0" in page.text
    assert "No metrics have been written yet." in page.text
    assert "no checkpoint yet" in page.text
    assert page.count("svg") == 0


def test_a_half_written_last_line_is_passed_over_and_a_broken_one_is_counted(tmp_path):
    folder = make(tmp_path / "run")
    with open(folder / "metrics.jsonl", "ab") as metrics:
        metrics.write(b'{"step": 360, "train/loss": 0.1, "train/\xc3')
    page = look(report.write(folder))
    assert "train at step 240" in page.text
    assert "cannot be read" not in page.text
    with open(folder / "metrics.jsonl", "a") as metrics:
        metrics.write('\n{"step": 360, "train/loss": 0.1987}\n[1]\n')
    page = look(report.write(folder))
    assert "0.1987" in page.text
    assert "2 lines of metrics.jsonl cannot be read" in page.text


def test_a_step_taken_again_after_a_resume_counts_once(tmp_path):
    lines = [{"step": step, "train/loss": loss} for step, loss in ((10, 3.0), (20, 2.0), (30, 9.0), (20, 1.5))]
    assert read(make(tmp_path / "run", metrics=lines)).series["train/loss"] == [(10, 3.0), (20, 1.5), (30, 9.0)]


def test_a_run_that_stopped_early_has_the_numbers_of_its_best_step(tmp_path):
    lines = [{"step": step, "test/accuracy": value} for step, value in ((10, 0.9), (20, 0.8))]
    summary = {"step": 10, "steps": 480, "stopped_at": 20, "complete": True}
    folder = make(tmp_path / "run", metrics=lines, evaluations={"test": evaluation([[1]], step=10)}, summary=summary)
    assert read(folder).final()["test/accuracy"].value == 0.9876


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_said(tmp_path, bad):
    lines = [{"step": step, "train/loss": bad if step >= 30 else 1.0 / step} for step in (10, 20, 30, 40)]
    page = look(report.write(make(tmp_path / "run", metrics=lines)))
    assert "train is not finite, or beyond 1e+100, at 2 of 4 points, first at step 30." in page.text
    assert page.count("svg") == 1
    lines = [{"step": 10, "train/loss": bad}]
    page = look(report.write(make(tmp_path / "never", metrics=lines)))
    assert "at 1 of 1 points" in page.text
    assert page.count("svg") == 0


@pytest.mark.parametrize(
    "values", [[0.5], [0.0], [0.0, 0.0], [1e99, -1e99], [1e-300, 1e99], [1.0, 1e308], [-1e-12], [5e-324, 1.0]]
)
def test_odd_curves_are_drawn(tmp_path, values):
    lines = [{"step": step, "train/loss": value} for step, value in enumerate(values)]
    assert look(report.write(make(tmp_path / "run", metrics=lines))).count("svg") == 1


def test_a_long_curve_is_thinned_and_says_so(tmp_path):
    lines = [{"step": step, "train/loss": 1 + math.sin(step)} for step in range(20_000)]
    path = report.write(make(tmp_path / "run", metrics=lines))
    assert "the band is their range" in look(path).text
    assert path.stat().st_size < 100_000


def test_hostile_words_stay_words(tmp_path):
    bad = "<script>alert('x')</script>\" onload=\"y $\\frac{ \x1b[31m \ud800 漢 </style></pre> &amp;"
    folder = make(
        tmp_path / "<b>'run'",
        config={"note": bad, bad: [bad], "empty": {}, "blank": "", "odd": math.nan},
        environment={"versions": {bad: bad}, "command": [bad, f"--config={bad}"]},
        metrics=[{"step": 1, f"{bad}/{bad}": 1.0, "train/loss": bad, "_hidden/loss": 2.0, "bare": 3.0}],
        evaluations={"x<y": evaluation([[1, 2], [3, 4]], (bad, bad))},
    )
    page = look(report.write(folder))
    assert "alert('x')" in page.text
    assert "<b>'run'" in page.text
    assert "\x1b" not in page.text
    look(report.compare([folder, make(tmp_path / "plain")], tmp_path / "both.html"))


def test_the_confusion_matrix_is_drawn_up_to_fifty_classes(tmp_path):
    for count in (1, 12, 50, 200):
        confusion = [[9 if true == predicted else 0 for predicted in range(count)] for true in range(count)]
        confusion[0][count - 1] = 4
        confusion[count - 1] = [0] * count  # a class that the split does not have
        page = look(report.write(make(tmp_path / str(count), evaluations={"test": evaluation(confusion)})))
        assert page.count("td") > 2 * count if count <= 50 else page.count("td") < 100
        assert ("200 classes are too many for a picture" in page.text) == (count == 200)
        assert (f"0 taken for {count - 1} : 4 of 13 (30.8%)" in page.text) == (count > 1)
        assert ("No class is taken for another." in page.text) == (count == 1)


def test_what_is_no_run_is_one_readable_line(tmp_path):
    (tmp_path / "empty").mkdir()
    broken, listed = make(tmp_path / "broken"), make(tmp_path / "listed", config=[1])
    (broken / "summary.json").write_text('{"step": ')
    ragged = make(tmp_path / "ragged", evaluations={"test": evaluation([[1, 2], [3]])})
    for folder, words in (
        (tmp_path / "missing", "no such folder"),
        (tmp_path / "empty", "no config.json"),
        (broken, "summary.json cannot be read"),
        (listed, "config.json cannot be read"),
        (ragged, "not square"),
    ):
        with pytest.raises(UserError, match=words) as raised:
            report.write(folder)
        assert "\n" not in str(raised.value)
        assert not (folder / "report.html").exists()


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path):
    folder = make(tmp_path / "run")
    (folder / "report.html").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        report.write(folder)
    with pytest.raises(UserError, match="cannot write"):
        report.compare([folder], tmp_path / "nowhere" / "page.html")
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]
