"""What operators ask for in false alarms, and what a calibration promises them in return."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from inference.calibration import Calibration
    from inference.false_alarms import FalseAlarms
    from inference.threshold import Threshold


def read_asked(false_alarms: str) -> "FalseAlarms":
    """Read `--false-alarms`; a word that is not understood is misuse."""
    from inference.false_alarms import parse_false_alarms  # noqa: PLC0415 - not needed for --help

    try:
        return parse_false_alarms(false_alarms)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def require_rate(asked: "FalseAlarms", data: str, fps: float | None) -> None:
    """Refuse what is asked per time of data without a rate, before any work is done."""
    from inference.training.datasets import frame_rate  # noqa: PLC0415 - brings torch

    if asked.per_s is not None and fps is None and frame_rate(data) is None:
        raise typer.BadParameter(
            f"false alarms {asked.text!r} is per time, and {data} does not say how many frames a second it has: "
            "add --fps, or ask for a share such as 5%"
        )


def refuse_smoothing(smooth: int | None, data: str) -> None:
    """Refuse to smooth images, which have no neighbours in time."""
    if smooth is not None and smooth > 1 and Path(data).is_dir():
        raise typer.BadParameter(f"--smooth {smooth}: {data} is a folder of images, only video has neighbours in time")


def limit_of(
    calibration: "Calibration", asked: "FalseAlarms", fps: float | None, confidence: float = 0.95
) -> "Threshold":
    """The threshold for what is asked; asking per time where no rate is known is misuse."""
    try:
        return calibration.limit(asked, fps=fps, confidence=confidence)
    except ValueError as exc:
        raise typer.BadParameter(str(exc).replace("state fps", "add --fps")) from exc


def stored_calibration(stored: dict[str, Any] | None) -> "Calibration | None":
    """Read the calibration of a bundle."""
    from inference.calibration import Calibration  # noqa: PLC0415 - brings scipy

    return None if stored is None else Calibration.model_validate(stored)


def tell(calibration: "Calibration | None", asked: "FalseAlarms", fps: float | None, confidence: float = 0.95) -> None:
    """Print what was asked, what is promised, and what it would take to promise more."""
    from rich.console import Console  # noqa: PLC0415 - not needed for --help
    from rich.table import Table  # noqa: PLC0415 - not needed for --help

    if calibration is None:
        typer.echo("not calibrated: run linewatch calibrate before it judges anything")
        return
    told = limit_of(calibration, asked, fps, confidence).lines() | _remarks(calibration)
    console = Console(highlight=False)
    if not console.is_terminal:  # a log or a pipe: nothing is folded
        for name, line in told.items():
            typer.echo(f"  {name:<16}{line}")
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, line in told.items():
        table.add_row(f"  {name}", line, style="yellow" if name == "refused" else None)
    console.print(table)


def _remarks(calibration: "Calibration") -> dict[str, str]:
    from inference.threshold import span  # noqa: PLC0415 - brings scipy

    remarks = {}
    if calibration.method == "cross":
        remarks["approximate"] = "cross-calibrated; good images that were not fitted on give an exact promise"
    if calibration.unit == "block":
        lasts = "" if calibration.block_s is None else f", {span(calibration.block_s)}"
        remarks["counted"] = f"blocks of {calibration.decorrelation} frames{lasts}: one event, one false alarm"
    if calibration.smoothing > 1:
        remarks["smoothed"] = f"maps are averaged over {calibration.smoothing} frames before they are scored"
    return remarks
