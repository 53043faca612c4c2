"""Commands that look: lines, verdicts, alerts. All read what a running system stores; none disturbs it."""

import getpass
import json
import time
from typing import Annotated, Any

import typer

from linewatch.commands.running import ConfigFile, run_alerts
from linewatch.config import load
from linewatch.tables import print_table
from storage.records import Alert, Change, LineState, Verdict

app = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
OneLine = Annotated[str | None, typer.Option("--line", help="Of this line only.")]

_FOLLOW_MS = 1000


@app.command()
def lines(config: ConfigFile, *, as_json: AsJson = False) -> None:
    """Show what is known of each line right now."""
    loaded = load(config)
    from storage.lines import Lines  # noqa: PLC0415 - brings redis
    from storage.server import connect  # noqa: PLC0415 - brings redis

    known = {state.line: state for state in Lines(connect(loaded.storage)).states()}
    states = [known.get(line.id, LineState(line=line.id)) for line in loaded.lines]
    if as_json:
        for state in states:
            typer.echo(json.dumps(state.model_dump(mode="json") | {"open": state.open}))
        return
    headings = ("line", "camera", "captured", "pass", "reject", "unknown", "skipped", "open", "last", "seen")
    print_table(headings, map(_line_row, states))


@app.command()
def verdicts(
    config: ConfigFile,
    *,
    line: OneLine = None,
    count: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", help="Then go on with each new one, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the stream of verdicts."""
    loaded = load(config)
    if line is not None:
        loaded.line(line)
    from storage.server import connect  # noqa: PLC0415 - brings redis
    from storage.verdicts import VerdictStream  # noqa: PLC0415 - brings redis

    stream = VerdictStream(connect(loaded.storage))
    newest = stream.latest(1)
    position = newest[-1][0] if newest else "0"
    for _, verdict in sorted(stream.latest(count, line), key=lambda entry: _stream_order(entry[0])):
        _print_verdict(verdict, as_json=as_json)
    while follow:
        for entry, verdict in stream.read(position, block_ms=_FOLLOW_MS):
            position = entry
            if line in (None, verdict.line):
                _print_verdict(verdict, as_json=as_json)


class _AlertsGroup(typer.core.TyperGroup):
    """`alerts CONFIG` runs the service, `alerts list CONFIG` lists: what is no subcommand is a configuration."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


alerts = typer.Typer(
    cls=_AlertsGroup, no_args_is_help=True, help="Run the alert service (CONFIG), or list | ack | label | missed."
)
app.add_typer(alerts, name="alerts")


@alerts.command("run")
def run(config: ConfigFile) -> None:
    """Run the alert service; `linewatch alerts CONFIG` is the same."""
    run_alerts(config)


@alerts.command("list")
def list_alerts(
    config: ConfigFile,
    *,
    open_only: Annotated[bool, typer.Option("--open", help="Only those not cleared.")] = False,
    line: OneLine = None,
    count: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List alerts, newest first."""
    loaded = load(config)
    if line is not None:
        loaded.line(line)
    from storage.history import History  # noqa: PLC0415 - brings SQLAlchemy

    found = History.open(loaded.storage).alerts(open=True if open_only else None, line=line, limit=count)
    if as_json:
        for alert in found:
            typer.echo(alert.model_dump_json())
        return
    rows = ((alert.id, _clock(alert.raised_ns), _state(alert), alert.text) for alert in found)
    print_table(("id", "raised", "state", "text"), rows)


@alerts.command("ack")
def acknowledge(
    config: ConfigFile,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `alerts list` shows them.")],
    *,
    by: Annotated[str | None, typer.Option(help="Who has seen it; default: this user.")] = None,
) -> None:
    """Note that somebody has seen an alert."""
    loaded = load(config)
    from alerts.sinks import audience  # noqa: PLC0415 - as below
    from storage.history import History  # noqa: PLC0415 - brings SQLAlchemy

    history = History.open(loaded.storage)
    told = audience(loaded.alerts).get(Change.ACKNOWLEDGED, ())
    for alert_id in ids:
        alert = history.acknowledge(alert_id, by=by or whoever(), now_ns=time.time_ns(), sinks=told)
        typer.echo(f"{alert.id}: acknowledged by {alert.acknowledged_by}")


def whoever() -> str:
    """Name of this user, for what is noted in somebody's name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "command line"


def _stream_order(entry: str) -> tuple[int, int]:
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number or 0)


def _print_verdict(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        typer.echo(verdict.model_dump_json())
        return
    score = "" if verdict.score is None else f"score {verdict.score:.4g} / {verdict.threshold:.4g}"
    why = verdict.reason or ""
    words = (_clock(verdict.captured_ns), f"{verdict.status.value:7}", verdict.id, score, why)
    typer.echo("  ".join(word for word in words if word))


def _line_row(state: LineState) -> tuple[object, ...]:
    counts = (state.captured, state.passed, state.rejected, state.unknown, state.skipped, state.open)
    last = state.status.value if state.status else "-"
    return (state.line, state.camera if state.beat_ns else "-", *counts, last, _ago(state.beat_ns))


def _state(alert: Alert) -> str:
    words = ["open" if alert.cleared_ns is None else "cleared"]
    if alert.acknowledged_by is not None:
        words.append(f"seen by {alert.acknowledged_by}")
    if alert.label is not None:
        words.append(alert.label.value.replace("_", " "))
    return ", ".join(words)


def _clock(wall_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall_ns / 1e9))


def _ago(wall_ns: int) -> str:
    return f"{max(0.0, (time.time_ns() - wall_ns) / 1e9):.0f} s ago" if wall_ns else "never"
