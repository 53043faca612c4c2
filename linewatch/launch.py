"""`linewatch up`: the processes a configuration asks for, and what a person is told at the start."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import structlog
from rich.console import Console

from ingest.sources.urls import redacted
from linewatch.config import Config
from linewatch.datafolder import claim
from linewatch.errors import ConfigError
from linewatch.notify import Notifier
from linewatch.preflight import taken_ports
from linewatch.silence import ALERTS, CAPTURE, WORKER
from linewatch.sockets import make_room
from linewatch.supervisor import Role, Supervisor
from linewatch.tables import print_table
from storage.errors import BundleError, StorageError
from storage.history import History
from storage.lines import Lines
from storage.models import Registry
from storage.server import RedisServer, connect
from storage.verdicts import VerdictStream

_CAPTURE_ENDS_S = 16.0
"""A read of the camera (5 s), the verdicts of what was taken (8 s), what is given up (2 s)."""
_WORKER_ENDS_S = 30.0
"""Five steps of 5 s, golden samples and models."""
_ALERTS_END_S = 20.0
"""To follow, to deliver, the page."""

log = structlog.get_logger()


def roles(path: Path, config: Config) -> list[Role]:
    """One process per camera, per worker, and the alert service; in the order of stopping."""
    # -P: a folder of the user's named `storage` or `alerts` must not be taken for ours.
    linewatch = (sys.executable, "-P", "-m", "linewatch")
    file = str(path.resolve())
    return [
        *(
            Role(
                f"capture {line.id}",
                (*linewatch, "capture", file, "--line", line.id),
                stage=0,
                ends=True,
                patience=CAPTURE,
                grace_s=_CAPTURE_ENDS_S,
            )
            for line in config.lines
            if not line.remote
        ),
        *(
            Role(
                f"worker {worker.name}",
                (*linewatch, "worker", file, "--name", worker.name),
                stage=1,
                patience=WORKER,
                grace_s=_WORKER_ENDS_S,
            )
            for worker in config.workers
        ),
        Role("alerts", (*linewatch, "alerts", file), stage=2, patience=ALERTS, grace_s=_ALERTS_END_S),
    ]


def launch(path: Path, config: Config, *, until_done: bool = False, on_tick: Callable[[], None] = lambda: None) -> int:
    """Run everything until SIGTERM or SIGINT, or until all is done.

    Args:
        path: where `config` was read from: the roles read it again.
        config: what to run.
        until_done: also end once every source has ended, every frame has its verdict and every verdict was read.
        on_tick: called now and then meanwhile.

    Returns:
        0.

    Raises:
        ConfigError: the configuration asks for what cannot be.
        AlreadyRunning: the data folder is in use.
        StorageError: Redis does not start.
    """
    config.judges()  # a promise that cannot be understood is said here, once, not by every worker
    with claim(config.data):
        taken = [f"{finding.subject}: {finding.text}: {finding.mend}" for finding in taken_ports(config)]
        if taken:
            raise ConfigError(*taken)
        page = config.data / "page.url"
        page.unlink(missing_ok=True)
        announce, notifier = _Announcer(page), Notifier()

        def tick() -> None:
            announce()
            notifier.turn()
            on_tick()

        for worker in config.workers:
            make_room(config.bind(worker.name))
        supervisor = Supervisor(
            roles=roles(path, config),
            status=config.data / "up.json",
            server=RedisServer(config.data) if config.redis == "embedded" else None,
            until=_Settled(config) if until_done else None,
            on_tick=tick,
        )

        def end(*_: object) -> None:
            notifier.stopping()
            supervisor.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        _print_lines(config)
        supervisor.run()
    return 0


class _Settled:
    """Whether every captured frame has its verdict, and every verdict has been read by the alert service."""

    def __init__(self, config: Config) -> None:
        client = connect(config.storage)
        self._lines, self._stream = Lines(client), VerdictStream(client)
        self._history = History(config.storage)
        self._names = {line.id for line in config.lines}

    def __call__(self) -> bool:
        try:
            states = [state for state in self._lines.states() if state.line in self._names]
            newest = self._stream.latest(1)
            position = self._history.position()
        except StorageError as error:
            log.warning("cannot ask whether all is done", error=str(error))
            return False
        return all(state.open == 0 for state in states) and (not newest or newest[0][0] == position)


class _Announcer:
    """Prints the page's address once the alert service has written it."""

    def __init__(self, page: Path) -> None:
        self._page, self._said = page, ""

    def __call__(self) -> None:
        try:
            url = self._page.read_text(encoding="utf-8").strip()
        except OSError:
            return  # not there yet, or just being taken away
        if url and url != self._said:
            self._said = url
            Console().print(f"page: {url}", highlight=False, soft_wrap=True)


def _print_lines(config: Config) -> None:
    registry = Registry(config.storage.models)
    rows = []
    for line in config.lines:
        try:
            model = registry.resolve(line.model).ref
        except BundleError:
            model = f"{line.model}: not there yet, frames will be unknown"
        rows.append((line.id, redacted(line.source), line.policy, model, line.false_alarms))
    print_table(("line", "source", "policy", "model", "false alarms"), rows)
