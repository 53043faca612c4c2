"""Commands about what alerts were: `alerts label`, `alerts missed`, and `feedback`, what all of that says of a line."""

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from linewatch.commands.running import ConfigFile
from linewatch.commands.watching import alerts, whoever
from linewatch.config import LineConfig, load
from linewatch.tables import print_table
from storage.config import StorageConfig
from storage.records import Change, Label

if TYPE_CHECKING:
    from alerts.feedback import Feedback, Record
    from alerts.suggestion import Suggestion
    from inference.calibration import Calibration

app = typer.Typer()

By = Annotated[str | None, typer.Option(help="Who says so; default: this user.")]
Note = Annotated[str, typer.Option(help="Anything else worth keeping.")]

_WORDS = {label.value.replace("_", "-"): label for label in Label}
_STEPS_SHOWN = 8


@alerts.command("label")
def label_alerts(
    config: ConfigFile,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `alerts list` shows them.")],
    *,
    what: Annotated[str, typer.Option("--as", metavar="|".join(_WORDS), help="What it was.", show_default=False)],
    by: By = None,
    note: Note = "",
) -> None:
    """Say what alerts were; the last word counts, and whoever says it has seen them."""
    if what not in _WORDS:
        raise typer.BadParameter(f"--as {what!r}: write {', '.join(_WORDS)}")
    loaded = load(config)
    from alerts.sinks import audience  # noqa: PLC0415 - as below
    from storage.history import History  # noqa: PLC0415 - brings SQLAlchemy
    from storage.labels import Labels  # noqa: PLC0415 - as above

    labels = Labels(History.open(loaded.storage))
    told = audience(loaded.alerts).get(Change.ACKNOWLEDGED, ())
    for one in ids:
        labels.label(one, _WORDS[what], by=by or whoever(), note=note, now_ns=time.time_ns(), sinks=told)
        typer.echo(f"{one}: {what}, says {by or whoever()}")


@alerts.command("missed")
def note_missed(
    config: ConfigFile,
    *,
    line: Annotated[str, typer.Option(help="Which it passed.", show_default=False)],
    at: Annotated[str, typer.Option(metavar="TIME", help="When: 2026-03-01T14:05, or 14:05.", show_default=False)],
    part: Annotated[str | None, typer.Option(help="Which part.")] = None,
    by: By = None,
    note: Note = "",
) -> None:
    """Note a defect that passed and was found later."""
    when = _moment(at, datetime.now().astimezone())
    loaded = load(config)
    loaded.line(line)
    from storage.history import History  # noqa: PLC0415 - brings SQLAlchemy
    from storage.labels import Escape, Labels  # noqa: PLC0415 - as above

    captured_ns = round(when.timestamp() * 1e9)
    who = by or whoever()
    escape = Escape(line=line, captured_ns=captured_ns, part=part, noted_ns=time.time_ns(), by=who, note=note)
    Labels(History.open(loaded.storage)).note_escape(escape)
    typer.echo(f"{line}: a defect passed at {when:%Y-%m-%d %H:%M:%S}, says {who}")


@app.command()
def feedback(
    config: ConfigFile,
    line: Annotated[str, typer.Argument(metavar="LINE", help="Its id.", show_default=False)],
    *,
    since: Annotated[str, typer.Option(metavar="TIME", help="How far back: 7d, 8h.")] = "7d",
    losing: Annotated[int, typer.Option(min=0, help="True defects a suggested threshold may lose.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say how many good parts are rejected, how many defects escape, and which threshold would do better."""
    span_s = _span(since)
    loaded = load(config)
    entry = loaded.line(line)
    from alerts.feedback import estimate  # noqa: PLC0415 - not needed for --help
    from alerts.period import look_back  # noqa: PLC0415 - brings SQLAlchemy
    from storage.history import History  # noqa: PLC0415 - as above

    calibration, ref = _calibration(loaded.storage, entry)
    now_ns = time.time_ns()
    alike = 1.0 if calibration is None else float(calibration.decorrelation)
    history = History.open(loaded.storage)
    record = look_back(history, line, since_ns=now_ns - round(span_s * 1e9), until_ns=now_ns, alike=alike)
    said = estimate(record, losing=losing)
    if as_json:
        typer.echo(said.model_dump_json())
        return
    _print_estimates(line, since, said)
    if said.suggestion.kind == "none":
        typer.echo(f"\n{said.suggestion.because}")
        return
    _print_suggestion(said.suggestion)
    for told in _how_to_apply(said.suggestion, record, entry, calibration, ref):
        typer.echo(told)


def _print_estimates(line: str, since: str, said: "Feedback") -> None:
    counts = f"{said.passed} pass, {said.rejected} reject, {said.unknown} unknown"
    typer.echo(f"{line}, the last {since}: {counts}; {said.alerts} defect alerts, {said.escapes} escapes reported")
    typer.echo(
        f"labelled: {said.true_defects} true defects, {said.false_alarms} false alarms, "
        f"{said.known_variations} known variations; {said.unlabelled} not labelled\n"
    )
    rows = [
        ("overkill", said.overkill, "of good frames are rejected"),
        ("precision", said.precision, "of alerts are true defects"),
        ("escapes", said.escape, "of defects pass: at least, for what nobody reports is not seen"),
    ]
    print_table(("", "estimate (95 % interval)", ""), rows)
    if said.few:
        from alerts.feedback import FEW  # noqa: PLC0415 - not needed for --help

        typer.echo(f"\nfewer than {FEW} alerts are labelled: the intervals say how little that tells")


def _print_suggestion(suggestion: "Suggestion") -> None:
    now = "" if suggestion.current is None else f" (now {suggestion.current:.6g})"
    typer.echo(
        f"\nsuggested for {suggestion.model}: threshold {suggestion.threshold:.6g}{now}; it rests on "
        f"{suggestion.good} false alarms and known variations, and {suggestion.true} true defects"
    )
    shown = suggestion.steps[:_STEPS_SHOWN]
    print_table(
        ("threshold", "false alarms removed", "true defects lost"),
        (
            (f"{step.threshold:.6g}", f"{step.removed} of {suggestion.good}", f"{step.lost} of {suggestion.true}")
            for step in shown
        ),
    )
    typer.echo(f"predicted: overkill {suggestion.overkill}, escapes at least {suggestion.escape}")


def _how_to_apply(
    suggestion: "Suggestion", record: "Record", entry: LineConfig, calibration: "Calibration | None", ref: str | None
) -> list[str]:
    if calibration is None or ref != suggestion.model:
        return [f"{suggestion.model} is not the calibrated model in force ({ref}): label alerts of that one"]
    from alerts.suggestion import effect  # noqa: PLC0415 - not needed for --help
    from inference.asking import asking_for  # noqa: PLC0415 - brings scipy
    from inference.false_alarms import parse_false_alarms  # noqa: PLC0415 - not needed for --help

    slack = None if entry.alert.cusum is None else entry.alert.cusum.slack
    like = parse_false_alarms(entry.false_alarms)
    found = asking_for(suggestion.threshold, calibration, like=like, fps=entry.fps, slack=slack)
    if found is None:
        why = "it lies beyond all good scores, and their tail cannot be extrapolated"
        return [f"no `false_alarms:` leads to it: {why}; calibrate on more good images"]
    asked, limit = found
    step = effect(record.alerts, suggestion.model, limit.threshold)
    effects = f"{step.removed} of {suggestion.good} false alarms removed, {step.lost} of {suggestion.true} lost"
    return [
        f"to apply it: `false_alarms: {asked.text}` on line {entry.id} comes to {limit.threshold:.6g} ({effects})",
        limit.statement(),
    ]


def _calibration(storage: StorageConfig, entry: LineConfig) -> "tuple[Calibration | None, str | None]":
    """The calibration in force on a line, and of what model; nothing where this machine has no such model."""
    from linewatch.commands.promises import stored_calibration  # noqa: PLC0415 - not needed for --help
    from storage.errors import BundleError  # noqa: PLC0415 - not needed for --help
    from storage.models import Registry  # noqa: PLC0415 - brings numpy

    try:
        bundle = Registry(storage.models).resolve(entry.model)
        return stored_calibration(bundle.calibration()), bundle.ref
    except BundleError:
        return None, None


def _span(text: str) -> float:
    from alerts.config import seconds  # noqa: PLC0415 - not needed for --help

    try:
        span_s = seconds(text)
    except ValueError as exc:
        raise typer.BadParameter(f"--since: {exc}") from exc
    if not 0 < span_s < time.time():
        raise typer.BadParameter(f"--since {text!r}: write how far back, for example 7d or 8h")
    return span_s


def _moment(text: str, now: datetime) -> datetime:
    """A time as somebody writes it; one without a date is the last such time of day."""
    try:
        if "-" not in text:
            clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") == 2 else "%H:%M").time()  # noqa: DTZ007 - local
            at = datetime.combine(now.date(), clock).astimezone()
            return at if at <= now else at - timedelta(days=1)
        at = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as exc:
        raise typer.BadParameter(f"--at {text!r} is no time: write 2026-03-01T14:05, or 14:05") from exc
    if at > now or at.timestamp() < 0:
        raise typer.BadParameter(f"--at {text!r} is not in the past, or was before 1970")
    return at
