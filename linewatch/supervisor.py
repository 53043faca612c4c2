"""Keeps the processes of one machine running: the shell around `linewatch/restarts.py`.

One thread waits for each child and reports its end; the main loop starts what is due, looks after the Redis server,
and writes what it knows to a status file. On stop, the stages end one after the other, in the direction of the data:
captures drain, then workers finish what they hold, then alerts read what was stored, then Redis.
"""

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import structlog

from linewatch.lifeline import VARIABLE
from linewatch.restarts import Backoff, Restarts, State
from storage.errors import StorageError

_TICK_S = 0.5
"""How often the Redis server is looked at, and `until` is asked."""
_HURRY_S = 1.0
"""Patience after a second signal."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Role:
    """One process to keep running."""

    name: str
    command: Sequence[str]
    stage: int = 0
    """Place in the order of stopping: lower first."""
    ends: bool = False
    """Whether exit code 0 is its natural end."""


class Server(Protocol):
    """What the roles depend on: `storage.server.RedisServer`."""

    @property
    def pid(self) -> int:
        """Process id of the running server."""

    def start(self) -> None:
        """Start it and wait until it answers."""

    def stop(self) -> None:
        """Stop it, also when it is already gone."""

    def alive(self) -> bool:
        """Whether its process runs."""


@dataclass(slots=True)
class _Child:
    role: Role
    life: Restarts
    process: subprocess.Popen[bytes] | None = None


@dataclass(slots=True)
class Supervisor:
    """Runs roles until told to stop.

    Args:
        roles: what to run.
        status: file to keep up to date: one JSON object, replaced atomically.
        server: started before and stopped after the roles, and restarted when it dies.
        until: asked now and then once every role with a natural end has reached it; True ends the run.
        on_tick: called now and then, for whoever prints what is new.
        backoff: when to start again.
        grace_s: how long each stage may take to end before it is killed.
    """

    roles: Sequence[Role]
    status: Path
    server: Server | None = None
    until: Callable[[], bool] | None = None
    on_tick: Callable[[], None] = lambda: None
    backoff: Backoff = field(default_factory=Backoff)
    grace_s: float = 10.0
    _children: list[_Child] = field(init=False, default_factory=list)
    _server_life: Restarts = field(init=False)
    _ended: queue.SimpleQueue[tuple[_Child, int] | None] = field(init=False, default_factory=queue.SimpleQueue)
    _signals: int = field(init=False, default=0)
    _written: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._children = [_Child(role, Restarts(self.backoff, ends=role.ends)) for role in self.roles]
        self._server_life = Restarts(self.backoff)

    def stop(self) -> None:
        """End `run`; safe in a signal handler. A second call makes it hurry."""
        self._signals += 1
        self._ended.put(None)

    def run(self) -> None:
        """Run until `stop` is called or `until` says so.

        Raises:
            StorageError: the server does not start at all.
        """
        if self.server is not None:
            self.server.start()
            self._server_life.started(time.monotonic())
        try:
            while not self._signals and not self._done():
                now = time.monotonic()
                self._look_after_server(now)
                for child in self._children:
                    if child.life.due is not None and child.life.due <= now:
                        self._start(child)
                self._write_status()
                self.on_tick()
                self._wait(self._patience())
        finally:
            self._stop_all()

    def _done(self) -> bool:
        mortal = [child for child in self._children if child.role.ends]
        return self.until is not None and all(child.life.ended for child in mortal) and self.until()

    def _patience(self) -> float:
        now = time.monotonic()
        dues = [child.life.due - now for child in self._children if child.life.due is not None]
        return max(0.0, min([_TICK_S, *dues]))

    def _start(self, child: _Child) -> None:
        # A session of its own, so that Ctrl-C reaches the supervisor alone and the order of stopping is kept.
        try:
            child.process = subprocess.Popen(  # noqa: S603 - our own command
                child.role.command,
                stdin=subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, VARIABLE: "1"},
            )
        except OSError as error:
            child.life.started(time.monotonic())
            log.error("cannot start", child=child.role.name, error=str(error))  # noqa: TRY400 - the system's own words
            self._note_exit(child, 127)
            return
        child.life.started(time.monotonic())
        log.info("started", child=child.role.name, child_pid=child.process.pid, restarts=child.life.restarts)
        threading.Thread(target=self._report_end, args=(child, child.process), daemon=True).start()

    def _report_end(self, child: _Child, process: subprocess.Popen[bytes]) -> None:
        self._ended.put((child, process.wait()))

    def _wait(self, seconds: float) -> None:
        """Take the next news, or none within `seconds`."""
        try:
            news = self._ended.get(timeout=seconds)
        except queue.Empty:
            return
        if news is not None:
            self._note_exit(*news)

    def _note_exit(self, child: _Child, code: int) -> None:
        now = time.monotonic()
        if child.process is not None and child.process.stdin is not None:
            child.process.stdin.close()
        child.process = None
        child.life.exited(now, code)
        state = child.life.state(now)
        if state in (State.ENDED, State.STOPPED):
            log.info("ended", child=child.role.name, exit=code)
        else:
            retry_in_s = round((child.life.due or now) - now, 1)
            log.warning("died", child=child.role.name, exit=code, state=state.value, retry_in_s=retry_in_s)

    def _look_after_server(self, now: float) -> None:
        if self.server is None:
            return
        life = self._server_life
        if life.due is None and not self.server.alive():
            life.exited(now, -1)
            log.error("redis died", state=life.state(now).value)
        if life.due is not None and life.due <= now:
            life.started(now)
            try:
                self.server.start()
            except StorageError as error:
                log.error("redis does not start", error=str(error))  # noqa: TRY400 - one clear line
                life.exited(now, -1)

    def _stop_all(self) -> None:
        for child in self._children:
            child.life.stop()
        for stage in sorted({role.stage for role in self.roles}):
            self._stop_stage([child for child in self._children if child.role.stage == stage])
        if self.server is not None:
            self.server.stop()
            self._server_life.stop()
            self._server_life.exited(time.monotonic(), 0)
        self._write_status()

    def _stop_stage(self, children: list[_Child]) -> None:
        for child in children:
            if child.process is not None:
                child.process.terminate()
        deadline = time.monotonic() + self.grace_s
        while any(child.process is not None for child in children):
            if self._signals > 1:
                deadline = min(deadline, time.monotonic() + _HURRY_S)
                self._signals = 1
            if time.monotonic() >= deadline:
                self._kill(children)
                deadline = time.monotonic() + self.grace_s
            self._wait(min(_TICK_S, max(0.0, deadline - time.monotonic())))

    def _kill(self, children: list[_Child]) -> None:
        for child in children:
            if child.process is not None:
                log.warning("killed", child=child.role.name, after_s=self.grace_s)
                child.process.kill()

    def _write_status(self) -> None:
        """Replace the status file if anything changed."""
        now = time.monotonic()
        known: dict[str, Any] = {"pid": os.getpid(), "roles": [self._describe(child, now) for child in self._children]}
        if self.server is not None:
            life = self._server_life
            pid = self.server.pid if life.started_at is not None else None
            known["redis"] = {"pid": pid, "state": life.state(now).value, "restarts": life.restarts}
        if known != self._written:
            self._written = known
            fresh = self.status.with_suffix(".tmp")
            fresh.write_text(json.dumps({**known, "changed_ns": time.time_ns()}, indent=1), encoding="utf-8")
            fresh.replace(self.status)

    @staticmethod
    def _describe(child: _Child, now: float) -> dict[str, Any]:
        return {
            "role": child.role.name,
            "pid": None if child.process is None else child.process.pid,
            "state": child.life.state(now).value,
            "restarts": child.life.restarts,
            "last_exit": child.life.last_exit,
        }
