"""What `linewatch recommend` finds out, and how it says so."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from inference.training.standing import Choice

FEW_HELD_OUT = 20
"""Held-out images below which a caution is given."""
BUSY = 0.5
"""Load per core above which a caution is given."""

Status = Literal["chosen", "equal", "behind", "too slow", "out of time", "failed"]


class Trial(BaseModel):
    """What became of one candidate; what was not found out is null, and then there is a reason."""

    model_config = ConfigDict(frozen=True)

    detector: str
    backbone: str | None
    status: Status
    ms: float | None = None
    """Median time of judging one image."""
    image_auroc: float | None = None
    image_auroc_90: tuple[float, float] | None = None
    """Bounds between which it lies with 90 %, by bootstrap over the held-out images."""
    found: float | None = None
    """Share of the made-up defects above the threshold that 5 % of the held-out good images exceed."""
    pixel_auroc: float | None = None
    """Null for detectors without pixel maps, as is `aupro`."""
    aupro: float | None = None
    kinds: dict[str, float] | None = None
    """Image AUROC of each kind of made-up defect, also of those that do not count."""
    trained_with: tuple[str, ...] = ()
    """Kinds of made-up defects the detector trains against."""
    fit_seconds: float | None = None
    learned: float | None = None
    """Share of its epochs that the training had time for."""
    reason: str = ""

    @property
    def name(self) -> str:
        """For a sentence."""
        return self.detector if self.backbone is None else f"{self.detector} on {self.backbone}"


class Recommendation(BaseModel):
    """What `linewatch recommend --json` writes."""

    model_config = ConfigDict(frozen=True)

    data: str
    budget_ms: float
    device: str
    image_size: tuple[int, int]
    seed: int
    n_fitted: int
    n_held_out: int
    compared_on: tuple[str, ...]
    """Kinds of made-up defects that count."""
    trials: tuple[Trial, ...]
    """The chosen one first."""
    why: str
    cautions: tuple[str, ...]
    """What makes the figures less sure than they look."""
    command: str | None
    """What to run next; null when nothing can be recommended."""


def why(trials: Sequence[Trial], choice: Choice) -> str:
    """One sentence for the choice among those that stood."""
    best = trials[choice.best]
    if len(trials) == 1:
        return f"{best.name} is the only candidate that was fitted within the budget"
    if choice.by == "nothing":
        second = max((t for t in trials if t is not best), key=lambda trial: trial.image_auroc or 0.0)
        return (
            f"{best.name} has the highest image AUROC, {best.image_auroc:.3f}: that of the next, {second.name}, is "
            f"{second.image_auroc:.3f}, and chance does not explain the difference"
        )
    others = " and ".join(trials[index].name for index in choice.equals if index != choice.best)
    level = f"chance does not tell the image AUROC of {best.name}, {best.image_auroc:.3f}, from that of {others}"
    if choice.by == "AUPRO":
        return f"{level}, and its AUPRO, {best.aupro:.3f}, is the highest of them"
    return f"{level}, nobody of them has an AUPRO higher by more than 0.01, and of those as good it is the fastest"


def cautions(trials: Sequence[Trial], n_held_out: int, *, load: float, cores: int) -> tuple[str, ...]:
    """What a person should know before trusting the table.

    Args:
        trials: all of them.
        n_held_out: images judged.
        load: the machine's load (processes that wanted a core) when latency was measured, not counting ours.
        cores: it has so many.
    """
    said = []
    if hurried := [trial.name for trial in trials if trial.learned is not None and trial.learned < 1]:
        said.append(f"{' and '.join(hurried)} had no time for all epochs: with more --minutes the order may change")
    if n_held_out < FEW_HELD_OUT:
        said.append(f"{n_held_out} images to judge by are few: more good images would make this surer")
    if load > BUSY * cores:
        said.append(f"the machine was busy (load {load:.1f} on {cores} cores): on a quiet one latencies are lower")
    return tuple(said)


def why_not(trials: Sequence[Trial], budget_ms: float) -> str:
    """One sentence for there being no choice."""
    slow = [(trial.ms, trial.name) for trial in trials if trial.status == "too slow" and trial.ms is not None]
    if not slow or any(trial.status != "too slow" for trial in trials):
        return "nothing can be recommended: no candidate within the budget could be fitted, see the reasons"
    ms, name = min(slow)
    return (
        f"nothing can be recommended: the fastest, {name}, judges an image in {ms:.0f} ms, more than the "
        f"{budget_ms:g} ms allowed; raise --budget-ms or lower --image-size"
    )
