"""What preparing a data set of TFDS would take: the files still to be downloaded, from where, and the room on disk."""

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vision.errors import UserError

_MARGIN = 1.1
_PATIENCE = 10.0  # seconds for the first answer of a server


@dataclass(frozen=True)
class Plan:
    """What lies ahead.

    Attributes:
      name: the data set.
      folder: the folder of all prepared data sets.
      download: bytes of its files; None where TFDS does not say.
      missing: bytes of those that are not in ``folder/downloads`` yet; None where TFDS does not say.
      unpacked: bytes of the files that are unpacked on disk, as they come; unpacked they are larger.
      prepared: bytes of the prepared data set; None where TFDS does not say.
      urls: of the missing files.
      by_hand: whether files have to be downloaded by hand.
      shared: whether the files are of all configs together, so the sizes are only a bound for one.
    """

    name: str
    folder: Path
    download: int | None
    missing: int | None
    unpacked: int
    prepared: int | None
    urls: tuple[str, ...]
    by_hand: bool
    shared: bool

    @property
    def hosts(self) -> list[str]:
        """Returns the machines that the missing files come from."""
        return sorted({urlsplit(url).netloc or "this machine" for url in self.urls})

    def __str__(self) -> str:
        if self.by_hand:
            download = f"files downloaded by hand into {self.folder / 'downloads' / 'manual'}"
        elif self.missing is None:
            download = f"download of unknown size from {', '.join(self.hosts) or 'unknown places'}"
        elif not self.missing:
            download = "nothing to download"
        else:
            download = f"download {'at most ' if self.shared else ''}{size(self.missing)} from {', '.join(self.hosts)}"
            there = (self.download or 0) - self.missing
            download += f" ({size(there)} are there already)" if there else ""
        prepared = f"{size(self.prepared)} prepared" if self.prepared else "prepared size unknown"
        return f"{self.name}: {download}; {prepared}"


def plan(builder: Any, folder: Path) -> Plan:
    """Returns what lies ahead of a TFDS builder; nothing is downloaded.

    TFDS keeps sizes of prepared data sets in the cloud only, but ships address, size and checksum of files with its
    code, for all configs of a data set together and often for its relatives. Which of them this one asks for is what
    it asks a download manager that only listens. Files that a first file lists are not known before that is there.
    """
    infos = builder.url_infos or {}
    asked = _asked(builder)
    urls = asked.urls or dict.fromkeys(infos, False)
    sizes = {url: int(infos[url].size) for url in urls if url in infos}
    missing = [url for url in urls if url not in infos or not _is_there(builder.name, folder, url, infos[url].checksum)]
    known = len(sizes) == len(urls) > 0
    by_hand = bool(builder.MANUAL_DOWNLOAD_INSTRUCTIONS) and not asked.urls
    return Plan(
        name=builder.name,
        folder=folder,
        download=sum(sizes.values()) if known else None,
        missing=sum(sizes.get(url, 0) for url in missing) if known else None,
        unpacked=sum(sizes.get(url, 0) for url, unpack in urls.items() if unpack),
        prepared=int(builder.info.dataset_size or 0) or None,
        urls=() if by_hand else tuple(missing),
        by_hand=by_hand,
        shared=not asked.urls and len(builder.BUILDER_CONFIGS) > 1,
    )


def require_room(ahead: Plan, report: Callable[[str], None]) -> None:
    """Checks the free space for download and result, with a tenth to spare.

    What is known for certain decides; where the prepared size is unknown or the sizes are only a bound, the estimate
    (prepared as large as the files, unpacked ones once more) gives a warning.

    Raises:
      UserError: there is certainly too little.
    """
    free = _free(ahead.folder)
    if ahead.download is None and ahead.prepared is None:
        report(f"{ahead.name}: TFDS does not know how much room it takes; {size(free)} are free")
        return
    download = 0 if ahead.by_hand else ahead.missing or 0
    certain = int(_MARGIN * ((0 if ahead.shared else download) + (ahead.prepared or 0)))
    likely = int(_MARGIN * (download + ahead.unpacked + (ahead.prepared or ahead.download or 0)))
    numbers = f"download {size(download)}, prepared {size(ahead.prepared) if ahead.prepared else 'unknown'}"
    place = f"{ahead.folder}, where {size(free)} are free; --data_dir chooses another place"
    if certain > free:
        raise UserError(f"{ahead.name} takes {size(certain)} ({numbers}, a tenth to spare) in {place}")
    if likely > free:
        report(f"warning: {ahead.name} may take {size(likely)} ({numbers}) in {place}")


def require_network(ahead: Plan) -> None:
    """Checks that the first missing file's server answers, rather than after the minutes that TFDS tries again.

    Raises:
      UserError: it does not.
    """
    import requests

    url = next((url for url in ahead.urls if url.startswith("http")), None)
    if url is None:
        return
    try:
        requests.head(url, timeout=_PATIENCE, allow_redirects=False)
    except requests.RequestException as error:
        raise UserError(
            f"{ahead.name}: {urlsplit(url).netloc} does not answer ({type(error).__name__}); check the network "
            "(HTTPS_PROXY names a proxy), then run the same command: what is downloaded stays"
        ) from error


def size(count: int) -> str:
    """Returns a number of bytes for people: ``162.2 MiB``."""
    value, unit = float(count), "bytes"
    for bigger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


@dataclass
class _Listener:
    """Stands for TFDS's download manager and writes down what it is asked for: address -> whether it is unpacked."""

    urls: dict[str, bool]

    def download(self, wanted: Any) -> Any:
        return self._note(wanted, unpack=False)

    def download_and_extract(self, wanted: Any) -> Any:
        return self._note(wanted, unpack=True)

    def iter_archive(self, _: Any) -> Iterator:
        return iter(())

    def _note(self, wanted: Any, *, unpack: bool) -> Any:
        from etils import epath

        if isinstance(wanted, dict):
            return {key: self._note(value, unpack=unpack) for key, value in wanted.items()}
        if isinstance(wanted, list | tuple):
            return [self._note(value, unpack=unpack) for value in wanted]
        url = str(getattr(wanted, "url", wanted))
        self.urls[url] = unpack
        return epath.Path("/nonexistent") / url.rsplit("/", 1)[-1]


def _asked(builder: Any) -> _Listener:
    listener = _Listener({})
    # Sooner or later a builder opens what it believes to have downloaded; what it asked for before that is known.
    with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
        builder._split_generators(listener)
    return listener


def _is_there(name: str, folder: Path, url: str, checksum: str) -> bool:
    """Tells whether TFDS would take the file from its downloads."""
    from etils import epath
    from tensorflow_datasets.core.download import resource

    file_name = resource.get_dl_fname(url, checksum)
    places = (folder / "downloads" / name, folder / "downloads")
    return any(resource.is_locally_cached(epath.Path(place / file_name)) for place in places)


def _free(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free
