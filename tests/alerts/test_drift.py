"""Drift: ranks are uniform, false alarms bounded whatever the calibration, alarms soon, replays equal."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from scipy.stats import binom, kstest

from alerts import drift
from alerts.config import AlertRules
from alerts.drift import Drift, observe, rank
from alerts.rules import step
from alerts.state import RuleState
from storage.records import AlertKind, Basis, Status, Transition, Verdict

NS = 1_000_000_000
RUN = "0" * 15 + "1"


def verdict(
    seq: int, p_value: float, n: int, *, at_s: float | None = None, block_s: float | None = None, model: str = "m@1"
) -> Verdict:
    at_ns = 1_700_000_000 * NS + round((seq if at_s is None else at_s) * NS)
    return Verdict(
        line="a",
        run=RUN,
        seq=seq,
        status=Status.PASS,
        score=0.1,
        threshold=0.5,
        model=model,
        p_value=p_value,
        basis=Basis(n=n, block_s=block_s),
        captured_ns=at_ns,
        judged_ns=at_ns,
    )


def p_values(calibration: np.ndarray, scores: np.ndarray) -> list[float]:
    """Conformal: one more than the calibration scores at least as high, of one more than all."""
    higher = len(calibration) - np.searchsorted(np.sort(calibration), scores, side="left")
    return [float(p) for p in (1 + higher) / (len(calibration) + 1)]


def bet(p: Iterable[float], n: int, name: str = "x") -> Iterator[Drift]:
    """The test after each score, without the verdicts around them."""
    test = Drift.against(verdict(0, 1.0, n))
    assert test is not None
    for i, value in enumerate(p):
        test = drift._step(test, f"{name}/{i}", value, left_out=False)
        yield test


@pytest.mark.parametrize("n", [1, 20, 100, 1000])
def test_ranks_are_uniform_whatever_the_calibration(n: int) -> None:
    rng = np.random.default_rng(n)
    ranks = []
    for stream in range(100):
        test = Drift.against(verdict(0, 1.0, n))
        assert test is not None
        for i, p in enumerate(p_values(rng.gumbel(size=n), rng.gumbel(size=40))):
            ranks.append(rank(test, f"{stream}/{i}", p)[1])
            test = drift._step(test, f"{stream}/{i}", p, left_out=False)
    assert kstest(ranks, "uniform").pvalue > 0.001
    late = np.reshape(ranks, (100, 40))[:, -10:].ravel()
    assert kstest(late, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(ranks[:-1], ranks[1:])[0, 1]) < 4 / math.sqrt(len(ranks))


@pytest.mark.parametrize("n", [1, 20, 63, 64, 65, 1000])
def test_groups_hold_each_gap_once(n: int) -> None:
    gaps, groups = n + 1, min(drift.GROUPS, n + 1)
    members = [
        list(range(drift._first_gap(g, groups, gaps), drift._first_gap(g + 1, groups, gaps))) for g in range(groups)
    ]
    assert [gap for of in members for gap in of] == list(range(gaps))
    assert all(gap * groups // gaps == g for g, of in enumerate(members) for gap in of)
    assert all(members)


@pytest.mark.parametrize("n", [20, 100, 1000])
def test_false_alarms_are_no_more_than_promised(n: int) -> None:
    rng, delta, streams = np.random.default_rng(n), 0.1, 150
    alarms = 0
    for stream in range(streams):
        p = p_values(rng.normal(size=n), rng.normal(size=600))
        alarms += any(test.reaches(1 / delta) for test in bet(p, n, str(stream)))
    assert alarms <= binom.ppf(0.999, streams, delta)


def test_the_martingale_has_mean_one() -> None:
    rng = np.random.default_rng(5)
    ends = []
    for stream in range(2000):
        *_, last = bet(p_values(rng.normal(size=30), rng.normal(size=20)), 30, str(stream))
        ends.append(math.exp(last.log_capital))
    assert abs(np.mean(ends) - 1) < 4 * np.std(ends) / math.sqrt(len(ends))


@pytest.mark.parametrize("n", [20, 200])
def test_it_is_the_urn_and_the_jumper_written_out(n: int) -> None:
    """Against the definitions, in plain numbers and without bookkeeping."""
    rng = np.random.default_rng(n)
    p = p_values(rng.normal(size=n), rng.normal(size=300))
    gaps, groups = n + 1, min(drift.GROUPS, n + 1)
    urn = [gap * groups // gaps for gap in range(gaps)]  # one ball per gap, then one per score
    capital = np.zeros(3)
    for t, (value, test) in enumerate(zip(p, bet(p, n), strict=True), start=1):
        group = (round(value * gaps) - 1) * groups // gaps
        u = sum(ball < group for ball in urn) + drift._uniform(f"x/{t - 1}") * urn.count(group)
        capital += 1 / (t * (t + 1)) / 3
        capital = 0.99 * capital + 0.01 * capital.sum() / 3
        capital *= 1 + np.array([-1, 0, 1]) * (u / len(urn) - 0.5)
        urn.append(group)
        assert test.log_capital == pytest.approx(math.log(capital.sum() + 1 / (t + 1)), abs=1e-9)


@pytest.mark.parametrize("shift", [1.5, -1.5], ids=["rising", "falling"])
@pytest.mark.parametrize("quiet", [0, 3000])
def test_a_shift_is_found_soon_and_its_direction_told(shift: float, quiet: int) -> None:
    rng = np.random.default_rng(3)
    scores = np.concatenate([rng.normal(size=quiet), shift + rng.normal(size=300)])
    found = [
        (i, test.rising)
        for i, test in enumerate(bet(p_values(rng.normal(size=200), scores), 200))
        if test.reaches(1000)
    ]
    assert quiet < found[0][0] < quiet + 150
    assert found[0][1] == (shift > 0)


# --- blocks of video -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 10])
def test_a_video_takes_one_step_a_block_with_its_smallest_p(frames: int) -> None:
    fps = 25.0
    rng = np.random.default_rng(frames)
    jitter = rng.uniform(-0.2, 0.2, size=20 * frames + 1) / fps
    values = rng.integers(2, 100, size=20 * frames + 1) / 100
    state = RuleState(line="a")
    for seq, (p, late) in enumerate(zip(values, jitter, strict=True)):
        one = verdict(seq, float(p), 99, at_s=seq / fps + late, block_s=frames / fps)
        state, _ = step(state, one, AlertRules())
    assert state.drift is not None
    assert state.drift.scores == 20
    blocks = values[:-1].reshape(20, frames).min(axis=1)
    expected = [0] * 64
    for p in blocks:
        expected[(round(p * 100) - 1) * 64 // 100] += 1
    assert list(state.drift.hits) == expected


def test_a_block_with_a_hole_says_nothing() -> None:
    at_s = [0.0, 0.5, 5.0, 5.5, 6.0, 6.5]  # blocks of a second
    state = RuleState(line="a")
    for seq, at in enumerate(at_s):
        state, _ = step(state, verdict(seq, 0.5, 99, at_s=at, block_s=1.0), AlertRules())
    assert state.drift is not None
    assert state.drift.scores == 1
    unfit = verdict(6, 0.5, 99, at_s=7.0).model_copy(update={"status": Status.UNKNOWN, "reason": "moved"})
    state, _ = step(state, unfit, AlertRules())
    for seq, at in enumerate([7.5, 8.0], start=7):
        state, _ = step(state, verdict(seq, 0.5, 99, at_s=at, block_s=1.0), AlertRules())
    assert state.drift is not None
    assert state.drift.scores == 1


# --- the alert -------------------------------------------------------------------------------------------------


def play(verdicts: Iterable[Verdict], state: RuleState | None = None) -> tuple[RuleState, list[Transition]]:
    state, out = state or RuleState(line="a"), []
    for one in verdicts:
        state, changes = step(state, one, AlertRules())
        out += changes
    return state, out


def told(changes: Iterable[Transition]) -> list[tuple[str, str]]:
    return [(change.change.value, change.alert.kind.value) for change in changes]


def stream(*parts: tuple[int, float], n: int = 99, seed: int = 0) -> list[Verdict]:
    """Verdicts whose p-values are uniform to the power of `shape`: 1 nothing has changed, above 1 scores rose."""
    rng = np.random.default_rng(seed)
    p = [max(1, math.ceil(rng.uniform() ** shape * (n + 1))) / (n + 1) for count, shape in parts for _ in range(count)]
    return [verdict(seq, value, n) for seq, value in enumerate(p)]


def test_drift_is_raised_once_and_cleared_when_scores_are_back() -> None:
    verdicts = stream((300, 1), (200, 4), (600, 1))
    state, changes = play(verdicts)
    assert told(changes) == [("raised", "drift"), ("cleared", "drift")]
    alert = changes[0].alert
    assert 300 < int(alert.id.split("/")[2]) < 400
    assert "higher" in alert.text
    assert "m@1" in alert.text
    assert int((changes[1].at_ns - verdicts[0].captured_ns) / NS) > 500 + drift.SETTLED - 100
    again = RuleState(line="a")
    replayed = []
    for one in verdicts:
        again, more = step(RuleState.model_validate_json(again.model_dump_json()), one, AlertRules())
        replayed += more
    assert (again, replayed) == (state, changes)
    assert len(state.model_dump_json()) < 2000


def test_scores_that_collapse_are_drift_too() -> None:
    _, changes = play(stream((300, 1), (300, 0.2)))
    assert told(changes) == [("raised", "drift")]
    assert "lower" in changes[0].alert.text


def test_another_calibration_clears_it() -> None:
    verdicts = stream((400, 4))
    state, changes = play(verdicts)
    assert told(changes) == [("raised", "drift")]
    for other in (verdict(400, 0.5, 99, model="m@2"), verdict(400, 0.5, 150)):
        after, changes = play([other], state)
        assert told(changes) == [("cleared", "drift")]
        assert after.drift is not None
        assert after.drift.scores == 1
    straggler = verdict(0, 0.5, 99, model="m@0")
    assert play([straggler], state) == (state.model_copy(update={"evidence": play([straggler], state)[0].evidence}), [])


def test_a_defect_is_no_drift_unless_it_never_ends() -> None:
    bad = [one.model_copy(update={"status": Status.REJECT, "score": 0.9, "p_value": 0.01}) for one in stream((300, 1))]
    for count, raised in ((drift.PATIENCE, [("raised", "defect")]), (300, [("raised", "defect"), ("raised", "drift")])):
        _, changes = play(bad[:count])
        assert told(changes) == raised


def test_zero_is_never() -> None:
    state = RuleState(line="a")
    for one in stream((400, 4)):
        state, changes = step(state, one, AlertRules(drift=0))
        assert changes == []
    assert state.drift is None


def test_a_verdict_without_basis_takes_no_part() -> None:
    state, _ = play([verdict(0, 0.5, 99).model_copy(update={"basis": None})])
    assert state.drift is None
    assert AlertKind.DRIFT not in state.open


def test_a_block_is_left_out_for_what_was_known_before_it() -> None:
    """Were a block left out because of its own p-value, those that stay would no longer be uniform."""
    test = Drift.against(verdict(0, 0.5, 99, block_s=1.0))
    assert test is not None
    for seq, defect in enumerate([False, True, True, False]):
        one = verdict(seq, 0.5, 99, at_s=seq / 2, block_s=1.0)
        test = observe(test, one, 0.5, at_ns=one.captured_ns, newest=True, defect=defect)
    assert test.scores == 1
    assert test.block is not None
    assert test.block.left_out
