"""Reads every source of figures, for one scrape. A source that is away takes only its own figures with it."""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import redis
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from alerts.board import Board
from alerts.metrics import sources
from alerts.metrics.sheet import Sheet
from storage import keys
from storage.captures import Captures
from storage.config import RetentionConfig, StorageConfig
from storage.errors import StorageError
from storage.history import History
from storage.records import Verdict
from storage.unavailable import mapped
from storage.workers import Workers

_MOST_WORKERS = 64
"""Where the configuration names none, so many of those in Redis are told."""


class Deliveries(Protocol):
    """What a courier counts."""

    name: str
    delivered: int
    failed: int


class SiteCollector(Collector):
    """Figures of one site.

    Args:
        client: where lines, workers and captures tell.
        history: outbox and position.
        board: lines and open alerts of this moment.
        lines: names of the configured lines: others have no figures of their own.
        workers: names of the configured workers; empty: those that have told.
        storage: data folder and bounds.
        couriers: one for each sink.
        silent_s: how long a line has given no sign of life.
    """

    def __init__(
        self,
        client: redis.Redis,
        history: History,
        board: Board,
        *,
        lines: Sequence[str],
        workers: Sequence[str],
        storage: StorageConfig,
        couriers: Sequence[Deliveries],
        silent_s: Callable[[str], float],
    ) -> None:
        self._client, self._history, self._board = client, history, board
        self._lines, self._workers = tuple(lines), tuple(workers)
        self._data, self._retention = storage.data, storage.retention
        self._couriers, self._silent_s = tuple(couriers), silent_s
        self._unknown: Counter[tuple[str, str]] = Counter()

    def follow(self, verdicts: Iterable[Verdict]) -> None:
        """Count why verdicts are `unknown`; called with each batch once it is committed."""
        for verdict in verdicts:
            if verdict.reason is not None and verdict.line in self._lines:
                self._unknown[verdict.line, sources.known_reason(verdict.reason)] += 1

    def collect(self) -> Iterator[Family]:
        """Read everything, for prometheus-client."""
        return self._sheet().families()

    def _sheet(self) -> Sheet:
        sheet = Sheet()
        sheet.put("linewatch_build_info", 1, version("linewatch"))
        sheet.put("linewatch_service_ailments", len(self._board.ailments()))
        self._put_moment(sheet)
        position = self._put_history(sheet)
        self._put_redis(sheet, position)
        for (line, reason), count in list(self._unknown.items()):
            sheet.put("linewatch_unknown_total", count, line, reason)
        for courier in self._couriers:
            sheet.put("linewatch_deliveries_total", courier.delivered, courier.name)
            sheet.put("linewatch_delivery_failures_total", courier.failed, courier.name)
        _put_disk(sheet, self._data, self._retention)
        sources.supervisor(sheet, _status(self._data / "up.json"))
        return sheet

    def _put_moment(self, sheet: Sheet) -> None:
        view = self._board.view()
        states = [shown.state for shown in view.lines if shown.state.line in self._lines]
        sources.lines(sheet, states, {state.line: self._silent_s(state.line) for state in states})
        sources.alerts_open(sheet, view.alerts, self._lines)

    def _put_history(self, sheet: Sheet) -> str | None:
        """Say what waits in the outbox; returns how far the stream has been followed, None: not known."""
        try:
            waiting, position = self._history.backlog(), self._history.position()
        except StorageError:
            sheet.put("linewatch_history_up", 0)
            return None
        sheet.put("linewatch_history_up", 1)
        sources.outbox(sheet, waiting, [courier.name for courier in self._couriers], time.time_ns())
        return position

    def _put_redis(self, sheet: Sheet, position: str | None) -> None:
        try:
            told, figures = Workers(self._client).all(), Captures(self._client).all()
            with mapped(self._client):
                seconds, micros = self._client.time()
                entries = self._client.xlen(keys.VERDICTS)
                memory = self._client.info("memory")
                unread = self._client.xrange(keys.VERDICTS, min=f"({position or '0'}", count=1)
        except StorageError:
            sheet.put("linewatch_redis_up", 0)
            return
        now_ns = int(seconds) * 10**9 + int(micros) * 1000
        sheet.put("linewatch_redis_up", 1)
        sheet.put("linewatch_redis_memory_bytes", sources.number(memory.get("used_memory")))
        sheet.put("linewatch_verdict_stream_entries", entries)
        if position is not None:
            since_ms = int(str(unread[0][0]).partition("-")[0]) if unread else None  # an entry's id is its time in ms
            lag_s = 0.0 if since_ms is None else max(0.0, now_ns / 1e9 - since_ms / 1e3)
            sheet.put("linewatch_verdict_cursor_lag_seconds", lag_s)
        names = self._workers or tuple(told)[:_MOST_WORKERS]
        beats = {name: told.get(name, {}) for name in names}
        sources.workers(sheet, beats, known_lines=self._lines, now_ns=now_ns)
        sources.captures(sheet, {line: told for line, told in figures.items() if line in self._lines})


def _put_disk(sheet: Sheet, data: Path, retention: RetentionConfig) -> None:
    sheet.put("linewatch_evidence_limit_bytes", retention.max_gb * 1e9)
    sheet.put("linewatch_disk_free_floor_bytes", retention.min_free_gb * 1e9)
    try:
        free = shutil.disk_usage(data).free
    except OSError:
        return  # left out: an alert on its absence tells
    sheet.put("linewatch_disk_free_bytes", free)


def _status(file: Path) -> dict[str, object]:
    """Read the status file of the `linewatch up` that started this process; one that is left over says nothing."""
    try:
        status = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    ours = isinstance(status, dict) and status.get("pid") == os.getppid()
    return status if ours else {}
