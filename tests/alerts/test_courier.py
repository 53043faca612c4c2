import threading
import time
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from alerts.courier import FORGET_NS, Courier, pause_s
from alerts.errors import SinkError
from storage.config import StorageConfig
from storage.deliveries import LONGEST_PAUSE_S, Delivery
from storage.errors import StoreUnavailable
from storage.history import START, Consequences, History
from storage.records import Alert, AlertKind, Change, Transition


class Sink:
    name = "hook"

    def __init__(self) -> None:
        self.fail = 0
        self.got: list[Delivery] = []
        self.closed = False

    def deliver(self, delivery: Delivery) -> None:
        self.got.append(delivery)
        if self.fail:
            self.fail -= 1
            raise SinkError("sink hook: no")

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def history(tmp_path: object) -> Iterator[History]:
    history = History.open(StorageConfig.model_validate({"data": tmp_path}))
    yield history
    history.close()


def fill(history: History, count: int) -> list[str]:
    transitions = []
    for seq in range(count):
        kind = list(AlertKind)[seq]
        alert = Alert(id=f"a/1/{seq}/{kind}", line="a", kind=kind, text="", raised_ns=seq)
        transitions.append(Transition(change=Change.RAISED, alert=alert, at_ns=seq))
    history.commit(
        Consequences(position="1-0", transitions=transitions, audience={Change.RAISED: ["hook"]}), after=START
    )
    return [f"{one.alert.id}:raised" for one in transitions]


def started(courier: Courier) -> tuple[threading.Thread, threading.Event]:
    stop = threading.Event()
    thread = threading.Thread(target=courier.run, args=(stop,))
    thread.start()
    return thread, stop


def until_delivered(history: History) -> None:
    deadline = time.monotonic() + 20
    while history.undelivered():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_delivers_when_rung_and_tries_again_with_the_same_key(history: History) -> None:
    sink = Sink()
    sink.fail = 2
    courier = Courier("hook", sink, history)
    with structlog.testing.capture_logs() as said:
        thread, stop = started(courier)
        keys = fill(history, 3)
        courier.ring()
        until_delivered(history)
        stop.set()
        courier.ring()
        thread.join(10)
    assert sink.closed
    assert sorted({one.key for one in sink.got}) == sorted(keys)
    assert len(sink.got) == 5
    assert [line["event"].split(";")[0] for line in said] == [
        "a sink does not take alerts",
        "the sink takes alerts again",
    ]


def test_what_is_due_at_the_end_is_still_told(history: History) -> None:
    keys = fill(history, 5)
    sink, stop = Sink(), threading.Event()
    stop.set()
    Courier("hook", sink, history).run(stop)
    assert [one.key for one in sink.got] == keys


def test_a_sink_that_is_down_does_not_hold_up_the_end(history: History) -> None:
    fill(history, 5)
    sink, stop = Sink(), threading.Event()
    sink.fail = 10**6
    stop.set()
    Courier("hook", sink, history).run(stop)
    assert len(sink.got) == 5
    assert history.undelivered() == {"hook": 5}


def test_a_history_that_is_away_loses_nothing(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(history, 1)
    sink, courier = Sink(), None
    courier = Courier("hook", sink, history)

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("history: away")

    with monkeypatch.context() as patch:
        patch.setattr(history, "delivered", away)
        with structlog.testing.capture_logs() as said:
            assert courier._round(None) is False
    assert "away" in said[0]["because"]
    assert courier._round(None) is True
    assert [one.key for one in sink.got] == ["a/1/0/defect:raised"] * 2


def test_what_was_taken_long_ago_is_forgotten_while_it_runs(history: History) -> None:
    fill(history, 3)
    courier, now_ns = Courier("hook", Sink(), history), time.time_ns()

    def take(delivery: Delivery, age_ns: int) -> None:
        history.delivered(delivery, now_ns=now_ns - age_ns)

    first, second, third = history.due("hook", now_ns=now_ns)
    take(first, FORGET_NS + 10**9)
    take(second, FORGET_NS - 10**12)
    take(third, FORGET_NS - 10**12)
    courier._round(None)
    take(second, FORGET_NS + 10**9)
    courier._round(None)  # not again so soon
    assert history.forget_delivered(before_ns=now_ns - FORGET_NS) == 1
    take(third, FORGET_NS + 10**9)
    courier._forget_at = 0.0  # an hour later
    courier._round(None)
    assert history.forget_delivered(before_ns=now_ns) == 0
    assert len(history.alerts()) == 3  # only messages go


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_pauses_grow_and_stay_bounded(attempts: int, chance: float) -> None:
    pause = pause_s(attempts, chance)
    assert 0.5 <= pause <= LONGEST_PAUSE_S
    assert pause <= pause_s(attempts + 1, 1.0)
