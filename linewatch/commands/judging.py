"""What a fitted model is asked: `calibrate`, `evaluate`, `score`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linewatch import telemetry
from linewatch.commands.fitting import BundleRef, Device, Every, FalseAlarms, Fps, Limit, Smooth
from linewatch.commands.promises import limit_of, read_asked, refuse_smoothing, require_rate, stored_calibration, tell

if TYPE_CHECKING:
    from inference.training.evaluate import Evaluation
    from inference.training.score import Scored

app = typer.Typer()


@app.command()
def calibrate(
    bundle: BundleRef,
    *,
    data: Annotated[str, typer.Option(metavar="DIR", help="DIR/calibration/good, good images, or a video.")],
    false_alarms: FalseAlarms = "5%",
    fps: Fps = None,
    device: Device = "auto",
    every: Every = 1,
    limit: Limit = 2000,
    smooth: Smooth = None,
    confidence: Annotated[
        float, typer.Option(help="Probability with which the promise is to hold.", min=0.01, max=0.9999)
    ] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print the threshold as JSON.")] = False,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw what the promise rests on here.")] = None,
) -> None:
    """Score good images the model has not seen, and state what threshold they promise."""
    telemetry.configure("calibrate")
    from inference.training.calibrate import calibrate as run  # noqa: PLC0415 - brings torch
    from linewatch.commands.progress import progress_bar  # noqa: PLC0415 - brings rich
    from storage.models import open_bundle  # noqa: PLC0415 - not needed for --help

    asked = read_asked(false_alarms)
    require_rate(asked, data, fps)
    refuse_smoothing(smooth, data)
    opened = open_bundle(bundle)
    with progress_bar() as report:
        calibration = run(
            opened, data, device=device, every=every, limit=limit, fps=fps, smoothing=smooth, report=report
        )
    limit_there = limit_of(calibration, asked, fps, confidence)
    if as_json:
        about = calibration.model_dump(include={"method", "decorrelation", "frame_s", "smoothing"})
        typer.echo(json.dumps({"model": opened.ref} | about | limit_there.model_dump()))
    else:
        typer.echo(f"{opened.ref}: calibrated")
        tell(calibration, asked, fps, confidence)
    if plots is not None:
        from inference.training.calibration_plots import draw  # noqa: PLC0415 - brings matplotlib

        for path in draw(calibration, limit_there, plots, model=opened.ref):
            typer.echo(f"wrote {path}", err=as_json)


@app.command()
def evaluate(
    bundle: BundleRef,
    *,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Holds test/good, test/<defect> and ground_truth/.")],
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw curves and heat maps here.")] = None,
    false_alarms: FalseAlarms = "5%",
    fps: Fps = None,
    device: Device = "auto",
) -> None:
    """Measure a model on images it has never seen."""
    telemetry.configure("evaluate")
    from inference.training.evaluate import evaluate as run  # noqa: PLC0415 - brings torch
    from linewatch.commands.progress import progress_bar  # noqa: PLC0415 - brings rich
    from storage.models import open_bundle  # noqa: PLC0415 - not needed for --help

    asked, opened = read_asked(false_alarms), open_bundle(bundle)
    if (calibration := stored_calibration(opened.calibration())) is not None:
        limit_of(calibration, asked, fps)  # misuse is told before the work
    with progress_bar() as report:
        findings = run(opened, data, asked=asked, fps=fps, device=device, report=report)
    _print_evaluation(findings.summary)
    if json_file is not None:
        _write(json_file, findings.summary.model_dump_json(indent=2) + "\n")
    if plots is not None:
        from inference.training.plots import draw  # noqa: PLC0415 - brings matplotlib

        for path in draw(findings, plots):
            typer.echo(f"wrote {path}")


@app.command()
def score(
    bundle: BundleRef,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, or folders of them.")],
    *,
    false_alarms: FalseAlarms = "5%",
    fps: Fps = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Judge images: one line each with score, p-value and status; exit code 1 if one could not be judged."""
    telemetry.configure("score")
    from inference.engine import Engine  # noqa: PLC0415 - brings torch
    from inference.training.score import files  # noqa: PLC0415 - brings torch
    from inference.training.score import score as run  # noqa: PLC0415 - brings torch
    from storage.models import open_bundle  # noqa: PLC0415 - not needed for --help
    from storage.records import Status  # noqa: PLC0415 - not needed for --help

    asked = read_asked(false_alarms)
    engine = Engine(open_bundle(bundle), device=device)
    if engine.calibration is not None:
        limit_of(engine.calibration, asked, fps)  # misuse is told before the work
    unjudged = 0
    for scored in run(engine, files(paths), asked=asked, fps=fps):
        typer.echo(scored.model_dump_json() if as_json else _line(scored))
        unjudged += scored.status is Status.UNKNOWN
    if unjudged:
        raise typer.Exit(1)


def _print_evaluation(found: "Evaluation") -> None:
    from rich.console import Console  # noqa: PLC0415 - not needed for --help
    from rich.table import Table  # noqa: PLC0415 - not needed for --help

    def shown(value: float | None, form: str = ".4f") -> str:
        return "-" if value is None else format(value, form)

    table = Table(box=None, show_header=False)
    table.add_row("image AUROC", shown(found.image_auroc), f"{found.n_good} good, {found.n_defect} defective")
    for kind, about in found.kinds.items():
        table.add_row(f"  {kind}", shown(about.image_auroc), f"{about.n}, {shown(about.escape_rate, '.1%')} escape")
    table.add_row("pixel AUROC", shown(found.pixel_auroc), "")
    table.add_row("AUPRO", shown(found.aupro), "to a false-positive rate of 0.3")
    table.add_row("best F1", shown(found.f1_max), "over all thresholds")
    table.add_row("average precision", shown(found.average_precision), "")
    asked = "not calibrated" if found.asked_rate is None else f"asked {found.asked_rate:.3g}"
    table.add_row("false alarms", shown(found.false_alarm_rate, ".1%"), asked)
    table.add_row("escapes", shown(found.escape_rate, ".1%"), f"threshold {shown(found.threshold, '.6g')}")
    table.add_row("time per image", f"{found.ms_per_image:.1f} ms", f"in batches of {found.batch}")
    console = Console()
    console.print(f"{found.model}")
    console.print(table)


def _line(scored: "Scored") -> str:
    if scored.score is None:
        return f"{scored.path}  unknown  {scored.reason}"
    p_value = "-" if scored.p_value is None else f"{scored.p_value:.4g}"
    reason = "" if scored.reason is None else f"  {scored.reason}"
    return f"{scored.path}  score {scored.score:.6g}  p {p_value}  {scored.status.value}{reason}"


def _write(path: Path, text: str) -> None:
    from storage.errors import StorageFull  # noqa: PLC0415 - not needed for --help

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise StorageFull(f"{path} cannot be written: {exc.strerror}; name another file") from exc
