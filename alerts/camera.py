"""Whether one line's camera is fit, over time: debounced on the way in and on the way out. Pure.

A frame whose picture cannot be judged is `unknown` with the camera's condition as its reason. Here frames become a
spell:

- the camera is unfit once that has lasted `unfit_after`: time between frames counts as the earlier of the two, unfit
  time in full, fit time against it by half. A single frame therefore says nothing, and a picture that flickers is
  unfit when more than a third of the time is;
- a condition is over when it was not seen for `fit_after`;
- of several conditions the commonest of the spell names it, and goes on naming it until it is over.

A frozen camera is unfit at once: capture has watched it for long enough already.
"""

from pydantic import BaseModel, ConfigDict

from alerts.config import AlertRules
from alerts.evidence import NS
from storage.records import AlertKind, Status, Verdict

KINDS = {
    "frozen": AlertKind.CAMERA_FROZEN,
    "dark": AlertKind.CAMERA_DARK,
    "overexposed": AlertKind.CAMERA_OVEREXPOSED,
    "light": AlertKind.CAMERA_LIGHT,
    "blurred": AlertKind.CAMERA_BLURRED,
    "moved": AlertKind.CAMERA_MOVED,
    "occluded": AlertKind.CAMERA_OCCLUDED,
}
"""Reason of an `unknown` (`ingest.frame.Condition`) -> the alert it may become."""


def kind_of(verdict: Verdict) -> AlertKind | None:
    """The condition that made a verdict `unknown`; None: it was judged, or not inspected for another reason."""
    return KINDS.get(verdict.reason or "") if verdict.status is Status.UNKNOWN else None


class Spell(BaseModel):
    """One condition, from its first frame to its last so far. Times are stream time, nanoseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_ns: int
    last_ns: int
    frames: int = 1


class Fitness(BaseModel):
    """All that is remembered of a camera."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spells: dict[AlertKind, Spell] = {}
    """Conditions that are not over."""
    unfit_ns: int = 0
    """How long it has been unfit, less half of the fit time in between."""
    unfit: bool = False
    """Whether the newest frame was."""

    def moved_back(self, back_ns: int) -> "Fitness":
        """The same after the clock was set back: no duration changes."""
        spells = {
            kind: spell.model_copy(update={"first_ns": spell.first_ns - back_ns, "last_ns": spell.last_ns - back_ns})
            for kind, spell in self.spells.items()
        }
        return self.model_copy(update={"spells": spells})

    def names(self, kind: AlertKind, rules: AlertRules) -> bool:
        """Whether the camera is unfit for long enough, and mostly for this reason."""
        if kind is AlertKind.CAMERA_FROZEN:
            return kind in self.spells
        lasts = self.unfit_ns >= round(rules.unfit_after * NS)
        return lasts and self.spells[kind].frames == max(spell.frames for spell in self.spells.values())


def watch(
    fitness: Fitness, kind: AlertKind | None, rules: AlertRules, *, at_ns: int, elapsed_ns: int
) -> tuple[Fitness, dict[AlertKind, int]]:
    """Add the newest frame.

    Args:
        fitness: so far.
        kind: the condition the camera was in; None: the frame was judged.
        rules: of its line.
        at_ns: when it was captured, stream time.
        elapsed_ns: since the newest frame before it.

    Returns:
        What is known now, and the conditions that are over: kind -> since when, stream time.
    """
    spent_ns = elapsed_ns if fitness.unfit else -elapsed_ns // 2
    unfit_ns = max(0, fitness.unfit_ns + spent_ns)
    patience_ns = round(rules.fit_after * NS)
    over = {
        other: spell.last_ns + patience_ns
        for other, spell in fitness.spells.items()
        if other is not kind and at_ns - spell.last_ns >= patience_ns
    }
    spells = {other: spell for other, spell in fitness.spells.items() if other not in over}
    if kind is not None:
        spell = spells.get(kind)
        spells[kind] = (
            Spell(first_ns=at_ns, last_ns=at_ns)
            if spell is None
            else spell.model_copy(update={"last_ns": at_ns, "frames": spell.frames + 1})
        )
    return Fitness(spells=spells, unfit_ns=unfit_ns if fitness.spells and spells else 0, unfit=kind is not None), over
