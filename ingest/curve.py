"""Encryption and identity on tcp: CURVE key pairs as files.

::

    keys/worker.key          public key of the workers; captures on other hosts need a copy
    keys/worker.key_secret   never leaves the workers' host (mode 0600)
    keys/capture.key_secret  this host's captures (mode 0600)
    keys/allowed/*.key       public keys of the captures that workers let in

On one machine both sides share the folder and everything is made on first use. On several, copy `worker.key` to the
capture host and its `capture.key` into the workers' `allowed/`. A unix socket needs none of this: the data folder's
mode 0700 guards it.
"""

import os
import shutil
from pathlib import Path

import structlog
import zmq
from zmq.auth import create_certificates, load_certificate
from zmq.auth.thread import ThreadAuthenticator

from ingest.errors import IngestError

log = structlog.get_logger()


def needs_curve(endpoint: str) -> bool:
    """Whether an endpoint leaves the machine's own file system."""
    return endpoint.startswith("tcp://")


def secure_server(socket: zmq.Socket[bytes], keys: Path) -> None:
    """Make `socket` accept only captures whose key lies in `keys/allowed`."""
    public, secret = _pair(keys, "worker")
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.curve_server = True


def secure_client(socket: zmq.Socket[bytes], keys: Path) -> None:
    """Make `socket` speak as this host's capture to the workers of `keys/worker.key`."""
    public, secret = _pair(keys, "capture")
    allowed = keys / "allowed"
    if (keys / "worker.key_secret").exists():  # same host: letting ourselves in takes nobody's decision
        allowed.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(keys / "capture.key", allowed / "capture.key")
    server = keys / "worker.key"
    if not server.exists():
        raise IngestError(f"{server}: no worker key; start the worker here once, or copy worker.key from its host")
    socket.curve_publickey, socket.curve_secretkey = public, secret
    socket.curve_serverkey = load_certificate(server)[0]


def authenticator(context: zmq.Context[zmq.Socket[bytes]], keys: Path) -> ThreadAuthenticator:
    """Start the thread that checks every newcomer against `keys/allowed`; call its `stop` at the end."""
    allowed = keys / "allowed"
    allowed.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (keys / "capture.key").exists():
        shutil.copyfile(keys / "capture.key", allowed / "capture.key")
    guard = ThreadAuthenticator(context)
    guard.start()
    guard.configure_curve_callback(domain="*", credentials_provider=_Allowed(allowed))
    return guard


class _Allowed:
    """Asks the folder at every handshake, so that a camera can be let in or shut out while the worker runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - ZeroMQ's signature
        """Whether the holder of the public key `key` (Z85) may connect."""
        for path in self._folder.glob("*.key"):
            try:
                if load_certificate(path)[0] == key:
                    return True
            except (OSError, ValueError) as error:
                log.warning("key cannot be read", path=str(path), error=str(error))
        log.warning("a stranger was turned away", key=key.decode("ascii", "replace"))
        return False


def _pair(keys: Path, name: str) -> tuple[bytes, bytes]:
    """Load a key pair, making it on first use; two processes starting at once end up with the same one."""
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret_file = keys / f"{name}.key_secret"
    if not secret_file.exists():
        fresh = keys / f".{name}.{os.getpid()}"
        fresh.mkdir(mode=0o700, exist_ok=True)
        create_certificates(fresh, name)
        (fresh / f"{name}.key_secret").chmod(0o600)
        try:
            os.link(fresh / f"{name}.key_secret", secret_file)
            (fresh / f"{name}.key").replace(keys / f"{name}.key")
        except FileExistsError:
            pass  # another process was first: its pair is the pair
        shutil.rmtree(fresh)
    public, secret = load_certificate(secret_file)
    if secret is None:
        raise IngestError(f"{secret_file}: holds no secret key; remove it and start again")
    return public, secret
