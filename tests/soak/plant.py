"""The real `linewatch up` as a process of its own, and what can be measured of it from outside."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from linewatch.config import Config
from storage import keys
from storage.history import History
from storage.lines import Lines
from storage.records import LineState
from storage.server import ANSWER_S, RedisServer, connect
from tests.soak.samples import Process, Sample

START_S = 180.0
STOP_S = 90.0
_CONGESTED_S = ANSWER_S - 1
"""As long as nobody takes it for an absence: what would be tried again is a load of its own."""
_READINGS, _BETWEEN_S = 5, 0.02
_MB = 1e6


class Plant:
    """A running system.

    Args:
        config: what runs.
        supervisor: its first process.
        log: file its processes write to.
    """

    def __init__(self, config: Config, supervisor: "subprocess.Popen[bytes]", log: Path) -> None:
        self._config, self._supervisor, self._log = config, supervisor, log
        self._redis = connect(config.storage)
        self._lines = Lines(self._redis)
        self._known: dict[int, psutil.Process] = {}
        self._began = time.monotonic()
        self.url_file = config.data / "page.url"

    @property
    def alive(self) -> bool:
        """Whether the supervisor runs."""
        return self._supervisor.poll() is None

    def await_frames(self) -> None:
        """Wait until every line has judged frames and the page is served; that is when time begins.

        Raises:
            RuntimeError: it does not come to that.
        """
        until = time.monotonic() + START_S
        while not self._judging():
            if not self.alive or time.monotonic() > until:
                raise RuntimeError(f"linewatch up judges nothing: see {self._log}")
            time.sleep(0.2)
        self._began = time.monotonic()

    def _judging(self) -> bool:
        if not self.url_file.exists():
            return False
        judged = {state.line for state in self._lines.states() if state.passed + state.rejected}
        return judged == {line.id for line in self._config.lines}

    def congest(self) -> None:
        """Hold Redis up for a while: the queues before it fill to their bounds now, not by chance in mid-run."""
        redis = psutil.Process(self._status()["redis"]["pid"])
        redis.suspend()
        try:
            time.sleep(_CONGESTED_S)
        finally:
            redis.resume()

    def sample(self) -> Sample:
        """Measure everything once; what is just being started or is gone is not in it."""
        status = self._status()
        states = self._lines.states()
        memory: Any = self._redis.info("memory")
        kept: Any = self._redis.info("persistence")
        database = self._config.data / "history.db"
        return Sample(
            at_s=time.monotonic() - self._began,
            roles=self._processes(_pids(status)),
            evidence_mb=evidence_bytes(self._config.storage.evidence) / _MB,
            redis_mb=memory["used_memory"] / _MB,
            stream=int(self._redis.xlen(keys.VERDICTS)),
            keys=int(self._redis.dbsize()),
            aof_mb=kept.get("aof_current_size", 0) / _MB,
            history_mb=_size(database) / _MB,
            wal_mb=_size(database.with_name(database.name + "-wal")) / _MB,
            log_mb=_size(self._log) / _MB,
            restarts=sum(role["restarts"] for role in [*status["roles"], status["redis"]]),
            frames=sum(state.captured for state in states),
            lost=sum(state.unknown + state.skipped for state in states),
        )

    def _status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._config.data / "up.json").read_text(encoding="utf-8"))
        return found

    def _processes(self, pids: dict[str, int]) -> dict[str, Process]:
        handles = {}
        for role, pid in pids.items():
            with _absence():
                handles[role] = self._known.get(pid) or psutil.Process(pid)
        self._known = {handle.pid: handle for handle in handles.values()}
        counts: dict[str, list[tuple[int, int]]] = {role: [] for role in handles}
        for _ in range(_READINGS):  # the least of them: a file that is being written is not one that was forgotten
            for role, handle in handles.items():
                with _absence():
                    counts[role].append((handle.num_fds(), handle.num_threads()))
            time.sleep(_BETWEEN_S)
        found = {}
        for role, handle in handles.items():
            with _absence():
                memory, cpu = handle.memory_full_info(), handle.cpu_times()
                fds, threads = (min(column) for column in zip(*counts[role], strict=True))
                found[role] = Process(
                    pid=handle.pid,
                    rss_mb=memory.rss / _MB,
                    uss_mb=memory.uss / _MB,
                    fds=fds,
                    threads=threads,
                    cpu_s=cpu.user + cpu.system,
                )
        return found

    def stop(self) -> int:
        """Ask it to end, as Ctrl-C does; its exit code."""
        if self.alive:
            self._supervisor.terminate()
        return self._supervisor.wait(STOP_S)


@contextmanager
def _absence() -> Iterator[None]:
    """A process that ends while it is measured is missing from the sample, and its restart is counted."""
    try:
        yield
    except psutil.NoSuchProcess:
        return


@contextmanager
def running(path: Path, config: Config, *, log: Path) -> Iterator[Plant]:
    """Run `linewatch up` for the length of a `with`."""
    environment = {**os.environ, "LINEWATCH_LOG": "json", "LINEWATCH_LOG_LEVEL": "info"}
    with (
        log.open("wb") as out,
        # A session of its own: Ctrl-C is for us, who still want to measure.
        subprocess.Popen(
            [sys.executable, "-P", "-m", "linewatch", "up", str(path)],
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        ) as supervisor,
    ):
        try:
            yield Plant(config, supervisor, log)
        finally:
            if supervisor.poll() is None:
                supervisor.terminate()
                try:
                    supervisor.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    supervisor.kill()


def accounts(config: Config) -> tuple[list[LineState], int]:
    """What is in storage after the end: each line's state, and verdicts that the history counts."""
    with RedisServer(config.data):
        client = connect(config.storage)
        states = Lines(client).states()
        client.close()
    history = History.open(config.storage)
    counted = 0
    for state in states:
        for count in history.minutes(state.line, since=0, until=2**40).values():
            counted += count.passed + count.rejected + count.unknown
    history.close()
    return states, counted


def evidence_bytes(root: Path) -> int:
    """Bytes of all evidence that retention bounds: not the few latest pictures, and not what is being written."""
    total = 0
    for line in root.iterdir() if root.is_dir() else ():
        if line.name not in ("latest", ".incoming"):
            for folder, _, files in os.walk(line):
                total += sum(_size(Path(folder, name)) for name in files)
    return total


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _pids(status: dict[str, Any]) -> dict[str, int]:
    pids = {role["role"]: role["pid"] for role in status["roles"] if role["pid"] is not None}
    pids["supervisor"] = status["pid"]
    if status["redis"]["pid"]:
        pids["redis"] = status["redis"]["pid"]
    return pids
