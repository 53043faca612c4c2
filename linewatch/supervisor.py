"""Keeps the processes of one machine running: the shell around `linewatch/restarts.py`.

One thread waits for each child and reports its end, one keeps the Redis server (`linewatch/keeper.py`); the main loop
starts what is due, kills what makes no progress, and writes what it knows to a status file. It waits for nothing but
its own news. On stop, the stages end one after the other, in the direction of the data: captures drain, then workers
finish what they hold, then alerts read what was stored, then Redis.
"""

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from linewatch import lifeline, progress
from linewatch.keeper import Keeper, Server
from linewatch.progress import Page
from linewatch.restarts import Backoff, Restarts, State
from linewatch.silence import Patience, Silence

_TICK_S = 0.5
"""How often the children are looked at, and `until` is asked."""
_HURRY_S = 1.0
"""Patience after a second signal."""
_MOST_KILLS = 3
_KILLED_S = 5.0
"""A process that is still there so long after so many kills is stuck in the kernel: nothing more can be done."""

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
    patience: Patience | None = None
    """How long it may take for a turn, or its first one, before it counts as hung; None: it tells no progress."""
    grace_s: float = 10.0
    """How long it may take to end, once asked, before it is killed."""


@dataclass(slots=True)
class _Child:
    role: Role
    life: Restarts
    process: subprocess.Popen[bytes] | None = None
    page: Page | None = None
    silence: Silence = field(default_factory=Silence)


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
    """

    roles: Sequence[Role]
    status: Path
    server: Server | None = None
    until: Callable[[], bool] | None = None
    on_tick: Callable[[], None] = lambda: None
    backoff: Backoff = field(default_factory=Backoff)
    _children: list[_Child] = field(init=False, default_factory=list)
    _keeper: Keeper | None = field(init=False, default=None)
    _asking: Future[bool] | None = field(init=False, default=None)
    _unwritten: str | None = field(init=False, default=None)
    _ended: queue.SimpleQueue[tuple[_Child, int] | None] = field(init=False, default_factory=queue.SimpleQueue)
    _signals: int = field(init=False, default=0)
    _written: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._children = [_Child(role, Restarts(self.backoff, ends=role.ends)) for role in self.roles]
        if self.server is not None:
            self._keeper = Keeper(self.server, self.backoff)

    def stop(self) -> None:
        """End `run`; safe in a signal handler. A second call makes it hurry."""
        self._signals += 1
        self._ended.put(None)

    def run(self) -> None:
        """Run until `stop` is called or `until` says so.

        Raises:
            StorageError: the server does not start at all.
        """
        asker = ThreadPoolExecutor(1, thread_name_prefix="until")
        try:
            self._await_server()
            while not self._signals and not self._done(asker):
                now = time.monotonic()
                for child in self._children:
                    if child.life.due is not None and child.life.due <= now:
                        self._start(child)
                    self._look_at(child, now)
                self._write_status()
                self.on_tick()
                self._wait(self._patience())
        finally:
            self._stop_all()
            asker.shutdown(wait=False, cancel_futures=True)

    def _await_server(self) -> None:
        """Wait for the server's first answer: what needs it is started after that."""
        if self._keeper is None:
            return
        self._keeper.start()
        while not self._signals and not self._keeper.ready.wait(0.05):
            self._write_status()
        if self._keeper.failure is not None:
            raise self._keeper.failure

    def _done(self, asker: ThreadPoolExecutor) -> bool:
        """Ask `until`, which may wait for a store, in a thread of its own."""
        if self.until is None or not all(child.life.ended for child in self._children if child.role.ends):
            return False
        if self._asking is None:
            self._asking = asker.submit(self.until)
        if not self._asking.done():
            return False
        answer, self._asking = self._asking.result(), None
        return answer

    def _patience(self) -> float:
        now = time.monotonic()
        dues = [child.life.due - now for child in self._children if child.life.due is not None]
        return max(0.0, min([_TICK_S, *dues]))

    def _start(self, child: _Child) -> None:
        # A session of its own, so that Ctrl-C reaches the supervisor alone and the order of stopping is kept.
        try:
            page = Page()
            child.page = page
            child.process = subprocess.Popen(  # noqa: S603 - our own command
                child.role.command,
                stdin=subprocess.PIPE,
                start_new_session=True,
                pass_fds=(page.file,),
                env={**os.environ, lifeline.VARIABLE: "1", progress.VARIABLE: str(page.file)},
            )
        except OSError as error:
            child.life.started(time.monotonic())
            log.error("cannot start", child=child.role.name, error=str(error))  # noqa: TRY400 - the system's own words
            self._note_exit(child, 127)
            return
        child.life.started(time.monotonic())
        patience = child.role.patience or Patience()
        child.silence = Silence(patience.start_s, patience.silent_s)
        log.info("started", child=child.role.name, child_pid=child.process.pid, restarts=child.life.restarts)
        threading.Thread(target=self._report_end, args=(child, child.process), daemon=True).start()

    def _look_at(self, child: _Child, now: float) -> None:
        """Kill a child that makes no progress; it is started again once it is gone, never beside its old self."""
        if child.process is None or child.page is None or child.role.patience is None or child.life.hung:
            return
        why = child.silence.look(child.page.look(), now)
        if why is not None:
            child.life.hangs_now(why)
            log.error("hangs, killed", child=child.role.name, child_pid=child.process.pid, why=why)
            child.process.kill()

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
        if child.page is not None:
            child.page.close()
        child.process = child.page = None
        child.life.exited(now, code)
        state = child.life.state(now)
        if state in (State.ENDED, State.STOPPED):
            log.info("ended", child=child.role.name, exit=code)
        else:
            retry_in_s = round((child.life.due or now) - now, 1)
            log.warning("died", child=child.role.name, exit=code, state=state.value, retry_in_s=retry_in_s)

    def _stop_all(self) -> None:
        for child in self._children:
            child.life.stop()
        for stage in sorted({role.stage for role in self.roles}):
            self._stop_stage([child for child in self._children if child.role.stage == stage])
        if self._keeper is not None:
            self._keeper.stop()
        self._write_status()

    def _stop_stage(self, children: list[_Child]) -> None:
        for child in children:
            if child.process is not None:
                child.process.terminate()
        began = time.monotonic()
        self._await_end(children, max(child.role.grace_s for child in children))
        for _ in range(_MOST_KILLS):
            if all(child.process is None for child in children):
                return
            self._kill(children, after_s=time.monotonic() - began)
            self._await_end(children, _KILLED_S)

    def _await_end(self, children: list[_Child], patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while any(child.process is not None for child in children) and time.monotonic() < deadline:
            if self._signals > 1:
                deadline = min(deadline, time.monotonic() + _HURRY_S)
                self._signals = 1
            self._wait(min(_TICK_S, max(0.0, deadline - time.monotonic())))

    def _kill(self, children: list[_Child], *, after_s: float) -> None:
        for child in children:
            if child.process is not None:
                log.warning("killed", child=child.role.name, after_s=round(after_s, 1))
                child.process.kill()

    def _write_status(self) -> None:
        """Replace the status file if anything changed. A full disk is no reason to stop anything."""
        now = time.monotonic()
        known: dict[str, Any] = {"pid": os.getpid(), "roles": [self._describe(child, now) for child in self._children]}
        if self._keeper is not None:
            known["redis"] = self._keeper.describe()
        if known == self._written:
            return
        fresh = self.status.with_suffix(".tmp")
        try:
            fresh.write_text(json.dumps({**known, "changed_ns": time.time_ns()}, indent=1), encoding="utf-8")
            fresh.replace(self.status)
        except OSError as error:
            if self._unwritten != str(error):
                log.error("status not written", file=str(self.status), error=str(error))  # noqa: TRY400 - one line
            self._unwritten = str(error)
            return
        self._written, self._unwritten = known, None

    @staticmethod
    def _describe(child: _Child, now: float) -> dict[str, Any]:
        life = child.life
        return {
            "role": child.role.name,
            "pid": None if child.process is None else child.process.pid,
            "state": life.state(now).value,
            "restarts": life.restarts,
            "last_exit": life.last_exit,
            "hangs": life.hangs,
            "last_hang": life.last_hang,
            "started_mono_s": None if life.started_at is None else round(life.started_at, 1),
        }
