"""The command `update`: a model learns on from more good images."""

from typing import Annotated

import typer

from linewatch import telemetry
from linewatch.commands.fitting import BundleRef, Device, Every, FalseAlarms, Fps, Limit
from linewatch.commands.promises import read_asked, require_rate, stored_calibration, tell

app = typer.Typer()


@app.command()
def update(
    bundle: BundleRef,
    *,
    data: Annotated[str, typer.Option(metavar="DIR", help="DIR/train/good, a folder of new good images, or a video.")],
    half_life: Annotated[
        float | None,
        typer.Option(metavar="N", help="Images after which an image counts half; default: none is forgotten.", min=1),
    ] = None,
    false_alarms: FalseAlarms = "5%",
    fps: Fps = None,
    device: Device = "auto",
    every: Every = 1,
    limit: Limit = 2000,
) -> None:
    """Learn on from new good images, calibrate on some of them, and write a candidate version."""
    telemetry.configure("update")
    from inference.training.update import update_model  # noqa: PLC0415 - brings torch
    from linewatch.commands.progress import progress_bar  # noqa: PLC0415 - brings rich
    from storage.models import open_bundle  # noqa: PLC0415 - not needed for --help

    asked = read_asked(false_alarms)
    require_rate(asked, data, fps)
    opened = open_bundle(bundle)
    with progress_bar() as report:
        new = update_model(
            opened,
            data,
            half_life=half_life,
            device=device,
            every=every,
            limit=limit,
            asked=asked,
            fps=fps,
            report=report,
        )
    learned = new.manifest.n_train - opened.manifest.n_train
    typer.echo(f"{new.ref}: {opened.ref} updated with {learned} good images")
    if (rejected := new.manifest.metrics.get("rejected_before")) is not None:
        judged = new.manifest.metrics["judged_before"]
        sure = ": make sure that they are good, for now they are learned" if rejected else ""
        typer.echo(f"{opened.ref} would have rejected {rejected} of the {judged} new images{sure}")
    tell(stored_calibration(new.calibration()), asked, fps)
    candidate = new.path.parent.parent / new.ref
    typer.echo(f"next: linewatch evaluate {candidate} --data DIR, then linewatch models promote {candidate}")
