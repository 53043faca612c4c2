"""Which camera's key may speak for which line, as files.

::

    keys/allowed/<line>/<fingerprint>.key    a public key that may speak for the line; its name may be any
    keys/revoked/<line>/<fingerprint>.key    one that may not any more: it does not let itself in again

A key may stand under several lines, and a line may have several keys (an old and a new one, while they are changed).
The folder is the truth: removing a file by hand is a revocation too.
"""

import hashlib
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog
from zmq.auth import load_certificate
from zmq.utils import z85

from ingest.errors import IngestError

KEY_CHARACTERS, KEY_BYTES = 40, 32
"""Of a public key, in Z85 and as it is."""
Allowed = Mapping[bytes, frozenset[str]]
"""Public key (Z85) -> the lines it may speak for."""
_MAX_BYTES = 4096  # of a key file: pyzmq's own have 400

log = structlog.get_logger()


class State(StrEnum):
    """Whether a key may speak for a line."""

    ALLOWED = "allowed"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line and one key (Z85), since when (seconds since the epoch)."""

    line: str
    key: bytes
    state: State
    since: float


class AllowList:
    """The folder of allowed keys; any number of processes may read and change it at once.

    Args:
        keys: folder of keys.
    """

    def __init__(self, keys: Path) -> None:
        self._allowed, self._revoked = keys / "allowed", keys / "revoked"
        self._complained: set[Path] = set()

    def read(self) -> Allowed:
        """Who may speak for what, now.

        Raises:
            OSError: the folder cannot be read.
        """
        found: dict[bytes, set[str]] = {}
        for path in sorted(self._allowed.glob("*/*.key")):
            try:
                found.setdefault(read_public(path), set()).add(path.parent.name)
            except IngestError as error:
                self._complain(path, str(error))
        return {key: frozenset(lines) for key, lines in found.items()}

    def unbound(self) -> list[Path]:
        """Keys that name no line, as older versions kept them: they let nobody in."""
        return sorted(self._allowed.glob("*.key"))

    def allow(self, line: str, key: bytes) -> Path:
        """Let a public key speak for `line`, from its next handshake on; the file that says so.

        Raises:
            IngestError: the folder cannot be written.
        """
        target = self._allowed / line / _file(key)
        try:
            (self._revoked / line / _file(key)).unlink(missing_ok=True)
            if not target.exists():
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                fresh = target.with_suffix(f".{uuid.uuid4().hex}")
                fresh.write_text(f'curve\n    public-key = "{key.decode("ascii")}"\n', encoding="ascii")
                fresh.replace(target)
        except OSError as error:
            raise IngestError(f"{target}: {error.strerror}: the worker's user must be able to write it") from error
        return target

    def revoke(self, line: str, key: bytes) -> None:
        """Take it away from a key; messages of one that is connected are dropped from then on.

        Raises:
            IngestError: the folder cannot be written.
        """
        target = self._revoked / line / _file(key)
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_text(f'curve\n    public-key = "{key.decode("ascii")}"\n', encoding="ascii")
            for path in self._allowed.glob(f"{line}/*.key"):
                if _public_or_none(path) == key:
                    path.unlink()
        except OSError as error:
            raise IngestError(f"{target}: {error.strerror}: the worker's user must be able to write it") from error

    def revoked(self, line: str, key: bytes) -> bool:
        """Whether it was taken away from this key."""
        return (self._revoked / line / _file(key)).exists()

    def entries(self) -> list[Entry]:
        """All that may speak and all that may not any more, by line."""
        found = []
        for folder, state in ((self._allowed, State.ALLOWED), (self._revoked, State.REVOKED)):
            for path in folder.glob("*/*.key"):
                key = _public_or_none(path)
                if key is not None:
                    found.append(Entry(path.parent.name, key, state, path.stat().st_mtime))
        return sorted(found, key=lambda entry: (entry.line, entry.state, entry.since))

    def _complain(self, path: Path, why: str) -> None:
        if path not in self._complained:
            self._complained.add(path)
            log.warning("key cannot be read: it lets nobody in", error=why)


def fingerprint(key: bytes) -> str:
    """Short name of a public key (Z85) for people and files: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(key).hexdigest()[:16]


def read_public(path: Path) -> bytes:
    """The public key (Z85) in a file.

    Raises:
        IngestError: it cannot be read, or holds none.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise IngestError(f"{path}: {path.stat().st_size} bytes are no key file")
        key, _ = load_certificate(path)
        whole = len(key) == KEY_CHARACTERS and len(z85.decode(key)) == KEY_BYTES
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise IngestError(f"{path}: holds no public key ({error}): copy it from its host again") from error
    if not whole:
        raise IngestError(f"{path}: holds no public key (it has {len(key)} characters): copy it from its host again")
    return key


def _file(key: bytes) -> str:
    return f"{fingerprint(key)}.key"


def _public_or_none(path: Path) -> bytes | None:
    try:
        return read_public(path)
    except IngestError:
        return None  # one that cannot be read lets nobody in
