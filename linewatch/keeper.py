"""Keeps the embedded Redis running, in a thread of its own: its start may take minutes, and it too may hang.

The server is asked once a second. One that answers, whatever it says (also that it is still reading its data back), is
well; one that exists but says nothing for 15 s is killed, so that it can be started again: everything it has
acknowledged is on disk.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from linewatch.restarts import Backoff, Restarts, State
from storage.errors import StorageError

SILENT_S = 15.0
_ASK_EVERY_S = 1.0
_LONGEST_LOOK_S = 5.0
"""Between two answers asked for at most this much counts as silence: the time-out of asking, and some."""
_JOIN_S = 30.0
_NOT_STARTED = 127  # as a shell would report it

log = structlog.get_logger()


class Server(Protocol):
    """What the roles depend on: `storage.server.RedisServer`."""

    @property
    def pid(self) -> int:
        """Process id of the running server."""

    def start(self, *, stop: threading.Event) -> None:
        """Start it and wait until it answers, or `stop` is set; the calling thread lives as long as the server."""

    def stop(self) -> None:
        """Stop it, also when it is already gone."""

    def kill(self) -> None:
        """End it at once."""

    def alive(self) -> bool:
        """Whether its process runs."""

    @property
    def exit_code(self) -> int | None:
        """How the process ended, a signal as its negative number; None: it runs, or was not started the last time."""

    def answers(self) -> bool:
        """Whether it says anything when asked; waits for a second or two at most."""


@dataclass(slots=True)
class Keeper:
    """One server, started, watched, restarted, stopped.

    Args:
        server: which.
        backoff: when to start it again.
        silent_s: how long it may say nothing.
    """

    server: Server
    backoff: Backoff = field(default_factory=Backoff)
    silent_s: float = SILENT_S
    ready: threading.Event = field(init=False, default_factory=threading.Event)
    """Set once it has answered for the first time, or never will."""
    failure: StorageError | None = field(init=False, default=None)
    """Why the first start failed."""
    _life: Restarts = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _stop: threading.Event = field(init=False, default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._life = Restarts(self.backoff)
        self._thread = threading.Thread(target=self._run, name="redis keeper", daemon=True)

    def start(self) -> None:
        """Begin; `ready` tells when the server answers."""
        self._thread.start()

    def stop(self) -> None:
        """End the server, also one that is still starting; waits for that, half a minute at most."""
        self._stop.set()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            log.error("redis does not end", pid=self.server.pid, waited_s=_JOIN_S)

    def describe(self) -> dict[str, Any]:
        """What the status file says of it."""
        with self._lock:
            life = self._life
            state = life.state(time.monotonic())
            starting = state is State.RUNNING and not self.ready.is_set()
            return {
                "pid": self.server.pid if life.started_at is not None else None,
                "state": "starting" if starting else state.value,
                "restarts": life.restarts,
                "last_exit": life.last_exit,
                "hangs": life.hangs,
                "last_hang": life.last_hang,
                "started_mono_s": None if life.started_at is None else round(life.started_at, 1),
            }

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self._begin():
                    self._watch()
                elif self.failure is not None:
                    return
                else:
                    with self._lock:
                        due = self._life.due
                    self._stop.wait(max(0.0, (due or 0.0) - time.monotonic()))
        finally:
            self.server.stop()
            with self._lock:
                self._life.stop()
                self._life.exited(time.monotonic(), 0)
            self.ready.set()

    def _begin(self) -> bool:
        """Start the server; False when it did not."""
        with self._lock:
            self._life.started(time.monotonic())
        try:
            self.server.start(stop=self._stop)
        except (StorageError, OSError) as error:
            if not self.ready.is_set():
                self.failure = error if isinstance(error, StorageError) else StorageError(f"redis-server: {error}")
            elif not self._stop.is_set():
                log.error("redis does not start", error=str(error))  # noqa: TRY400 - one clear line
            self._ended()
            return False
        self.ready.set()
        return True

    def _watch(self) -> None:
        """Ask until the server is gone or is to be stopped."""
        heard = time.monotonic()
        quiet_s = 0.0
        while not self._stop.wait(_ASK_EVERY_S if quiet_s == 0.0 else 0.0):
            if not self.server.alive():
                self._ended()
                log.error("redis died", state=self.describe()["state"])
                return
            answered = self.server.answers()
            now = time.monotonic()
            quiet_s = 0.0 if answered else quiet_s + min(now - heard, _LONGEST_LOOK_S)
            heard = now
            if quiet_s >= self.silent_s:
                why = f"says nothing for {self.silent_s:g} s"
                log.error("redis hangs, killed", pid=self.server.pid, why=why)
                with self._lock:
                    self._life.hangs_now(why)
                self.server.kill()
                quiet_s = 0.0
            elif not answered:
                self._stop.wait(0.1)

    def _ended(self) -> None:
        code = self.server.exit_code
        with self._lock:
            self._life.exited(time.monotonic(), _NOT_STARTED if code is None else code)
