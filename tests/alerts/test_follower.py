import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
import structlog
from sqlalchemy import select
from structlog.typing import EventDict

from alerts import follower as following
from alerts.config import AlertRules
from alerts.follower import Follower
from alerts.pulse import Pulse
from storage import keys, tables
from storage.challenges import ChallengeStream
from storage.config import StorageConfig
from storage.errors import StoreUnavailable
from storage.golden import GoldenSamples
from storage.history import START, Consequences, Counts, History
from storage.lines import Lines
from storage.records import Alert, AlertKind, Basis, Challenge, Change, Held, LineState, Status, Verdict
from storage.verdicts import VerdictStream

RULES = {
    "a": AlertRules(silent_after=0),
    "b": AlertRules.model_validate({"raise": "2 of 3", "silent_after": 0, "cusum": {"slack": 1.2}, "hold": "5%"}),
}
AUDIENCE = {Change.RAISED: ["hook"], Change.CLEARED: ["hook"]}


@pytest.fixture
def history(storage: StorageConfig) -> Iterator[History]:
    history = History.open(storage)
    yield history
    history.close()


@pytest.fixture
def lines(redis_client: redis.Redis) -> Lines:
    return Lines(redis_client)


def make(
    redis_client: redis.Redis,
    history: History,
    told: Callable[[Sequence[Verdict]], None] = lambda _: None,
) -> Follower:
    follower = Follower(redis_client, history, rules=RULES, audience=AUDIENCE, on_verdicts=told)
    follower.resume()
    return follower


def follow_all(follower: Follower) -> None:
    while follower.follow(block_ms=0)[0]:
        pass


def mixture(make_belt: Any, count: int, seed: int = 0) -> list[Verdict]:
    """Verdicts of two lines, ending with enough passes to clear everything."""
    chance = random.Random(seed)
    belts = [make_belt("a"), make_belt("b", per_s=5)]
    kinds = ["pass"] * 12 + ["reject", "unknown"] * 2
    verdicts = []
    for belt in belts:
        for status in itertools.chain(chance.choices(kinds, k=count), ["reject"], ["pass"] * 60):
            reason = chance.choice(["late", "late", "frozen", "dark", "moved"]) if status == "unknown" else None
            repeat = 12 if status == "unknown" and chance.random() < 0.2 else 1
            p = 0.01 if status == "reject" else (1 + chance.randrange(100)) / 100
            fields = {"reason": reason} if reason else {"p_value": p, "basis": Basis(n=99, limit=6.0)}
            verdicts += [belt.verdict(status, **fields) for _ in range(repeat)]
        verdicts += belt.verdicts(*["pass"] * 60)
    chance.shuffle(belts)
    return sorted(verdicts, key=lambda v: (v.captured_ns, v.line))


def everything(history: History) -> tuple[list[Alert], dict[str, list[Change]], dict[str, str], dict[int, Counts]]:
    alerts = history.alerts(limit=10**6)
    events = {alert.id: history.events(alert.id) for alert in alerts}
    return alerts, events, history.rule_states(), history.minutes("a", since=0, until=10**12)


def test_verdicts_become_alerts_messages_and_counts(
    lines: Lines, redis_client: redis.Redis, history: History, belt: Any
) -> None:
    told: list[Verdict] = []
    follower = make(redis_client, history, told.extend)
    assert follower.follow(block_ms=0) == (False, False)
    verdicts = belt.verdicts("pass", "reject", "reject", "unknown")
    lines.record(verdicts)
    assert follower.follow(block_ms=0) == (False, True)
    (alert,) = history.alerts()
    assert alert.id == f"{verdicts[1].id}/defect"
    assert alert.count == 2
    assert [d.key for d in history.due("hook", now_ns=1)] == [f"{alert.id}:raised"]
    assert history.position() == follower.position != START
    minute = verdicts[0].captured_ns // 60_000_000_000
    assert history.minutes("a", since=minute, until=minute + 1) == {minute: Counts(1, 2, 1)}
    assert told == verdicts
    lines.record(belt.verdicts("reject"))
    assert follower.follow(block_ms=0) == (False, False)
    assert history.alerts()[0].count == 3


def test_a_straggler_from_before_an_open_event_is_told_beside_it(
    lines: Lines, redis_client: redis.Redis, history: History, belt: Any
) -> None:
    first, *_, last = belt.verdicts("reject", *["pass"] * 200, "reject")
    follower = make(redis_client, history)
    lines.record([last])
    follow_all(follower)
    lines.record([first])
    follow_all(follower)
    assert {alert.verdict for alert in history.alerts()} == {first.id, last.id}
    assert [alert.verdict for alert in history.alerts(open=True)] == [last.id]
    assert history.events(f"{first.id}/defect") == [Change.RAISED, Change.CLEARED]
    due = [delivery.key for delivery in history.due("hook", now_ns=1)]
    assert due == [f"{last.id}/defect:raised", f"{first.id}/defect:raised"]


def test_a_restart_goes_on_where_the_history_ends(
    lines: Lines, redis_client: redis.Redis, history: History, belt: Any
) -> None:
    lines.record(belt.verdicts("reject"))
    follow_all(make(redis_client, history))
    lines.record(belt.verdicts("reject"))
    follow_all(make(redis_client, history))
    (alert,) = history.alerts()
    assert alert.count == 2


class Killed(Exception):  # noqa: N818 - an event, not an error
    """Stands for SIGKILL."""


class Fragile(History):
    """Dies once, right before or right after the n-th commit."""

    die_at = -1
    after = False

    def commit(self, consequences: Consequences, *, after: str) -> None:
        self.die_at -= 1
        if self.die_at == 0 and not self.after:
            raise Killed
        super().commit(consequences, after=after)
        if self.die_at == 0:
            raise Killed


@pytest.mark.parametrize("after", [False, True], ids=["before a commit", "after a commit"])
def test_killed_at_every_commit_it_ends_like_an_uninterrupted_replay(
    lines: Lines,
    redis_client: redis.Redis,
    storage: StorageConfig,
    make_belt: Any,
    monkeypatch: pytest.MonkeyPatch,
    *,
    after: bool,
) -> None:
    lines.record(mixture(make_belt, 150))
    monkeypatch.setattr(following, "BATCH", 40)
    replay = History.open(storage.model_copy(update={"history": f"sqlite:///{storage.data}/replay.db"}))
    follow_all(make(redis_client, replay))
    expected = everything(replay)
    replay.close()
    assert len(expected[0]) > 10
    camera = {AlertKind.CAMERA_FROZEN, AlertKind.CAMERA_DARK, AlertKind.CAMERA_MOVED}
    assert {alert.kind for alert in expected[0]} >= {AlertKind.DEFECT, *camera}
    assert all(alert.cleared_ns for alert in expected[0])
    history = Fragile.open(storage)
    history.after = after
    deaths = 0
    for _ in range(1000):
        history.die_at = 2 if not after else 1
        follower = make(redis_client, history)
        try:
            follow_all(follower)
        except Killed:
            deaths += 1
            continue
        break
    assert deaths >= 8
    assert everything(history) == expected
    history.close()


def test_after_a_failed_commit_memory_is_what_was_committed(
    lines: Lines, redis_client: redis.Redis, storage: StorageConfig, belt: Any
) -> None:
    history = Fragile.open(storage)
    follower = make(redis_client, history)
    lines.record(belt.verdicts("reject"))
    history.die_at, history.after = 1, True
    with pytest.raises(Killed):
        follower.follow(block_ms=0)
    follower.resume()
    assert follower.follow(block_ms=0) == (False, False)
    assert len(history.alerts()) == 1
    history.close()


def test_the_stream_is_trimmed_but_never_past_what_is_committed(
    lines: Lines,
    redis_client: redis.Redis,
    history: History,
    belt: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "KEEP", 3)
    monkeypatch.setattr(following, "_TRIM_EVERY_S", 0.0)
    monkeypatch.setattr(following, "BATCH", 10)
    follower = make(redis_client, history)
    lines.record(belt.verdicts(*["pass"] * 35))
    for _ in range(3):
        follower.follow(block_ms=0)
        names = [name for name, _ in VerdictStream(redis_client).read(START, count=100)]
        assert follower.position in names
    assert len(names) == 15  # two of three batches went
    follow_all(follower)
    lines.record(belt.verdicts("pass"))
    follower.follow(block_ms=0)
    assert follower.hole is None


def test_reasons_are_counted_and_what_a_line_is_held_to_is_kept(
    lines: Lines, redis_client: redis.Redis, history: History, belt: Any
) -> None:
    basis = Basis(n=99)
    verdicts = [
        belt.verdict("pass", basis=basis),
        belt.verdict("unknown"),
        belt.verdict("unknown", reason="moved"),
        belt.verdict("unknown", reason="moved"),
        belt.verdict("reject", basis=basis),
        belt.verdict("pass", basis=basis, model="m@2"),
        belt.verdict("pass", basis=basis, model="m@2", threshold=0.6),
    ]
    straggler = verdicts.pop(4)
    lines.record([*verdicts, straggler])
    follow_all(make(redis_client, history))
    lines.record([belt.verdict("pass", basis=basis, model="m@2", threshold=0.6)])
    follow_all(make(redis_client, history))
    with history.database.reading() as db:
        reasons = {(row.line, row.reason): row.count for row in db.execute(select(tables.reasons))}
        held = [Held(**row._mapping) for row in db.execute(select(tables.held).order_by(tables.held.c.since_ns))]
    assert reasons == {("a", "late"): 1, ("a", "moved"): 2}
    assert held == [
        Held(line="a", since_ns=one.captured_ns, model=model, threshold=threshold, n_good=99)
        for one, model, threshold in (
            (verdicts[0], "m@1", 0.5),
            (verdicts[4], "m@2", 0.5),
            (verdicts[5], "m@2", 0.6),
        )
    ]


def test_an_event_that_a_straggler_moves_back_begins_earlier_in_the_history_too(
    lines: Lines, redis_client: redis.Redis, history: History, belt: Any
) -> None:
    first, last = belt.verdicts("reject", "reject")
    follower = make(redis_client, history)
    for one in (last, first):
        lines.record([one])
        follow_all(follower)
    (alert,) = history.alerts()
    assert (alert.started_ns, alert.count) == (first.captured_ns, 2)


# --- golden samples --------------------------------------------------------------------------------------------


def shown(status: Status, at_ns: int, line: str = "a") -> Challenge:
    return Challenge(
        line=line,
        image="dent.png",
        expected="reject",
        status=status,
        model="m@1",
        worker="w0",
        occasion="shift",
        at_ns=at_ns,
    )


def kept(history: History) -> list[Challenge]:
    with history.database.reading() as db:
        found = db.scalars(select(tables.challenges.c.challenge).order_by(tables.challenges.c.at_ns))
        return [Challenge.model_validate_json(one) for one in found]


def test_golden_samples_are_kept_and_become_alerts(redis_client: redis.Redis, history: History) -> None:
    stream = ChallengeStream(redis_client)
    follower, pulse = make(redis_client, history), Pulse(0.0)
    missed, found = shown(Status.PASS, 1000), shown(Status.REJECT, 2000)
    stream.add(missed)
    assert follower.tick(pulse, now=1.0, now_ns=5000)
    assert not follower.tick(pulse, now=2.0, now_ns=6000)
    (alert,) = history.alerts()
    assert (alert.kind, alert.raised_ns, alert.cleared_ns) == (AlertKind.GOLDEN_MISSED, 1000, None)
    assert [d.key for d in history.due("hook", now_ns=1)] == [f"{alert.id}:raised"]
    assert "dent.png" in alert.text
    resumed = make(redis_client, history)
    stream.add(missed.model_copy(update={"image": "scratch.png"}))
    assert not resumed.tick(pulse, now=3.0, now_ns=7000)
    assert "dent.png" in history.alerts()[0].text
    assert "scratch.png" in history.alerts()[0].text
    stream.add(found)
    assert resumed.tick(pulse, now=4.0, now_ns=8000)
    assert history.alerts()[0].cleared_ns == 2000
    assert [one.image for one in kept(history)] == ["dent.png", "scratch.png", "dent.png"]
    assert kept(history)[::2] == [missed, found]


@pytest.mark.parametrize("after", [False, True], ids=["before a commit", "after a commit"])
def test_killed_over_golden_samples_it_loses_and_doubles_none(
    redis_client: redis.Redis, storage: StorageConfig, *, after: bool
) -> None:
    history = Fragile.open(storage)
    history.after = after
    results = [shown(status, 1000 + i) for i, status in enumerate([Status.PASS, Status.REJECT, Status.PASS] * 3)]
    for one in results:
        ChallengeStream(redis_client).add(one)
        history.die_at = 1
        with pytest.raises(Killed):
            make(redis_client, history).tick(Pulse(0.0), now=1.0, now_ns=5000)
        make(redis_client, history).tick(Pulse(0.0), now=1.0, now_ns=5000)
    assert kept(history) == results
    alerts = sorted(history.alerts(), key=lambda alert: alert.raised_ns)
    assert [alert.id for alert in alerts] == [f"a/golden/{i}/golden_missed" for i in range(1, 5)]
    assert [(alert.raised_ns, alert.cleared_ns) for alert in alerts] == [
        (1000, 1001),
        (1002, 1004),
        (1005, 1007),
        (1008, None),
    ]
    history.close()


def test_the_alert_of_a_golden_sample_ends_when_the_sample_is_removed(
    redis_client: redis.Redis, history: History, storage: StorageConfig
) -> None:
    samples, stream = GoldenSamples(storage.golden), ChallengeStream(redis_client)
    follower = Follower(
        redis_client, history, rules=RULES, audience=AUDIENCE, on_verdicts=lambda _: None, listed=samples.listed
    )
    follower.resume()
    missed = shown(Status.PASS, 1000)
    stream.add(missed, missed.model_copy(update={"image": "scratch.png"}))
    follower.tick(Pulse(0.0), now=1.0, now_ns=5000)
    assert not follower.tick(Pulse(0.0), now=2.0, now_ns=6000)
    assert len(history.alerts(open=True)) == 1, "the samples are not to be seen from here"
    for name in ("dent.png", "scratch.png"):
        samples.add("a", name, b"\x89PNG\r\n\x1a\n", expected="reject", added_ns=0)
    samples.remove("a", "scratch.png")
    follower.tick(Pulse(0.0), now=3.0, now_ns=7000)
    (alert,) = history.alerts(open=True)
    assert "scratch.png" not in alert.text
    assert "dent.png" in alert.text
    samples.remove("a", "dent.png")
    assert follower.tick(Pulse(0.0), now=4.0, now_ns=8000)
    assert [alert.cleared_ns for alert in history.alerts()] == [8000]
    assert not make(redis_client, history).tick(Pulse(0.0), now=5.0, now_ns=9000)


def test_golden_samples_are_read_on_after_redis_lost_its_data(redis_client: redis.Redis, history: History) -> None:
    follower, pulse = make(redis_client, history), Pulse(0.0)
    ChallengeStream(redis_client).add(shown(Status.REJECT, 1000))
    follower.tick(pulse, now=1.0, now_ns=5000)
    redis_client.delete(keys.CHALLENGES)
    redis_client.xadd(keys.CHALLENGES, {"c": shown(Status.PASS, 2000).model_dump_json()}, id="5-0")
    assert follower.tick(pulse, now=2.0, now_ns=6000)
    assert not make(redis_client, history).tick(pulse, now=3.0, now_ns=7000)
    assert len(kept(history)) == 2


def test_an_event_s_end_and_worst_frame_are_kept(
    lines: Lines, redis_client: redis.Redis, history: History, belt: Any
) -> None:
    follower = make(redis_client, history)
    verdicts = [belt.verdict("reject", score=0.8, evidence="e/0"), belt.verdict("reject", score=0.95, evidence="e/1")]
    for one in verdicts:
        lines.record([one])
        follow_all(follower)
    (alert,) = history.alerts()
    assert (alert.started_ns, alert.ended_ns) == (verdicts[0].captured_ns, verdicts[1].captured_ns)
    assert (alert.worst_verdict, alert.worst_score, alert.worst_evidence) == (verdicts[1].id, 0.95, "e/1")


def test_an_event_that_goes_on_without_rejects_is_not_cleared_by_a_tick(
    lines: Lines, redis_client: redis.Redis, history: History, belt: Any
) -> None:
    rules = {"a": AlertRules.model_validate({"hold": "5%", "silent_after": 0})}
    pulse = Pulse(0.0)
    follower = Follower(
        redis_client, history, rules=rules, audience={}, on_verdicts=lambda verdicts: pulse.handle(verdicts, 100.0)
    )
    follower.resume()
    lines.record([belt.verdict("reject", p_value=0.001), *(belt.verdict("pass", p_value=0.04) for _ in range(200))])
    follow_all(follower)
    assert not follower.tick(pulse, now=101.0, now_ns=1)
    assert follower.tick(pulse, now=108.0, now_ns=2)


# --- what was missed -------------------------------------------------------------------------------------------


def errors(lines: Sequence[EventDict]) -> list[str]:
    return [line["event"] for line in lines if line["log_level"] == "error"]


def test_a_hole_is_told_once_and_loudly(
    lines: Lines,
    redis_client: redis.Redis,
    history: History,
    belt: Any,
) -> None:
    follower = make(redis_client, history)
    lines.record(belt.verdicts("pass", "pass"))
    follow_all(follower)
    lines.record(belt.verdicts("reject", "pass", "reject"))
    redis_client.xtrim(keys.VERDICTS, maxlen=1, approximate=False)
    with structlog.testing.capture_logs() as said:
        follow_all(follower)
        follow_all(follower)
    assert len(errors(said)) == 1
    assert "dropped from the stream before they became alerts" in errors(said)[0]
    assert follower.hole == errors(said)[0]
    assert len(history.alerts()) == 1


def test_a_stream_that_lost_everything_is_told(
    lines: Lines,
    redis_client: redis.Redis,
    history: History,
    belt: Any,
) -> None:
    follower = make(redis_client, history)
    lines.record(belt.verdicts("pass"))
    follow_all(follower)
    redis_client.delete(keys.VERDICTS)
    with structlog.testing.capture_logs() as said:
        follow_all(follower)
        follow_all(follower)
    assert len(errors(said)) == 1
    assert "is empty although" in errors(said)[0]
    lines.record(belt.verdicts("reject"))
    follow_all(follower)
    assert len(history.alerts()) == 1


def test_a_stream_that_went_back_in_time_is_told_and_followed_again(
    lines: Lines,
    redis_client: redis.Redis,
    history: History,
    belt: Any,
) -> None:
    follower = make(redis_client, history)
    lines.record(belt.verdicts("pass"))
    follow_all(follower)
    redis_client.delete(keys.VERDICTS)
    redis_client.xadd(keys.VERDICTS, {"v": belt.verdict("reject").model_dump_json()}, id="5-0")
    with structlog.testing.capture_logs() as said:
        follow_all(follower)
    assert "was replaced by an older one" in errors(said)[0]
    assert history.position() == "5-0"
    redis_client.xadd(keys.VERDICTS, {"v": belt.verdict("reject").model_dump_json()}, id="6-0")
    follow_all(follower)
    assert len(history.alerts()) == 1


def test_a_stream_that_was_seen_empty_is_followed_though_its_ids_are_smaller(
    lines: Lines, redis_client: redis.Redis, history: History, belt: Any
) -> None:
    follower = make(redis_client, history)
    lines.record(belt.verdicts("pass"))
    follow_all(follower)
    redis_client.delete(keys.VERDICTS)
    with structlog.testing.capture_logs() as said:
        follow_all(follower)
        redis_client.xadd(keys.VERDICTS, {"v": belt.verdict("reject").model_dump_json()}, id="5-0")
        follow_all(follower)
        follow_all(follower)
    assert len(errors(said)) == 1
    assert len(history.alerts()) == 1, "what came since is followed"
    assert history.position() == "5-0"


# --- ticks -----------------------------------------------------------------------------------------------------


def test_ticks_tell_of_silence_and_clear_it(redis_client: redis.Redis, history: History) -> None:
    follower = Follower(
        redis_client, history, rules={"a": AlertRules(silent_after=10)}, audience=AUDIENCE, on_verdicts=lambda _: None
    )
    pulse = Pulse(100.0)
    assert not follower.tick(pulse, now=109.0, now_ns=1000)
    assert follower.tick(pulse, now=110.0, now_ns=2000)
    assert not follower.tick(pulse, now=111.0, now_ns=3000)
    pulse.listen([LineState(line="a", beat_ns=5)], 112.0)
    assert follower.tick(pulse, now=112.0, now_ns=4000)
    (alert,) = history.alerts()
    assert (alert.raised_ns, alert.cleared_ns) == (2000, 4000)
    assert history.position() == START
    resumed = make(redis_client, history)
    assert resumed.position == START


def test_a_line_that_was_taken_out_of_the_configuration_is_not_missed(
    lines: Lines, redis_client: redis.Redis, history: History, make_belt: Any
) -> None:
    rules = {"old": AlertRules(silent_after=10)}
    follower = Follower(redis_client, history, rules=rules, audience={}, on_verdicts=lambda _: None)
    follower.resume()
    lines.record(make_belt("old").verdicts("reject"))
    follow_all(follower)
    follower.tick(Pulse(0.0), now=20.0, now_ns=2000)
    assert {alert.kind for alert in history.alerts(open=True)} == {AlertKind.LINE_SILENT}
    lines.record(make_belt("old", start_ns=1_800_000_000_000_000_000).verdicts("reject"))
    follow_all(follower)
    ChallengeStream(redis_client).add(shown(Status.PASS, 2500, line="old"))
    follower.tick(Pulse(0.0), now=21.0, now_ns=2600)
    assert AlertKind.GOLDEN_MISSED in {alert.kind for alert in history.alerts(open=True)}
    successor = make(redis_client, history)
    pulse = Pulse(0.0)
    pulse.listen(lines.states(), 0.0)
    successor.tick(pulse, now=100.0, now_ns=3000)
    assert history.alerts(open=True) == []


def test_a_line_nobody_configured_follows_the_default_rules(
    lines: Lines, redis_client: redis.Redis, history: History, make_belt: Any
) -> None:
    follower = make(redis_client, history)
    lines.record(make_belt("stranger").verdicts("reject", "reject"))
    with structlog.testing.capture_logs() as said:
        follow_all(follower)
    assert [line["line"] for line in said if line["log_level"] == "warning"] == ["stranger"]
    assert [line["alert"] for line in said if line["event"] == "alert committed"] == [history.alerts()[0].id]
    assert len(history.alerts()) == 1


def test_pulse_measures_with_its_own_clock() -> None:
    pulse = Pulse(100.0)
    assert pulse.signs("a", 103.0).silent_s == 3
    state = LineState(line="a", captured=5, passed=3, run="r", next_seq=5, camera="lost", beat_ns=10)
    pulse.listen([state], 104.0)
    pulse.listen([state], 107.0)
    signs = pulse.signs("a", 107.0)
    assert (signs.silent_s, signs.in_flight, signs.camera, signs.run, signs.seq) == (3, 2, "lost", "r", 4)
    pulse.listen([state.model_copy(update={"beat_ns": 3})], 108.0)  # a clock set back is a sign of life too
    assert pulse.signs("a", 108.0).silent_s == 0
    pulse.deaf(120.0)
    assert pulse.signs("a", 121.0).silent_s == 1


def test_an_unavailable_redis_is_said_so(history: History, storage: StorageConfig) -> None:
    client = redis.Redis.from_url(f"unix://{storage.data}/nothing.sock")
    follower = make(client, history)
    with pytest.raises(StoreUnavailable):
        follower.follow(block_ms=0)
    client.close()
