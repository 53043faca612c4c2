"""A worker that was paused wakes up and writes what it held: nothing newer is touched."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
import redis

from storage import keys
from storage.lines import Lines
from storage.records import LineState, Status, Verdict
from storage.verdicts import VerdictStream

RUN = "0000000000000001"
NEXT = "0000000000000002"


def verdict(seq: int, status: Status, *, run: str = RUN, worker: str = "w0") -> Verdict:
    judged = {"score": 0.5, "threshold": 1.0, "p_value": 0.5, "model": "m@1"}
    fields = {"reason": "late"} if status is Status.UNKNOWN else judged
    return Verdict(line="a", run=run, seq=seq, status=status, captured_ns=1, judged_ns=2, worker=worker, **fields)


def beat(lines: Lines, next_seq: int, camera: str, *, run: str = RUN, ended: bool = False) -> None:
    lines.beat(line="a", run=run, next_seq=next_seq, camera=camera, wall_ns=next_seq + 1, ended=ended)


def state(lines: Lines) -> LineState:
    found = lines.state("a")
    assert found is not None
    return found


@pytest.fixture
def lines(redis_client: redis.Redis) -> Lines:
    return Lines(redis_client)


PAUSED = """
    import os, signal, sys
    import redis
    from storage.lines import Lines
    from storage.records import Status, Verdict
    path, db = sys.argv[1:]
    lines = Lines(redis.Redis(unix_socket_path=path, db=int(db), decode_responses=True, protocol=2))
    held = [
        Verdict(line="a", run="0000000000000001", seq=seq, status=Status.PASS, score=0.1, threshold=1.0, p_value=0.9,
                model="m@1", captured_ns=1, judged_ns=1, worker="paused")
        for seq in range(3)
    ]
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)  # between judging and storing, for as long as it takes
    print(lines.record(held))
    print(lines.close_gap(line="a", run="0000000000000001", ranges=[(0, 2)], status="unknown", reason="no answer",
                          wall_ns=1, worker="paused"))
    lines.beat(line="a", run="0000000000000001", next_seq=3, camera="lost", wall_ns=1, ended=False)
"""


def test_a_paused_worker_that_wakes_overwrites_nothing(lines: Lines, redis_client: redis.Redis) -> None:
    where = redis_client.connection_pool.connection_kwargs
    command = [sys.executable, "-c", textwrap.dedent(PAUSED), where["path"], str(where["db"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout.readline() == "held\n"
        os.waitpid(worker.pid, os.WUNTRACED)
        judged = [verdict(seq, status) for seq, status in enumerate([Status.REJECT, Status.PASS, Status.UNKNOWN])]
        assert lines.record(judged) == [True] * 3
        beat(lines, 4, "ok")
        before = (state(lines), VerdictStream(redis_client).read("0"))
        os.kill(worker.pid, signal.SIGCONT)
        assert worker.communicate()[0] == "[False, False, False]\n0\n"
    assert (state(lines), VerdictStream(redis_client).read("0")) == before
    assert [found.worker for _, found in before[1]] == ["w0"] * 3


def test_a_held_back_beat_does_not_bring_an_ended_run_to_life(lines: Lines) -> None:
    lines.record([verdict(0, Status.PASS)])
    beat(lines, 1, "ok")
    beat(lines, 1, "ended", ended=True)
    before = state(lines)
    assert before.camera == "ended"
    beat(lines, 1, "ok")
    assert state(lines) == before
    beat(lines, 1, "ended", ended=True)
    assert state(lines).camera == "ended"


def test_a_worker_of_the_run_before_touches_only_that_run(lines: Lines, redis_client: redis.Redis) -> None:
    lines.record([verdict(0, Status.PASS), verdict(0, Status.REJECT, run=NEXT)])
    beat(lines, 1, "ok", run=NEXT)
    shown = state(lines)
    lines.record([verdict(1, Status.PASS)])
    beat(lines, 5, "lost")
    late = state(lines)
    for field in ("camera", "beat_ns", "run", "next_seq", "status", "verdict_ns"):
        assert getattr(late, field) == getattr(shown, field), field
    assert redis_client.hget(keys.run("a", NEXT), "next") == "1"
    assert late.open == 3, "what it captured is owed a verdict"
