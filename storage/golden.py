"""Golden samples: pictures whose verdict a person knows, to be shown to the models in service.

::

    golden/
        <line>/             one folder a line, mode 0700
            samples.json    what is expected of each picture, and its sha256
            <name>.png      at full resolution, as the camera saw it

The index says which samples there are. A picture that is missing, damaged or swapped is an error that names it, never a
sample fewer.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.durable import lock, on_disk, replace_synced
from storage.errors import StorageError

INDEX = "samples.json"
UNLISTED = "(index)"
"""Stands for a sample where the index itself cannot be read; none can be called so."""
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
"""Names of lines and samples: safe in a path, a key and a page."""

Expected = Literal["pass", "reject"]
_PNG = b"\x89PNG\r\n\x1a\n"


class Sample(BaseModel):
    """One picture, and what a person says it must be judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME.pattern)
    expected: Expected
    sha256: str
    """Of the file."""
    added_ns: int
    """Wall clock, nanoseconds since the epoch."""
    origin: str = ""
    """Where it came from, for people: a file, an alert."""


class _Index(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    samples: tuple[Sample, ...] = ()


class GoldenSamples:
    """The samples of all lines. Threads and processes may share the folder.

    Args:
        root: folder of the samples; created when the first one is added.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def of(self, line: str) -> tuple[Sample, ...]:
        """List a line's samples, by name; their pictures are not looked at.

        Raises:
            StorageError: the index cannot be read.
        """
        path = self._folder(line) / INDEX
        try:
            return _Index.model_validate_json(path.read_bytes()).samples
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "it is damaged, or of another version"
            raise StorageError(
                f"{path}: the index of golden samples cannot be read ({why}): restore it, or remove it and record again"
            ) from exc

    def listed(self, line: str) -> frozenset[str] | None:
        """Names of a line's samples; None where none was ever recorded, or the index cannot be read."""
        try:
            return frozenset(sample.name for sample in self.of(line)) if (self._folder(line) / INDEX).exists() else None
        except StorageError:
            return None

    def picture(self, line: str, sample: Sample) -> bytes | None:
        """Read a sample's picture, a PNG; None when the sample was removed or replaced meanwhile.

        Raises:
            StorageError: the picture is missing, damaged or not the one that was recorded.
        """
        path = self._folder(line) / f"{sample.name}.png"
        try:
            data = path.read_bytes()
            problem = "is not the picture that was recorded" if _sha256(data) != sample.sha256 else ""
        except OSError as exc:
            data, problem = b"", f"cannot be read ({exc.strerror})"
        if not problem:
            return data
        if sample not in self.of(line):
            return None
        raise StorageError(
            f"{path}: golden sample {sample.name} of line {line} {problem}: restore the file, or remove the sample and "
            "record it again"
        )

    def add(self, line: str, name: str, png: bytes, *, expected: Expected, added_ns: int, origin: str = "") -> Sample:
        """Keep a picture as a sample of a line.

        Args:
            line: the line.
            name: of the sample, within the line.
            png: the picture at full resolution.
            expected: what it must be judged.
            added_ns: now, wall clock, nanoseconds since the epoch.
            origin: where it came from, for people.

        Raises:
            StorageFull: there is no room.
            StorageError: the name is none or taken, this is no PNG, or the disk refuses.
        """
        sample = Sample(
            name=_checked(name, "golden sample"),
            expected=expected,
            sha256=_sha256(png),
            added_ns=added_ns,
            origin=origin,
        )
        if not png.startswith(_PNG):
            raise StorageError(f"golden sample {name}: {len(png)} bytes are no PNG: encode it as one")
        with self._alone(line) as folder:
            samples = self.of(line)
            if name in {other.name for other in samples}:
                raise StorageError(f"line {line} has a golden sample {name} already: remove it, or take another name")
            replace_synced(folder / f"{name}.png", png)
            _write(folder, (*samples, sample))
        return sample

    def remove(self, line: str, name: str) -> Sample:
        """Forget a sample, also one whose picture is missing or damaged.

        Raises:
            StorageError: there is no such sample, or the disk refuses.
        """
        with self._alone(line) as folder:
            samples = self.of(line)
            found = next((sample for sample in samples if sample.name == name), None)
            if found is None:
                names = ", ".join(sample.name for sample in samples) or "none"
                raise StorageError(f"line {line} has no golden sample {name[:80]!r}; there is {names}")
            _write(folder, tuple(sample for sample in samples if sample is not found))
            (folder / f"{found.name}.png").unlink(missing_ok=True)
        return found

    def _folder(self, line: str) -> Path:
        return self.root / _checked(line, "line")

    @contextmanager
    def _alone(self, line: str) -> Iterator[Path]:
        """Hold a line's folder, so that two who change it do so one after the other."""
        folder = self._folder(line)
        with on_disk(folder):
            for made in (self.root, folder):
                made.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                lock(descriptor, folder)
                yield folder
            finally:
                os.close(descriptor)


def _write(folder: Path, samples: tuple[Sample, ...]) -> None:
    index = _Index(samples=tuple(sorted(samples, key=lambda sample: sample.name)))
    replace_synced(folder / INDEX, index.model_dump_json(indent=2).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _checked(name: str, what: str) -> str:
    """Refuse what could lead out of the folder."""
    if NAME.fullmatch(name) is None:
        raise StorageError(f"{name[:80]!r} is no name of a {what}: use letters, digits, `_ . -`, at most 64")
    return name
