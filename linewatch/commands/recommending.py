"""The command `recommend`: which detector to fit, before a defect was seen."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linewatch import telemetry
from linewatch.commands.settings import names_in

if TYPE_CHECKING:
    from rich.table import Table

    from inference.training.recommendation import Recommendation, Trial

app = typer.Typer()

_STYLES = {"chosen": "bold green", "equal": "", "behind": "", "too slow": "dim", "out of time": "dim", "failed": "red"}


@app.command()
def recommend(
    *,
    data: Annotated[str, typer.Option(metavar="DIR", help="DIR/train/good, a folder of good images, or a video.")],
    budget_ms: Annotated[float, typer.Option(help="Longest time that judging one image may take.", min=0.001)] = 20.0,
    detectors: Annotated[str | None, typer.Option(metavar="a,b", help="Only these; default: all.")] = None,
    backbones: Annotated[str | None, typer.Option(metavar="a,b", help="Only these; default: all with weights.")] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE|random", help="Weights of one more backbone than the local store has.")
    ] = None,
    image_size: Annotated[str, typer.Option(metavar="N|WxH", help="Size of the models' input in pixels.")] = "256",
    minutes: Annotated[float, typer.Option(help="Time for all fitting together.", min=0.0)] = 15.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads, as the worker has; 0: all cores.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Everything random derives from it.", min=0)] = 0,
    every: Annotated[int, typer.Option(help="Of a video or camera, take each so many-th frame.", min=1)] = 1,
    limit: Annotated[int, typer.Option(help="Of a video or camera, take at most so many frames.", min=2)] = 2000,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw latency against AUROC here.")] = None,
) -> None:
    """Try the detectors that are fast enough here on good images with made-up defects, and choose one."""
    telemetry.configure("recommend")
    from inference.detectors import DETECTORS  # noqa: PLC0415 - not needed for --help
    from inference.training.candidates import candidates  # noqa: PLC0415 - brings torch
    from inference.training.recommend import recommend as run  # noqa: PLC0415 - brings torch
    from inference.training.trials import Terms  # noqa: PLC0415 - brings torch
    from ingest.preprocess import Preprocessing  # noqa: PLC0415 - brings OpenCV
    from linewatch.commands.progress import progress_bar  # noqa: PLC0415 - brings rich

    terms = Terms(
        preprocessing=Preprocessing(size=_size(image_size)),
        budget_ms=budget_ms,
        minutes=minutes,
        device=device,
        threads=threads,
        seed=seed,
    )
    named = names_in(detectors or "")
    for name in named:
        if name not in DETECTORS:
            raise typer.BadParameter(f"no detector {name!r}: choose from {', '.join(DETECTORS)}")
    entrants = candidates(named, names_in(backbones or ""), weights)
    with progress_bar() as report:
        outcome = run(data, entrants, terms, every=every, limit=limit, report=report)
    found = outcome.summary
    _print(found)
    if json_file is not None:
        _write(json_file, found.model_dump_json(indent=2) + "\n")
    if plots is not None:
        from inference.training.tradeoff import draw  # noqa: PLC0415 - brings matplotlib

        for path in draw(found, outcome.held_out, plots):
            typer.echo(f"wrote {path}")
    if found.command is None:
        raise typer.Exit(1)


def _size(given: str) -> tuple[int, int]:
    sides = given.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise typer.BadParameter(f"--image-size {given!r} is not understood: write for example 256 or 320x256")
    width, height = int(sides[0]), int(sides[-1])
    if not (16 <= width <= 4096 and 16 <= height <= 4096):
        raise typer.BadParameter(f"--image-size {given!r}: sides are 16 to 4096 pixels")
    return width, height


def _print(found: "Recommendation") -> None:
    from linewatch.tables import wide_console  # noqa: PLC0415 - brings rich

    console = wide_console()
    console.print(_table(found))
    compared = f"{found.n_fitted} good images to fit on, {found.n_held_out} to judge; compared on made-up defects: "
    console.print(f"{compared}{', '.join(found.compared_on)}", style="dim", soft_wrap=True)
    for trial in found.trials:
        if trial.reason:
            console.print(f"{trial.name}: {trial.status}, {trial.reason}", style=_STYLES[trial.status], soft_wrap=True)
    typer.echo(found.why)
    for caution in found.cautions:
        typer.echo(f"but: {caution}")
    if found.command is not None:
        typer.echo(f"next: {found.command}")


def _table(found: "Recommendation") -> "Table":
    """As wide as a terminal of 80 columns, so that it is never cut."""
    from rich.table import Table  # noqa: PLC0415 - not needed for --help

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("\ndetector", no_wrap=True)
    for heading in ("\nms", "image\nAUROC", "\n90 %", "found\nat 5 %", "pixel\nAUROC", "\nAUPRO", "fitted\nin"):
        table.add_column(heading, justify="right", no_wrap=True)
    for trial in found.trials:
        table.add_row(*_row(trial), style=_STYLES[trial.status])
    return table


def _row(trial: "Trial") -> list[str]:
    def shown(value: float | None, form: str, unit: str = "") -> str:
        return "-" if value is None else f"{value:{form}}{unit}"

    low, high = trial.image_auroc_90 or (None, None)
    return [
        {"chosen": ">", "equal": "="}.get(trial.status, ""),
        trial.name,
        shown(trial.ms, ".1f"),
        shown(trial.image_auroc, ".3f"),
        "-" if low is None else f"{shown(low, '.2f')}-{shown(high, '.2f')}",
        shown(trial.found, ".0%"),
        shown(trial.pixel_auroc, ".3f"),
        shown(trial.aupro, ".3f"),
        shown(trial.fit_seconds, ".0f", " s"),
    ]


def _write(path: Path, text: str) -> None:
    from storage.errors import StorageFull  # noqa: PLC0415 - not needed for --help

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise StorageFull(f"{path} cannot be written: {exc.strerror}; name another file") from exc
