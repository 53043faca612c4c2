"""Every metric there is: name, kind, labels and what it says. `docs/operations.md` shows the same table.

Names follow Prometheus' conventions (https://prometheus.io/docs/practices/naming/): base units, `_total` for what only
grows. Labels are bounded: lines and workers by the configuration, the others by what the program knows.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

CONDITIONS = (
    "ok",
    "frozen",
    "dark",
    "overexposed",
    "light",
    "blurred",
    "moved",
    "occluded",
    "lost",
    "ended",
    "corrupt",
)
"""What a camera's condition may be: `ingest.frame.Condition`, which a service without numpy cannot import."""
STATES = ("starting", "running", "waiting", "crash-loop", "hung", "ended", "stopped")
"""What the supervisor may say of a role: `linewatch.restarts.State`; of Redis also that it is starting."""
REASONS = (
    *(condition for condition in CONDITIONS if condition not in ("ok", "ended")),
    "late",
    "no answer",
    "overflow",
    "superseded",
    "no model",
    "detector failed",
    "score not finite",
    "capture lost",
    "capture stopped",
    "region differs from the model's",
    "region outside picture",
    "golden sample missed",
    "no golden samples",
    "golden samples not shown yet",
)
"""Reasons that have a label value of their own; any other counts as `other`."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _counter(name: str, labels: str, text: str) -> Metric:
    return Metric(f"linewatch_{name}_total", "counter", tuple(labels.split()), text)


def _gauge(name: str, labels: str, text: str) -> Metric:
    return Metric(f"linewatch_{name}", "gauge", tuple(labels.split()), text)


def _histogram(name: str, labels: str, text: str) -> Metric:
    return Metric(f"linewatch_{name}", "histogram", tuple(labels.split()), text)


METRICS = (
    # the service itself
    _gauge("build_info", "version", "Always 1; the version that runs."),
    _gauge("redis_up", "", "1: Redis answers the alert service."),
    _gauge("history_up", "", "1: the alert history can be read."),
    _gauge("service_ailments", "", "What is wrong with the alert service itself; /healthz says it in words."),
    # lines
    _counter("frames_captured", "line", "Frames captured."),
    _counter("frames", "line status", "Frames that have ended: pass, reject, unknown or skipped."),
    _counter("unknown", "line reason", "Verdicts unknown followed by this alert service, by reason."),
    _gauge("open_frames", "line", "Frames captured that have no verdict yet."),
    _gauge("line_silent_seconds", "line", "Time since the last sign of life of the line."),
    _gauge("camera_condition", "line condition", "1 for the camera's present condition, 0 for the others."),
    _gauge("line_model_info", "line model", "Always 1; the model that judged last."),
    _gauge("line_score", "line", "Score of the last judged frame."),
    _gauge("line_threshold", "line", "Threshold it was held to."),
    # captures
    _gauge("capture_waiting_frames", "line", "Frames that wait in the capture for a worker."),
    _gauge("capture_in_flight_frames", "line", "Frames that workers hold for the capture."),
    _gauge("capture_untold_frames", "line", "Frames given up of which storage does not know yet."),
    _gauge("capture_buffer_bytes", "line", "Pictures held by the capture, waiting and in flight."),
    _gauge("capture_buffer_limit_bytes", "line", "Most bytes of pictures it holds: buffer_mb."),
    _gauge("capture_workers", "line", "Workers the capture hears of."),
    _counter("capture_given_up", "line reason", "Frames the capture gave up without a judgement, by reason."),
    _counter("capture_resent", "line", "Frames taken back from a worker, to be sent again."),
    _counter("capture_dropped_messages", "line", "Messages of workers that the capture dropped: malformed."),
    _counter("capture_source_losses", "line", "How often the source was lost; it is reconnected until it is back."),
    # workers
    _gauge("worker_up", "worker", "1: its heartbeat is fresh."),
    _gauge("worker_heartbeat_age_seconds", "worker", "Age of its heartbeat, by the clocks of worker and Redis."),
    _counter("worker_received", "worker", "Frames received."),
    _counter("worker_judged", "worker", "Frames judged by a detector."),
    _counter("worker_dropped_messages", "worker", "Messages dropped: malformed, or of a line not served."),
    _counter("worker_refused_messages", "worker", "Beats, gaps and portraits without room; portraits are lost."),
    _counter("worker_strangers", "worker", "Connections turned away: a key that is not let in."),
    _gauge("worker_waiting_frames", "worker", "Frames that wait for the detector."),
    _gauge("worker_recorder_queue", "worker", "Batches and messages that wait to be stored."),
    _gauge("worker_recorder_queue_limit", "worker", "Most that wait to be stored."),
    _counter("worker_store_retries", "worker", "Storage steps that had to be done again: Redis did not answer."),
    _counter("worker_evidence_failures", "worker", "Pictures that could not be kept."),
    _histogram("batch_size", "worker", "Frames judged at once."),
    _histogram("judge_latency_seconds", "worker", "Time the detector took for a batch."),
    _histogram("store_latency_seconds", "worker", "Time until a batch of verdicts was stored, repetitions included."),
    _histogram("verdict_latency_seconds", "worker line", "Time from capture until the verdict was stored."),
    # stream, history, deliveries
    _gauge("redis_memory_bytes", "", "Memory that Redis has in use."),
    _gauge("verdict_stream_entries", "", "Verdicts in the stream, read ones included."),
    _gauge("verdict_cursor_lag_seconds", "", "Age of the oldest verdict the alert service has not followed; 0: none."),
    _gauge("alerts_open", "line kind", "Open alerts."),
    _gauge("outbox_messages", "sink", "Messages not delivered yet."),
    _gauge("outbox_oldest_seconds", "sink", "Age of the oldest of them."),
    _gauge("outbox_attempts", "sink", "Failed attempts of those not delivered yet."),
    _counter("deliveries", "sink", "Messages delivered by this alert service."),
    _counter("delivery_failures", "sink", "Attempts that failed; each is repeated."),
    # disk
    _gauge("evidence_bytes", "worker", "Evidence kept, as far as the worker knows."),
    _gauge("evidence_limit_bytes", "", "Most evidence kept: retention.max_gb."),
    _gauge("disk_free_bytes", "", "Room on the disk of the data folder."),
    _gauge("disk_free_floor_bytes", "", "Room always left by evidence: retention.min_free_gb."),
    # supervisor
    _counter("role_restarts", "role", "Restarts of a role by `linewatch up`."),
    _counter("role_hangs", "role", "Times `linewatch up` killed a role because it made no progress."),
    _gauge("role_state", "role state", "1 for the role's present state, 0 for the others."),
)
"""The whole table."""

BY_NAME = {metric.name: metric for metric in METRICS}
