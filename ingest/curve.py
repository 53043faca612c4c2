"""Encryption and identity on tcp: a CURVE key pair for the workers, and one for each camera, as files.

::

    keys/worker.key                   public key of the workers; the hosts of cameras need a copy
    keys/worker.key_secret            never leaves the workers' host (mode 0600)
    keys/cameras/<line>.key           public key of a camera; the workers' host needs a copy, see `ingest.allowlist`
    keys/cameras/<line>.key_secret    never leaves the camera's host (mode 0600)

On one machine both sides share the folder: everything is made on first use, and a camera lets itself in. On several,
`linewatch keys` says what to copy. A unix socket needs none of this: the data folder's mode 0700 guards it.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import zmq
from zmq.auth import create_certificates, load_certificate
from zmq.auth.thread import ThreadAuthenticator

from ingest.allowlist import Allowed, AllowList, fingerprint, read_public
from ingest.errors import IngestError

HANDSHAKE_MS = 5000
"""A newcomer who has not proven who it is by then is cut off."""
_DOMAIN = "linewatch"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pair:
    """A key pair, both halves in Z85."""

    public: bytes
    secret: bytes


def needs_curve(endpoint: str) -> bool:
    """Whether an endpoint leaves the machine's own file system."""
    return endpoint.startswith("tcp://")


def secure_server(socket: zmq.Socket[bytes], keys: Path) -> None:
    """Make `socket` speak as the workers, and let in only those whom an `authenticator` lets in.

    Raises:
        IngestError: the secret key cannot be read, or others can read it.
    """
    pair = worker_pair(keys)
    socket.curve_publickey, socket.curve_secretkey = pair.public, pair.secret
    socket.curve_server = True
    # With a domain that must be asked for, nobody comes in while there is no authenticator to ask.
    socket.zap_domain = _DOMAIN.encode()
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)


def secure_client(socket: zmq.Socket[bytes], keys: Path, *, line: str) -> None:
    """Make `socket` speak as the camera of `line` to the workers of `keys/worker.key`.

    Raises:
        IngestError: a key is missing or cannot be read, others can read the secret one, or it was revoked here.
    """
    pair = camera_pair(keys, line)
    if (keys / "worker.key_secret").exists():  # same host: letting ourselves in takes nobody's decision
        allow_list = AllowList(keys)
        if allow_list.revoked(line, pair.public):
            raise IngestError(
                f"line {line}: its key {fingerprint(pair.public)} was revoked: `linewatch keys new CONFIG {line} "
                "--replace` makes another"
            )
        allow_list.allow(line, pair.public)
    server = keys / "worker.key"
    if not server.exists():
        raise IngestError(f"{server}: no worker key; start the worker here once, or copy worker.key from its host")
    socket.curve_publickey, socket.curve_secretkey = pair.public, pair.secret
    socket.curve_serverkey = read_public(server)


def authenticator(
    context: zmq.Context[zmq.Socket[bytes]], allowed: Callable[[], Allowed], *, turned_away: Callable[[str], None]
) -> ThreadAuthenticator:
    """Start the thread that checks every newcomer; call its `stop` at the end.

    Args:
        context: of the sockets that are guarded.
        allowed: reads who may come in, in that thread and at every handshake.
        turned_away: called in that thread with the fingerprint of each stranger.
    """
    guard = ThreadAuthenticator(context)
    guard.start()
    guard.configure_curve_callback(domain=_DOMAIN, credentials_provider=_Door(allowed, turned_away))
    return guard


class _Door:
    """Asks the folder at every handshake, so that a camera can be let in or shut out while the worker runs."""

    def __init__(self, allowed: Callable[[], Allowed], turned_away: Callable[[str], None]) -> None:
        self._allowed, self._turned_away = allowed, turned_away

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - ZeroMQ's signature
        """Whether the holder of the public key `key` (Z85) may connect."""
        try:
            if self._allowed().get(key):
                return True
        except OSError as error:  # it must not end the thread: then nobody could come in any more
            log.error("allow list cannot be read: nobody is let in", error=str(error))  # noqa: TRY400 - one line
        self._turned_away(fingerprint(key))
        return False


def worker_pair(keys: Path) -> Pair:
    """The workers' pair, made on first use.

    Raises:
        IngestError: it cannot be read or made, or others can read it.
    """
    return _pair(keys, "worker")


def camera_pair(keys: Path, line: str) -> Pair:
    """One camera's pair, made on first use.

    Raises:
        IngestError: it cannot be read or made, or others can read it.
    """
    return _pair(keys / "cameras", line)


def discard_camera(keys: Path, line: str) -> bytes | None:
    """Remove a camera's pair, so that the next use makes a new one; the public key that it had."""
    folder = keys / "cameras"
    public = read_public(folder / f"{line}.key") if (folder / f"{line}.key").exists() else None
    for file in (folder / f"{line}.key_secret", folder / f"{line}.key"):
        file.unlink(missing_ok=True)
    return public


def _pair(folder: Path, name: str) -> Pair:
    """Load a key pair, making it on first use; two processes starting at once end up with the same one."""
    secret_file = folder / f"{name}.key_secret"
    try:
        if not secret_file.exists():
            _make(folder, name)
        _refuse_readable(secret_file)
        public, secret = load_certificate(secret_file)
    except (OSError, ValueError) as error:
        raise IngestError(f"{secret_file}: {error}; remove it for a new one, and let that in") from error
    if secret is None:
        raise IngestError(f"{secret_file}: holds no secret key; remove it for a new one, and let that in")
    return Pair(public, secret)


def _make(folder: Path, name: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        create_certificates(fresh, name)
        (fresh / f"{name}.key_secret").chmod(0o600)
        os.link(fresh / f"{name}.key_secret", folder / f"{name}.key_secret")
        (fresh / f"{name}.key").replace(folder / f"{name}.key")
    except FileExistsError:
        log.debug("another process made the key first", key=name)  # its pair is the pair
    finally:
        shutil.rmtree(fresh)


def _refuse_readable(secret_file: Path) -> None:
    mode = stat.S_IMODE(secret_file.stat().st_mode)
    if mode & _OTHERS:
        raise IngestError(f"{secret_file}: others can read this secret key (mode {mode:04o}): chmod 600 {secret_file}")
