"""Commands that run: everything at once (`up`), or one role, for containers and for `up`'s children."""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from linewatch import lifeline, telemetry
from linewatch.allocator import few_arenas, give_back
from linewatch.config import Config, load
from linewatch.datafolder import only
from linewatch.selfwatch import watched
from linewatch.silence import ALERTS, CAPTURE, WORKER
from linewatch.sockets import make_room

app = typer.Typer()

_STOPPED = 128 + signal.SIGTERM  # as a shell would report it

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="linewatch.yaml", show_default=False)]


@app.command()
def demo(
    *,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="How long to watch; default: until Ctrl-C.", show_default=False)
    ] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="End by itself, after 60 s by default; exit 0 only if all went well.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where to keep what the demo makes.")] = Path("linewatch-demo"),
) -> None:
    """Watch a synthetic factory: no configuration, no network."""
    os.environ.setdefault("LINEWATCH_LOG_LEVEL", "error")  # for the roles too: the demo tells its own story
    telemetry.configure("demo")
    from linewatch.demo import demo as run  # noqa: PLC0415 - brings torch

    raise typer.Exit(run(seconds, headless, folder))


@app.command()
def up(
    config: ConfigFile,
    *,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="End when every source has ended and every frame has its verdict.")
    ] = False,
) -> None:
    """Run every process of CONFIG on this machine, and keep them running."""
    from linewatch.launch import launch  # noqa: PLC0415 - brings redis

    telemetry.configure("up")
    raise typer.Exit(launch(config, load(config), until_done=until_done))


@app.command()
def capture(config: ConfigFile, *, line: Annotated[str, typer.Option(help="Id of the line.")]) -> None:
    """Run the capture of one line."""
    loaded = _enter("capture", line, config)
    settings, endpoints = loaded.capture(line), loaded.endpoints()
    from ingest.service import capture as run  # noqa: PLC0415 - brings OpenCV

    keys, stop = loaded.keys(*endpoints), _heed()
    # A second one would take the first's journal for that of a dead one, and end what it has in flight.
    with only(loaded.journal, "capture", line), watched(CAPTURE, stop) as progress:
        told = {"moves": progress.moves, "waits": progress.waits}
        code = run(settings, workers=endpoints, journal=loaded.journal, keys=keys, stop=stop, **told)
    # To a supervisor 0 means that the source has ended. One that somebody else stopped is to be started again.
    raise typer.Exit(_STOPPED if code == 0 and stop.is_set() and lifeline.held() else code)


@app.command()
def worker(config: ConfigFile, *, name: Annotated[str, typer.Option(help="Name of the worker.")] = "w0") -> None:
    """Run one inference process."""
    loaded = _enter("worker", name, config)
    settings, endpoint, judges = loaded.worker(name), loaded.bind(name), loaded.judges()
    make_room(endpoint)
    few_arenas()
    from inference.worker import serve  # noqa: PLC0415 - brings torch

    storage, keys, stop = loaded.storage, loaded.keys(endpoint), _heed()
    with watched(WORKER, stop) as progress:
        told = {"moves": progress.moves, "waits": progress.waits}
        code = serve(settings, endpoint=endpoint, lines=judges, storage=storage, keys=keys, stop=stop, **told)
    raise typer.Exit(code)


def run_alerts(config: Path) -> None:
    """Run the alert service: rules, history, deliveries and the operators' page."""
    loaded = _enter("alerts", None, config)
    give_back()
    from alerts.service import AlertService  # noqa: PLC0415 - brings FastAPI and NiceGUI

    stop = _heed()
    workers = [worker.name for worker in loaded.workers]
    service = AlertService(
        loaded.alerts, loaded.rules(), loaded.storage, site=loaded.site, shifts=loaded.shifts, workers=workers
    )
    # The history's own guard (`History.commit`) also holds between hosts, but only notices at the next verdict.
    with only(loaded.data, "alerts"), watched(ALERTS, stop) as progress:
        code = service.run(stop, progress.moves)
    raise typer.Exit(code)


def _enter(role: str, name: str | None, config: Path) -> Config:
    """Start a role: logs, the supervisor's lifeline, its configuration; what is loaded hereafter may be given up."""
    telemetry.configure(role, name)
    os.environ.setdefault(telemetry.DEBUG, telemetry.DEFECTS)
    lifeline.hold()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    return load(config)


def _heed() -> threading.Event:
    """From now on a signal asks for a polite end, instead of ending what had nothing to finish yet."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
