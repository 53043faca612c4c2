"""A table as a picture: one dot per category and metric, the paper's beside ours."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from inference.training.benchmark_tables import COMPARED, Cell, Row, Table
from inference.training.figures import save
from inference.training.plots import GOOD, GREY, LIMIT

_PAPER = "#d97706"
_NARROWEST = 4.0  # percent; closer figures would look further apart than they are


def draw(tables: Sequence[Table], folder: Path, dataset: str) -> list[Path]:
    """Write `<dataset>-<detector>.png` for each table.

    Returns:
        The files written.

    Raises:
        StorageFull: the folder cannot be written.
    """
    return save({f"{dataset}-{table.detector}": dots(table) for table in tables}, folder)


def dots(table: Table) -> Figure:
    """Draw one panel per metric that papers print, categories from top to bottom, then what sums them up."""
    metrics = [metric for metric in COMPARED if metric in table.names]
    rows = list(table.rows)
    categories = sum(not row.summary for row in rows)
    # Summaries stand a little apart.
    heights = [float(n) if n < categories else n + 0.6 for n in range(len(rows))]
    figure = Figure(figsize=(2.0 + 2.9 * len(metrics), 1.5 + 0.27 * (heights[-1] + 1)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)  # type: ignore[union-attr,call-arg]  # it is the constrained one
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _panel(axes, table.names[metric], rows, heights, metric)
    panels[0].set_yticks(heights, [row.name for row in rows])
    panels[0].set_ylim(heights[-1] + 0.6, -0.6)
    for label, row in zip(panels[0].get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.summary else "normal")
    figure.suptitle(table.title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    _legend(figure, table, metrics)
    return figure


def _panel(axes: Axes, name: str, rows: Sequence[Row], heights: Sequence[float], metric: str) -> None:
    cells = [row.cells.get(metric, Cell()) for row in rows]
    for height, cell, row in zip(heights, cells, rows, strict=True):
        if cell.ours is not None and cell.paper is not None:
            axes.plot([cell.ours, cell.paper], [height] * 2, color="#cbd5e1", linewidth=2.5, zorder=1)
        if cell.paper is not None:
            axes.plot(cell.paper, height, "o", markersize=7.5, fillstyle="none", markeredgewidth=1.6, color=_PAPER)
        if cell.ours is not None:
            axes.errorbar(
                cell.ours,
                height,
                xerr=None if cell.spread is None else [[cell.spread], [min(cell.spread, 100 - cell.ours)]],
                fmt="D" if row.summary else "o",
                markersize=5,
                color=GOOD,
                elinewidth=1.2,
                clip_on=False,
                zorder=3,
            )
    low, high = _span(cells)
    axes.set_xlim(low, high)
    if high > 100:
        axes.axvline(100, color="#94a3b8", linewidth=0.8, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_title(name, loc="left", fontsize=10)
    axes.set_xlabel("percent", fontsize=8.5, color=GREY)
    axes.tick_params(labelsize=8.5, length=0)
    axes.grid(axis="both", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    if summaries := [height for height, row in zip(heights, rows, strict=True) if row.summary]:
        axes.axhline(summaries[0] - 0.8, color="#94a3b8", linewidth=0.8)


def _span(cells: Sequence[Cell]) -> tuple[float, float]:
    """What an axis shows: every figure with its spread, no less than 4 percent, nothing far above 100."""
    papers = [cell.paper for cell in cells if cell.paper is not None]
    ours = [(cell.ours, cell.spread or 0.0) for cell in cells if cell.ours is not None]
    low = max(min([*papers, *(value - spread for value, spread in ours)]), 0.0)
    high = min(max([*papers, *(value + spread for value, spread in ours)]), 100.0)
    if (missing := _NARROWEST - (high - low)) > 0:
        high = min(high + missing / 2, 100.0)
        low = high - _NARROWEST
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def _legend(figure: Figure, table: Table, metrics: Sequence[str]) -> None:
    ours = Line2D([], [], color=GOOD, marker="o", markersize=5, linestyle="none", label="measured here")
    entries = [ours]
    if any(table.compares(metric) for metric in metrics):
        about = table.paper.partition(";")[0]
        mark = {"marker": "o", "fillstyle": "none", "markeredgewidth": 1.6, "markersize": 7.5}
        entries.append(Line2D([], [], color=_PAPER, linestyle="none", label=f"published: {about}", **mark))  # type: ignore[arg-type]  # a dict of unlike values
    figure.legend(
        handles=entries, loc="outside lower left", ncols=len(entries), frameon=False, fontsize=9, labelcolor=LIMIT
    )
