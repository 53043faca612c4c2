"""Commands about keys: who may speak for which line where frames cross a network (`tcp://`)."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linewatch import telemetry
from linewatch.commands.running import ConfigFile
from linewatch.config import Config, load
from linewatch.tables import print_table

if TYPE_CHECKING:
    from ingest.allowlist import AllowList

app = typer.Typer()
keys = typer.Typer(no_args_is_help=True, help="Keys of cameras, for tcp: list | new | allow | revoke.")
app.add_typer(keys, name="keys")

Line = Annotated[str, typer.Argument(metavar="LINE", help="Id of the line.", show_default=False)]


@keys.command("list")
def list_keys(
    config: ConfigFile, *, as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False
) -> None:
    """List which keys may speak for which line, and which may not any more."""
    loaded, folder = _enter(config)
    rows = list(_rows(loaded, folder))
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    print_table(("line", "key", "state", "since", "secret"), (_shown(row) for row in rows))
    for path in _allow_list(folder).unbound():
        typer.echo(f"{path}: names no line, so it lets nobody in: linewatch keys allow {config} LINE {path}")


@keys.command()
def new(
    config: ConfigFile,
    line: Line,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="On the workers' host: write what the camera's host needs here."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Make another pair in its place; the old key is revoked here.")
    ] = False,
) -> None:
    """Make the key pair of a line's camera; one that is there already is kept.

    Where the workers' secret key lies too, the camera is let in at once.
    """
    loaded, folder = _enter(config)
    loaded.line(line)
    from ingest.allowlist import fingerprint  # noqa: PLC0415 - brings ZeroMQ
    from ingest.curve import camera_pair, discard_camera, worker_pair  # noqa: PLC0415 - as above

    allow_list, home = _allow_list(folder), folder if out is None else out
    here = out is not None or (folder / "worker.key_secret").exists()
    old = discard_camera(home, line) if replace else None
    pair = camera_pair(home, line)
    if out is not None:
        worker_pair(folder)
        (out / "worker.key").write_bytes((folder / "worker.key").read_bytes())
    if here:
        if old is not None:
            allow_list.revoke(line, old)
        if allow_list.revoked(line, pair.public):
            typer.echo(f"{line}: key {fingerprint(pair.public)} was revoked and stays out; --replace makes another")
            return
        allow_list.allow(line, pair.public)
        typer.echo(f"{line}: key {fingerprint(pair.public)} may speak for it")
    else:
        public = home / "cameras" / f"{line}.key"
        typer.echo(f"{line}: key {fingerprint(pair.public)}: copy {public} to the workers' host, and there:")
        typer.echo(f"linewatch keys allow CONFIG {line} {public.name}")
    if out is not None:
        typer.echo(f"{out}: move it to the camera's host as the folder `keys` of its `data`, and leave no copy here")


@keys.command()
def allow(
    config: ConfigFile,
    line: Line,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The camera's public key: LINE.key.")],
) -> None:
    """Let a camera speak for a line; running workers follow at once."""
    loaded, folder = _enter(config)
    loaded.line(line)
    from ingest.allowlist import fingerprint, read_public  # noqa: PLC0415 - brings ZeroMQ

    if file.suffix == ".key_secret":
        raise typer.BadParameter(f"{file} is a secret key: it stays on the camera's host; give {file.stem}.key")
    key = read_public(file)
    _allow_list(folder).allow(line, key)
    typer.echo(f"{line}: key {fingerprint(key)} may speak for it")


@keys.command()
def revoke(
    config: ConfigFile,
    line: Annotated[str, typer.Argument(metavar="LINE", help="Id of the line; it may be gone.", show_default=False)],
    *,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Only this one, as `keys list` shows it.")
    ] = None,
) -> None:
    """Take a line away from its keys; running workers drop what they still send."""
    _, folder = _enter(config)
    from ingest.allowlist import fingerprint  # noqa: PLC0415 - brings ZeroMQ

    allow_list = _allow_list(folder)
    held = [public for public, lines in allow_list.read().items() if line in lines]
    chosen = [public for public in held if key in (None, fingerprint(public))]
    if not chosen:
        there = ", ".join(map(fingerprint, held)) or "none"
        raise typer.BadParameter(f"line {line}: no key {key or ''} may speak for it; those that may: {there}")
    for public in chosen:
        allow_list.revoke(line, public)
        typer.echo(f"{line}: key {fingerprint(public)} is revoked")


def _enter(config: Path) -> tuple[Config, Path]:
    telemetry.configure("keys")
    loaded = load(config)
    return loaded, loaded.data / "keys"


def _allow_list(folder: Path) -> "AllowList":
    from ingest.allowlist import AllowList  # noqa: PLC0415 - brings ZeroMQ

    return AllowList(folder)


def _rows(loaded: Config, folder: Path) -> Iterator[dict[str, Any]]:
    """One for each line and key, then the lines without a key."""
    from ingest.allowlist import fingerprint  # noqa: PLC0415 - brings ZeroMQ

    secrets = {path.stem for path in folder.glob("cameras/*.key_secret")}
    entries = _allow_list(folder).entries()
    for entry in entries:
        about = {"key": fingerprint(entry.key), "state": entry.state.value, "since": entry.since}
        yield {"line": entry.line, **about, "secret_here": entry.line in secrets}
    for line in sorted({line.id for line in loaded.lines} - {entry.line for entry in entries}):
        yield {"line": line, "key": None, "state": "none", "since": None, "secret_here": line in secrets}


def _shown(row: dict[str, Any]) -> tuple[str, ...]:
    since = "-" if row["since"] is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(row["since"]))
    return (row["line"], row["key"] or "-", row["state"], since, "here" if row["secret_here"] else "-")
