"""What operators ask for in false alarms, and what a calibration promises them in return."""

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from inference.calibration import Calibration


def asked_rate(false_alarms: str, fps: float | None) -> float:
    """Read `--false-alarms` as a share of good frames; a word that is not understood is misuse."""
    from inference.calibration import parse_false_alarms  # noqa: PLC0415 - brings scipy

    try:
        return parse_false_alarms(false_alarms, fps)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def stored_calibration(stored: dict[str, Any] | None) -> "Calibration | None":
    """Read the calibration of a bundle."""
    from inference.calibration import Calibration  # noqa: PLC0415 - brings scipy

    return None if stored is None else Calibration.model_validate(stored)


def statement(calibration: "Calibration | None", rate: float) -> str:
    """Say what threshold this rate takes, and what it promises."""
    if calibration is None:
        return "not calibrated: run linewatch calibrate before it judges anything"
    said = calibration.threshold(rate).statement(approximate=calibration.method == "cross")
    if calibration.method == "cross":
        said += "\ncross-calibrated, so approximate; good images that were not fitted on give an exact promise"
    if calibration.decorrelation > 1:
        said += f"\neach score is the highest of {calibration.decorrelation} neighbouring frames: fewer are independent"
    return said
