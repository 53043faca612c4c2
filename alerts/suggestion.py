"""A threshold from labelled alerts: what would have removed how many false alarms, and lost how many true defects.

The false alarms that can go are those that score below the lowest true defect. That this is found on the very labels
it is judged by costs nothing on the side that matters: the share of future defects below the (k+1)-th lowest of t
scores has a Beta distribution whatever the scores' own is (Wilks 1941, "Determination of sample sizes for setting
tolerance limits"), and its upper quantile is the upper end of Clopper and Pearson's interval for k of t.
"""

import bisect
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from alerts.proportion import Share, clopper_pearson
from storage.records import Alert, Label

NEEDED_GOOD = 5
"""Labelled false alarms and known variations it takes to suggest a threshold."""
NEEDED_TRUE = 10
"""Labelled true defects it takes: with ten kept, up to three in ten of those to come may still be lost."""
_HALF = 0.975


class Step(BaseModel):
    """One threshold, and what it would have done to the labelled alerts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float
    removed: int
    """False alarms and known variations that would not have been raised."""
    lost: int
    """True defects that would not have been."""


class Suggestion(BaseModel):
    """The threshold that removes the most false alarms for the true defects that may be lost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["threshold"] = "threshold"
    model: str
    """`name@version`: another model's scores are on another scale."""
    threshold: float
    current: float | None
    """The threshold of the latest of these alerts."""
    removed: int
    good: int
    """Labelled false alarms and known variations of this model."""
    lost: int
    true: int
    """Labelled true defects of this model."""
    overkill: Share
    """As predicted with this threshold."""
    escape: Share
    """As predicted with this threshold: a lower bound, like every escape rate."""
    steps: tuple[Step, ...]
    """All choices: the most that can be removed for each number of true defects lost."""


class NoSuggestion(BaseModel):
    """Why there is no threshold to suggest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["none"] = "none"
    because: str


def suggest(
    good: Sequence[Alert], true: Sequence[Alert], *, overkill: Share, escapes: int, losing: int = 0
) -> Suggestion | NoSuggestion:
    """Choose a threshold from labelled alerts of the newest model among them.

    Args:
        good: alerts labelled false alarm or known variation.
        true: alerts labelled true defect.
        overkill: as it is now.
        escapes: defects that passed, as far as reported.
        losing: how many of `true` may be lost.
    """
    latest = max([*good, *true], key=lambda alert: (alert.raised_ns, alert.id), default=None)
    if latest is None or latest.model is None:
        return NoSuggestion(because=_too_few(0, 0))
    false_scores, true_scores = _scores(good, latest.model), _scores(true, latest.model)
    if len(false_scores) < NEEDED_GOOD or len(true_scores) < NEEDED_TRUE:
        return NoSuggestion(because=_too_few(len(false_scores), len(true_scores)))
    steps = _steps(false_scores, true_scores)
    affordable = [step for step in steps if step.lost <= losing]
    if not affordable:
        return NoSuggestion(
            because=f"every false alarm scores above the lowest true defect ({true_scores[0]:.4g}): "
            f"no threshold removes one and loses at most {losing} of the {len(true_scores)} true defects"
        )
    step = affordable[-1]
    return Suggestion(
        model=latest.model,
        threshold=step.threshold,
        current=latest.threshold,
        removed=step.removed,
        good=len(false_scores),
        lost=step.lost,
        true=len(true_scores),
        overkill=_remaining(overkill, step.removed, len(false_scores)),
        escape=_escape(escapes, step.lost, len(true_scores)),
        steps=tuple(steps),
    )


def effect(alerts: Sequence[Alert], model: str, threshold: float) -> Step:
    """What a threshold would have done to the labelled alerts among these."""
    true = [alert for alert in alerts if alert.label is Label.TRUE_DEFECT]
    good = [alert for alert in alerts if alert.label not in (None, Label.TRUE_DEFECT)]
    removed, lost = (bisect.bisect_right(_scores(part, model), threshold) for part in (good, true))
    return Step(threshold=threshold, removed=removed, lost=lost)


def _steps(good: Sequence[float], true: Sequence[float]) -> list[Step]:
    """Best threshold for each number of true defects lost, where losing more removes more; scores ascend.

    A frame is rejected when its score is above the threshold: at the score of a false alarm, that one is gone.
    """
    steps: list[Step] = []
    for lost in range(len(true) + 1):
        ceiling = true[lost] if lost < len(true) else float("inf")
        removed = bisect.bisect_left(good, ceiling)
        # Of true defects with equal scores, all are lost or none.
        if removed > (steps[-1].removed if steps else 0) and bisect.bisect_right(true, good[removed - 1]) == lost:
            steps.append(Step(threshold=good[removed - 1], removed=removed, lost=lost))
    return steps


def _remaining(overkill: Share, removed: int, of: int) -> Share:
    """Overkill without the share of false alarms that is removed, both uncertain."""
    low, high = clopper_pearson(of - removed, of, _HALF)
    value = None if overkill.value is None else overkill.value * (of - removed) / of
    return Share(value=value, low=overkill.low * low, high=overkill.high * high)


def _escape(escapes: int, lost: int, true: int) -> Share:
    low, high = clopper_pearson(escapes + lost, escapes + true)
    return Share(value=(escapes + lost) / (escapes + true), low=low, high=high)


def _scores(alerts: Sequence[Alert], model: str) -> list[float]:
    """Scores of the events' worst frames, ascending."""
    ours = [alert for alert in alerts if alert.model == model]
    scores = [alert.score if alert.worst_score is None else alert.worst_score for alert in ours]
    return sorted(score for score in scores if score is not None)


def _too_few(good: int, true: int) -> str:
    return (
        f"too few labels to suggest a threshold: {good} false alarms (or known variations) and {true} true defects of "
        f"the model in force, it takes {NEEDED_GOOD} and {NEEDED_TRUE}"
    )
