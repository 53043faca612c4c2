"""Where a worker listens, and how captures reach it.

The path of a unix socket has at most 107 bytes (`sun_path`, unix(7)); a deep data folder leaves no room for it. Then
the socket lies in a private folder of the system's temporary directory, named by a hash of the data folder, so that
every process of one configuration finds the same place without being told.
"""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from linewatch.errors import ConfigError

MAX_SOCKET_PATH = 107
_WILDCARDS = ("0.0.0.0", "*", "[::]")  # noqa: S104 - read, not bound


def default_endpoint(data: Path, worker: str) -> str:
    """Endpoint of a worker that names none: `data/run/NAME.sock`, or the short place when that is too long."""
    path = data / "run" / f"{worker}.sock"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        data_hash = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
        name_hash = hashlib.sha256(worker.encode()).hexdigest()[:12]
        path = Path(tempfile.gettempdir()) / f"linewatch-{os.getuid()}-{data_hash}" / f"{name_hash}.sock"
    return f"ipc://{path}"


def resolve_endpoint(bind: str, folder: Path) -> str:
    """Make `ipc://var/w0.sock` absolute; `folder` is where the configuration lies.

    Raises:
        ValueError: neither `ipc://PATH` nor `tcp://HOST:PORT`, or a path too long for a socket.
    """
    scheme, _, rest = bind.partition("://")
    if scheme == "ipc" and rest:
        path = folder / rest
        length = len(os.fsencode(path))
        if length > MAX_SOCKET_PATH:
            raise ValueError(f"{path} has {length} bytes, a socket's path at most {MAX_SOCKET_PATH}: leave it out")
        return f"ipc://{path}"
    host, _, port = rest.rpartition(":")
    if scheme == "tcp" and host and port.isdecimal() and 0 < int(port) < 65536:
        return bind
    raise ValueError(f"{bind!r} is no endpoint: write ipc://PATH or tcp://HOST:PORT")


def reachable(endpoint: str) -> str:
    """Where to connect to what is bound at `endpoint`: a wildcard address is reached on this host."""
    scheme, _, rest = endpoint.partition("://")
    host, _, port = rest.rpartition(":")
    return f"tcp://127.0.0.1:{port}" if scheme == "tcp" and host in _WILDCARDS else endpoint


def make_room(endpoint: str) -> None:
    """Create the folder of an ipc endpoint, for this user alone.

    Raises:
        ConfigError: the folder belongs to someone else, who could then listen in our place.
    """
    if not endpoint.startswith("ipc://"):
        return
    folder = Path(endpoint.removeprefix("ipc://")).parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot hold a worker's socket: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ConfigError(f"{folder}: belongs to another user; remove it, or set the worker's `bind:` elsewhere")
