"""What a backup holds, taken while everything runs.

The history first, then what it refers to: versions of models are only ever added, so every model that the history
names is in the backup too. What is replaced in place (a calibration, an index of golden samples) is read again until
what names and what is named belong together.
"""

import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from inference.training.report import Report
from linewatch.config import Config
from linewatch.errors import FrontError
from storage.archive import HISTORY, ArchiveWriter, Contents, archive
from storage.bundle import MANIFEST, REFERENCE, Bundle, calibration_file, encode_manifest
from storage.database import history_file
from storage.durable import on_disk
from storage.errors import StorageError
from storage.golden import INDEX, GoldenSamples
from storage.models import Registry
from storage.snapshot import snapshot

_TRIES, _PAUSE_S = 5, 0.05
_MB = 10**6

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Made:
    """What a backup came to."""

    files: int
    bytes: int
    revision: str | None


def back_up(config: Config, path: Path, *, keys: bool, history: bool, replace: bool, report: Report) -> Made:
    """Write a backup of what cannot be made again: history, models, golden samples and, if asked for, keys.

    Args:
        config: the site.
        path: the file to write.
        keys: with the keys that let cameras and workers trust each other.
        history: with the history; False: it is kept elsewhere.
        replace: an older file of that name.
        report: how far it is.

    Raises:
        StorageError: something is damaged, or the disk refuses.
        FrontError: the history is not ours to copy.
    """
    done = 0

    def told(size: int) -> None:
        nonlocal done
        done += size
        report("megabytes kept", done // _MB, max(total // _MB, done // _MB))

    database = _history_file(config) if history else None
    total = _size(config, keys=keys) + (database.stat().st_size if database else 0)
    copy = path.with_name(f".{path.name}-{uuid.uuid4().hex}.db")
    try:
        with archive(path, replace=replace, told=told) as writer:
            revision = None
            if database is not None:
                revision = snapshot(database, copy, lambda pages, of: report("pages of the history", pages, of))
                writer.add_file(HISTORY, copy)
                copy.unlink()
            _add_models(writer, Registry(config.storage.models))
            _add_golden(writer, GoldenSamples(config.storage.golden))
            if keys:
                _add_folder(writer, config.data / "keys", "keys")
            writer.seal(
                Contents(
                    made_ns=time.time_ns(),
                    site=config.site,
                    linewatch=version("linewatch"),
                    revision=revision,
                    keys=keys,
                )
            )
            return Made(len(writer.members), sum(member.size for member in writer.members), revision)
    finally:
        for left in (copy, copy.with_name(copy.name + "-journal")):
            left.unlink(missing_ok=True)


def _history_file(config: Config) -> Path:
    file, name = history_file(config.storage)
    if file is None:
        raise FrontError(
            f"history: is kept in {name}, which has its own backups: "
            "run `pg_dump -Fc` for it, and this with --without-history for the rest"
        )
    if not file.is_file():
        raise FrontError(f"{file}: there is no history yet: run `linewatch up` once, or add --without-history")
    return file


def _size(config: Config, *, keys: bool) -> int:
    """Bytes there are to keep, about: what is being replaced meanwhile may be gone before it was looked at."""
    total = 0
    for folder in (config.storage.models, config.storage.golden, *([config.data / "keys"] if keys else [])):
        for place, _, names in os.walk(folder):
            for name in names:
                with suppress(FileNotFoundError):
                    total += (Path(place) / name).lstat().st_size
    return total


def _add_models(writer: ArchiveWriter, registry: Registry) -> None:
    for name in registry.names():
        folder = registry.root / name
        # The pointer before the versions: what it points to is there by then.
        pointers = [
            (file, file.read_bytes()) for file in (folder / "current", folder / "promotions.jsonl") if file.exists()
        ]
        for number in registry.versions(name):
            _add_version(writer, folder / str(number), f"models/{name}/{number}")
        for file, content in pointers:
            writer.add(f"models/{name}/{file.name}", content)


def _add_version(writer: ArchiveWriter, folder: Path, place: str) -> None:
    def read() -> tuple[Bundle, dict[str, bytes]]:
        bundle = Bundle(folder)
        sealed = bundle.manifest.calibration_sha256
        names = [] if sealed is None else [calibration_file(sealed)]
        return bundle, {name: (folder / name).read_bytes() for name in names}

    bundle, small = _settled(read)
    manifest = bundle.manifest
    kept = {
        **{name: writer.add(f"{place}/{name}", content).sha256 for name, content in small.items()},
        **{name: writer.add_file(f"{place}/{name}", folder / name).sha256 for name in manifest.tensors},
        **{
            f"{REFERENCE}/{name}": writer.add_file(f"{place}/{REFERENCE}/{name}", folder / REFERENCE / name).sha256
            for name in manifest.reference
        },
    }
    writer.add(f"{place}/{MANIFEST}", encode_manifest(manifest))
    listed = {**manifest.tensors, **{f"{REFERENCE}/{name}": sha for name, sha in manifest.reference.items()}}
    listed |= dict.fromkeys(small, str(manifest.calibration_sha256))
    wrong = [name for name, sha256 in listed.items() if kept[name] != sha256]
    if wrong:
        raise StorageError(
            f"{folder / wrong[0]}: is not the file that was written (its sha256 is wrong): `linewatch models verify` "
            "says more; remove this version, or put it back, then make the backup again"
        )


def _add_golden(writer: ArchiveWriter, golden: GoldenSamples) -> None:
    lines = sorted(folder.name for folder in golden.root.iterdir() if folder.is_dir()) if golden.root.is_dir() else []
    for line in lines:

        def read(line: str = line) -> dict[str, bytes]:
            index = (golden.root / line / INDEX).read_bytes() if (golden.root / line / INDEX).exists() else None
            found = {}
            for sample in golden.of(line):
                picture = golden.picture(line, sample)
                if picture is None:
                    raise FileNotFoundError(f"{sample.name}.png")
                found[f"{sample.name}.png"] = picture
            again = (golden.root / line / INDEX).read_bytes() if index is not None else None
            if again != index:
                raise FileNotFoundError(INDEX)
            return found if index is None else {**found, INDEX: index}

        for name, content in _settled(read).items():
            writer.add(f"golden/{line}/{name}", content)


def _add_folder(writer: ArchiveWriter, folder: Path, place: str) -> None:
    with on_disk(folder):
        for file in sorted(folder.rglob("*")):
            relative = file.relative_to(folder)
            if file.is_file() and not any(part.startswith(".") for part in relative.parts):
                writer.add(f"{place}/{relative.as_posix()}", file.read_bytes())


def _settled(read: Callable[[], T]) -> T:
    """Read until nothing was replaced meanwhile."""
    for _ in range(_TRIES):
        try:
            return read()
        except (FileNotFoundError, StorageError):  # told below, if it is still so
            time.sleep(_PAUSE_S)
    return read()
