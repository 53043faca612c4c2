"""Commands `backup` and `restore`: what cannot be made again, in one file."""

import time
from pathlib import Path
from typing import Annotated

import typer

from linewatch import telemetry
from linewatch.commands.running import ConfigFile
from linewatch.config import load

app = typer.Typer()


@app.command()
def backup(
    config: ConfigFile,
    file: Annotated[Path, typer.Argument(metavar="FILE.tar", help="The file to write.", show_default=False)],
    *,
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Also the secret keys of cameras and workers.")
    ] = False,
    without_history: Annotated[
        bool, typer.Option("--without-history", help="Without the history: PostgreSQL has backups of its own.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an older file of that name.")] = False,
) -> None:
    """Keep history, models and golden samples in one file, while everything runs."""
    telemetry.configure("backup")
    loaded = load(config)
    from linewatch.backup import back_up  # noqa: PLC0415 - brings SQLAlchemy
    from linewatch.commands.progress import progress_bar  # noqa: PLC0415 - brings rich

    with progress_bar() as report:
        made = back_up(loaded, file, keys=with_keys, history=not without_history, replace=replace, report=report)
    of = "no history" if made.revision is None else f"history at revision {made.revision}"
    typer.echo(f"{file}: {made.files} files, {made.bytes / 1e6:,.1f} MB, {of}")
    if with_keys:
        typer.echo(f"{file}: holds secret keys: whoever reads it can speak as your cameras")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE.tar", help="A backup.", show_default=False)],
    *,
    data: Annotated[Path, typer.Option(help="The data folder to put it into.", show_default=False)],
    replace: Annotated[
        bool, typer.Option("--replace", help="What is there already is kept aside in that folder.")
    ] = False,
) -> None:
    """Put a backup back; nothing may run on the data folder meanwhile."""
    telemetry.configure("restore")
    from linewatch.commands.progress import progress_bar  # noqa: PLC0415 - brings rich
    from linewatch.restore import restore as put_back  # noqa: PLC0415 - brings SQLAlchemy

    with progress_bar() as report:
        restored = put_back(file, data.absolute(), replace=replace, report=report)
    contents = restored.archive.contents
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(contents.made_ns / 1e9))
    typer.echo(f"{data}: restored {len(contents.members)} files of {contents.site}, as they were on {made}")
    if restored.aside is not None:
        typer.echo(f"what was there before is in {restored.aside}: remove it once all is well")
