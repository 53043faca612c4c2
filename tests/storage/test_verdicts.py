"""The verdict stream: nothing is read twice or passed over, and trimming never reaches what was not committed."""

import threading
import time

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import keys
from storage.errors import StorageError
from storage.lines import Lines
from storage.records import Status, Verdict
from storage.verdicts import VerdictStream
from storage.workers import Workers


def fill(client: redis.Redis, total: int, *, lines: int = 1, first: int = 0) -> None:
    Lines(client).record(
        [
            Verdict(
                line=f"line-{seq % lines}",
                run="0000000000000001",
                seq=seq,
                status=Status.UNKNOWN,
                reason="late",
                captured_ns=1,
                judged_ns=1,
            )
            for seq in range(first, first + total)
        ]
    )


def test_reading_goes_on_after_the_cursor(redis_client: redis.Redis) -> None:
    stream = VerdictStream(redis_client)
    assert stream.read("0") == []
    fill(redis_client, 10)
    first = stream.read("0", count=4)
    rest = stream.read(first[-1][0])
    assert [verdict.seq for _, verdict in first + rest] == list(range(10))
    assert stream.read(rest[-1][0]) == []


def test_reading_waits_for_the_next_verdict(redis_client: redis.Redis) -> None:
    stream = VerdictStream(redis_client)
    writer = threading.Timer(0.2, fill, [redis_client, 1])
    writer.start()
    assert [verdict.seq for _, verdict in stream.read("0", block_ms=20_000)] == [0]
    writer.join()


def test_waiting_for_nothing_ends(redis_client: redis.Redis) -> None:
    began = time.monotonic()
    assert VerdictStream(redis_client).read("0", block_ms=1200) == []
    assert time.monotonic() - began >= 1.2


def test_latest_is_newest_first_and_can_be_of_one_line(redis_client: redis.Redis) -> None:
    fill(redis_client, 1203, lines=3)
    stream = VerdictStream(redis_client)
    assert [verdict.seq for _, verdict in stream.latest(3)] == [1202, 1201, 1200]
    assert [verdict.seq for _, verdict in stream.latest(700)] == list(range(1202, 502, -1))
    assert [verdict.seq for _, verdict in stream.latest(400, "line-1")] == list(range(1201, 1, -3))
    assert stream.latest(4, "line-9") == []


@given(total=st.integers(0, 40), committed=st.integers(0, 40), keep=st.integers(0, 40))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_trim_keeps_the_newest_and_what_is_not_committed(
    redis_client: redis.Redis, total: int, committed: int, keep: int
) -> None:
    redis_client.flushdb()
    fill(redis_client, total)
    stream = VerdictStream(redis_client)
    names = [name for name, _ in stream.read("0")]
    committed = min(committed, total)
    stream.trim(cursor=names[committed - 1] if committed else "0", keep=keep)
    assert [name for name, _ in stream.read("0")] == names[max(0, min(committed, total - keep)) :]


def test_trim_removes_any_number(redis_client: redis.Redis) -> None:
    fill(redis_client, 2500)
    stream = VerdictStream(redis_client)
    stream.trim(cursor=stream.latest(1)[0][0], keep=100)
    assert [verdict.seq for _, verdict in stream.read("0")] == list(range(2400, 2500))


def test_a_foreign_entry_is_named(redis_client: redis.Redis) -> None:
    name = redis_client.xadd(keys.VERDICTS, {"v": '{"line": "a"}'})
    with pytest.raises(StorageError, match=rf"entry {name} .* XDEL"):
        VerdictStream(redis_client).read("0")


def test_workers_keep_their_last_heartbeat(redis_client: redis.Redis) -> None:
    workers = Workers(redis_client)
    assert workers.all() == {}
    workers.record("w1", {"busy": 0.5})
    workers.record("w0", {"busy": 0.1, "models": ["bottle@3"]})
    workers.record("w1", {"busy": None})
    assert workers.all() == {"w0": {"busy": 0.1, "models": ["bottle@3"]}, "w1": {"busy": None}}
    workers.forget("w1")
    assert list(workers.all()) == ["w0"]
