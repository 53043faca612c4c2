"""Commands that examine: a configuration (`check`), this machine (`doctor`), a running role (`health`)."""

from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from linewatch.commands.running import ConfigFile
from linewatch.config import load

app = typer.Typer()


class RoleName(StrEnum):
    """Roles that can be asked for their health."""

    CAPTURE = "capture"
    WORKER = "worker"
    ALERTS = "alerts"


@app.command()
def check(
    config: ConfigFile,
    *,
    no_cameras: Annotated[bool, typer.Option("--no-cameras", help="Do not open the sources.")] = False,
) -> None:
    """Check that what CONFIG names is there and fits together."""
    loaded = load(config)
    from linewatch.exposure import written_passwords  # noqa: PLC0415 - brings SQLAlchemy
    from linewatch.findings import report  # noqa: PLC0415 - brings rich
    from linewatch.preflight import examine  # noqa: PLC0415 - brings OpenCV and scipy

    raise typer.Exit(report(chain(written_passwords(config), examine(loaded, cameras=not no_cameras))))


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="Look at what it asks of this machine, too.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of findings, for a program.")] = False,
    no_cameras: Annotated[bool, typer.Option("--no-cameras", help="Do not reach for the sources.")] = False,
) -> None:
    """Look at this machine: versions, GPU, disk, clocks, files, ports, Redis, cameras. Exit 1 only for BAD."""
    loaded = None if config is None else load(config)
    from linewatch.doctor.checklist import show  # noqa: PLC0415 - brings rich
    from linewatch.doctor.diagnose import diagnose  # noqa: PLC0415 - brings redis and OpenCV

    raise typer.Exit(show(diagnose(loaded, config, look_at_cameras=not no_cameras), as_json=as_json))


@app.command()
def health(
    config: ConfigFile,
    role: Annotated[RoleName, typer.Argument(help="Which role.", show_default=False)],
    *,
    name: Annotated[str | None, typer.Option(help="Id of the line, or name of the worker; default: the first.")] = None,
) -> None:
    """Ask a running role whether it does its work: exit 0 or 1, for the health check of a container."""
    loaded = load(config)
    from linewatch.health import probe_alerts, probe_capture, probe_worker  # noqa: PLC0415 - brings redis and httpx

    match role:
        case RoleName.CAPTURE:
            typer.echo(probe_capture(loaded, name or loaded.lines[0].id))
        case RoleName.WORKER:
            typer.echo(probe_worker(loaded, name or loaded.workers[0].name))
        case RoleName.ALERTS:
            typer.echo(probe_alerts(loaded))
