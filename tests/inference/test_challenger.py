"""Golden samples in a worker: when they are due, how they are judged, and what a miss does."""

import shutil
import threading
import time as clock_time
from datetime import UTC, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inference.challenge import BATCH, challenge_model
from inference.challenger import MISSED, NO_SAMPLES, NOT_SHOWN, Challenger
from inference.config import JudgeConfig
from inference.engine import Engine
from inference.false_alarms import parse_false_alarms
from inference.occasions import Showing, due, shift_begin
from inference.serving import Served, Serving
from ingest.pictures import encode_png
from storage.challenges import ChallengeStream
from storage.config import StorageConfig
from storage.golden import GoldenSamples
from storage.models import Registry
from storage.records import Status
from storage.requests import GoldenRequests
from storage.server import RedisServer, connect
from tests.plates import plate

DAY_S = 86_400
NS = 1_000_000_000
MOMENTS = st.integers(0, 4_000_000_000 * NS)
SHIFTS = st.lists(st.times(timezones=st.none()).map(lambda t: t.replace(microsecond=0)), max_size=4).map(tuple)


# --- when


@given(st.tuples(st.text(), st.none()) | st.none(), MOMENTS, st.integers(0, 5), SHIFTS)
def test_a_worker_shows_them_at_its_start_and_then_not_again_for_nothing(serving, now_ns, asked, shifts):
    why = {"now_ns": now_ns, "asked": asked, "shifts": shifts, "zone": UTC}
    assert due(None, serving=serving, **why) == "start"
    assert due(Showing(serving, now_ns, asked), serving=serving, **why) is None


@given(MOMENTS, st.integers(0, 5), st.integers(0, 5), st.booleans(), SHIFTS)
def test_what_took_over_comes_before_what_was_asked_and_that_before_the_shift(now_ns, before, asked, swapped, shifts):
    last = Showing(("plate@1", "a"), max(0, now_ns - 2 * DAY_S * NS), before)
    now = ("plate@1", "b") if swapped else last.serving
    found = due(last, serving=now, now_ns=now_ns, asked=asked, shifts=shifts, zone=UTC)
    shift = "shift" if shifts and now_ns - last.at_ns >= DAY_S * NS else found if found == "shift" else None
    assert found == ("promoted" if swapped else "asked" if asked != before else shift)


def begins_by_brute_force(at_ns, shifts, zone):
    """Walk back minute by minute until a clock on the wall shows the beginning of a shift."""
    at = datetime.fromtimestamp(at_ns // NS, zone)
    for minutes in range(2 * 24 * 60):
        moment = (at.astimezone(UTC) - timedelta(minutes=minutes)).astimezone(zone)
        if moment.time().replace(second=0, microsecond=0) in shifts and moment.fold == 0:
            return int(moment.timestamp()) // 60 * 60 * NS
    return None


@given(
    st.integers(0, 3_000_000_000 // 60).map(lambda minute: minute * 60 * NS),
    st.lists(st.builds(time, st.integers(4, 23), st.integers(0, 59)), min_size=1, max_size=3).map(tuple),
    st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30)), ZoneInfo("Europe/Berlin")]),
)
def test_a_shift_begins_when_the_clock_on_the_wall_says_so(at_ns, shifts, zone):
    assert shift_begin(at_ns, shifts, zone) == begins_by_brute_force(at_ns, shifts, zone)


@pytest.mark.parametrize(
    ("day", "shift", "begins"),
    [
        ("2026-03-29", time(2, 30), "2026-03-29T01:30+00:00"),  # 2:30 is skipped: 3:30 summer time
        ("2026-10-25", time(2, 30), "2026-10-25T00:30+00:00"),  # 2:30 comes twice: the first
        ("2026-07-01", time(0, 0), "2026-06-30T22:00+00:00"),
    ],
)
def test_a_shift_begins_once_on_days_whose_clocks_change(day, shift, begins):
    zone, begin_ns = ZoneInfo("Europe/Berlin"), int(datetime.fromisoformat(begins).timestamp()) * NS
    start = int(datetime.combine(datetime.fromisoformat(day).date(), time(), zone).timestamp()) - 3600
    seen = {shift_begin((start + second) * NS, (shift,), zone) for second in range(0, 25 * 3600, 300)}
    assert begin_ns in seen
    assert len(seen) == 2, "that of the day before, and this one"
    assert shift_begin(begin_ns - 1, (shift,), zone) != begin_ns


@given(MOMENTS, MOMENTS, SHIFTS)
def test_in_a_stretch_of_time_each_shift_is_shown_once_however_often_it_is_looked(first, second, shifts):
    assume(shifts)
    begin, end = sorted((first, second))
    end = min(end, begin + 3 * DAY_S * NS)
    last, shown = Showing("m", begin, 0), 0
    for at_ns in [*range(begin, end, 600 * NS), end]:
        if due(last, serving="m", now_ns=at_ns, asked=0, shifts=shifts, zone=UTC):
            last, shown = Showing("m", at_ns, 0), shown + 1
    marks = {
        day * DAY_S + 3600 * shift.hour + 60 * shift.minute + shift.second
        for day in range(begin // NS // DAY_S, end // NS // DAY_S + 1)
        for shift in shifts
    }
    passed = sorted(mark for mark in marks if begin < mark * NS <= end)
    looks_between = {(mark * NS - begin - 1) // (600 * NS) for mark in passed}
    assert shown == len(looks_between), "shifts that begin between two looks are one"


def test_a_clock_that_is_set_back_silences_no_shift():
    wrong, right = 2_000_000_000 * NS, 1_700_000_000 * NS
    last = Showing("m", wrong, 0)
    assert due(last, serving="m", now_ns=right, asked=0, shifts=(time(6),), zone=UTC) == "shift"


# --- how


@pytest.fixture
def site(tmp_path, plate_model):
    data = tmp_path / "d"
    (data / "models").mkdir(parents=True)
    shutil.copytree(plate_model.path.parent, data / "models" / "plate")
    return StorageConfig(data=data)


@pytest.fixture
def samples(site):
    samples = GoldenSamples(site.golden)
    for number in range(BATCH):
        record(samples, f"good{number}", plate(700 + number), "pass")
    record(samples, "patch", plate(720, defect=True), "reject")
    return samples


def record(samples, name, picture, expected):
    samples.add("cam", name, encode_png(picture), expected=expected, added_ns=0)


def line(**fields):
    return JudgeConfig(line="cam", model="plate", false_alarms=parse_false_alarms("10%"), **fields)


def serving(site, judge=None):
    found = Serving([judge or line()], registry=Registry(site.models), device="cpu", threads=1, warm_up=1)
    found.refresh()
    return found


def show(served, samples, judge=None):
    engine, standard = (None, None) if served is None else (served.engine, served.standard)
    return challenge_model(engine, standard, samples, judge or line(), worker="w0", occasion="asked", now_ns=42)


def shown(site, samples, judge=None):
    return show(serving(site, judge)["cam"], samples, judge)


def test_samples_are_judged_as_frames_are(site, samples):
    results = shown(site, samples)
    assert [result.image for result in results] == ["good0", "good1", "good2", "good3", "patch"]
    assert [result.status.value for result in results] == ["pass"] * BATCH + ["reject"]
    assert not any(result.missed for result in results)
    for result in results:
        assert (result.line, result.model, result.worker, result.occasion) == ("cam", "plate@1", "w0", "asked")
        assert (result.score > result.threshold) == (result.status is Status.REJECT)
        assert result.at_ns == 42


def test_the_regions_of_the_line_are_cut_out_first(site):
    samples = GoldenSamples(site.golden)
    wide = np.zeros((96, 200, 3), np.uint8)
    wide[:, 100:196] = plate(700)
    record(samples, "wide", wide, "pass")
    [result] = shown(site, samples)
    assert result.missed
    [result] = shown(site, samples, line(roi=(100, 0, 196, 96)))
    assert not result.missed
    [result] = shown(site, samples, line(roi=(100, 0, 300, 96)))
    assert (result.status, result.missed) == (Status.UNKNOWN, True)
    assert "reaches outside the 200x96 picture" in result.reason
    [result] = shown(site, samples, line(mask=((0, 0), (9, 0), (9, 9))))
    assert "is not the one its model was fitted with" in result.reason


def test_what_cannot_be_judged_is_missed_and_the_others_are_judged(site, samples):
    folder = site.golden / "cam"
    (folder / "good1.png").unlink()
    shutil.copy(folder / "good0.png", folder / "patch.png")
    by_name = {result.image: result for result in shown(site, samples)}
    assert list(by_name) == ["good1", "patch", "good0", "good2", "good3"], "those missed come first"
    assert [name for name, result in by_name.items() if result.missed] == ["good1", "patch"]
    assert "good1 of line cam cannot be read" in by_name["good1"].reason
    assert "patch of line cam is not the picture that was recorded" in by_name["patch"].reason


def test_a_detector_that_throws_or_answers_nan_has_missed_them(site, samples, monkeypatch):
    served, judge = serving(site)["cam"], Engine.judge

    def broken(engine, batch, **fields):
        if len(batch) == BATCH:
            raise RuntimeError("device lost")
        judgement = judge(engine, batch, **fields)
        judgement.scores[:] = np.nan
        return judgement

    monkeypatch.setattr(Engine, "judge", broken)
    results = show(served, samples)
    assert [result.reason for result in results] == ["detector failed"] * BATCH + ["score not finite"]
    assert all(result.missed for result in results)


def test_without_a_model_or_an_index_everything_is_missed(site, samples):
    results = show(None, samples)
    assert len(results) == BATCH + 1
    assert {(result.status, result.reason) for result in results} == {(Status.UNKNOWN, "no model")}
    (site.golden / "cam" / "samples.json").write_text("{")
    [result] = shown(site, samples)
    assert (result.image, result.missed) == ("(index)", True)
    assert "cannot be read" in result.reason
    assert shown(site, GoldenSamples(site.golden / "elsewhere")) == []


# --- in a worker


@pytest.fixture
def challenge(site):
    """Makes a challenger on a real Redis, with a clock that is turned by hand."""
    started = []
    with RedisServer(site.data) as server:

        def make(served, judge):
            client = connect(site)
            made = Challenger(
                [judge],
                serving=lambda _: served["cam"],
                samples=GoldenSamples(site.golden),
                requests=GoldenRequests(client),
                stream=ChallengeStream(client),
                worker="w0",
                clock=lambda: served["now"],
                zone=UTC,
            )
            started.append(made)
            made.start()
            return made

        make.server = server
        yield make
        for one in started:
            one.stop()


def wait_until(condition, timeout=15.0):
    until = clock_time.monotonic() + timeout
    while not condition():
        assert clock_time.monotonic() < until, "did not happen in time"
        clock_time.sleep(0.02)


def occasions(stream):
    return [result.occasion for _, result in stream.read("0")]


def test_they_are_shown_at_start_promotion_shift_and_request_and_block_until_they_pass(site, challenge):
    samples, stream = GoldenSamples(site.golden), ChallengeStream(connect(site))
    served = {"cam": serving(site)["cam"], "now": 1_700_000_000 * NS}
    challenger = challenge(served, line(golden_blocks=True, shifts=(time(6),)))
    assert challenger.refusal("cam", served["cam"]) == NO_SAMPLES
    record(samples, "patch", plate(720, defect=True), "reject")
    assert challenger.refusal("cam", served["cam"]) == NO_SAMPLES, "nobody has asked yet"
    requests = GoldenRequests(connect(site))
    requests.ask("cam")
    wait_until(lambda: challenger.refusal("cam", served["cam"]) is None)
    wait_until(lambda: occasions(stream) == ["asked"])
    old, served["cam"] = served["cam"], dead(served["cam"])
    assert challenger.refusal("cam", served["cam"]) == NOT_SHOWN
    wait_until(lambda: challenger.refusal("cam", served["cam"]) == MISSED)
    served["now"] += DAY_S * NS
    wait_until(lambda: occasions(stream) == ["asked", "promoted", "shift"])
    assert challenger.refusal("cam", served["cam"]) == MISSED
    served["cam"] = old
    wait_until(lambda: challenger.refusal("cam", old) is None)
    wait_until(lambda: occasions(stream) == ["asked", "promoted", "shift", "promoted"])
    assert [result.missed for _, result in stream.read("0")] == [False, True, True, False]
    samples.remove("cam", "patch")
    requests.ask("cam")
    wait_until(lambda: challenger.refusal("cam", old) == NO_SAMPLES)


def test_a_version_that_comes_back_before_anyone_looked_is_shown_again(site, challenge):
    """A rollback makes a `Served` of its own; what the one before was proved able to do says nothing of it."""
    record(GoldenSamples(site.golden), "patch", plate(720, defect=True), "reject")
    served = {"cam": serving(site)["cam"], "now": 1_700_000_000 * NS}
    challenger = challenge(served, line(golden_blocks=True))
    first = served["cam"]
    assert challenger.refusal("cam", first) is None
    served["cam"] = Served(first.engine, first.standard, first.calibration_sha256)
    assert challenger.refusal("cam", served["cam"]) == NOT_SHOWN
    wait_until(lambda: challenger.refusal("cam", served["cam"]) is None)


def dead(served):
    """The same engine with a threshold that nothing reaches, as another version."""
    standard = type(served.standard)(model="plate@2", threshold=1e9, calibration=served.standard.calibration)
    return Served(served.engine, standard, "another")


@pytest.mark.usefixtures("samples")
def test_lines_that_do_not_block_are_told_of_and_judged(site, challenge):
    stream = ChallengeStream(connect(site))
    served = {"cam": dead(serving(site)["cam"]), "now": NS}
    challenger = challenge(served, line())
    wait_until(lambda: len(stream.read("0")) == BATCH + 1)
    assert challenger.refusal("cam", served["cam"]) is None
    assert [result.image for _, result in stream.read("0") if result.missed] == ["patch"]


@pytest.mark.usefixtures("samples")
def test_results_wait_for_redis(site, challenge):
    served = {"cam": serving(site)["cam"], "now": NS}
    challenger = challenge(served, line(golden_blocks=True))
    stream = ChallengeStream(connect(site))
    wait_until(lambda: len(stream.read("0")) == BATCH + 1)
    challenge.server.stop()
    served["cam"] = dead(served["cam"])
    wait_until(lambda: challenger.refusal("cam", served["cam"]) == MISSED)
    clock_time.sleep(0.3)
    with RedisServer(site.data):
        wait_until(lambda: len(stream.read("0")) == 2 * (BATCH + 1))
        assert [result.image for _, result in stream.read("0") if result.missed] == ["patch"]
        challenger.stop()


def test_samples_that_change_meanwhile_are_never_taken_for_missing(site):
    samples = GoldenSamples(site.golden)
    record(samples, "stays", plate(720, defect=True), "reject")
    ended = threading.Event()

    def change():
        for number in range(20):
            record(samples, "comes", plate(number), "pass")
            samples.remove("cam", "comes")
        ended.set()

    served = serving(site)["cam"]
    changing = threading.Thread(target=change)
    changing.start()
    while not ended.is_set():
        results = show(served, samples)
        assert "stays" in {result.image for result in results}
        assert [result.reason for result in results] == [None] * len(results)
    changing.join()
