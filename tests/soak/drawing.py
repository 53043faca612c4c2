"""The run as one picture: memory and descriptors of each process, evidence against its cap."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from tests.soak.judging import Report, after_warm_up
from tests.soak.samples import Process, Sample

# Told apart with any eyesight (Okabe and Ito).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def draw(samples: Sequence[Sample], report: Report, file: Path) -> None:
    """Write a PNG."""
    figure = Figure(figsize=(11, 9), dpi=120, layout="constrained")
    memory, descriptors, stores = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    warm_min = after_warm_up(samples)[0].at_s / 60
    colours = dict(zip(report.roles, _COLOURS * 3, strict=False))
    for name, role in report.roles.items():
        label = f"{name}: {role.memory.mb_per_h:+.1f} MB/h, {role.memory.trend}"
        _plot(memory, samples, name, lambda process: process.rss_mb, color=colours[name], label=label)
        _plot(descriptors, samples, name, lambda process: process.fds, color=colours[name], label=name)
    memory.set_ylabel("resident memory, MB")
    memory.set_yscale("log")
    memory.yaxis.set_major_formatter("{x:g}")
    memory.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    memory.yaxis.set_minor_formatter(NullFormatter())
    descriptors.set_ylabel("open file descriptors")
    minutes = [sample.at_s / 60 for sample in samples]
    stores.plot(minutes, [sample.evidence_mb for sample in samples], color=_COLOURS[0], label="evidence")
    stores.axhline(report.evidence_cap_mb, color=_COLOURS[0], linestyle="--", linewidth=1, label="its cap")
    stores.plot(minutes, [sample.redis_mb for sample in samples], color=_COLOURS[1], label="Redis, in memory")
    stores.plot(minutes, [sample.history_mb for sample in samples], color=_COLOURS[2], label="history")
    stores.plot(minutes, [sample.wal_mb for sample in samples], color=_COLOURS[3], label="history's write-ahead log")
    stores.set_ylabel("MB")
    stores.set_xlabel("minutes")
    for axes in (memory, descriptors, stores):
        axes.axvspan(minutes[0], warm_min, color="0.94", linewidth=0)
        axes.set_xlim(minutes[0], minutes[-1])
        axes.grid(color="0.9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    descriptors.set_ylim(bottom=0)
    stores.set_ylim(bottom=0)
    memory.set_title(
        f"{report.minutes:.0f} minutes, {report.frames:,} frames, {report.frames_per_s:.0f} a second, "
        f"{report.lost_share:.0%} of them not judged, {report.cores_busy:.1f} cores busy: "
        + ("all held" if report.ok else f"{len(report.faults)} did not hold"),
        loc="left",
        fontsize=11,
    )
    memory.text(minutes[0], 1.0, " warm-up", transform=memory.get_xaxis_transform(), va="top", fontsize=8, color="0.45")
    figure.savefig(file)


def _plot(axes: Axes, samples: Sequence[Sample], name: str, value: Callable[[Process], float], **style: Any) -> None:
    known = [(sample.at_s / 60, value(sample.roles[name])) for sample in samples if name in sample.roles]
    axes.plot([at for at, _ in known], [y for _, y in known], linewidth=1.4, **style)
