"""`GET /metrics`, scraped from the real service and read by prometheus-client's own parser."""

import json
import os
import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from alerts.config import AlertRules, AlertsConfig, PageConfig
from alerts.metrics import sources
from alerts.metrics.sheet import Sheet
from alerts.metrics.table import BY_NAME, CONDITIONS, METRICS, REASONS, STATES
from inference import challenger
from inference.tally import Tally
from ingest.frame import Condition
from linewatch.restarts import State
from storage.captures import Captures
from storage.config import StorageConfig
from storage.lines import Lines
from storage.measures import LATENCY_S, Buckets, Histogram
from storage.workers import Workers

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(url: str) -> tuple[dict[str, str], Samples]:
    """Families with their kinds, and all samples; fails on what is no Prometheus text."""
    answer = httpx.get(f"{url}/metrics", trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.text))
    samples: Samples = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, f"{key} twice"
            samples[key] = sample.value
    return {f"{f.name}_total" if f.type == "counter" else f.name: f.type for f in families}, samples


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


@pytest.fixture
def heartbeat() -> dict[str, Any]:
    """As `inference.worker` makes it."""
    tally = Tally()
    tally.judged(4, 0.03)
    tally.stored("a", 0.12)
    tally.stored("elsewhere", 0.12)
    tally.store_s.observe(0.002)
    tally.store_retried()
    tally.evidence_failed()
    tally.refused()
    told = {"received": 7, "judged": 4, "dropped_messages": 2, "waiting": 1, "evidence_bytes": 1234, "strangers": 0}
    return {"wall_ns": time.time_ns(), **told, "recorder_queue": 3, "recorder_queue_limit": 64, **tally.told()}


def tell(client: redis.Redis, storage: StorageConfig, make_belt: Any, heartbeat: dict[str, Any]) -> None:
    """Everything there is to be told of line a and worker w0, and some of a line that is not configured."""
    belt, lines = make_belt("a"), Lines(client)
    told = [belt.verdict("pass"), belt.verdict("unknown"), belt.verdict("unknown", reason="?"), belt.verdict("reject")]
    lines.record([*told, make_belt("stranger").verdict("reject")])
    lines.beat(line="a", run=belt.run, next_seq=6, camera="dark", wall_ns=time.time_ns(), ended=False)
    Workers(client).record("w0", heartbeat)
    figures = {"waiting": 2, "in_flight": 5, "buffered_bytes": 10, "buffer_bytes": 100, "workers": 1, "resent": 3}
    figures |= {"untold": 8, "dropped_messages": 9}
    given_up = {"given_up": {"late": 4, "what nobody knows": 1, "nor this": 2}, "source_losses": 1}
    Captures(client).record("a", {**figures, **given_up})
    Captures(client).record("stranger", figures)
    role = {"role": "worker w0", "state": "crash-loop", "restarts": 4, "hangs": 1}
    status = {"pid": os.getpid(), "roles": [role], "redis": {"state": "running", "restarts": 2, "hangs": 0}}
    (storage.data / "up.json").write_text(json.dumps(status))


EXPECTED = """
linewatch_frames_total{line="a",status="pass"} 1
linewatch_frames_total{line="a",status="reject"} 1
linewatch_frames_total{line="a",status="unknown"} 2
linewatch_frames_total{line="a",status="skipped"} 0
linewatch_open_frames{line="a"} 2
linewatch_unknown_total{line="a",reason="late"} 1
linewatch_unknown_total{line="a",reason="other"} 1
linewatch_camera_condition{line="a",condition="dark"} 1
linewatch_camera_condition{line="a",condition="ok"} 0
linewatch_line_model_info{line="a",model="m@1"} 1
linewatch_capture_given_up_total{line="a",reason="other"} 3
linewatch_capture_in_flight_frames{line="a"} 5
linewatch_capture_buffer_limit_bytes{line="a"} 100
linewatch_capture_untold_frames{line="a"} 8
linewatch_capture_dropped_messages_total{line="a"} 9
linewatch_worker_up{worker="w0"} 1
linewatch_worker_store_retries_total{worker="w0"} 1
linewatch_worker_recorder_queue{worker="w0"} 3
linewatch_batch_size_bucket{worker="w0",le="4.0"} 1
linewatch_batch_size_bucket{worker="w0",le="2.0"} 0
linewatch_verdict_latency_seconds_bucket{worker="w0",line="a",le="0.1"} 0
linewatch_verdict_latency_seconds_count{worker="w0",line="a"} 1
linewatch_alerts_open{line="a",kind="defect"} 1
linewatch_verdict_cursor_lag_seconds 0
linewatch_role_restarts_total{role="redis"} 2
linewatch_role_state{role="worker w0",state="crash-loop"} 1
linewatch_evidence_limit_bytes 10e9
"""


def test_a_plant_scrapes_everything_at_one_place(  # noqa: PLR0917 - fixtures
    start_service: Callable[..., Any],
    storage: StorageConfig,
    redis_client: redis.Redis,
    make_belt: Any,
    receiver: Any,
    heartbeat: dict[str, Any],
) -> None:
    receiver.answers = [503] * 1000
    config = AlertsConfig(page=PageConfig(bind="127.0.0.1:0"), sinks=(receiver.sink(),))
    service = start_service(config, {"a": AlertRules(silent_after=0)})
    service.ready()
    tell(redis_client, storage, make_belt, heartbeat)
    url = service.url()

    def settled() -> bool:
        samples = scrape(url)[1]
        failed = [value for (name, _), value in samples.items() if name == "linewatch_delivery_failures_total"]
        followed = ("linewatch_unknown_total", frozenset({"line": "a", "reason": "other"}.items())) in samples
        captured = samples.get(("linewatch_frames_captured_total", frozenset({("line", "a")})))
        return followed and failed != [0.0] and captured == 6 and "verdict_latency" in str(samples)

    service.until(settled, "the verdicts to be followed and a delivery to fail")
    Workers(redis_client).record("w0", {**heartbeat, "wall_ns": time.time_ns()})  # however long that took
    service.until(lambda: of(scrape(url)[1], "linewatch_worker_up", worker="w0") == 1, "the fresh heartbeat to be seen")
    kinds, samples = scrape(url)
    assert kinds == {metric.name: metric.kind for metric in METRICS}, "every metric of the table, and no other"
    for name, labels in samples:
        metric = BY_NAME[re.sub("_(bucket|sum|count)$", "", name)]
        assert {label for label, _ in labels} - {"le"} == set(metric.labels)
    assert {value for _, labels in samples for label, value in labels if label == "line"} == {"a"}
    wanted = [s for family in text_string_to_metric_families(EXPECTED) for s in family.samples]
    assert {str(s): of(samples, s.name, **s.labels) for s in wanted} == {str(s): s.value for s in wanted}
    (sink,) = {dict(labels)["sink"] for name, labels in samples if name == "linewatch_outbox_messages"}
    assert of(samples, "linewatch_outbox_messages", sink=sink) == 2, "the stranger's alert is told too"
    assert of(samples, "linewatch_outbox_attempts", sink=sink) >= 1


def test_what_is_away_takes_only_its_own_figures_with_it(
    start_service: Callable[..., Any], own_storage: StorageConfig, own_redis: Any, heartbeat: dict[str, Any]
) -> None:
    from storage.server import connect

    client = connect(own_storage)
    Workers(client).record("w0", heartbeat)
    service = start_service(AlertsConfig(page=PageConfig(bind="127.0.0.1:0")), {"a": AlertRules()}, own_storage)
    service.ready()
    url = service.url()
    assert of(scrape(url)[1], "linewatch_redis_up") == 1
    own_redis.stop()
    service.until(lambda: of(scrape(url)[1], "linewatch_redis_up") == 0, "the scrape to notice")
    kinds, samples = scrape(url)
    assert "linewatch_worker_up" not in kinds, "unknown is not 0"
    assert of(samples, "linewatch_history_up") == 1
    assert of(samples, "linewatch_outbox_messages", sink="log") == 0
    client.close()


def test_a_status_file_that_another_supervisor_left_says_nothing(tmp_path: Any) -> None:
    from alerts.metrics.collector import _status

    file = tmp_path / "up.json"
    assert _status(file) == {}
    file.write_text('{"pid": 1234567, "roles": []}')
    assert _status(file) == {}
    file.write_text('["no object"]')
    assert _status(file) == {}
    file.write_text(json.dumps({"pid": os.getppid(), "roles": []}))
    assert _status(file) != {}


def test_a_worker_that_never_told_anything_is_down() -> None:
    sheet = Sheet()
    sources.workers(sheet, {"w1": {}}, known_lines=["a"], now_ns=10**18)
    samples = [s for family in sheet.families() for s in family.samples]
    assert [(s.name, s.labels, s.value) for s in samples] == [("linewatch_worker_up", {"worker": "w1"}, 0.0)]


def test_a_figure_has_the_labels_of_the_table() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        Sheet().put("linewatch_redis_up", 1, "too many")


def test_label_values_are_those_the_program_knows() -> None:
    assert set(CONDITIONS) == {condition.value for condition in Condition}
    assert set(STATES) == {"starting", *(state.value for state in State)}
    assert {challenger.MISSED, challenger.NOT_SHOWN, challenger.NO_SAMPLES} <= set(REASONS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
HEARTBEAT = st.dictionaries(
    st.sampled_from(["wall_ns", "received", "judged", "batch_size", "judge_s", "verdict_s", "given_up", "waiting"]),
    JSON,
)


@given(info=HEARTBEAT, status=st.dictionaries(st.sampled_from(["roles", "redis", "pid"]), JSON))
def test_whatever_another_version_tells_the_scrape_goes_on(info: dict[str, Any], status: dict[str, Any]) -> None:
    sheet = Sheet()
    sources.workers(sheet, {"w0": info}, known_lines=["a"], now_ns=10**18)
    sources.captures(sheet, {"a": info})
    sources.supervisor(sheet, status)
    assert all(family.name.startswith("linewatch_") for family in sheet.families())


@given(st.lists(st.floats(-1, 20), max_size=50))
def test_a_histogram_counts_each_value_once(values: list[float]) -> None:
    histogram = Histogram(LATENCY_S)
    for value in values:
        histogram.observe(value)
    buckets = Buckets.read(json.loads(json.dumps(histogram.told())))
    assert buckets is not None
    for (text, count), bound in zip(buckets.cumulative(), (*LATENCY_S, float("inf")), strict=True):
        assert float(text) == bound
        assert count == sum(max(0.0, value) <= bound for value in values)
    assert buckets.sum == pytest.approx(sum(max(0.0, value) for value in values))
