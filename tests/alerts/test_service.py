"""The service as a real process, over a real Redis, killed and deprived."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from alerts.config import AlertRules, AlertsConfig, SinkConfig
from alerts.errors import SinkError
from alerts.follower import Follower
from alerts.service import AlertService
from storage.config import StorageConfig
from storage.history import History
from storage.lines import Lines
from storage.records import Alert, AlertKind, Verdict
from storage.server import RedisServer, connect
from storage.verdicts import VerdictStream

Start = Callable[..., Any]
RULES = {"a": AlertRules(silent_after=0), "b": AlertRules.model_validate({"raise": "2 of 3", "silent_after": 0})}

KILLS = 6


@pytest.fixture
def history(storage: StorageConfig) -> Iterator[History]:
    history = History.open(storage)
    yield history
    history.close()


def feed(lines: Lines, verdicts: list[Verdict]) -> None:
    """Store verdicts as workers do, in small batches, over a second or so."""
    for first in range(0, len(verdicts), 10):
        lines.record(verdicts[first : first + 10])
        time.sleep(0.01)


def _part(verdicts: list[Verdict], number: int) -> list[Verdict]:
    size = -(-len(verdicts) // KILLS)
    return verdicts[number * size : (number + 1) * size]


def replayed(storage: StorageConfig, client: redis.Redis) -> list[Alert]:
    history = History.open(storage.model_copy(update={"history": f"sqlite:///{storage.data}/replay.db"}))
    follower = Follower(client, history, rules=RULES, audience={}, on_verdicts=lambda _: None)
    while follower.follow(block_ms=0)[0]:
        pass
    alerts = history.alerts(limit=10**6)
    history.close()
    return alerts


def test_killed_at_random_moments_it_loses_and_doubles_nothing(
    start_service: Start, redis_client: redis.Redis, history: History, receiver: Any, make_belt: Any
) -> None:
    same = random.Random(0)
    verdicts = []
    for belt in (make_belt("a"), make_belt("b", per_s=5)):
        kinds = same.choices(["pass"] * 40 + ["reject", "unknown"], k=2000)
        verdicts += belt.verdicts(*kinds, "reject", *["pass"] * 100)
    verdicts.sort(key=lambda verdict: verdict.captured_ns)
    stream, lines = VerdictStream(redis_client), Lines(redis_client)
    service = start_service(AlertsConfig(page=None, sinks=(receiver.sink(),)), RULES)
    for kill in range(KILLS):
        before = history.position()
        feeder = threading.Thread(target=feed, args=(lines, _part(verdicts, kill)))
        feeder.start()
        service.until(lambda before=before: history.position() != before, "some progress")
        time.sleep(random.uniform(0, 0.3))
        service.kill()
        service.start()
        feeder.join(60)
    (last, _), *_ = stream.latest(1)
    service.until(lambda: history.position() == last, "the end of the stream")
    service.until(lambda: not history.undelivered(), "all deliveries")
    service.ready()
    assert service.terminate() == 0
    alerts = history.alerts(limit=10**6)
    assert alerts == replayed(service.storage, redis_client)
    assert len(alerts) > 10
    expected = {f"{alert.id}:{change}" for alert in alerts for change in history.events(alert.id)}
    assert set(receiver.keys) == expected
    for alert in alerts:
        mine = [key for key in receiver.keys if key.startswith(f"{alert.id}:")]
        assert mine[0].endswith(":raised")


def test_a_sink_that_fails_first_gets_it_later_with_the_same_key(
    start_service: Start, redis_client: redis.Redis, receiver: Any, belt: Any, history: History
) -> None:
    receiver.answers = [500, 503]
    service = start_service(AlertsConfig(page=None, sinks=(receiver.sink(),)), RULES)
    Lines(redis_client).record(belt.verdicts("reject"))
    service.until(lambda: len(receiver.got) >= 3 and not history.undelivered(), "the third try")
    assert len(set(receiver.keys)) == 1
    assert json.loads(receiver.got[-1][2])["alert"]["kind"] == "defect"


def test_sigterm_drains(
    start_service: Start, redis_client: redis.Redis, receiver: Any, belt: Any, history: History
) -> None:
    service = start_service(AlertsConfig(page=None, sinks=(receiver.sink(),)), RULES)
    lines = Lines(redis_client)
    lines.record(belt.verdicts("pass"))
    service.until(lambda: history.position() != "0", "the first verdict")
    lines.record(belt.verdicts(*["pass"] * 3000, "reject"))
    assert service.terminate() == 0
    (alert,) = history.alerts()
    assert receiver.keys == [f"{alert.id}:raised"]
    assert history.undelivered() == {}


def test_redis_goes_and_comes_back(
    start_service: Start, own_redis: RedisServer, own_storage: StorageConfig, receiver: Any, belt: Any
) -> None:
    client = connect(own_storage)
    lines, history = Lines(client), History.open(own_storage)
    service = start_service(AlertsConfig(page=None, sinks=(receiver.sink(),)), {"a": AlertRules()}, own_storage)
    lines.record(belt.verdicts("reject"))
    service.until(lambda: len(history.alerts()) == 1, "the first alert")
    own_redis.stop()
    service.until(lambda: "verdicts wait" in service.log, "a word about it")
    time.sleep(1)
    own_redis.start()
    lines.record(belt.verdicts(*["pass"] * 60, "reject"))
    service.until(lambda: len(receiver.keys) == 3, "the second alert")
    assert service.log.count("verdicts wait") == 1
    assert service.log.count("verdicts are followed again") == 1
    assert {alert.kind for alert in history.alerts()} == {AlertKind.DEFECT}
    assert service.terminate() == 0
    history.close()
    client.close()


def test_silence_and_a_lost_camera(start_service: Start, redis_client: redis.Redis, history: History) -> None:
    lines = Lines(redis_client)
    service = start_service(AlertsConfig(page=None, sinks=(), start_grace=0), {"a": AlertRules(silent_after=1.5)})
    service.until(lambda: history.alerts(open=True), "silence")
    assert [alert.kind for alert in history.alerts()] == [AlertKind.LINE_SILENT]

    def beat() -> bool:
        lines.beat(line="a", run="1", next_seq=0, camera="lost", wall_ns=time.time_ns(), ended=False)
        lost = AlertKind.CAMERA_LOST in {alert.kind for alert in history.alerts(open=True)}
        return lost and AlertKind.LINE_SILENT in {alert.kind for alert in history.alerts(open=False)}

    service.until(beat, "a lost camera, and the end of silence")


def test_a_defect_clears_by_itself_on_a_line_that_pauses(
    start_service: Start, redis_client: redis.Redis, history: History, belt: Any
) -> None:
    Lines(redis_client).record(belt.verdicts("reject"))
    service = start_service(AlertsConfig(page=None, sinks=()), {"a": AlertRules(clear_after=0.5, silent_after=0)})
    service.until(lambda: history.alerts(open=False), "the clear")
    (alert,) = history.alerts()
    assert alert.cleared_ns == alert.raised_ns + 500_000_000


def test_a_wrong_sink_stops_it_before_anything_begins(storage: StorageConfig) -> None:
    service = AlertService(AlertsConfig(sinks=(SinkConfig(url="smoke://"),)), {}, storage)
    with pytest.raises(SinkError, match="smoke"):
        service.run(threading.Event())
    assert not storage.data.exists()
