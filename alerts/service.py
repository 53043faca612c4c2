"""The alert service: verdict stream in; history, deliveries and the operators' page out.

::

    Redis ── verdicts ──> Follower ──(one transaction)──> History ── outbox ──> Courier (a thread a sink) ──> sink
          ── line state ──> Pulse ──┘          Board <────────┘
                                                 └──> page and API (a thread)
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import time as clock
from functools import partial

import redis
import structlog

from alerts.board import Board
from alerts.config import AlertRules, AlertsConfig
from alerts.courier import FORGET_NS, Courier
from alerts.crew import at_work
from alerts.follower import Follower
from alerts.loop import Loop
from alerts.metrics.collector import SiteCollector
from alerts.processes import Processes
from alerts.pulse import Pulse
from alerts.sinks import audience, open_sink, sink_names
from storage.config import StorageConfig
from storage.golden import GoldenSamples
from storage.history import History
from storage.labels import Labels
from storage.lines import Lines
from storage.records import Alert, Change, Label, Verdict
from storage.server import connect
from storage.verdicts import VerdictStream

log = structlog.get_logger()


class AlertService:
    """One process. It may be killed at any moment and resumes where its history ends.

    Args:
        config: sinks and page.
        rules: line -> when its verdicts become alerts.
        storage: Redis, history, evidence.
        site: name of the place, in reports.
        shifts: local times of day at which shifts begin, for reports.
        workers: names of the workers, for metrics; empty: those that are heard of.
    """

    def __init__(
        self,
        config: AlertsConfig,
        rules: Mapping[str, AlertRules],
        storage: StorageConfig,
        *,
        site: str = "linewatch",
        shifts: Sequence[clock] = (),
        workers: Sequence[str] = (),
    ) -> None:
        self._config = config
        self._rules = dict(rules)
        self._storage = storage
        self._site = site
        self._shifts = tuple(shifts)
        self._workers = tuple(workers)

    def run(self, stop: threading.Event, moves: Callable[[str], None] = lambda _: None) -> int:
        """Serve until `stop` is set; then follow and deliver what there is, for a few seconds at most.

        `moves` is told the name of a loop at each of its turns.

        Returns:
            0.

        Raises:
            SinkError: the url of a sink is wrong.
            PageError: the page's address is taken, or the page would be open to everybody by mistake.
            StorageError: the history cannot be opened.
        """
        names, told = sink_names(self._config.sinks), audience(self._config)
        sinks = [open_sink(sink) for sink in self._config.sinks]
        with ExitStack() as closing:
            history = History.open(self._storage)
            closing.callback(history.close)
            _greet(history, names)
            client = connect(self._storage)
            closing.callback(client.close)
            board = Board(history, self._rules, Processes(self._storage.data / "up.json").ailments)
            stream = VerdictStream(client)
            pulse = Pulse(time.monotonic(), grace_s=self._config.start_grace)
            couriers = [Courier(name, sink, history) for name, sink in zip(names, sinks, strict=True)]
            metrics = self._metrics(client, history, board, couriers, pulse)

            def on_verdicts(verdicts: Sequence[Verdict]) -> None:
                board.add(verdicts)
                pulse.handle(verdicts, time.monotonic())
                metrics.follow(verdicts)

            listed = GoldenSamples(self._storage.golden).listed
            follower = Follower(
                client, history, rules=self._rules, audience=told, on_verdicts=on_verdicts, listed=listed
            )
            crew = closing.enter_context(at_work(couriers, stop))
            self._open_page(closing, board, history, told, crew.ring, metrics=metrics)
            loop = Loop(follower, lines=Lines(client), stream=stream, pulse=pulse, board=board, ring=crew.ring)
            loop.run(stop, partial(moves, "follower"))
        crew.check()
        return 0

    def _metrics(
        self, client: redis.Redis, history: History, board: Board, couriers: Sequence[Courier], pulse: Pulse
    ) -> SiteCollector:
        return SiteCollector(
            client,
            history,
            board,
            lines=list(self._rules),
            workers=self._workers,
            storage=self._storage,
            couriers=couriers,
            silent_s=lambda line: pulse.signs(line, time.monotonic()).silent_s,
        )

    def _open_page(
        self,
        closing: ExitStack,
        board: Board,
        history: History,
        told: Mapping[Change, Sequence[str]],
        ring: Callable[[], None],
        *,
        metrics: SiteCollector,
    ) -> None:
        if self._config.page is None:
            return
        from alerts.accounts import Access  # noqa: PLC0415 - a service without a page loads no web framework
        from alerts.api import create_app  # noqa: PLC0415
        from alerts.metrics.serving import add_metrics  # noqa: PLC0415
        from alerts.pages.overview import mount  # noqa: PLC0415
        from alerts.pageserver import PageServer  # noqa: PLC0415
        from alerts.report.serving import add_report  # noqa: PLC0415

        def acknowledge(alert_id: str, by: str) -> Alert:
            alert = history.acknowledge(alert_id, by=by, now_ns=time.time_ns(), sinks=told.get(Change.ACKNOWLEDGED, ()))
            board.stale()
            ring()
            return alert

        def label(alert_id: str, said: Label, by: str, note: str) -> Alert:
            alert = Labels(history).label(
                alert_id, said, by=by, note=note, now_ns=time.time_ns(), sinks=told.get(Change.ACKNOWLEDGED, ())
            )
            board.stale()
            ring()
            return alert

        evidence = self._storage.evidence
        access = Access(history.database, self._config.page)
        access.check()
        app = create_app(board, history, evidence=evidence, acknowledge=acknowledge, label=label, access=access)
        lines = list(self._rules)
        add_report(app, history, site=self._site, lines=lines, shifts=self._shifts, evidence=evidence)
        add_metrics(app, metrics)
        mount(app, board, evidence=evidence, acknowledge=acknowledge, label=label, access=access)
        server = PageServer(
            app,
            bind=self._config.page.bind,
            url_file=self._storage.data / "page.url",
            proxies=self._config.page.proxies,
        )
        closing.callback(server.stop)
        server.start()


def _greet(history: History, names: Sequence[str]) -> None:
    """Tidy the outbox, and say what it holds for sinks that are no longer configured."""
    history.forget_delivered(before_ns=time.time_ns() - FORGET_NS)
    for sink, count in history.undelivered().items():
        if sink not in names:
            log.warning("messages wait for a sink that is not configured", sink=sink, count=count)
