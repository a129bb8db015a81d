"""Run folders written by hand, and what holds for every page made from them."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

CONFIG = {
    "seed": 0,
    "batch_size": 128,
    "duration": {"steps": 480},
    "model": {"name": "mlp/256-256"},
    "optimizer": {"name": "adamw", "learning_rate": 0.003},
}
ENVIRONMENT = {
    "versions": {"jax": "0.10.2"},
    "device_kind": "cpu",
    "data_fingerprint": "f00dfeed",
    "command": ["train.py", "--config", "configs/a.py:big", "--config.seed=0", "--json", "--workdir", "elsewhere"],
}
METRICS = [
    {
        "step": 120,
        "train/loss": 0.31,
        "train/accuracy": 0.9,
        "train/gradient_norm": 1.2,
        "train/learning_rate": 0.001,
        "speed/examples_per_second": 51234.5,
    },
    {"step": 120, "test/accuracy": 0.9712, "test/top5_accuracy": 1.0, "test/loss": 0.1, "test/calibration_error": 0.01},
    {"step": 240, "train/loss": 0.2143, "train/accuracy": 0.95},
]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks that every tag is closed in order, and keeps tags, attributes and the text."""

    def __init__(self, html: str):
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "style" not in self.stack:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def look(path: Path) -> Page:
    """Reads a page and checks what holds for every page."""
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert page.count("script") == page.count("link") == page.count("iframe") == 0
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "data", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
        for reference in re.findall(r"url\(#(.*?)\)", " ".join(value or "" for value in attributes.values())):
            assert reference in identifiers
    return page


def make(
    path: Path, *, config=CONFIG, metrics=METRICS, environment=ENVIRONMENT, evaluations=None, summary=None
) -> Path:
    path.mkdir(parents=True)
    write = {"config.json": config, "environment.json": environment, "summary.json": summary}
    write |= {f"evaluations/{name}.json": evaluation for name, evaluation in (evaluations or {}).items()}
    for name, value in write.items():
        if value is not None:
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(json.dumps(value))
    if metrics is not None:
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    return path


def evaluation(confusion, names=(), step=480):
    scalars = {"accuracy": 0.9876, "calibration_error": 0.0123}
    return {"step": step, "scalars": scalars, "arrays": {"confusion": confusion}, "class_names": list(names)}
