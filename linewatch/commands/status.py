"""The command `status`: what `linewatch up` runs here and how it fares."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from linewatch.commands.running import ConfigFile
from linewatch.config import Config, load

app = typer.Typer()


@app.command()
def status(
    config: ConfigFile, *, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """Show the processes of CONFIG on this machine: state, restarts, hangs; exit 1 unless all are well."""
    loaded = load(config)
    from linewatch.datafolder import owner  # noqa: PLC0415 - not needed for --help

    told = _read(loaded.data / "up.json")
    pid = owner(loaded.data)
    running = pid is not None and told.get("pid") == pid
    beats, unreachable = _heartbeats(loaded) if running else ({}, None)
    processes = [_process(entry, beats, running=running) for entry in _entries(told)]
    well = running and all(process["state"] in ("running", "ended") for process in processes)
    if as_json:
        answer = {"running": running, "well": well, "pid": pid, "redis_says": unreachable, "processes": processes}
        typer.echo(json.dumps(answer, indent=1))
    else:
        _print(processes, pid if running else None, unreachable)
    raise typer.Exit(0 if well else 1)


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return told if isinstance(told, dict) else {}


def _entries(told: dict[str, Any]) -> list[dict[str, Any]]:
    redis = [{"role": "redis", **told["redis"]}] if "redis" in told else []
    return [*told.get("roles", ()), *redis]


def _heartbeats(config: Config) -> tuple[dict[str, dict[str, Any]], str | None]:
    """Worker -> its last heartbeat; or why they are not known."""
    from storage.errors import StorageError  # noqa: PLC0415 - brings redis
    from storage.server import connect  # noqa: PLC0415 - brings redis
    from storage.workers import Workers  # noqa: PLC0415 - brings redis

    try:
        with connect(config.storage) as client:
            return Workers(client).all(), None
    except StorageError as error:
        return {}, str(error)


def _process(entry: dict[str, Any], beats: dict[str, dict[str, Any]], *, running: bool) -> dict[str, Any]:
    """One row: what the supervisor wrote, and what it means now."""
    started = entry.get("started_mono_s")
    kind, _, name = entry["role"].partition(" ")
    beat = beats.get(name) if kind == "worker" else None
    return {
        "role": entry["role"],
        "pid": entry.get("pid") if running else None,
        "state": entry.get("state") if running else "not running",
        "up_s": round(time.monotonic() - started, 1) if running and started is not None else None,
        "restarts": entry.get("restarts", 0),
        "hangs": entry.get("hangs", 0),
        "last_exit": entry.get("last_exit"),
        "last_hang": entry.get("last_hang"),
        # Two clocks of one machine, but the wall clock may have been set meanwhile: for people to look at.
        "heartbeat_s": None if beat is None else round((time.time_ns() - beat["wall_ns"]) / 1e9, 1),
        "judged": None if beat is None else beat.get("judged"),
    }


def _print(processes: list[dict[str, Any]], pid: int | None, unreachable: str | None) -> None:
    from linewatch.tables import print_table  # noqa: PLC0415 - brings rich

    typer.echo("linewatch up does not run on this data folder" if pid is None else f"linewatch up: process {pid}")
    headings = ("role", "pid", "state", "up", "restarts", "hangs", "last end", "heartbeat", "judged")
    if processes:
        print_table(headings, map(_row, processes))
    for process in processes:
        if process["last_hang"]:
            typer.echo(f"{process['role']}: was killed because it hung: {process['last_hang']}")
    if unreachable is not None:
        typer.echo(f"heartbeats are not known: {unreachable}")


def _row(process: dict[str, Any]) -> tuple[object, ...]:
    from alerts.processes import exit_words  # noqa: PLC0415 - not needed for --help

    end, beat, up = process["last_exit"], process["heartbeat_s"], process["up_s"]
    return (
        process["role"],
        process["pid"] or "-",
        process["state"],
        "-" if up is None else _span(up),
        process["restarts"],
        process["hangs"],
        "-" if end is None else exit_words(end),
        "-" if beat is None else f"{max(beat, 0):.0f} s ago",
        "-" if process["judged"] is None else process["judged"],
    )


def _span(seconds: float) -> str:
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{seconds:.0f} s" if minutes < 1 else f"{minutes} min" if hours < 1 else f"{hours} h {minutes % 60} min"
