"""`linewatch replay`: what a line would have said about a recording."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linewatch import telemetry
from linewatch.commands.fitting import Device
from linewatch.commands.running import ConfigFile
from linewatch.config import load
from linewatch.errors import ConfigError
from linewatch.tables import print_table

if TYPE_CHECKING:
    from ingest.frame import Picture
    from ingest.sources.base import Source
    from linewatch.replay import Replayed

app = typer.Typer()


@app.command()
def replay(
    config: ConfigFile,
    line: Annotated[str, typer.Argument(metavar="LINE", help="Its model, promise and rules.", show_default=False)],
    source: Annotated[
        str | None, typer.Argument(metavar="RECORDING", help="A video or folder; default: the line's own source.")
    ] = None,
    *,
    fps: Annotated[
        float | None, typer.Option(help="Pictures a second of a recording that does not say.", min=0.001)
    ] = None,
    device: Device = "auto",
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report with pictures.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One alert a line, as JSON.")] = False,
) -> None:
    """Show what a line would have said about a recording: its events, each with start, end and picture."""
    telemetry.configure("replay")
    loaded = load(config)
    entry = loaded.line(line)
    judge = next(judge for judge in loaded.judges() if judge.line == line)
    from inference.engine import Engine  # noqa: PLC0415 - brings torch
    from linewatch.commands.progress import progress_bar  # noqa: PLC0415 - brings rich
    from linewatch.replay import Replay  # noqa: PLC0415 - brings torch
    from storage.models import Registry  # noqa: PLC0415 - not needed for --help

    recording = _open(source or entry.source)
    rate = fps or recording.fps
    if rate is None:
        recording.close()
        raise ConfigError(f"{source or entry.source}: does not say how many pictures a second it has: add --fps")
    engine = Engine(Registry(loaded.storage.models).resolve(entry.model), device=device)
    player = Replay(entry.slice(), judge, entry.alert, engine=engine, fps=rate)
    with progress_bar() as report:
        found = player.run(_pictures(recording), report)
    if html is not None:
        _write(html, found, site=loaded.site)
    if as_json:
        for alert in found.line.alerts:
            typer.echo(alert.model_dump_json())
        return
    _print(found)
    if html is not None:
        typer.echo(f"written: {html}")


def _open(url: str) -> "Source":
    """Open a recording as fast as it can be read."""
    from ingest.sources import open_source  # noqa: PLC0415 - brings OpenCV

    path, _, query = url.partition("?")
    if Path(path).is_file() and "rate=" not in query:
        url = f"{path}?{query}&rate=max" if query else f"{path}?rate=max"
    source = open_source(url)
    if source.live:
        source.close()
        raise ConfigError(f"{url}: is a camera, not a recording: name a video or a folder, or add ?rate=max")
    return source


def _pictures(source: "Source") -> Iterator["Picture | None"]:
    try:
        while (grab := source.grab()) is not None:
            yield grab.picture
    finally:
        source.close()


def _print(found: "Replayed") -> None:
    counts = found.line.verdicts
    typer.echo(
        f"{found.frames} frames, {found.seconds:.1f} s: {counts.passed} pass, {counts.rejected} reject, "
        f"{counts.unknown} unknown"
    )
    if not found.line.alerts:
        typer.echo("no alerts")
        return
    from linewatch.replay import BEGIN_NS  # noqa: PLC0415 - as above

    def at(wall_ns: int | None) -> str:
        return "" if wall_ns is None else f"{(wall_ns - BEGIN_NS) / 1e9:.1f} s"

    rows = (
        (
            alert.kind.value,
            at(alert.started_ns or alert.raised_ns),
            at(alert.raised_ns),
            at(alert.ended_ns) if alert.cleared_ns is not None else "open",
            str(alert.count),
            "" if alert.worst_score is None else f"{alert.worst_score:.4g} / {alert.threshold or 0:.4g}",
            alert.text,
        )
        for alert in found.line.alerts
    )
    print_table(("kind", "start", "raised", "end", "frames", "worst", "text"), rows)


def _write(file: Path, found: "Replayed", *, site: str) -> None:
    from alerts.report.pictures import inlined  # noqa: PLC0415 - brings Pillow
    from alerts.report.render import render  # noqa: PLC0415 - brings jinja2
    from storage.errors import StorageFull  # noqa: PLC0415 - not needed for --help

    count = max(1, len(found.line.events))
    text = render(
        found.report(site=site, made_ns=time.time_ns()), pictures=inlined(found.pictures.get, count=count), count=count
    )
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageFull(f"{file} cannot be written: {error.strerror}; name another file") from error
