"""A calibration drawn: what its promise rests on, and what more good data would buy."""

from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import beta

from inference.blocks import correlation_time
from inference.calibration import Calibration
from inference.threshold import Threshold, scores_needed, span
from inference.training.figures import plain, save

GOOD, DEFECT, LIMIT, GREY = "#2b6cb0", "#c2410c", "#111827", "#6b7280"


def draw(calibration: Calibration, limit: Threshold, folder: Path, *, model: str) -> list[Path]:
    """Write `good_scores.png`, `tail.png`, `promise.png` and, of a video, `time.png`.

    Args:
        calibration: the good scores.
        limit: the threshold that was asked for.
        folder: where to; made if need be.
        model: what titles call it.

    Returns:
        The files written.

    Raises:
        StorageFull: the folder cannot be written.
    """
    figures = {
        "good_scores": _good_scores(calibration, limit, model),
        "tail": _tail(calibration, limit, model),
        "promise": _promise(calibration, limit, model),
    }
    if calibration.sequence is not None:
        figures["time"] = _time(calibration, limit, model)
    return save(figures, folder)


def _titled(figure: Figure, title: str, below: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.axes[0].set_title(below, loc="left", fontsize=9.5, color=GREY)


def _unit(calibration: Calibration) -> str:
    if calibration.unit == "image":
        return "good images"
    return "good blocks" if calibration.block_s is None else f"good blocks of {span(calibration.block_s)}"


def _good_scores(calibration: Calibration, limit: Threshold, model: str) -> Figure:
    """Share of good units above each score, and where the threshold lies in it."""
    figure = Figure(figsize=(7.5, 4.0), layout="constrained")
    axes = plain(figure.add_subplot())
    scores = np.asarray(calibration.scores)
    above = 1 - np.arange(scores.size) / scores.size  # at least this share scores as much or more
    axes.step(scores, above, where="post", color=GOOD, linewidth=1.8, label=f"{scores.size} {_unit(calibration)}")
    if limit.treatment == "tail" and calibration.tail is not None:
        rates = np.geomspace(min(limit.asked, 1 / scores.size) / 2, calibration.tail.excesses.size / scores.size, 100)
        fitted = [calibration.tail.quantile(float(rate)) for rate in rates]
        axes.plot(fitted, rates, color=DEFECT, linewidth=1.4, linestyle="--", label="tail fitted to the highest")
    axes.axvline(limit.threshold, color=LIMIT, linewidth=1.4, linestyle="--", label=f"threshold {limit.threshold:.4g}")
    axes.axhline(limit.asked, color=GREY, linewidth=1.2, linestyle=":", label=f"asked {_asked(limit)}")
    axes.axhline(limit.guaranteed_rate, color=GREY, linewidth=1.2, label=f"guaranteed {_share(limit.guaranteed_rate)}")
    axes.set_yscale("log")
    axes.set_ylim(min(limit.asked, 1 / scores.size) / 2, 1.2)
    axes.set(xlabel="image score", ylabel=f"share of {_unit(calibration)} above it")
    axes.legend(frameon=False, fontsize=9)
    _titled(figure, f"Good scores of {model}", limit.lines()["guaranteed"])
    return figure


def _tail(calibration: Calibration, limit: Threshold, model: str) -> Figure:
    """The highest scores against where the fitted law puts them; a note where there is none."""
    figure = Figure(figsize=(5.4, 5.0), layout="constrained")
    axes = plain(figure.add_subplot())
    tail = calibration.tail
    if tail is None:
        reason = limit.reason or "no estimate is needed: what was asked is promised, by the rank of a good score"
        axes.text(
            0.5, 0.5, fill(reason, 40), ha="center", va="center", transform=axes.transAxes, color=GREY, fontsize=12
        )
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        _titled(figure, f"Tail of {model}", "no law was fitted")
        return figure
    found, expected = tail.start + tail.excesses, tail.expected()
    both = [min(float(found[0]), float(expected[0])), max(float(found[-1]), float(expected[-1]))]
    axes.plot(both, both, color=GREY, linewidth=1)
    axes.plot(expected, found, "o", color=GOOD if tail.fits else DEFECT, markersize=4, alpha=0.8)
    axes.set(xlabel="score where the law puts it", ylabel="good score")
    law = f"generalised Pareto above {tail.start:.4g}: shape {tail.shape:.2f}, scale {tail.scale:.3g}"
    verdict = "fits" if tail.fits else "REJECTED: no estimate is made from it"
    told = f"{law}\n{tail.excesses.size} exceedances, Anderson-Darling p = {tail.p_value:.2g}: {verdict}"
    _titled(figure, f"Tail of {model}", told)
    return figure


def _promise(calibration: Calibration, limit: Threshold, model: str) -> Figure:
    """What each threshold promises, with the data there is and with more like it."""
    figure = Figure(figsize=(7.5, 4.0), layout="constrained")
    axes = plain(figure.add_subplot())
    scores, n = np.asarray(calibration.scores), len(calibration.scores)
    right = max(float(scores[-1]), limit.threshold) + 0.05 * (float(np.ptp(scores)) or 1.0)
    thresholds = np.append(right, scores[::-1])  # above the highest score the promise stays that of the highest
    for times, colour, width in ((1, GOOD, 2.0), (3, "#7c3aed", 1.3), (10, "#0f766e", 1.3)):
        ranks = np.arange(1, n + 1)
        promised = beta.ppf(limit.confidence, (ranks - 1) * times + 1, times * n - (ranks - 1) * times)
        much = "the data there is" if times == 1 else f"{times} times as much of the same"
        axes.step(
            thresholds,
            np.append(promised[0], promised),
            where="pre",
            color=colour,
            linewidth=width,
            label=f"with {much}",
        )
    axes.axhline(limit.asked, color=GREY, linewidth=1.2, linestyle=":", label=f"asked {_asked(limit)}")
    axes.axvline(limit.threshold, color=LIMIT, linewidth=1.4, linestyle="--", label=f"threshold {limit.threshold:.4g}")
    axes.set_yscale("log")
    axes.set_ylim(min(limit.asked, float(beta.ppf(limit.confidence, 1, 10 * n))) / 1.5, 1.2)
    axes.set(xlabel="threshold", ylabel=f"at most this share of {_unit(calibration)}")
    axes.legend(frameon=False, fontsize=9)
    needed = scores_needed(limit.asked, limit.confidence)
    has = f"{n} {_unit(calibration)}"
    said = f"{has}, {needed} promise {_share(limit.asked)} with {_share(limit.confidence)} confidence"
    _titled(figure, f"What {model} can promise", said)
    return figure


def _time(calibration: Calibration, limit: Threshold, model: str) -> Figure:
    """How long scores remember, and the blocks over time."""
    figure = Figure(figsize=(8.5, 5.6), layout="constrained")
    top, bottom = (plain(axes) for axes in figure.subplots(2, 1, height_ratios=(3, 2)))
    frames = np.asarray(calibration.sequence, np.float64)
    step, length = calibration.frame_s or 1.0, calibration.decorrelation
    unit = "frames" if calibration.frame_s is None else "s"
    top.plot(np.arange(frames.size) * step, frames, color=GOOD, linewidth=0.7, alpha=0.6, label="frames")
    edges = np.append(np.arange(max(frames.size // length, 1)) * length, frames.size)
    maxima = np.maximum.reduceat(frames, edges[:-1])
    top.hlines(maxima, edges[:-1] * step, edges[1:] * step, color=DEFECT, linewidth=1.6, label="highest of each block")
    top.axhline(limit.threshold, color=LIMIT, linewidth=1.4, linestyle="--", label=f"threshold {limit.threshold:.4g}")
    top.set(xlabel=f"time in {unit}", ylabel="image score", xlim=(0, frames.size * step))
    top.legend(frameon=False, fontsize=9, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0))
    lags, correlation = _autocorrelation(frames, min(2 * length, frames.size - 1))
    bottom.fill_between(lags * step, correlation, color=GOOD, alpha=0.25, linewidth=0)
    bottom.plot(lags * step, correlation, color=GOOD, linewidth=1.4)
    bottom.axhline(0, color=GREY, linewidth=0.8)
    time = correlation_time(frames)
    bottom.axvline(time * step, color=GREY, linestyle=":", label=f"correlation time {time * step:.3g} {unit}")
    bottom.axvline(length * step, color=LIMIT, linestyle="--", label=f"block {length * step:.3g} {unit}")
    bottom.set(xlabel=f"lag in {unit}", ylabel="autocorrelation", xlim=(0, max(2 * length * step, step)))
    bottom.legend(frameon=False, fontsize=9)
    figure.suptitle(f"Good video as {model} scores it", x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _autocorrelation(x: NDArray[np.float64], last: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    centred = x - x.mean()
    power = float(centred @ centred) or 1.0
    lags = np.arange(last + 1)
    return lags.astype(np.float64), np.array([float(centred[: x.size - lag] @ centred[lag:]) / power for lag in lags])


def _asked(limit: Threshold) -> str:
    share = _share(limit.asked)
    return share if limit.text is None or limit.text.replace(" ", "") == share.replace(" ", "") else limit.text


def _share(share: float) -> str:
    return f"{100 * share:.3g} %"
