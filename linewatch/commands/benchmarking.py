"""`linewatch benchmark`: the papers' tables, measured on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from linewatch import telemetry
from linewatch.commands.fitting import Device
from linewatch.commands.settings import names_in, settings_of_each

if TYPE_CHECKING:
    from inference.training.benchmark import Entrant, Step
    from inference.training.benchmark_tables import Cell, Table

app = typer.Typer()


@app.command()
def benchmark(
    *,
    dataset: Annotated[str, typer.Option(help="mvtec, rd-mvtec, btad, stc, visa, kolektorsdd")],
    root: Annotated[Path, typer.Option(metavar="DIR", help="Holds the dataset as its authors publish it.")],
    detectors: Annotated[str, typer.Option(metavar="A,B", help="Names of detectors.")],
    categories: Annotated[str, typer.Option(metavar="A,B", help="Some of the categories; default: all.")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="[DETECTOR.]key=value", help="A setting, image_size too; repeatable."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="[DETECTOR=]FILE|random|NAME", help="Backbone weights; default: the local store."),
    ] = None,
    profile: Annotated[
        Literal["quick", "paper"] | None, typer.Option(help="Settings to start from; default: quick on a CPU.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The first seed.", min=0)] = 0,
    seeds: Annotated[int, typer.Option(help="How many, one after the other.", min=1)] = 1,
    every: Annotated[int, typer.Option(help="Of training videos, take each so many-th frame.", min=1)] = 1,
    device: Device = "auto",
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Results; what is there already is not measured again."),
    ] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw ours beside the papers' here.")] = None,
) -> None:
    """Fit and judge a dataset as papers do, and print their figures beside ours."""
    telemetry.configure("benchmark")
    from inference.training.benchmark import Benchmark  # noqa: PLC0415 - brings torch
    from inference.training.benchmark_results import Results  # noqa: PLC0415 - brings torch
    from inference.training.benchmark_tables import tables  # noqa: PLC0415 - brings torch
    from inference.training.protocols import protocol_class  # noqa: PLC0415 - brings OpenCV
    from linewatch.commands.progress import progress_bar  # noqa: PLC0415 - brings rich

    protocol = protocol_class(dataset)(root, every=every)
    entrants = _entrants(names_in(detectors), settings or [], weights or [])
    results = Results(json_file or Path("var") / "benchmark" / f"{dataset}.json")
    try:
        planned = Benchmark(
            protocol,
            entrants,
            results,
            categories=names_in(categories),
            seeds=range(seed, seed + seeds),
            device=device,
            profile=profile,
        )
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    total = len(planned.arms) * len(planned.splits)
    steps: list[Step] = []
    for step in planned.carry_out(progress_bar):
        steps.append(step)
        typer.echo(f"{len(steps)}/{total} {_line(step, protocol.level)}", err=True)
    found = tables(planned, steps)
    results.conclude([table.as_json() for table in found])
    for table in found:
        _print(table)
    typer.echo(f"results: {results.path}", err=True)
    if plots is not None:
        from inference.training.benchmark_plots import draw  # noqa: PLC0415 - brings matplotlib

        for path in draw(found, plots, dataset):
            typer.echo(f"wrote {path}", err=True)


def _entrants(names: list[str], settings: list[str], weights: list[str]) -> "list[Entrant]":
    """Give each detector its settings: those named with it, and those named with none."""
    from inference.detectors import DETECTORS  # noqa: PLC0415 - not needed for --help
    from inference.training.benchmark import Entrant  # noqa: PLC0415 - brings torch

    for name in names:
        if name not in DETECTORS:
            raise typer.BadParameter(f"no detector {name!r}: choose one of {', '.join(DETECTORS)}")
    if not names:
        raise typer.BadParameter("--detectors is empty: name at least one, for example padim")
    own = settings_of_each(settings, names, shared=True)
    files = _weights(weights, names)
    found = []
    for name in names:
        size = _size(own[name].pop("image_size", None))
        found.append(Entrant(name, own[name], files.get(name), size))
    return found


def _weights(given: list[str], names: list[str]) -> dict[str, str]:
    """Read `[detector=]FILE|random|NAME`; NAME is a backbone's in the local store."""
    from inference.detectors.backbones import BACKBONES  # noqa: PLC0415 - brings torch
    from inference.weights import store_path  # noqa: PLC0415 - brings torch

    shared: dict[str, str] = {}
    own: dict[str, str] = {}
    for spec in given:
        detector, equals, named = spec.partition("=")
        file = named if equals and detector in names else spec
        if file in BACKBONES and not Path(file).exists():
            file = str(store_path() / f"{file}.safetensors")
        if equals and detector in names:
            own[detector] = file
        else:
            shared.update(dict.fromkeys(names, file))
    return {**shared, **own}


def _size(value: Any) -> tuple[int, int] | None:
    """Read an input size: null, a number, or [width, height]."""
    sides = value if isinstance(value, list) else [value, value]
    if value is None:
        return None
    if len(sides) != 2 or not all(isinstance(side, int) and 16 <= side <= 4096 for side in sides):
        raise typer.BadParameter(f"--set image_size={value}: write one number or [width, height], 16 to 4096")
    return (sides[0], sides[1])


def _line(step: "Step", level: str) -> str:
    about = f"{step.arm.detector} {step.category}"
    if step.arm.made.settings.seed:
        about += f" seed {step.arm.made.settings.seed}"
    if step.result is None:
        return f"{about}: not judged, {step.skipped}"
    figures = step.result.figures
    named = ((f"{level} AUROC", figures.image_auroc), ("pixel AUROC", figures.pixel_auroc), ("AUPRO", figures.aupro))
    said = ", ".join(f"{name} {100 * value:.1f}" for name, value in named if value is not None)
    seconds = step.result.fit_seconds + step.result.judge_seconds
    return f"{about}: {said} ({'kept from before' if step.kept else f'{seconds:.0f} s'})"


def _print(table: "Table") -> None:
    """Print for a person at a terminal, else as Markdown."""
    from rich.console import Console  # noqa: PLC0415 - not needed for --help
    from rich.table import Table as Grid  # noqa: PLC0415 - not needed for --help

    from inference.training.benchmark_tables import COMPARED, Cell  # noqa: PLC0415 - brings torch

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        typer.echo(f"{table.markdown()}\n")
        return
    console.print(table.title, style="bold")
    compared = [metric for metric in table.names if metric in COMPARED]
    # Apart, so that a table is as wide as a terminal usually is.
    for metrics in (compared, [metric for metric in table.names if metric not in COMPARED]):
        grid = Grid(box=None, pad_edge=False)
        grid.add_column(f"\n{table.unit}", no_wrap=True)
        for metric in metrics:
            heading = (
                f"{table.names[metric]}\n ours paper  diff" if table.compares(metric) else f"\n{table.names[metric]}"
            )
            grid.add_column(heading, justify="right", no_wrap=True)
        for row in table.rows:
            cells = [_cell(row.cells.get(metric, Cell()), compared=table.compares(metric)) for metric in metrics]
            grid.add_row(row.name, *cells, style="bold" if row.summary else "")
        console.print(grid)
    for note in [*([f"Paper: {table.paper}."] if table.paper else []), *table.notes]:
        console.print(note)
    console.print()


def _cell(cell: "Cell", *, compared: bool) -> str:
    ours, paper, difference = cell.texts()
    return f"{ours:>5} {paper:>5} {difference:>5}" if compared else ours
