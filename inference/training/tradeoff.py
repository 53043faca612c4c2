"""A recommendation drawn: what each candidate costs and finds, and the made-up defects it was asked to find."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from inference.training.figures import plain, save
from inference.training.images import Images
from inference.training.plots import DEFECT, GOOD, GREY, LIMIT
from inference.training.probes import PROBES, probes
from inference.training.recommendation import Recommendation, Trial

_SHOWN = 4  # images with made-up defects


def draw(found: Recommendation, held_out: Images, folder: Path) -> list[Path]:
    """Write `tradeoff.png` and `made_up_defects.png`.

    Returns:
        The files written.

    Raises:
        StorageFull: the folder cannot be written.
    """
    figures = {"tradeoff": _tradeoff(found), "made_up_defects": _sheet(found, held_out)}
    return save(figures, folder)


def _tradeoff(found: Recommendation) -> Figure:
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = plain(figure.add_subplot())
    judged = [trial for trial in found.trials if trial.image_auroc is not None]
    lowest = min((t.image_auroc_90[0] for t in judged if t.image_auroc_90), default=0.5)
    floor = max(0.0, lowest - 0.08)
    for trial in judged:
        _point(axes, trial)
    for trial in found.trials:
        if trial.status == "too slow" and trial.ms is not None:
            axes.plot(trial.ms, floor, marker="x", color=GREY, markersize=7, clip_on=False)
            axes.annotate(f" {trial.name}", (trial.ms, floor), rotation=60, fontsize=8, color=GREY, va="bottom")
    axes.axvline(found.budget_ms, color=LIMIT, linewidth=1.2, linestyle="--")
    allowed = f"{found.budget_ms:g} ms allowed "
    axes.annotate(allowed, (found.budget_ms, 0.01), xycoords=("data", "axes fraction"), fontsize=8, ha="right")
    axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.set_ylim(floor, 1.02)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("time of judging one image, ms")
    axes.set_ylabel(f"image AUROC on made-up defects\n({', '.join(found.compared_on)})")
    figure.suptitle("What each candidate costs and finds", x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _point(axes: Axes, trial: Trial) -> None:
    colour = {"chosen": DEFECT, "equal": GOOD}.get(trial.status, GREY)
    value = trial.image_auroc or 0.0
    low, high = trial.image_auroc_90 or (value, value)
    ms = trial.ms or 0.0
    axes.plot([ms, ms], [low, high], color=colour, linewidth=1.2, alpha=0.6)
    axes.plot(ms, value, marker="o", color=colour, markersize=9 if trial.status == "chosen" else 6)
    axes.annotate(
        f"  {trial.name}",
        (ms, value),
        fontsize=9,
        color=colour,
        va="center",
        fontweight="bold" if trial.status == "chosen" else "normal",
    )


def _sheet(found: Recommendation, held_out: Images) -> Figure:
    spread = np.unique(np.linspace(0, len(held_out) - 1, min(_SHOWN, len(held_out))).round().astype(int)).tolist()
    width, height = found.image_size
    figure = Figure(
        figsize=(1.6 * (1 + len(PROBES)), (1.6 * height / width + 0.1) * len(spread) + 0.5), layout="constrained"
    )
    grid = figure.subplots(len(spread), 1 + len(PROBES), squeeze=False)
    drawn = probes(held_out.select(spread), kinds=PROBES, copies=1, seed=found.seed)
    for axes, probe in zip(grid.ravel(), drawn, strict=True):
        axes.set_axis_off()
        axes.imshow(probe.picture)
        if probe.mask.any():
            axes.contour(probe.mask, levels=[0.5], colors="#22d3ee", linewidths=0.8)
        if probe.number == 0:
            counts = probe.kind == "good" or probe.kind in found.compared_on
            axes.set_title(probe.kind if counts else f"{probe.kind} (does not count)", fontsize=8)
    figure.suptitle("Held-out images with made-up defects", x=0.005, ha="left", fontsize=12, fontweight="bold")
    return figure
