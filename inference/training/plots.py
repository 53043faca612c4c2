"""An evaluation drawn: curves, score histograms and a sheet of heat maps."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from inference.training.evaluate import SPECIMENS, Findings, Specimen
from inference.training.figures import plain, save
from inference.training.metrics import PRO_LIMIT

GOOD, DEFECT, LIMIT, GREY = "#2b6cb0", "#c2410c", "#111827", "#6b7280"
_KINDS = ("#c2410c", "#7c3aed", "#0f766e", "#be185d", "#a16207", "#1d4ed8", "#4d7c0f", "#9f1239")


def draw(findings: Findings, folder: Path) -> list[Path]:
    """Write `scores.png`, `roc.png`, `heat_maps.png` and, where there are masks, `pro.png`.

    Returns:
        The files written.

    Raises:
        StorageFull: the folder cannot be written.
    """
    figures = {"scores": _scores(findings), "roc": _roc(findings), "heat_maps": _sheet(findings)}
    if findings.pro is not None:
        figures["pro"] = _pro(findings)
    return save(figures, folder)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = plain(figure.add_subplot())
    return figure, axes


def _scores(findings: Findings) -> Figure:
    good = findings.scores["good"]
    defects = np.concatenate([s for kind, s in findings.scores.items() if kind != "good"])
    figure, axes = _figure(7.5, 3.8)
    both = np.concatenate([good, defects])
    low, high = float(both.min()), float(both.max())
    if low > 0 and high / low > 20:  # a few glaring defects must not squeeze the rest into one bar
        bins = np.geomspace(low, high, 49)
        axes.set_xscale("log")
    else:
        bins = np.linspace(low, high, 49) if high > low else np.linspace(low - 0.5, high + 0.5, 49)
    for values, colour, name in ((good, GOOD, "good"), (defects, DEFECT, "defective")):
        axes.hist(
            values,
            bins=bins.tolist(),
            weights=np.full(values.size, 1 / values.size),
            color=colour,
            alpha=0.6,
            label=f"{name} ({values.size})",
        )
    summary = findings.summary
    if (limit := findings.limit) is not None:
        text = f"threshold {limit.threshold:.4g}{' (extrapolated)' if limit.extrapolated else ''}"
        axes.axvline(limit.threshold, color=LIMIT, linewidth=1.4, linestyle="--", label=text)
        axes.set_title(
            f"{summary.false_alarm_rate:.1%} of good rejected (asked {100 * limit.asked:.3g}%), "
            f"{summary.escape_rate:.1%} of defects escape",
            loc="left",
            fontsize=10,
            color=GREY,
        )
    figure.suptitle(f"Image scores of {summary.model}", x=0.01, ha="left", fontsize=12, fontweight="bold")
    axes.set_xlabel("image score")
    axes.set_ylabel("share of images")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(frameon=False)
    return figure


def _roc(findings: Findings) -> Figure:
    figure, axes = _figure(5.2, 5.0)
    good = findings.scores["good"]
    kinds = {kind: s for kind, s in findings.scores.items() if kind != "good"}
    summary = findings.summary
    if len(kinds) > 1:
        for i, (kind, values) in enumerate(kinds.items()):
            label = f"{kind} {summary.kinds[kind].image_auroc:.3f}"
            _roc_line(axes, good, values, color=_KINDS[i % len(_KINDS)], linewidth=1.0, alpha=0.75, label=label)
    everything = np.concatenate(list(kinds.values()))
    _roc_line(
        axes, good, everything, color=LIMIT, linewidth=2.2, alpha=1.0, label=f"all images {summary.image_auroc:.3f}"
    )
    if findings.roc is not None:
        label = f"pixels {summary.pixel_auroc:.3f}"
        axes.plot(*_thin(findings.roc), color=GREY, linewidth=1.4, linestyle="--", label=label)
    axes.plot([0, 1], [0, 1], color="#d1d5db", linewidth=1, zorder=0)
    axes.set_aspect("equal")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="good rejected", ylabel="defects found")
    figure.suptitle(f"ROC of {summary.model}", x=0.01, ha="left", fontsize=12, fontweight="bold")
    axes.legend(title="area under the curve", frameon=False, loc="lower right", fontsize=9, alignment="left")
    return figure


def _roc_line(
    axes: Axes,
    good: NDArray[np.float64],
    defects: NDArray[np.float64],
    *,
    color: str,
    linewidth: float,
    alpha: float,
    label: str,
) -> None:
    labels = np.concatenate([np.zeros(good.size), np.ones(defects.size)])
    fpr, tpr, _ = roc_curve(labels, np.concatenate([good, defects]))
    axes.plot(fpr, tpr, color=color, linewidth=linewidth, alpha=alpha, label=label)


def _pro(findings: Findings) -> Figure:
    figure, axes = _figure(5.6, 4.2)
    if findings.pro is None:
        raise ValueError("an evaluation without masks has no PRO curve")
    fpr, pro = _thin(findings.pro)
    axes.plot(fpr, pro, color=DEFECT, linewidth=2)
    inside = fpr <= PRO_LIMIT
    axes.fill_between(
        np.append(fpr[inside], PRO_LIMIT),
        np.append(pro[inside], np.interp(PRO_LIMIT, fpr, pro)),
        color=DEFECT,
        alpha=0.12,
        linewidth=0,
    )
    axes.axvline(PRO_LIMIT, color=GREY, linewidth=1, linestyle="--")
    axes.text(PRO_LIMIT / 2, 0.06, f"AUPRO {findings.summary.aupro:.3f}", ha="center", color=DEFECT, fontsize=11)
    axes.set(
        xlim=(0, 2 * PRO_LIMIT),
        ylim=(0, 1.01),
        xlabel="normal pixels above the threshold",
        ylabel="mean share of each region",
    )
    figure.suptitle(
        f"Per-region overlap of {findings.summary.model}", x=0.01, ha="left", fontsize=12, fontweight="bold"
    )
    return figure


def _thin(curve: tuple[NDArray[np.float64], NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A curve of a million points drawn with at most 4000."""
    x, y = curve
    kept = np.unique(np.linspace(0, x.size - 1, min(x.size, 4000)).astype(int))
    return x[kept], y[kept]


def _sheet(findings: Findings) -> Figure:
    rows = [
        ("good, highest scores", findings.worst_good, GOOD),
        ("defects, highest scores", findings.best_defects, DEFECT),
        ("defects, lowest scores", findings.worst_defects, DEFECT),
    ]
    height, width = rows[0][1][0].picture.shape[:2]
    panel = 1.55
    figure = Figure(figsize=(2 * SPECIMENS * panel, 3 * (panel * height / width + 0.45) + 0.4), layout="constrained")
    low, high = _scale([specimen for _, specimens, _ in rows for specimen in specimens])
    parts = np.asarray(figure.subfigures(len(rows), 1, hspace=0.02), object).ravel()
    for part, (title, specimens, colour) in zip(parts, rows, strict=True):
        part.suptitle(title, x=0.005, ha="left", fontsize=11, fontweight="bold", color=colour)
        grid = part.subplots(1, 2 * SPECIMENS, squeeze=False)[0]
        for axes in grid:
            axes.set_axis_off()
        for i, specimen in enumerate(specimens):
            verdict = ""
            if findings.limit is not None:
                verdict = " rejected" if specimen.score > findings.limit.threshold else " passes"
            _show(grid[2 * i], grid[2 * i + 1], specimen, low=low, high=high, verdict=verdict)
    figure.suptitle(f"Heat maps of {findings.summary.model}", x=0.005, ha="left", fontsize=13, fontweight="bold")
    return figure


def _scale(specimens: list[Specimen]) -> tuple[float, float]:
    """One colour scale for the whole sheet, so that a good image looks calm beside a defect."""
    maps = np.stack([specimen.anomaly_map for specimen in specimens])
    low, high = np.quantile(maps, [0.5, 0.995])
    return float(low), float(high if high > low else low + 1)


def _show(plain: Axes, heat: Axes, specimen: Specimen, *, low: float, high: float, verdict: str) -> None:
    plain.imshow(specimen.picture)
    heat.imshow(specimen.picture)
    strength = np.clip((specimen.anomaly_map - low) / (high - low), 0, 1)
    heat.imshow(strength, cmap="inferno", vmin=0, vmax=1, alpha=0.15 + 0.7 * strength)
    if specimen.mask.any():
        for axes, colour in ((plain, "#22d3ee"), (heat, "#ffffff")):
            axes.contour(specimen.mask, levels=[0.5], colors=colour, linewidths=1.0)
    plain.set_title(_short(specimen.name), fontsize=7.5, loc="left", pad=2)
    heat.set_title(f"{specimen.score:.4g}{verdict}", fontsize=7.5, loc="left", pad=2)


def _short(name: str, length: int = 21) -> str:
    return name if len(name) <= length else f"{name[: math.ceil(length / 2) - 1]}…{name[-(length // 2) :]}"
