"""Results as tables: ours beside the paper's, category by category, their mean, and all together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from inference.training.benchmark import Benchmark, Step
from inference.training.protocols.base import PaperProtocol
from inference.training.protocols.published import Published, published
from inference.training.tally import Figures, joined

COMPARED = ("image_auroc", "pixel_auroc", "aupro")
"""Metrics that papers print."""
_MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure in percent; over several seeds their mean and standard deviation."""

    ours: float | None = None
    spread: float | None = None
    paper: float | None = None

    @property
    def difference(self) -> float | None:
        """Ours less the paper's."""
        return None if self.ours is None or self.paper is None else self.ours - self.paper

    def texts(self) -> list[str]:
        """Ours with its spread, the paper's, and the difference; `-` for what there is not."""
        ours = _shown(self.ours) + ("" if self.spread is None else f" ± {self.spread:.1f}")
        return [ours, _shown(self.paper), _shown(self.difference, "+.1f")]


@dataclass(frozen=True, slots=True)
class Row:
    """Figures by metric; a category's, or a `summary` of several."""

    name: str
    cells: Mapping[str, Cell]
    summary: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One detector on one dataset.

    Attributes:
        detector: its name.
        title: what was measured.
        unit: what a category is called.
        names: of the metrics shown, in the order of columns.
        rows: categories, then summaries.
        notes: what a reader must know, a line each.
        paper: whose figures stand beside ours; empty: nobody's.
    """

    detector: str
    title: str
    unit: str
    names: Mapping[str, str]
    rows: Sequence[Row]
    notes: Sequence[str]
    paper: str = ""

    def compares(self, metric: str) -> bool:
        """Whether there is any figure of the paper in a column."""
        return any(metric in row.cells and row.cells[metric].paper is not None for row in self.rows)

    def headings(self) -> list[str]:
        """One per column."""
        found = [self.unit]
        for metric, name in self.names.items():
            found += [name, "paper", "diff"] if self.compares(metric) else [name]
        return found

    def lines(self) -> list[list[str]]:
        """Rows as text, as many entries as headings."""
        return [[row.name, *self._entries(row)] for row in self.rows]

    def _entries(self, row: Row) -> list[str]:
        found = []
        for metric in self.names:
            cell = row.cells.get(metric, Cell())
            texts = cell.texts()
            found += texts if self.compares(metric) else texts[:1]
        return found

    def markdown(self) -> str:
        """The table for a document."""
        headings = self.headings()
        rule = ["---", *("---:" for _ in headings[1:])]
        body = [f"| {' | '.join(line)} |" for line in (headings, rule, *self.lines())]
        paper = [f"Paper: {self.paper}."] if self.paper else []
        return "\n".join([f"### {self.title}", "", *body, "", *(f"- {line}" for line in [*paper, *self.notes])])

    def as_json(self) -> dict[str, Any]:
        """The table for a program; figures in percent."""
        rows = [
            {
                "name": row.name,
                "summary": row.summary,
                "figures": {
                    metric: {"ours": cell.ours, "spread": cell.spread, "paper": cell.paper}
                    for metric, cell in row.cells.items()
                },
            }
            for row in self.rows
        ]
        about = {"detector": self.detector, "title": self.title, "paper": self.paper}
        return {**about, "notes": list(self.notes), "rows": rows}


@dataclass(slots=True)
class _Gathered:
    """Results of one detector: by category, then by seed."""

    results: dict[str, dict[int, Figures]] = field(default_factory=dict)
    counts: dict[int, list[Path]] = field(default_factory=dict)


def tables(benchmark: Benchmark, steps: Sequence[Step]) -> list[Table]:
    """Make one table per detector and setting, of the steps of a benchmark that has been carried out."""
    found: dict[str, list[Step]] = {}
    for step in steps:
        # But for the seed; random weights follow from it.
        found.setdefault(f"{step.arm.detector} { ({**step.arm.settings, 'seed': None}) }", []).append(step)
    return [_table(benchmark, mine) for mine in found.values()]


def _table(benchmark: Benchmark, steps: Sequence[Step]) -> Table:
    protocol, arm = benchmark.protocol, steps[0].arm
    gathered = _gather(benchmark, steps)
    paper = published(arm.detector, protocol.name, arm.settings)
    rows = [_row(name, list(by_seed.values()), paper) for name, by_seed in gathered.results.items()]
    notes = [
        f"{step.category}: not judged, {step.skipped}; not counted in the mean."
        for step in {step.category: step for step in steps if step.skipped}.values()
    ]
    if len(rows) > 1:
        rows.append(_mean_row(protocol, gathered, paper, notes))
        if protocol.pooled:
            rows.append(_pooled_row(protocol, gathered))
    seeds = {step.arm.made.settings.seed for step in steps}
    if len(seeds) > 1:
        notes.append(f"Mean and standard deviation over {len(seeds)} seeds.")
    names = _names(protocol)
    shown = {m: name for m, name in names.items() if any(m in row.cells for row in rows)}
    backbone = arm.settings.get("backbone")
    how = [str(arm.geometry), *([str(backbone)] if backbone else [])]
    if protocol.every > 1:
        how.append(f"one training frame in {protocol.every}")
    return Table(
        detector=arm.detector,
        title=f"{arm.detector} on {protocol.title}: {', '.join(how)}",
        unit=protocol.unit,
        names=shown,
        rows=rows,
        notes=[*notes, *protocol.notes],
        paper=f"{paper.method}; {paper.source}" if paper is not None and _any_printed(rows) else "",
    )


def _gather(benchmark: Benchmark, steps: Sequence[Step]) -> _Gathered:
    gathered = _Gathered()
    for step in steps:
        if step.result is None:
            continue
        seed = step.arm.made.settings.seed
        gathered.results.setdefault(step.category, {})[seed] = step.result.figures
        gathered.counts.setdefault(seed, []).append(benchmark.results.counts(step.result.makings.key))
    return gathered


def _names(protocol: PaperProtocol) -> dict[str, str]:
    level = protocol.level
    return {
        "image_auroc": f"{level} AUROC",
        "pixel_auroc": "pixel AUROC",
        "aupro": "AUPRO",
        "image_average_precision": f"{level} AP",
        "image_f1_max": f"{level} F1",
        "pixel_average_precision": "pixel AP",
        "pixel_f1_max": "pixel F1",
    }


def _row(name: str, figures: Sequence[Figures], paper: Published | None, *, summary: bool = False) -> Row:
    """Figures of several seeds, beside the paper's for the category of this name."""
    printed = {} if paper is None else paper.categories.get(name, {})
    return Row(name, _cells(figures, printed), summary)


def _cells(figures: Sequence[Figures], printed: Mapping[str, float]) -> dict[str, Cell]:
    cells = {}
    for metric in Figures.model_fields:
        values = [100 * value for one in figures if (value := getattr(one, metric)) is not None]
        if values:
            spread = stdev(values) if len(values) > 1 else None
            cells[metric] = Cell(mean(values), spread, printed.get(metric))
    return cells


def _mean_row(protocol: PaperProtocol, gathered: _Gathered, paper: Published | None, notes: list[str]) -> Row:
    """Mean over categories, of each seed."""
    names = list(gathered.results)
    seeds = sorted(gathered.counts)
    by_seed = [_mean([by[seed] for by in gathered.results.values() if seed in by]) for seed in seeds]
    printed: dict[str, float] = {}
    if paper is not None:
        printed = _papers_mean(protocol, paper, names)
        if not printed:
            listed = ", ".join(f"{_names(protocol)[metric]} {value}" for metric, value in paper.means.items())
            notes.append(f"The paper's mean is over all {protocol.complete} {protocol.units}: {listed}.")
        elif len(names) < len(paper.categories):
            notes.append(f"The paper's mean here is over the same {len(names)} of its {len(paper.categories)}.")
    return Row(f"{_MEAN} of {len(names)} {protocol.units}", _cells(by_seed, printed), summary=True)


def _papers_mean(protocol: PaperProtocol, paper: Published, names: Sequence[str]) -> dict[str, float]:
    """The paper's mean where it is over the same categories: as printed for all of them, else worked out."""
    if len(names) == protocol.complete and (not paper.categories or set(names) == set(paper.categories)):
        return dict(paper.means)
    found = {}
    for metric in paper.means:
        values = [paper.categories[name].get(metric) for name in names if name in paper.categories]
        known = [value for value in values if value is not None]
        if len(known) == len(names):
            found[metric] = mean(known)
    return found


def _mean(figures: Sequence[Figures]) -> Figures:
    """Mean of each metric that all of the categories have."""
    found: dict[str, float] = {}
    for metric in Figures.model_fields:
        values = [value for one in figures if (value := getattr(one, metric)) is not None]
        if values and len(values) == len(figures):
            found[metric] = mean(values)
    return Figures.model_validate(found)


def _pooled_row(protocol: PaperProtocol, gathered: _Gathered) -> Row:
    """Scores of all categories judged as one set, although each has a model of its own."""
    figures = [joined(files).figures() for files in gathered.counts.values()]
    return _row(f"all {protocol.units} together", figures, None, summary=True)


def _any_printed(rows: Sequence[Row]) -> bool:
    return any(cell.paper is not None for row in rows for cell in row.cells.values())


def _shown(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else format(value, form)
