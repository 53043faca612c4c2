"""The accounts: whatever arrives, in whatever order, each frame ends once and the stream says the same."""

import threading
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import keys, lines
from storage.lines import Lines
from storage.records import LineState, Status, Verdict
from storage.verdicts import VerdictStream

RUNS = ("0000000000000001", "0000000000000002")
_names = (f"line-{number}" for number in count())


def verdict(line: str, seq: int, status: str = "pass", *, run: str = RUNS[0], at: int = 5) -> Verdict:
    judged: dict[str, Any] = {"score": 0.1 + seq, "p_value": 0.5, "threshold": 0.7, "model": "bottle@1"}
    return Verdict(
        line=line,
        run=run,
        seq=seq,
        status=Status(status),
        captured_ns=1,
        judged_ns=at,
        **({"reason": "late"} if status == "unknown" else judged),
    )


def close(accounts: Lines, line: str, ranges: list[tuple[int, int]], status: Any = "unknown", **other: Any) -> int:
    given = {"run": RUNS[0], "reason": "lost", "wall_ns": 9, "worker": "w0"} | other
    return accounts.close_gap(line=line, ranges=ranges, status=status, **given)


def beat(accounts: Lines, line: str, next_seq: int, **other: Any) -> None:
    given = {"run": RUNS[0], "camera": "ok", "wall_ns": 3, "ended": False} | other
    accounts.beat(line=line, next_seq=next_seq, **given)


def state(accounts: Lines, line: str) -> LineState:
    found = accounts.state(line)
    assert found is not None
    return found


@pytest.fixture
def accounts(redis_client: redis.Redis) -> Lines:
    return Lines(redis_client)


def test_record_counts_and_shows_the_last_verdict(accounts: Lines) -> None:
    new = accounts.record([verdict("a", 0), verdict("a", 1, "reject", at=2**62 + 1), verdict("b", 0, "unknown")])
    assert new == [True, True, True]
    found = state(accounts, "a")
    assert (found.captured, found.passed, found.rejected, found.open) == (2, 1, 1, 0)
    assert (found.status, found.score, found.p_value, found.threshold) == (Status.REJECT, 1.1, 0.5, 0.7)
    assert (found.model, found.verdict_ns, found.run, found.next_seq) == ("bottle@1", 2**62 + 1, RUNS[0], 2)
    other = state(accounts, "b")
    assert (other.status, other.score, other.model, other.unknown) == (Status.UNKNOWN, None, None, 1)
    assert [found.line for found in accounts.states()] == ["a", "b"]
    assert accounts.state("c") is None
    assert accounts.record([]) == []


def test_the_first_verdict_of_a_frame_wins(accounts: Lines, redis_client: redis.Redis) -> None:
    assert accounts.record([verdict("a", 3, "reject"), verdict("a", 3)]) == [True, False]
    assert close(accounts, "a", [(2, 4)]) == 2
    assert accounts.record([verdict("a", seq) for seq in (2, 3, 4)]) == [False] * 3
    found = state(accounts, "a")
    assert (found.captured, found.passed, found.rejected, found.unknown, found.open) == (5, 0, 1, 2, 2)
    assert [(kept.seq, kept.status) for _, kept in VerdictStream(redis_client).read("0")] == [
        (3, "reject"),
        (2, "unknown"),
        (4, "unknown"),
    ]


def test_one_round_trip_once_the_script_is_known(accounts: Lines, redis_client: redis.Redis) -> None:
    accounts.record([verdict("a", 0)])
    trips: list[int] = []
    send = redis_client.connection_pool.connection_class.send_packed_command

    def counted(connection: Any, *args: Any, **kwargs: Any) -> Any:
        trips.append(1)
        return send(connection, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_client.connection_pool.connection_class, "send_packed_command", counted)
        accounts.record([verdict(f"line-{seq % 4}", seq, run=RUNS[seq % 2]) for seq in range(1, 33)])
    assert len(trips) == 1


def test_verdicts_are_stored_by_a_server_that_has_forgotten_the_script(
    accounts: Lines, redis_client: redis.Redis
) -> None:
    accounts.record([verdict("a", 0)])
    redis_client.script_flush()
    assert accounts.record([verdict("a", 0), verdict("a", 1)]) == [False, True]


def test_a_skip_is_counted_and_not_in_the_stream(accounts: Lines, redis_client: redis.Redis) -> None:
    accounts.record([verdict("a", 1)])
    assert close(accounts, "a", [(0, 2), (2, 5)], "skipped") == 5
    found = state(accounts, "a")
    assert (found.captured, found.passed, found.skipped, found.status) == (6, 1, 5, Status.PASS)
    assert len(VerdictStream(redis_client).read("0")) == 1


def test_an_unknown_of_a_gap_is_a_whole_verdict(accounts: Lines, redis_client: redis.Redis) -> None:
    close(accounts, "a", [(7, 7)], reason='a "seq":0 \\ reason', wall_ns=2**62)
    [(_, kept)] = VerdictStream(redis_client).read("0")
    assert (kept.id, kept.status, kept.worker) == (f"a/{RUNS[0]}/7", Status.UNKNOWN, "w0")
    assert (kept.reason, kept.captured_ns, kept.judged_ns) == ('a "seq":0 \\ reason', 2**62, 2**62)
    assert state(accounts, "a").verdict_ns == 2**62


def test_a_long_gap_is_closed_in_chunks_around_what_has_ended(accounts: Lines) -> None:
    accounts.record([verdict("a", seq) for seq in (0, 700, 5000)])
    assert close(accounts, "a", [(0, 29_999)]) == 29_997
    assert close(accounts, "a", [(0, 29_999)]) == 0
    found = state(accounts, "a")
    assert (found.captured, found.passed, found.unknown, found.open) == (30_000, 3, 29_997, 0)


def test_a_long_old_range_costs_one_call(accounts: Lines, redis_client: redis.Redis) -> None:
    close(accounts, "a", [(0, 19_999)], "skipped")
    before = redis_client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert close(accounts, "a", [(0, 19_999)], "skipped") == 0
    assert redis_client.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 1


def test_the_floor_catches_up_over_any_distance(accounts: Lines, redis_client: redis.Redis) -> None:
    close(accounts, "a", [(1, 25_000)], "skipped")
    accounts.record([verdict("a", 0)])
    beat(accounts, "a", 25_001, ended=True)
    assert redis_client.hget(keys.run("a", RUNS[0]), "floor") == "25001"
    assert not redis_client.exists(keys.ended("a", RUNS[0]))


@pytest.mark.parametrize("wrong", [(4, 3), (-1, 2)])
def test_a_range_that_is_none_is_refused(accounts: Lines, wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"gap {wrong[0]} to {wrong[1]}"):
        close(accounts, "a", [(0, 1), wrong])
    assert accounts.state("a") is None


def test_a_beat_counts_what_was_captured_and_shows_the_camera(accounts: Lines) -> None:
    beat(accounts, "a", 4, camera="dark", wall_ns=2**62 + 1)
    found = state(accounts, "a")
    assert (found.captured, found.open, found.camera, found.beat_ns) == (4, 4, "dark", 2**62 + 1)
    beat(accounts, "a", 2, camera="ok", wall_ns=1)  # late: an earlier beat of the run
    assert state(accounts, "a").camera == "dark"
    beat(accounts, "a", 4, camera="lost", wall_ns=1)  # the wall clock was set back
    assert (state(accounts, "a").camera, state(accounts, "a").beat_ns) == ("lost", 1)


def test_late_messages_of_an_old_run_count_but_do_not_show(accounts: Lines) -> None:
    beat(accounts, "a", 1, run=RUNS[1], camera="ok", wall_ns=7)
    accounts.record([verdict("a", 0, run=RUNS[1])])
    beat(accounts, "a", 9, camera="lost", wall_ns=8)
    accounts.record([verdict("a", 3, "reject")])
    close(accounts, "a", [(0, 8)])
    found = state(accounts, "a")
    assert (found.run, found.next_seq, found.camera, found.beat_ns) == (RUNS[1], 1, "ok", 7)
    assert (found.status, found.captured, found.open) == (Status.PASS, 10, 0)


def test_what_a_server_has_lost_leaves_the_accounts_when_its_capture_says_it_had_its_outcome(
    accounts: Lines, redis_client: redis.Redis
) -> None:
    accounts.record([verdict("a", seq) for seq in range(5)])
    redis_client.flushdb()
    accounts.record([verdict("a", 7), verdict("a", 9)])
    beat(accounts, "a", 10)
    assert state(accounts, "a").open == 8
    beat(accounts, "a", 12, settled=8)
    found = state(accounts, "a")
    assert (found.captured, found.passed, found.open) == (5, 2, 3), "of 8, 9, 10 and 11 one has ended"
    assert [(run.floor, run.next_seq) for run in accounts.unsettled("a")] == [(8, 12)]
    beat(accounts, "a", 12, settled=3)  # late
    assert close(accounts, "a", [(0, 11)]) == 3
    assert (state(accounts, "a").open, accounts.unsettled("a")) == (0, [])
    assert accounts.record([verdict("a", 2)]) == [False]


def test_a_long_run_that_was_lost_is_passed_in_steps(accounts: Lines, redis_client: redis.Redis) -> None:
    accounts.record([verdict("a", 50_000)])
    beat(accounts, "a", 60_000, settled=55_000)
    found = state(accounts, "a")
    assert (found.captured, found.open) == (5001, 5000)
    assert redis_client.exists(keys.ended("a", RUNS[0])) == 0


def test_no_more_can_be_settled_than_was_captured(accounts: Lines) -> None:
    with pytest.raises(ValueError, match="3 of 2 settled"):
        beat(accounts, "a", 2, settled=3)


def test_accounts_of_a_finished_run_expire_only_when_all_has_ended(accounts: Lines, redis_client: redis.Redis) -> None:
    run = keys.run("a", RUNS[0])
    beat(accounts, "a", 2, ended=True)
    assert redis_client.ttl(run) == -1
    accounts.record([verdict("a", 0), verdict("a", 1)])
    assert redis_client.ttl(run) > 24 * 3600
    beat(accounts, "a", 3)
    assert redis_client.ttl(run) == -1


def test_the_stream_is_capped(redis_client: redis.Redis) -> None:
    accounts = Lines(redis_client, cap=200)
    close(accounts, "a", [(0, 1999)])
    assert 200 <= redis_client.xlen(keys.VERDICTS) < 400


seqs = st.integers(0, 24)
runs = st.sampled_from(RUNS)
spans = st.tuples(seqs, st.integers(0, 8)).map(lambda span: (span[0], span[0] + span[1]))
record_step = st.tuples(
    st.just("record"), st.lists(st.tuples(runs, seqs, st.sampled_from(["pass", "reject", "unknown"])), max_size=6)
)
close_step = st.tuples(
    st.just("close"), st.tuples(runs, st.lists(spans, min_size=1, max_size=3), st.sampled_from(["unknown", "skipped"]))
)
beat_step = st.tuples(st.just("beat"), st.tuples(runs, seqs, st.booleans()))


@given(steps=st.lists(st.one_of(record_step, close_step, beat_step), max_size=25), chunk=st.sampled_from([1, 3, 1000]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_frame_ends_once_whatever_arrives(redis_client: redis.Redis, steps: list[Any], chunk: int) -> None:
    line, accounts, stream = next(_names), Lines(redis_client), VerdictStream(redis_client)
    start = next((name for name, _ in stream.latest(1)), "0")
    outcomes: dict[tuple[str, int], str] = {}
    captured: Counter[str] = Counter()

    def end(run: str, seq: int, outcome: str) -> bool:
        captured[run] = max(captured[run], seq + 1)
        new = (run, seq) not in outcomes
        outcomes.setdefault((run, seq), outcome)
        return new

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK", chunk)
        for kind, step in steps:
            if kind == "record":
                expected = [end(*each) for each in step]
                assert accounts.record([verdict(line, seq, status, run=run) for run, seq, status in step]) == expected
            elif kind == "close":
                run, ranges, status = step
                new = [end(run, seq, status) for first, last in ranges for seq in range(first, last + 1)]
                assert close(accounts, line, ranges, status, run=run) == sum(new)
            else:
                run, upto, ended = step
                captured[run] = max(captured[run], upto)
                beat(accounts, line, upto, run=run, ended=ended)
    found = accounts.state(line) or LineState(line=line)
    tally = Counter(outcomes.values())
    assert (found.passed, found.rejected) == (tally["pass"], tally["reject"])
    assert (found.unknown, found.skipped) == (tally["unknown"], tally["skipped"])
    assert found.captured == captured.total()
    assert found.open == captured.total() - len(outcomes) >= 0
    kept = [((entry.run, entry.seq), entry.status.value) for _, entry in stream.read(start, count=10_000)]
    assert len(kept) == len(dict(kept))
    assert dict(kept) == {frame: outcome for frame, outcome in outcomes.items() if outcome != "skipped"}
    if found.run is not None:
        assert found.next_seq == captured[found.run]


def _both_ways(total: int) -> Iterator[range]:
    yield range(total)
    yield range(total - 1, -1, -1)


def test_workers_at_the_same_time_count_each_frame_once(accounts: Lines, redis_client: redis.Redis) -> None:
    total = 120
    new: list[int] = []

    def judge(order: range, status: str) -> None:
        for seq in order:
            new.extend(accounts.record([verdict("a", seq, status), verdict("a", (seq * 7) % total, status)]))

    def give_up() -> None:
        new.extend(close(accounts, "a", [(first, first + 9)]) for first in range(0, total, 10))

    workers = [
        threading.Thread(target=judge, args=(order, status))
        for order, status in zip(_both_ways(total), ("pass", "reject"), strict=True)
    ]
    workers.append(threading.Thread(target=give_up))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    found = state(accounts, "a")
    assert (found.captured, found.open, sum(new)) == (total, 0, total)
    assert redis_client.xlen(keys.VERDICTS) == total
