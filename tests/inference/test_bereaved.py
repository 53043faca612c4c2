"""A capture that never comes back: its open frames are `unknown` by a deadline, and only then."""

from inference import bereaved as module
from inference.bereaved import BEREAVED_S, Bereaved
from storage import lines as accounts
from storage.lines import Lines
from storage.records import Status, Verdict
from storage.verdicts import VerdictStream

OLD, NEW = "0" * 16, "1" * 16


def verdict(seq, run=OLD):
    judged = {"score": 1.0, "threshold": 2.0, "model": "m@1"}
    return Verdict(line="a", run=run, seq=seq, status=Status.PASS, captured_ns=1, judged_ns=1, **judged)


def beat(lines, *, run=OLD, next_seq, wall_ns=1, ended=False):
    lines.beat(line="a", run=run, next_seq=next_seq, camera="ok", wall_ns=wall_ns, ended=ended)


def watch(bereaved, *, until, since=0.0):
    for second in range(int(since), int(until) + 1, 5):
        bereaved.look(float(second))


def test_what_stands_still_is_closed_once_by_a_deadline(redis_client):
    lines = Lines(redis_client)
    beat(lines, next_seq=6)
    lines.record([verdict(0), verdict(3)])
    bereaved = Bereaved(lines, ["a", "b"], worker="w0")
    watch(bereaved, until=BEREAVED_S - 5)
    assert lines.state("a").open == 4
    watch(bereaved, since=BEREAVED_S, until=BEREAVED_S + 5)
    state = lines.state("a")
    assert (state.open, state.passed, state.unknown) == (0, 2, 4)
    assert lines.unsettled("a") == []
    reasons = [v.reason for _, v in VerdictStream(redis_client).read("0") if v.status is Status.UNKNOWN]
    assert reasons == ["capture lost"] * 4
    watch(bereaved, since=BEREAVED_S + 10, until=3 * BEREAVED_S)
    assert lines.state("a").unknown == 4
    assert lines.record([verdict(1)]) == [False]  # the capture comes back: the frame has its verdict


def test_a_line_that_lives_is_left_to_its_capture(redis_client):
    lines = Lines(redis_client)
    bereaved = Bereaved(lines, ["a"], worker="w0")
    for second in range(0, int(3 * BEREAVED_S), 5):
        beat(lines, next_seq=6, wall_ns=second + 1)
        bereaved.look(float(second))
    assert lines.state("a").open == 6


def test_an_older_run_that_nobody_closes_is_closed_beside_a_living_one(redis_client):
    lines = Lines(redis_client)
    beat(lines, next_seq=2)
    bereaved = Bereaved(lines, ["a"], worker="w0")
    for second in range(0, int(BEREAVED_S) + 5, 5):
        beat(lines, run=NEW, next_seq=3, wall_ns=second + 1)
        bereaved.look(float(second))
    assert [(run.run, run.next_seq) for run in lines.unsettled("a")] == [(NEW, 3)]
    assert lines.state("a").unknown == 2


def test_a_long_run_is_closed_a_part_at_each_look_unless_it_lives_after_all(redis_client, monkeypatch):
    monkeypatch.setattr(module, "MOST_AT_ONCE", 1000)
    monkeypatch.setattr(accounts, "CHUNK", 1000)
    lines = Lines(redis_client)
    beat(lines, next_seq=5000)
    bereaved = Bereaved(lines, ["a"], worker="w0")
    watch(bereaved, until=BEREAVED_S + 5)
    assert lines.state("a").unknown == 2000
    beat(lines, next_seq=5000, wall_ns=2)
    watch(bereaved, since=BEREAVED_S + 10, until=2 * BEREAVED_S)
    assert lines.state("a").unknown == 2000, "it was heard of"
    watch(bereaved, since=2 * BEREAVED_S + 5, until=3 * BEREAVED_S)
    assert lines.state("a").open == 0


def test_a_worker_that_slept_looks_twice_before_it_closes(redis_client):
    lines = Lines(redis_client)
    beat(lines, next_seq=2)
    bereaved = Bereaved(lines, ["a"], worker="w0")
    bereaved.look(0.0)
    bereaved.look(10 * BEREAVED_S)  # a beat may wait in its own queue
    bereaved.look(11 * BEREAVED_S - 1)
    assert lines.state("a").open == 2
    watch(bereaved, since=11 * BEREAVED_S + 5, until=12 * BEREAVED_S + 5)
    assert lines.state("a").open == 0


def test_the_accounts_of_a_settled_run_that_has_a_successor_are_kept_for_a_while_only(redis_client):
    lines = Lines(redis_client)
    beat(lines, next_seq=1)
    beat(lines, run=NEW, next_seq=1)
    lines.record([verdict(0)])
    assert redis_client.ttl(f"lw:{{p0}}:run:a:{OLD}") > 0
    lines.record([verdict(0, run=NEW)])
    assert redis_client.ttl(f"lw:{{p0}}:run:a:{NEW}") == -1
