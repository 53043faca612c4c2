"""One file that holds a backup: a plain tar whose last member lists all others with their sha256.

It is written beside its place and moved there as a whole, mode 0600. Reading trusts nothing: names come from a short
list of places, every member is a plain file, sizes are those of the file itself (nothing is compressed, so nothing can
grow), and no byte is taken over before every hash was right. The hashes tell damage, not forgery: keep backups where
only you can write.
"""

import hashlib
import io
import os
import re
import tarfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.bundle import Sha256
from storage.durable import on_disk, sync_folder
from storage.errors import StorageError

MANIFEST = "manifest.json"
HISTORY = "history.db"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,127}"
NAME = rf"(history\.db|(models|golden|keys)(/{_PART}){{1,5}})"
"""Names that a member may have."""
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 2**20
_MOST_MEMBERS = 200_000
_MOST_MANIFEST = 64 * 2**20
_PLAIN_TAR = 8 * 2**30  # from this size on a member's size needs GNU's way of writing numbers

Told = Callable[[int], None]
"""Called with the bytes dealt with since the last call."""


class Member(BaseModel):
    """One file of the backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=rf"^{NAME}$")]
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Contents(BaseModel):
    """What the last member says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[1] = 1
    made_ns: int
    """Wall clock, nanoseconds since the epoch."""
    site: str
    linewatch: str
    """Version that made it."""
    revision: str | None
    """Of the history's tables; None: the history is not in here."""
    keys: bool
    """Whether the keys are in here."""
    members: tuple[Member, ...] = ()


class ArchiveWriter:
    """Adds members; `archive` makes and finishes it."""

    def __init__(self, file: IO[bytes], told: Told) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed by `seal`
        self._told = told
        self.members: list[Member] = []

    def add(self, name: str, data: bytes) -> Member:
        """Add what is in memory."""
        return self._add(name, io.BytesIO(data), len(data))

    def add_file(self, name: str, path: Path) -> Member:
        """Add a file that nobody changes meanwhile.

        Raises:
            StorageError: it cannot be read, or became shorter.
        """
        with on_disk(path):
            opened = path.open("rb")
        with opened as content:
            return self._add(name, content, os.fstat(content.fileno()).st_size)

    def seal(self, contents: Contents) -> None:
        """Write the list of all members, last: an archive that was cut off has none."""
        data = contents.model_copy(update={"members": tuple(self.members)}).model_dump_json(indent=1).encode()
        self._tar.addfile(_entry(MANIFEST, len(data)), io.BytesIO(data))
        self._tar.close()

    def _add(self, name: str, content: IO[bytes], size: int) -> Member:
        reading = _Hashing(content, self._told)
        self._tar.format = tarfile.USTAR_FORMAT if size < _PLAIN_TAR else tarfile.GNU_FORMAT
        try:
            self._tar.addfile(_entry(name, size), reading)
        except (ValueError, tarfile.TarError) as exc:
            raise StorageError(f"{name}: cannot be put into an archive: {exc}") from exc
        except OSError as exc:
            if exc.errno is None:  # tarfile's own: the file ended early
                raise StorageError(f"{name}: changed while it was read: make the backup again") from exc
            raise
        member = Member(name=name, size=size, sha256=reading.sha256)
        self.members.append(member)
        return member


@contextmanager
def archive(path: Path, *, replace: bool, told: Told = lambda _: None) -> Iterator[ArchiveWriter]:
    """Write an archive: it is at `path` as a whole once the block has ended, or not at all.

    Raises:
        StorageError: it is there already and `replace` is not set, or the disk refuses.
        StorageFull: no room.
    """
    if path.exists() and not replace:
        raise StorageError(f"{path}: is there already: take another name, or add --replace")
    new = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with on_disk(path):
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                yield ArchiveWriter(file, told)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
            sync_folder(path.parent)
        finally:
            new.unlink(missing_ok=True)


class Archive:
    """An archive to be read.

    Args:
        path: of the file.

    Raises:
        StorageError: it is no backup of linewatch, damaged, or made by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with on_disk(path), path.open("rb") as file:
            places = self._scan(file)
            if MANIFEST not in places:
                raise StorageError(f"{path}: ends without its {MANIFEST}: it was cut off, or is no backup of linewatch")
            at, size = places.pop(MANIFEST)
            if size > _MOST_MANIFEST:
                raise StorageError(f"{path}: its {MANIFEST} of {size} bytes is none of linewatch's")
            file.seek(at)
            self.contents = self._read(file.read(size))
        listed = {member.name: member.size for member in self.contents.members}
        found = {name: size for name, (_, size) in places.items()}
        if len(listed) != len(self.contents.members) or listed != found:
            wrong = sorted(set(listed.items()) ^ set(found.items()))
            raise StorageError(
                f"{path}: what is in it is not what its {MANIFEST} lists: {wrong[0][0] if wrong else ''}"
            )
        self._places = {name: at for name, (at, _) in places.items()}

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.size for member in self.contents.members)

    def verify(self, told: Told = lambda _: None) -> None:
        """Check every member against its hash.

        Raises:
            StorageError: names the first that differs.
        """
        with on_disk(self.path), self.path.open("rb") as file:
            for member in self.contents.members:
                for chunk in self._chunks(file, member):
                    told(len(chunk))

    def extract(self, folder: Path, told: Told = lambda _: None) -> None:
        """Write all members under a new folder, for this user alone, checking them once more.

        Raises:
            StorageError: a member is not what it was, or the disk refuses.
            StorageFull: no room.
        """
        with on_disk(folder), self.path.open("rb") as file:
            folder.mkdir(mode=0o700)
            for member in self.contents.members:
                target = folder / member.name
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                    for chunk in self._chunks(file, member):
                        out.write(chunk)
                        told(len(chunk))
                    out.flush()
                    os.fsync(out.fileno())

    def _chunks(self, file: IO[bytes], member: Member) -> Iterator[bytes]:
        """The bytes of a member; an error at the end if they are not those that were written."""
        file.seek(self._places[member.name])
        found, left = hashlib.sha256(), member.size
        while left:
            chunk = file.read(min(left, _CHUNK))
            if not chunk:
                break
            found.update(chunk)
            left -= len(chunk)
            yield chunk
        if found.hexdigest() != member.sha256:
            raise StorageError(f"{self.path}: {member.name} is damaged (its sha256 is wrong): use another backup")

    def _scan(self, file: IO[bytes]) -> dict[str, tuple[int, int]]:
        """Name -> where its bytes begin, and how many. Not tarfile's own reader: it follows every extension of tar."""
        end, at = os.fstat(file.fileno()).st_size, 0
        places: dict[str, tuple[int, int]] = {}
        while at + _BLOCK <= end:
            file.seek(at)
            block = file.read(_BLOCK)
            if not block.strip(b"\0"):
                return places
            try:
                entry = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
            except (tarfile.HeaderError, ValueError) as exc:
                raise StorageError(
                    f"{self.path}: is no plain tar, or damaged at byte {at}: use another backup"
                ) from exc
            at += _BLOCK
            if entry.type != tarfile.REGTYPE or not _allowed(entry.name):
                raise StorageError(
                    f"{self.path}: holds {entry.name[:80]!r}, which no backup of linewatch does: refused"
                )
            if entry.name in places or len(places) >= _MOST_MEMBERS:
                raise StorageError(f"{self.path}: holds {entry.name!r} twice, or too many members: refused")
            if not 0 <= entry.size <= end - at:
                raise StorageError(f"{self.path}: is cut off within {entry.name}: use another backup")
            places[entry.name] = (at, entry.size)
            at += -(-entry.size // _BLOCK) * _BLOCK
        raise StorageError(f"{self.path}: is cut off, or no tar: use another backup")

    def _read(self, data: bytes) -> Contents:
        try:
            return Contents.model_validate_json(data)
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise StorageError(
                f"{self.path}: {MANIFEST}: {where}: {first['msg']}: it is damaged, or made by a newer linewatch"
            ) from exc


class _Hashing:
    """A file that is hashed while it is read."""

    def __init__(self, content: IO[bytes], told: Told) -> None:
        self._content, self._told, self._hash = content, told, hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._content.read(size)
        self._hash.update(data)
        self._told(len(data))
        return data

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def _allowed(name: str) -> bool:
    return name == MANIFEST or re.fullmatch(NAME, name) is not None


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry
