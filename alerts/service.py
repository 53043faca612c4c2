"""The alert service: verdict stream in; history, deliveries and the operators' page out.

::

    Redis ── verdicts ──> Follower ──(one transaction)──> History ── outbox ──> Courier (a thread a sink) ──> sink
          ── line state ──> Pulse ──┘          Board <────────┘
                                                 └──> page and API (a thread)
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import time as clock
from functools import partial

import redis
import structlog

from alerts.board import TREND, Board
from alerts.config import AlertRules, AlertsConfig
from alerts.courier import DRAIN_S, FORGET_NS, Courier
from alerts.errors import AlertError
from alerts.follower import Follower, entry_number
from alerts.metrics.collector import SiteCollector
from alerts.processes import Processes
from alerts.pulse import Pulse
from alerts.sinks import audience, open_sink, sink_names
from storage.config import StorageConfig
from storage.errors import StorageFull, StoreUnavailable
from storage.history import History
from storage.labels import Labels
from storage.lines import Lines
from storage.records import Alert, Change, Label, Verdict
from storage.server import connect
from storage.verdicts import VerdictStream

log = structlog.get_logger()

_TICK_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


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

            follower = Follower(client, history, rules=self._rules, audience=told, on_verdicts=on_verdicts)
            crew = closing.enter_context(_crew(couriers, stop))
            self._open_page(closing, board, history, told, crew.ring, metrics=metrics)
            loop = _Loop(follower, lines=Lines(client), stream=stream, pulse=pulse, board=board, ring=crew.ring)
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


class _Loop:
    """Turns until told to stop; a store that is away is waited for."""

    def __init__(
        self,
        follower: Follower,
        *,
        lines: Lines,
        stream: VerdictStream,
        pulse: Pulse,
        board: Board,
        ring: Callable[[], None],
    ) -> None:
        self._follower = follower
        self._lines = lines
        self._stream = stream
        self._pulse = pulse
        self._board = board
        self._ring = ring
        self._next_tick = 0.0
        self._charted = False

    def run(self, stop: threading.Event, turn: Callable[[], None]) -> None:
        well, pause = False, _FIRST_PAUSE_S
        waiting = False
        while not stop.is_set():
            turn()
            try:
                if not well:
                    self._begin()
                self._turn()
            except (StoreUnavailable, StorageFull) as error:
                well = False
                self._board.trouble(str(error))
                if not waiting:  # said once
                    log.warning("verdicts wait; they are followed as soon as this is mended", because=str(error))
                    waiting = True
                stop.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                self._pulse.deaf(time.monotonic())
                continue
            if waiting:
                log.info("verdicts are followed again")
            elif not well:
                log.info("verdicts are followed", position=self._follower.position)
            well, waiting, pause = True, False, _FIRST_PAUSE_S
        turn()
        if well:
            self._drain()
        turn()

    def _begin(self) -> None:
        self._follower.resume()
        if not self._charted:
            position = entry_number(self._follower.position)
            known = [v for name, v in self._stream.latest(4 * TREND) if entry_number(name) <= position]
            self._board.add(reversed(known))
            self._charted = True

    def _turn(self) -> None:
        """Follow a batch; once a second look at the lines, before it: a tick must not run ahead of verdicts."""
        now = time.monotonic()
        ticking = now >= self._next_tick
        if ticking:
            states = self._lines.states()
            self._pulse.listen(states, now)
        more, tell = self._follower.follow(block_ms=0 if ticking else max(1, int((self._next_tick - now) * 1000)))
        if ticking:
            self._next_tick = now + _TICK_S
            if not more:
                tell |= self._follower.tick(self._pulse, now=now, now_ns=time.time_ns())
            known = self._follower.lines
            self._board.turn(state for state in states if state.line in known)
            if self._follower.hole:
                self._board.hole(self._follower.hole)
        if tell:
            self._board.stale()
            self._ring()

    def _drain(self) -> None:
        """Follow what was stored before the end."""
        deadline, more = time.monotonic() + DRAIN_S, True
        try:
            while more and time.monotonic() < deadline:
                more, _ = self._follower.follow(block_ms=0)
        except (StoreUnavailable, StorageFull) as error:
            log.warning("the rest is followed at the next start", because=str(error))


class _Crew:
    """The couriers' threads. One that fails for a reason nobody foresaw ends the service, loudly."""

    def __init__(self, couriers: Sequence[Courier], stop: threading.Event) -> None:
        self._couriers = couriers
        self._stop = stop
        self._ending = threading.Event()
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._work, args=(courier,), name="courier", daemon=True) for courier in couriers
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def ring(self) -> None:
        for courier in self._couriers:
            courier.ring()

    def end(self, patience_s: float) -> None:
        self._ending.set()
        self.ring()
        deadline = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def check(self) -> None:
        if self._failure is not None:
            raise AlertError(f"a delivery thread failed ({self._failure!r}): please report it") from self._failure

    def _work(self, courier: Courier) -> None:
        try:
            courier.run(self._ending)
        except Exception as error:
            log.exception("a delivery thread failed")
            self._failure = error
            self._stop.set()


@contextmanager
def _crew(couriers: Sequence[Courier], stop: threading.Event) -> Iterator[_Crew]:
    crew = _Crew(couriers, stop)
    crew.start()
    try:
        yield crew
    finally:
        crew.end(DRAIN_S + 2.0)


def _greet(history: History, names: Sequence[str]) -> None:
    """Tidy the outbox, and say what it holds for sinks that are no longer configured."""
    history.forget_delivered(before_ns=time.time_ns() - FORGET_NS)
    for sink, count in history.undelivered().items():
        if sink not in names:
            log.warning("messages wait for a sink that is not configured", sink=sink, count=count)
