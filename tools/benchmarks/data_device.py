"""Small images that live on the device, against a train step and torch's loader; and the views of DINO."""

from tools.benchmarks.contenders import Contenders, Turn, ratios, take_turns
from tools.benchmarks.rows import Row, Settings, say
from tools.peers import Work

SHARE_AIM = 3.0


def run(settings: Settings, work: Work, one: Contenders, two: Contenders) -> list[Row]:
    """Measures input on the device, its share of a step, and views."""
    return [*_small(settings, work, one, two), *_views(settings, work, one, two)]


def _small(settings: Settings, work: Work, one: Contenders, two: Contenders) -> list[Row]:
    repeats, step = settings.times(7), work.step_batch
    inputs, many = f"32-pixel images, batch {step}: input", 2 if settings.quick else 40
    turns = [
        Turn("device, 2 cores", two["house"], f"small {work.small_batch}", many),
        Turn(inputs, two["house"], f"small {step}", many),
        Turn("step", two["house"], "step", 1 if settings.quick else 2),
        Turn("device, 1 core", one["house"], f"small {work.small_batch}", many),
    ]
    if "torch" in one:
        turns.append(Turn("DataLoader, 1 core", one["torch"], "small", 1 if settings.quick else 4))
    say(f"data: small images on the device, and a train step of a ResNet: {repeats} turns")
    measured = take_turns(turns, repeats)
    milliseconds = {
        label: tuple(1e3 * each.seconds / each.images * step for each in measured[label]) for label in (inputs, "step")
    }
    share = tuple(100 * a / b for a, b in zip(milliseconds[inputs], milliseconds["step"], strict=True))
    name = f"ResNet-{6 * work.step_blocks + 2}"
    rows = [
        Row("data", f"32-pixel images, batch {work.small_batch}: {label}", rates, "batches/s")
        for label, timed in measured.items()
        if label not in milliseconds
        for rates in [tuple(each.rate / work.small_batch for each in timed)]
    ]
    rows += [
        Row("data", inputs, milliseconds[inputs], "ms"),
        Row("data", f"32-pixel images, batch {step}: {name} step", milliseconds["step"], "ms"),
        Row("data", f"32-pixel images, batch {step}: input / {name} step", share, "%", SHARE_AIM),
    ]
    if "torch" in one:
        ratio = ratios(measured, "device, 1 core", "DataLoader, 1 core")
        rows.append(Row("data", "32-pixel images, 1 core: device / DataLoader", ratio, "x", better="more"))
    return rows


def _views(settings: Settings, work: Work, one: Contenders, two: Contenders) -> list[Row]:
    repeats, batches = settings.times(5), 1 if settings.quick else 2
    turns = []
    for cores, contenders in (("1 core", one), ("2 cores", two)):
        turns.append(Turn(f"device, {cores}", contenders["house"], "views", batches))
        if "torch" in contenders:
            turns.append(Turn(f"DataLoader, {cores}", contenders["torch"], "views", batches))
    what = f"2x{work.global_size} + {work.num_local}x{work.local_size} views"
    say(f"data: {what}: {repeats} x {batches} batches of {work.views_batch}")
    measured = take_turns(turns, repeats)
    rows = [
        Row("data", f"{what}: {label}", tuple(each.rate for each in timed), "images/s")
        for label, timed in measured.items()
    ]
    for cores in ("1 core", "2 cores"):
        if f"DataLoader, {cores}" in measured:
            ratio = ratios(measured, f"device, {cores}", f"DataLoader, {cores}")
            rows.append(Row("data", f"{what}, {cores}: device / DataLoader", ratio, "x", better="more"))
    return rows
