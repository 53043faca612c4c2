"""`linewatch report`: what happened in a shift, for a person, a spreadsheet or a program."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linewatch.commands.running import ConfigFile
from linewatch.config import Config, load
from linewatch.errors import ConfigError, FrontError
from linewatch.tables import print_table

if TYPE_CHECKING:
    from alerts.report.contents import Report
    from alerts.report.period import Period
    from alerts.report.wording import Clock
    from storage.history import History

app = typer.Typer()

_MOST_PICTURES = 200


@app.command()
def report(
    config: ConfigFile,
    *,
    line: Annotated[list[str] | None, typer.Option("--line", help="Of this line; may be repeated.")] = None,
    shift: Annotated[
        str | None, typer.Option(help="last (the default), current, or 3-ago.", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Instead of a shift: 2026-03-29T06:00, or 8h for that long ago.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="The same; default: now.")] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Default: shift-SITE-DATE-TIME.html here, if nothing else is written."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A row per line and shift; events go to FILE-events.csv.")
    ] = None,
    as_json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="All of it.")] = None,
    pictures: Annotated[
        int, typer.Option(min=0, max=_MOST_PICTURES, help="How many of the worst events are shown with one.")
    ] = 12,
) -> None:
    """Report on a shift: parts, rejects, downtime, events with pictures."""
    loaded = load(config)
    for name in line or ():
        loaded.line(name)
    now_ns = time.time_ns()
    period = _period(loaded, shift, since, until, now_ns)
    from alerts.report.gather import gather  # noqa: PLC0415 - brings SQLAlchemy
    from alerts.report.wording import Clock  # noqa: PLC0415 - as above
    from storage.history import History  # noqa: PLC0415 - as above

    history = History.open(loaded.storage)
    try:
        names = line or [entry.id for entry in loaded.lines]
        made = gather(history, site=loaded.site, lines=names, others=not line, period=period, made_ns=now_ns)
        files: dict[Path, str] = {}
        if csv is not None:
            files |= _sheets(csv, loaded, made, history)
    finally:
        history.close()
    if as_json is not None:
        from alerts.report.document import to_json  # noqa: PLC0415 - only when asked

        files[as_json] = to_json(made)
    if html is not None or not files:
        files[html or Path(_name(loaded.site, period))] = _page(made, loaded, pictures)
    for file, text in files.items():
        _write(file, text)
    _summary(made, Clock(period))
    for file in files:
        typer.echo(f"written: {file}")


def _period(config: Config, shift: str | None, since: str | None, until: str | None, now_ns: int) -> "Period":
    from alerts.report.period import choose  # noqa: PLC0415 - only for a report

    try:
        return choose(shift, since, until, now_ns=now_ns, shifts=config.shifts)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _page(made: "Report", config: Config, count: int) -> str:
    from alerts.report.pictures import from_store, inlined  # noqa: PLC0415 - brings Pillow
    from alerts.report.render import render  # noqa: PLC0415 - brings jinja2

    read = from_store(config.storage.evidence)
    return render(made, pictures=inlined(read, count=count), count=count)


def _sheets(file: Path, config: Config, made: "Report", history: "History") -> dict[Path, str]:
    from alerts.report.gather import gather  # noqa: PLC0415 - brings SQLAlchemy
    from alerts.report.period import cut  # noqa: PLC0415 - only for a report
    from alerts.report.spreadsheet import events_csv, lines_csv  # noqa: PLC0415 - only when asked

    pieces = [made.period] if made.period.is_shift else cut(made.period, shifts=config.shifts)
    names = [line.line for line in made.lines]
    reports = [gather(history, site=made.site, lines=names, period=piece, made_ns=made.made_ns) for piece in pieces]
    return {file: lines_csv(reports), file.with_name(f"{file.stem}-events{file.suffix}"): events_csv(made)}


def _name(site: str, period: "Period") -> str:
    from alerts.report.period import at  # noqa: PLC0415 - only for a report

    place = re.sub(r"[^A-Za-z0-9]+", "-", site).strip("-") or "linewatch"
    return f"shift-{place}-{at(period.begin_ns, None):%Y-%m-%d-%H%M}.html"


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FrontError(f"{file}: {error.strerror}: name a file in a folder that exists and is yours") from error


def _summary(made: "Report", clock: "Clock") -> None:
    from alerts.report import wording  # noqa: PLC0415 - only for a report
    from alerts.report.figures import figures  # noqa: PLC0415 - only for a report

    so_far = " (so far)" if made.period.planned_ns is not None else ""
    typer.echo(f"{made.site}: {clock.stretch}{so_far}, {clock.zone_name}")
    if made.empty:
        typer.echo("nothing is known of this time: no verdict, no alert, no golden sample")
        return
    rows = []
    for line in made.lines:
        f = figures(made.period, line)
        counts = (f.captured, f.passed, f.rejected, wording.ppm(f.reject_ppm), f.unknown, f.events)
        rows.append((line.line, *counts, f"{wording.duration(f.downtime_s)} ({wording.percent(f.downtime_share)})"))
    print_table(("line", "captured", "pass", "reject", "reject ppm", "unknown", "events", "downtime"), rows)
