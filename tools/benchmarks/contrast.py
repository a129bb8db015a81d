"""The losses of CLIP and SigLIP with both gradients, whole and in chunks, beside open_clip's; then a whole train step.

Both sides are processes of their own on the same cores that take turns, in float32 on embeddings that lie ready.
"""

from contextlib import ExitStack
from pathlib import Path

from tools.benchmarks import clip_step
from tools.benchmarks.contenders import Contender, Turn, all_cores, ratios, start_all, take_turns
from tools.benchmarks.rows import Row, Settings, say
from tools.peers import Contrast

_MODULES = {"house": "tools.benchmarks.house_contrast", "torch": "tools.peers.torch_contrast"}
_CALLS = {256: 20, 1024: 5}  # in a turn; one of larger batches


def run(settings: Settings) -> list[Row]:
    """Measures each loss at each batch size; without PyTorch, the house's alone.

    Raises:
      UserError: a contender ended.
    """
    scratch = settings.scratch / "contrast"
    scratch.mkdir()
    cores = all_cores()
    work = Contrast(str(scratch), cores)
    if settings.quick:
        work = Contrast(str(scratch), cores, batch_sizes=(8,), embed_dim=4, chunk_sizes=(4,))
    rows: list[Row] = []
    with ExitStack() as stack:
        contenders = start_all(stack, _MODULES, settings.peers, work, scratch / "log.txt")
        for size in work.batch_sizes:
            for kind in ("softmax", "sigmoid"):
                rows += _compared(settings, contenders, kind, size, work)
    return rows + clip_step.run(settings)


def _compared(settings: Settings, contenders: dict[str, Contender], kind: str, size: int, work: Contrast) -> list[Row]:
    repeats, calls = settings.times(5), 1 if settings.quick else _CALLS.get(size, 1)
    what = f"{kind}, batch {size:,} x {work.embed_dim}"
    chunk = dict(zip(work.batch_sizes, work.chunk_sizes, strict=True))[size]
    labels = {"dense": f"{what}: whole", "chunked": f"{what}: chunks of {chunk}", "torch": f"{what}: torch"}
    say(f"contrast: {what}: {repeats} x {calls}")
    house = contenders["house"]
    turns = [Turn(form, house, f"{kind} {form} {size}", calls) for form in ("dense", "chunked")]
    if "torch" in contenders:
        turns.append(Turn("torch", contenders["torch"], f"{kind} {size}", calls))
    measured = take_turns(turns, repeats)
    rows = [
        Row("contrast", labels[side], tuple(1e3 * each.seconds / calls for each in timed), "ms")
        for side, timed in measured.items()
    ]
    if "torch" in measured:
        for form in ("dense", "chunked"):
            faster = ratios(measured, form, "torch")
            rows.append(Row("contrast", f"{labels[form]}: torch / house", faster, "x", better="more"))
    folder = Path(work.report)
    for form in ("dense", "chunked"):
        rows += _memory(folder / f"house {kind} {form} {size}.txt", f"{labels[form]}: memory, laid out")
        rows += _memory(folder / f"measured {kind} {form} {size}.txt", f"{labels[form]}: memory, measured")
    return rows + _memory(folder / f"torch {kind} {size}.txt", f"{labels['torch']}: memory, measured")


def _memory(file: Path, name: str) -> list[Row]:
    """A row of what a contender has written, none where its system does not say."""
    return [Row("contrast", name, (int(file.read_text()) / 2**20,), "MiB")] if file.exists() else []
