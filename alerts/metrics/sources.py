"""What each source of figures says, row by row: pure, from what was read to a sheet.

A heartbeat or status file of another version may lack a field, or hold one of another kind: that figure is left out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from alerts.metrics.sheet import Sheet
from alerts.metrics.table import CONDITIONS, REASONS, STATES
from storage.deliveries import Backlog
from storage.measures import Buckets
from storage.records import Alert, LineState

OTHER = "other"
_UP_S = 15.0
"""A heartbeat older than this is none; workers beat every second."""


def known_reason(reason: str) -> str:
    """Give a label value for a reason, which may be any text."""
    return reason if reason in REASONS else OTHER


def lines(sheet: Sheet, states: Sequence[LineState], silent_s: Mapping[str, float]) -> None:
    """Say what is known of each line."""
    for state in states:
        line = state.line
        sheet.put("linewatch_frames_captured_total", state.captured, line)
        ends = {"pass": state.passed, "reject": state.rejected, "unknown": state.unknown, "skipped": state.skipped}
        for status, count in ends.items():
            sheet.put("linewatch_frames_total", count, line, status)
        sheet.put("linewatch_open_frames", max(0, state.open), line)
        sheet.put("linewatch_line_silent_seconds", silent_s.get(line), line)
        for condition in CONDITIONS:
            sheet.put("linewatch_camera_condition", float(state.camera == condition), line, condition)
        if state.model is not None:
            sheet.put("linewatch_line_model_info", 1, line, state.model)
        sheet.put("linewatch_line_score", state.score, line)
        sheet.put("linewatch_line_threshold", state.threshold, line)


def captures(sheet: Sheet, told: Mapping[str, Mapping[str, Any]]) -> None:
    """Say what captures tell of their queues."""
    names = {
        "waiting": "linewatch_capture_waiting_frames",
        "in_flight": "linewatch_capture_in_flight_frames",
        "buffered_bytes": "linewatch_capture_buffer_bytes",
        "buffer_bytes": "linewatch_capture_buffer_limit_bytes",
        "workers": "linewatch_capture_workers",
        "untold": "linewatch_capture_untold_frames",
        "dropped_messages": "linewatch_capture_dropped_messages_total",
        "resent": "linewatch_capture_resent_total",
        "source_losses": "linewatch_capture_source_losses_total",
    }
    for line, figures in told.items():
        for field, name in names.items():
            sheet.put(name, number(figures.get(field)), line)
        given_up = figures.get("given_up")
        totals: dict[str, float] = {}
        for reason, count in given_up.items() if isinstance(given_up, dict) else ():
            totals[known_reason(reason)] = totals.get(known_reason(reason), 0) + (number(count) or 0)
        for reason, total in totals.items():
            sheet.put("linewatch_capture_given_up_total", total, line, reason)


def workers(sheet: Sheet, told: Mapping[str, Mapping[str, Any]], *, known_lines: Sequence[str], now_ns: int) -> None:
    """Say what workers tell with their heartbeats; one that was never heard of is told as nothing, and is not up."""
    names = {
        "received": "linewatch_worker_received_total",
        "judged": "linewatch_worker_judged_total",
        "dropped_messages": "linewatch_worker_dropped_messages_total",
        "refused": "linewatch_worker_refused_messages_total",
        "strangers": "linewatch_worker_strangers_total",
        "waiting": "linewatch_worker_waiting_frames",
        "recorder_queue": "linewatch_worker_recorder_queue",
        "recorder_queue_limit": "linewatch_worker_recorder_queue_limit",
        "store_retries": "linewatch_worker_store_retries_total",
        "evidence_failures": "linewatch_worker_evidence_failures_total",
        "evidence_bytes": "linewatch_evidence_bytes",
    }
    histograms = {
        "batch_size": "linewatch_batch_size",
        "judge_s": "linewatch_judge_latency_seconds",
        "store_s": "linewatch_store_latency_seconds",
    }
    for worker, info in told.items():
        beat_ns = number(info.get("wall_ns"))
        age_s = None if beat_ns is None else max(0.0, (now_ns - beat_ns) / 1e9)
        sheet.put("linewatch_worker_up", float(age_s is not None and age_s <= _UP_S), worker)
        sheet.put("linewatch_worker_heartbeat_age_seconds", age_s, worker)
        for field, name in names.items():
            sheet.put(name, number(info.get(field)), worker)
        for field, name in histograms.items():
            sheet.put(name, Buckets.read(info.get(field)), worker)
        latencies = info.get("verdict_s")
        for line, buckets in latencies.items() if isinstance(latencies, dict) else ():
            if line in known_lines:
                sheet.put("linewatch_verdict_latency_seconds", Buckets.read(buckets), worker, line)


def alerts_open(sheet: Sheet, opened: Sequence[Alert], known_lines: Sequence[str]) -> None:
    """Count the open alerts of each line; a kind that has been open is 0 again only by its absence."""
    counts: dict[tuple[str, str], int] = {}
    for alert in opened:
        if alert.cleared_ns is None and alert.line in known_lines:
            key = (alert.line, alert.kind.value)
            counts[key] = counts.get(key, 0) + 1
    for key, count in counts.items():
        sheet.put("linewatch_alerts_open", count, *key)


def outbox(sheet: Sheet, waiting: Mapping[str, Backlog], sinks: Sequence[str], now_ns: int) -> None:
    """Say what waits for each sink; also for one that is configured no more, which nobody will tell."""
    for sink in sorted({*sinks, *waiting}):
        backlog = waiting.get(sink)
        sheet.put("linewatch_outbox_messages", 0 if backlog is None else backlog.messages, sink)
        sheet.put("linewatch_outbox_attempts", 0 if backlog is None else backlog.attempts, sink)
        oldest_s = 0.0 if backlog is None else max(0.0, (now_ns - backlog.oldest_ns) / 1e9)
        sheet.put("linewatch_outbox_oldest_seconds", oldest_s, sink)


def supervisor(sheet: Sheet, status: Mapping[str, Any]) -> None:
    """Say what `linewatch up` says of its roles, Redis among them."""
    roles = status.get("roles")
    found = [role for role in roles if isinstance(role, dict)] if isinstance(roles, list) else []
    server = status.get("redis")
    if isinstance(server, dict):
        found.append({**server, "role": "redis"})
    for role in found:
        name = str(role.get("role"))
        sheet.put("linewatch_role_restarts_total", number(role.get("restarts")), name)
        sheet.put("linewatch_role_hangs_total", number(role.get("hangs")), name)
        for state in STATES:
            sheet.put("linewatch_role_state", float(role.get("state") == state), name, state)


def number(value: Any) -> float | None:
    """Read a finite number; None: it is none."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
