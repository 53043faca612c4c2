"""The command `golden`: challenge images that prove that a line's detector still sees what it must see."""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linewatch import telemetry
from linewatch.commands.running import ConfigFile
from linewatch.config import Config, LineConfig, load
from linewatch.tables import print_table

if TYPE_CHECKING:
    from ingest.frame import Picture
    from storage.golden import GoldenSamples
    from storage.records import Challenge

app = typer.Typer()


class Expectation(StrEnum):
    """What a sample must be judged."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    REJECT = "reject"


@app.command()
def golden(
    config: ConfigFile,
    line: Annotated[str, typer.Argument(metavar="LINE", help="Id of the line.", show_default=False)],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="More pictures to --record.")] = None,
    *,
    record: Annotated[list[Path] | None, typer.Option(metavar="PATH", help="Keep full pictures as samples.")] = None,
    record_alert: Annotated[str | None, typer.Option(metavar="ID", help="Keep the picture of an alert.")] = None,
    expect: Annotated[Expectation, typer.Option(help="What the recorded must be judged.")] = Expectation.REJECT,
    name: Annotated[str | None, typer.Option(help="Name of the recorded; default: the file's, or the frame's.")] = None,
    remove: Annotated[str | None, typer.Option(metavar="NAME", help="Forget a sample.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the samples; show them to nobody.")] = False,
    results: Annotated[bool, typer.Option("--results", help="List what was kept for audits, newest first.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Results since 2026-11-24, or of the last 7d.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Show the golden samples of LINE to the models in service; exit code 1 if one was missed. Options record them."""
    telemetry.configure("golden")
    loaded = load(config)
    of_line = loaded.line(line)
    if sum([bool(record), record_alert is not None, remove is not None, list_only, results]) > 1:
        raise typer.BadParameter("--record, --record-alert, --remove, --list and --results are one at a time")
    if more and not record:
        raise typer.BadParameter(f"what of {more[0]}? pictures are recorded with --record")
    if since is not None and not results:
        raise typer.BadParameter("--since goes with --results")
    from storage.golden import GoldenSamples  # noqa: PLC0415 - not needed for --help

    samples = GoldenSamples(loaded.storage.golden)
    if record:
        _record(samples, of_line, [*record, *(more or [])], expect, name)
    elif record_alert is not None:
        _record_alert(samples, loaded, of_line, record_alert, expect=expect, name=name)
    elif remove is not None:
        _remove(samples, loaded, line, remove)
    elif list_only:
        _list(samples, line, as_json=as_json)
    elif results:
        _results(loaded, line, since, as_json=as_json)
    else:
        _show(samples, loaded, line, as_json=as_json)


def _show(samples: "GoldenSamples", config: Config, line: str, *, as_json: bool) -> None:
    from linewatch.golden import Unanswered, show  # noqa: PLC0415 - brings redis and SQLAlchemy

    if not samples.of(line):
        raise typer.BadParameter(f"line {line} has no golden samples: keep some with --record or --record-alert")
    answers = show(config, line)
    _print(answers.results, as_json=as_json)
    if answers.silent:
        raise Unanswered(
            f"line {line}: no answer in time from {', '.join(answers.silent)}: look at its log, and whether it sees "
            f"{samples.root}"
        )
    if not answers.good:
        raise typer.Exit(1)


def _record(
    samples: "GoldenSamples", line: LineConfig, paths: Sequence[Path], expect: Expectation, name: str | None
) -> None:
    from ingest.errors import ImageError  # noqa: PLC0415 - brings OpenCV
    from ingest.pictures import read_picture  # noqa: PLC0415 - as above

    if name is not None and len(paths) > 1:
        raise typer.BadParameter(f"--name is for one picture, not for {len(paths)}")
    names = [name or path.stem for path in paths]
    _check_names(samples, line.id, names)
    try:
        pictures = [read_picture(path) for path in paths]
    except ImageError as error:
        raise typer.BadParameter(str(error)) from error
    for path, called, picture in zip(paths, names, pictures, strict=True):
        _keep(samples, line, called, picture, expect, origin=str(path))


def _record_alert(
    samples: "GoldenSamples", config: Config, line: LineConfig, alert_id: str, *, expect: Expectation, name: str | None
) -> None:
    from ingest.errors import ImageError  # noqa: PLC0415 - brings OpenCV
    from ingest.pictures import read_picture  # noqa: PLC0415 - as above
    from storage.history import History  # noqa: PLC0415 - brings SQLAlchemy

    history = History.open(config.storage)
    try:
        alert = history.alert(alert_id)
    finally:
        history.close()
    if alert is None or alert.line != line.id:
        raise typer.BadParameter(
            f"line {line.id} has no alert {alert_id!r}: `linewatch alerts list` shows those it has"
        )
    evidence = alert.worst_evidence or alert.evidence
    if evidence is None:
        raise typer.BadParameter(f"alert {alert_id} has no picture")
    called = name or Path(evidence).name
    _check_names(samples, line.id, [called])
    root = config.storage.evidence
    try:
        picture = read_picture(root / evidence / "frame.jpg")
        latest = root / "latest" / f"{line.id}.jpg"
        camera = read_picture(latest).shape if latest.exists() else picture.shape
    except ImageError as error:
        raise typer.BadParameter(f"the picture of alert {alert_id} is not kept any more: {error}") from error
    if picture.shape != camera:
        size, full = f"{picture.shape[1]}x{picture.shape[0]}", f"{camera[1]}x{camera[0]}"
        raise typer.BadParameter(
            f"of alert {alert_id} only the {size} picture that its model saw was kept, not the camera's {full}: "
            "take another alert, or --record a picture"
        )
    _keep(samples, line, called, picture, expect, origin=f"alert {alert_id}")


def _keep(
    samples: "GoldenSamples", line: LineConfig, name: str, picture: "Picture", expect: Expectation, *, origin: str
) -> None:
    from ingest.errors import ImageError  # noqa: PLC0415 - brings OpenCV
    from ingest.pictures import encode_png  # noqa: PLC0415 - as above
    from ingest.preprocess import Preprocessing, prepare  # noqa: PLC0415 - as above

    try:
        prepare(picture, Preprocessing(size=(16, 16), roi=line.roi, mask=line.mask))
    except ImageError as error:
        raise typer.BadParameter(f"{origin}: {error}: record the full picture of the camera") from error
    sample = samples.add(
        line.id, name, encode_png(picture), expected=expect.value, added_ns=time.time_ns(), origin=origin
    )
    typer.echo(f"{line.id}: golden sample {sample.name} recorded, must be judged {sample.expected}")


def _check_names(samples: "GoldenSamples", line: str, names: Sequence[str]) -> None:
    """Before anything is written: one bad name among many leaves no half."""
    from storage.golden import NAME  # noqa: PLC0415 - not needed for --help

    taken = {sample.name for sample in samples.of(line)}
    for name in names:
        if NAME.fullmatch(name) is None:
            raise typer.BadParameter(
                f"{name[:80]!r} is no name: letters, digits, `_ . -`, at most 64; give one with --name"
            )
        if name in taken:
            raise typer.BadParameter(
                f"line {line} has a golden sample {name} already: --remove it, or give another --name"
            )
        taken.add(name)


def _remove(samples: "GoldenSamples", config: Config, line: str, name: str) -> None:
    from linewatch.golden import told_again  # noqa: PLC0415 - brings redis and SQLAlchemy

    names = [sample.name for sample in samples.of(line)]
    if name not in names:
        raise typer.BadParameter(f"line {line} has no golden sample {name!r}; there is {', '.join(names) or 'none'}")
    samples.remove(line, name)
    typer.echo(f"{line}: golden sample {name} removed")
    if not told_again(config, line):
        typer.echo("redis does not answer: workers show what is left at their next occasion", err=True)


def _list(samples: "GoldenSamples", line: str, *, as_json: bool) -> None:
    listed = samples.of(line)
    if as_json:
        for sample in listed:
            typer.echo(sample.model_dump_json())
        return
    rows = ((s.name, s.expected, _clock(s.added_ns), s.origin) for s in listed)
    print_table(("sample", "expected", "recorded", "from"), rows)


def _results(config: Config, line: str, since: str | None, *, as_json: bool) -> None:
    from storage.audits import Audits  # noqa: PLC0415 - brings SQLAlchemy
    from storage.history import History  # noqa: PLC0415 - as above

    since_ns = None if since is None else _moment(since)
    history = History.open(config.storage)
    try:
        _print(Audits(history.database).results(line=line, since_ns=since_ns), as_json=as_json, when=True)
    finally:
        history.close()


def _moment(text: str) -> int:
    """Read `7d` (ago) or a local date, with or without a time of day, as nanoseconds since the epoch."""
    from alerts.config import seconds  # noqa: PLC0415 - not needed for --help

    try:
        return time.time_ns() - round(seconds(text) * 1e9)
    except ValueError:
        pass
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1e9)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"--since {text!r}: write 8h, 7d, 2026-11-24 or 2026-11-24T06:00") from error


def _print(results: "Iterable[Challenge]", *, as_json: bool, when: bool = False) -> None:
    if as_json:
        for result in results:
            typer.echo(result.model_dump_json())
        return
    headings = ("sample", "expected", "got", "score", "threshold", "model", "worker", "why")
    shown = ((*((_clock(r.at_ns), r.occasion) if when else ()), *_row(r)) for r in results)
    print_table((*(("shown", "occasion") if when else ()), *headings), shown)


def _row(result: "Challenge") -> tuple[object, ...]:
    got = f"{result.status.value} MISSED" if result.missed else result.status.value
    score, threshold = (("-" if v is None else f"{v:.4g}") for v in (result.score, result.threshold))
    return (
        result.image,
        result.expected,
        got,
        score,
        threshold,
        result.model or "-",
        result.worker,
        result.reason or "",
    )


def _clock(wall_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall_ns / 1e9))
