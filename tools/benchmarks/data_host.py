"""From JPEG files to batches of random crops: images per second on one core, and on two."""

from tools.benchmarks.contenders import Contenders, Timed, Turn, ratios, take_turns
from tools.benchmarks.rows import Row, Settings, say
from tools.peers import Work

HOST_AIM = 1.5
_HOUSE = {
    "host path, opencv": "opencv bilinear",
    "host path, opencv, bicubic": "opencv bicubic",
    "host path, pillow": "pillow bilinear",
    "host path, pillow, bicubic": "pillow bicubic",
    "whole pipeline, opencv": "pipeline",
}
_PEERS = {
    "DataLoader": ("torch", "jpeg"),
    "DataLoader, uint8": ("torch", "jpeg uint8"),
    "tf.data": ("tensorflow", "jpeg"),
}
_COMPARED = (
    ("host path, opencv", "DataLoader", HOST_AIM),
    ("host path, opencv", "DataLoader, uint8", None),
    ("whole pipeline, opencv", "DataLoader", HOST_AIM),
    ("host path, pillow", "DataLoader, uint8", None),
    ("whole pipeline, opencv", "tf.data", None),
)
_COMPARED_ON_TWO = (
    ("whole pipeline, threads", "DataLoader", None),
    ("batches, threads", "DataLoader", None),
    ("batches, processes", "DataLoader", None),
    ("whole pipeline, threads", "tf.data", None),
)


def run(settings: Settings, work: Work, one: Contenders, two: Contenders) -> list[Row]:
    """Measures the host path alone and the whole pipeline, each against its peers."""
    return [
        *_on_one(work, one, settings.times(9), settings.quick),
        *_on_two(work, two, settings.times(7), settings.quick),
    ]


def _on_one(work: Work, contenders: Contenders, repeats: int, quick: bool) -> list[Row]:
    batches = 1 if quick else 4
    turns = [Turn(label, contenders["house"], stream, batches) for label, stream in _HOUSE.items()]
    turns += [
        Turn(label, contenders[name], stream, batches) for label, (name, stream) in _PEERS.items() if name in contenders
    ]
    say(f"data: JPEG to {work.size} pixels on one core: {repeats} x {batches} batches of {work.batch_size}")
    measured = take_turns(turns, repeats)
    rows = [Row("data", f"JPEG, 1 core: {name}", _rates(timed), "images/s") for name, timed in measured.items()]
    rows += [
        Row("data", f"JPEG, 1 core: {name}, of CPU time", _rates_of_cpu(measured[name]), "images/s")
        for name in ("host path, opencv", "whole pipeline, opencv", "DataLoader", "tf.data")
        if name in measured
    ]
    return rows + _ratios("JPEG, 1 core", measured, _COMPARED)


def _on_two(work: Work, contenders: Contenders, repeats: int, quick: bool) -> list[Row]:
    batches = 1 if quick else 8
    house = {"batches, threads": "threads", "batches, processes": "processes", "whole pipeline, threads": "pipeline"}
    turns = [Turn(label, contenders["house"], stream, batches) for label, stream in house.items()]
    turns += [
        Turn(label, contenders[name], "jpeg", batches)
        for label, name in (("DataLoader", "torch"), ("tf.data", "tensorflow"))
        if name in contenders
    ]
    say(f"data: the same on two cores: {repeats} x {batches} batches")
    measured = take_turns(turns, repeats)
    rows = [Row("data", f"JPEG, 2 cores: {name}", _rates(timed), "images/s") for name, timed in measured.items()]
    return rows + _ratios("JPEG, 2 cores", measured, _COMPARED_ON_TWO)


def _ratios(what: str, measured: dict[str, list[Timed]], pairs: tuple[tuple[str, str, float | None], ...]) -> list[Row]:
    return [
        Row("data", f"{what}: {ours} / {peer}", ratios(measured, ours, peer), "x", aim, "more")
        for ours, peer, aim in pairs
        if peer in measured
    ]


def _rates(timed: list[Timed]) -> tuple[float, ...]:
    return tuple(each.rate for each in timed)


def _rates_of_cpu(timed: list[Timed]) -> tuple[float, ...]:
    """Per second that the process had a core: what a busy machine takes from it is not counted."""
    return tuple(each.images / each.cpu_seconds for each in timed)
