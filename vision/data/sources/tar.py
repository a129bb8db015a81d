"""Tar shards in the form of WebDataset: the members of one example follow each other, named alike up to the dot."""

import glob
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from vision.data.host import OnError
from vision.data.records import RecordSource
from vision.data.source import MAX_CLASSES, several_hot
from vision.data.sources.captions import pack
from vision.data.sources.folder import SUFFIXES, Note, Splits
from vision.data.sources.splits import HELD_OUT, TRAIN, hold_out
from vision.errors import UserError

_LARGEST_TEXT = 2**20


@dataclass(frozen=True)
class Members:
    """Images inside tar files.

    Attributes:
      shards: the files.
      shard: of each image, its place in ``shards``.
      offset: of each image, where its bytes begin.
      size: of each image, in bytes.
      names: of the members.
    """

    shards: tuple[Path, ...]
    shard: np.ndarray = field(repr=False)
    offset: np.ndarray = field(repr=False)
    size: np.ndarray = field(repr=False)
    names: tuple[str, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> bytes:
        """Returns one image; of a shard that ends early, what is left of it."""
        with open(self.shards[self.shard[index]], "rb") as handle:
            handle.seek(int(self.offset[index]))
            return handle.read(int(self.size[index]))

    def where(self, index: int) -> str:
        """Returns the shard and the member's name."""
        return f"{self.shards[self.shard[index]]}, member {self.names[index]}"

    def files(self) -> list[Path]:
        """Returns the shards."""
        return list(self.shards)


@dataclass
class _Example:
    shard: int
    key: str
    image: tuple[int, int, str] | None = None
    captions: list[str] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    broken: bool = False


def read(pattern: str, *, on_error: OnError, note: Note) -> tuple[RecordSource, Splits]:
    """Returns the images of tar shards and which of them make each split.

    Beside its image, an example may have ``.cls`` (a class number, or several separated by commas), ``.txt`` (a
    caption), and ``.json`` with ``caption`` or ``captions``, ``label`` or ``labels``. Shards whose names begin with
    train, val, test and the like make these splits; otherwise a tenth is held out as ``val``. A file ``classes.txt``
    beside the shards names the classes, one a line.

    Args:
      pattern: path with wildcards or a range: ``data/train-*.tar``, ``data/{000..011}.tar``; or a folder of shards.
      on_error: whether a member or shard that cannot be used ends the run, or is passed over and counted.
      note: told what a person should know.

    Raises:
      UserError: there are no shards, one is compressed or broken, or examples lack what others have.
    """
    shards = _shards(pattern)
    examples: list[_Example] = []
    problems: list[str] = []
    for number, shard in enumerate(shards):
        try:
            with tarfile.open(shard, "r:") as archive:
                examples += _examples(archive, number, problems)
                _check_end(archive)
        except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
            compressed = "; it is compressed: unpack it, random access needs plain tar" if _compressed(shard) else ""
            problems.append(f"{shard} is no whole tar file: {error}{compressed}")
    usable = [each for each in examples if each.image is not None and not each.broken]
    problems += [f"{shards[each.shard]}: {each.key} has no image" for each in examples if each.image is None]
    problems = [" ".join(problem.split()) for problem in problems]
    if problems and (on_error == "error" or not usable):
        raise UserError(f"{problems[0]}; mend it, or set config.data.on_error=skip")
    if problems:
        note(f"{pattern}: passed over {len(problems)} members or shards, the first: {problems[0]}")
    if not usable:
        raise UserError(f"{pattern}: the shards hold no images")
    images = [each.image for each in usable if each.image is not None]
    offset, size, names = (list(values) for values in zip(*images, strict=True))
    members = Members(
        tuple(shards), np.asarray([each.shard for each in usable]), np.asarray(offset), np.asarray(size), tuple(names)
    )
    arrays, num_classes = _arrays(pattern, usable)
    class_names = _class_names(shards[0].parent / "classes.txt", num_classes)
    try:
        source = RecordSource(members, arrays, max(num_classes, len(class_names)), class_names)
    except ValueError as error:
        raise UserError(f"{pattern}: {error}") from error
    split_of = [
        next((word for word in TRAIN + HELD_OUT if shard.name.lower().startswith(word)), "") for shard in shards
    ]
    if all(split_of):
        of = np.asarray([split_of[each.shard] for each in usable])
        return source, {str(name): np.flatnonzero(of == name) for name in dict.fromkeys(of.tolist())}
    note(f"{pattern}: the shards' names tell no split; a tenth is held out as val")
    label = arrays.get("label")
    return source, hold_out([each.key for each in usable], label if label is not None and label.ndim == 1 else None)


def _shards(pattern: str) -> list[Path]:
    if Path(pattern).is_dir():
        found = sorted(Path(pattern).glob("*.tar"))
    elif Path(pattern).is_file():
        found = [Path(pattern)]
    else:
        names = {each: sorted(glob.glob(each)) for each in _expanded(pattern)}
        missing = next((each for each in names if not names[each]), None)
        if missing is not None and any(names.values()):
            raise UserError(f"config.data.name: of the shards {pattern} there is no {missing}")
        found = [Path(name) for each in names.values() for name in each]
    if not found:
        raise UserError(f"config.data.name: no tar shards at {pattern}; write tar:FOLDER or tar:PATH/train-*.tar")
    return found


def _expanded(pattern: str) -> list[str]:
    """``a-{000..002}.tar`` as three names."""
    before, brace, rest = pattern.partition("{")
    inside, closing, after = rest.partition("}")
    first, dots, last = inside.partition("..")
    if not (brace and closing and dots and first.isdecimal() and last.isdecimal()):
        return [pattern]
    numbers = range(int(first), int(last) + 1)
    return [f"{before}{number:0{len(first)}d}{tail}" for number in numbers for tail in _expanded(after)]


def _compressed(shard: Path) -> bool:
    try:
        with open(shard, "rb") as handle:
            return handle.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ"))
    except OSError:
        return False


def _check_end(archive: tarfile.TarFile) -> None:
    """Raises a ValueError where no zeros follow the last member; to tarfile a broken header is an end like any."""
    handle = cast(IO[bytes], archive.fileobj)
    handle.seek(archive.offset)
    rest = handle.read(2**20)
    if not rest or rest.strip(b"\0"):
        raise ValueError(f"at byte {archive.offset} it neither goes on nor ends")


def _examples(archive: tarfile.TarFile, shard: int, problems: list[str]) -> Iterator[_Example]:
    """The examples of one shard; their images are not read."""
    current: _Example | None = None
    start = -1
    for member in archive:
        if member.size < 0 or member.offset <= start:
            raise ValueError(f"the header at byte {member.offset} leads back")  # and tarfile would go round for ever
        start = member.offset
        folder, slash, base = member.name.rpartition("/")
        if not member.isfile() or base.startswith("."):
            continue
        stem, _, suffix = base.partition(".")
        key = f"{folder}{slash}{stem}"
        if current is None or current.key != key:
            if current is not None:
                yield current
            current = _Example(shard, key)
        problem = _add(current, archive, member, suffix.lower())
        if problem:
            current.broken = True
            problems.append(f"{archive.name!s}, member {member.name}: {problem}")
    if current is not None:
        yield current


def _add(example: _Example, archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> str:
    """Adds a member to its example; returns what is wrong with it, or nothing."""
    if member.issparse():
        return "a sparse file cannot be read in place"
    if Path(member.name).suffix.lower() in SUFFIXES:
        # Of 7.jpg and 7.mask.png, the image is the one whose name has a single dot.
        plain = [each for each in (example.image, None) if each and each[2].rpartition("/")[2].count(".") == 1]
        if example.image is None or ("." not in suffix and not plain):
            example.image = (member.offset_data, member.size, member.name)
        elif ("." in suffix) != bool(plain):
            return f"a second image of the example {example.key}, whose name ends at the first dot"
        return ""
    if suffix not in ("cls", "txt", "json"):
        return ""
    if member.size > _LARGEST_TEXT:
        return f"{member.size} bytes of text"
    try:
        content = archive.extractfile(member)
        _describe(example, suffix, content.read() if content else b"")
    except (ValueError, TypeError, RecursionError) as error:
        return str(error)
    return ""


def _describe(example: _Example, suffix: str, content: bytes) -> None:
    text = content.decode()
    if suffix == "cls":
        example.classes += [int(word) for word in text.replace(",", " ").split()]
    elif suffix == "txt":
        example.captions.append(text)
    else:
        entry: Any = json.loads(text)
        if not isinstance(entry, dict):
            raise ValueError("no JSON object")
        for key, target in (("caption", example.captions), ("label", example.classes)):
            value = entry.get(f"{key}s", entry.get(key))
            values = value if isinstance(value, list) else [] if value is None else [value]
            wanted = str if key == "caption" else int
            if not all(type(each) is wanted for each in values):
                raise ValueError(f"{key} is not {'text' if wanted is str else 'a whole number'}")
            target += values
    outside = next((each for each in example.classes if not 0 <= each < MAX_CLASSES), None)
    if outside is not None:
        raise ValueError(f"label {outside}, classes reach from 0 to {MAX_CLASSES - 1}")


def _arrays(pattern: str, examples: list[_Example]) -> tuple[dict[str, np.ndarray], int]:
    arrays: dict[str, np.ndarray] = {}
    for what in ("captions", "classes"):
        lacking = [each.key for each in examples if not getattr(each, what)]
        if 0 < len(lacking) < len(examples):
            raise UserError(
                f"{pattern}: {len(lacking)} of {len(examples)} examples have no {what}, such as {lacking[0]}"
            )
    if examples[0].captions:
        arrays |= pack([each.captions for each in examples])
    if not examples[0].classes:
        return arrays, 0
    num_classes = max(max(each.classes) for each in examples) + 1
    if all(len(each.classes) == 1 for each in examples):
        return arrays | {"label": np.asarray([each.classes[0] for each in examples], np.int32)}, num_classes
    return arrays | {"label": several_hot([each.classes for each in examples], num_classes)}, num_classes


def _class_names(table: Path, num_classes: int) -> tuple[str, ...]:
    if not num_classes or not table.is_file():
        return ()
    names = tuple(line.strip() for line in table.read_text(errors="replace").splitlines() if line.strip())
    return names if len(names) >= num_classes else ()
