"""The command `learn`: what operators said was normal goes into the model, if nothing else is lost by it."""

from typing import TYPE_CHECKING, Annotated

import typer

from linewatch import telemetry
from linewatch.commands.fitting import Device, Every, Limit
from linewatch.commands.running import ConfigFile
from linewatch.config import load
from linewatch.errors import FrontError
from linewatch.tables import print_table

if TYPE_CHECKING:
    from inference.training.learn import Finding, Learned

app = typer.Typer()


class NotPromotedError(FrontError):
    """The candidate lacks something it must keep; it stays a candidate."""


@app.command()
def learn(
    config: ConfigFile,
    line: Annotated[str, typer.Argument(metavar="LINE", help="Its id.", show_default=False)],
    *,
    data: Annotated[
        str | None,
        typer.Option(metavar="GOOD", help="DIR/calibration/good, good images, or a video, to calibrate on."),
    ] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Promote the candidate if nothing stands in its way.")] = (
        False
    ),
    without_golden: Annotated[
        bool, typer.Option("--without-golden", help="Promote although there are no golden samples.")
    ] = False,
    half_life: Annotated[
        float | None,
        typer.Option(metavar="N", help="Images after which an image counts half; default: none is forgotten.", min=1),
    ] = None,
    device: Device = "auto",
    every: Every = 1,
    limit: Limit = 2000,
) -> None:
    """Learn from frames of alerts labelled false alarm or known variation, and write a candidate version."""
    telemetry.configure("learn")
    if data is None:
        raise typer.BadParameter("a few confirmed frames are too few to calibrate on: name good images with --data")
    loaded = load(config)
    entry = loaded.line(line)
    from inference.engine import Engine  # noqa: PLC0415 - brings torch
    from inference.serving import standard_of  # noqa: PLC0415 - as above
    from inference.training.learn import findings  # noqa: PLC0415 - as above
    from inference.training.learn import learn as learn_from  # noqa: PLC0415 - as above
    from linewatch.commands.progress import progress_bar  # noqa: PLC0415 - brings rich
    from linewatch.golden import judge_of  # noqa: PLC0415 - brings redis
    from linewatch.learning import confirmed, golden_findings  # noqa: PLC0415 - as above
    from storage.history import History  # noqa: PLC0415 - brings SQLAlchemy
    from storage.models import Registry  # noqa: PLC0415 - not needed for --help

    registry = Registry(loaded.storage.models)
    bundle, history = registry.resolve(entry.model), History.open(loaded.storage)
    normal = confirmed(loaded, entry, bundle, history)
    for remark in normal.remarks:
        typer.echo(remark, err=True)
    with progress_bar() as report:
        learned = learn_from(
            bundle,
            normal.frames,
            data,
            half_life=half_life,
            device=device,
            every=every,
            limit=limit,
            fps=entry.fps,
            report=report,
        )
    new = learned.bundle
    engine, judge = Engine(registry.resolve(new.ref), device=device), judge_of(loaded, line)
    standard = standard_of(engine, judge)
    typer.echo(f"{new.ref}: {bundle.ref} with {len(learned.frames)} confirmed frames of line {line}")
    _print_frames(learned, standard.threshold)
    found = findings(learned, engine, standard.calibration.limit(judge.false_alarms, fps=judge.fps, slack=judge.slack))
    found += golden_findings(loaded, entry, engine, history, without=without_golden)
    print_table(("check", "kept", ""), ((one.name, "yes" if one.kept else "NO", one.said) for one in found))
    candidate = new.path.parent.parent / new.ref
    if not promote:
        typer.echo(f"next: linewatch evaluate {candidate} --data DIR, then linewatch models promote {candidate}")
        return
    _refuse(found, new.ref)
    registry.promote(new.manifest.name, new.manifest.version)
    typer.echo(f"{new.ref}: promoted")
    if "@" in entry.model:
        typer.echo(f"line {line} stays with {entry.model} until its `model:` says otherwise")


def _print_frames(learned: "Learned", threshold: float) -> None:
    """A table: frame, score before, after, threshold."""
    rows = (
        (
            frame.evidence,
            f"{before:.5g}",
            f"{after:.5g}",
            f"{threshold:.5g}",
            "pass" if after <= threshold else "reject",
        )
        for frame, before, after in zip(learned.frames, learned.before, learned.after, strict=True)
    )
    print_table(("frame", "before", "after", "threshold", "now"), rows)


def _refuse(found: "list[Finding]", ref: str) -> None:
    lost = [one.said for one in found if not one.kept]
    if lost:
        raise NotPromotedError(f"{ref} is not promoted: {'; '.join(lost)}")
