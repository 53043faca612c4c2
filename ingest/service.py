"""The capture process: one camera, grabbed, numbered, checked and handed to the publisher."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from ingest.condition import ConditionWatch
from ingest.config import CaptureConfig
from ingest.errors import SourceError
from ingest.frame import Condition, Frame, part_id
from ingest.journal import RunJournal, next_run
from ingest.ledger import Ledger
from ingest.publisher import Publisher
from ingest.sources import open_source
from ingest.sources.base import Grab, Source
from ingest.sources.urls import redacted
from ingest.workerlink import View

DEFAULT_DEADLINE_MS = 2000
START_PATIENCE_S = 30.0
"""How long a capture waits for its first worker (it may still be loading its model) before it numbers frames."""
DRAIN_S = 8.0
"""How long a stopping capture waits for the verdicts of frames already taken."""
_BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)

log = structlog.get_logger()


def capture(
    config: CaptureConfig,
    *,
    workers: Sequence[str],
    journal: Path,
    keys: Path | None,
    stop: threading.Event,
    moves: Callable[[str], None] = lambda _: None,
    waits: Callable[[str], None] = lambda _: None,
) -> int:
    """Capture one line until its source ends or `stop` is set.

    Args:
        config: the line.
        workers: endpoints of all workers that may judge it.
        journal: folder of run journals, on a disk that survives the process.
        keys: folder of CURVE keys, needed for tcp endpoints.
        stop: set by the process's signal handlers.
        moves: told the name of a loop at each of its turns.
        waits: told the name of a loop that now waits for the camera, however long that takes, or has ended.

    Returns:
        0 when every captured frame has been accounted for; 1 when some are left to the next start.

    Raises:
        SourceError: the source does not exist.
    """
    source = open_source(config.source)
    run = next_run(journal, line=config.id, wall_ns=time.time_ns())
    # Whatever this thread logs, its source's lines too, names line and run.
    told = structlog.contextvars.bound_contextvars(line=config.id, run=run)
    with told, _closing_on(stop, source), RunJournal(journal, line=config.id, run=run) as counted:
        publisher = _publisher(config, live=source.live, run=run, workers=workers, journal=journal, keys=keys)
        halt = threading.Event()
        server = threading.Thread(
            target=_serve, args=(publisher, halt, stop), kwargs={"moves": moves, "waits": waits}, name="publisher"
        )
        server.start()
        log.info("capturing", line=config.id, run=run, source=redacted(config.source), policy=config.policy)
        try:
            _await_worker(publisher, stop, moves)
            # A full buffer may keep a source that waits for any time, as a camera may.
            busy = waits if _patient(source, config) else moves
            grabs = _watched(_grabs(source, config, publisher, stop), busy, waits)
            captured = _grab_all(grabs, source, config, run=run, publisher=publisher, journal=counted, stop=stop)
            moves("grab")
            publisher.finish("drain", source_ended=not stop.is_set())
            # A source that ended by itself has all the time it needs; a stopped process has not.
            while server.is_alive() and not stop.is_set():
                moves("grab")
                server.join(0.2)
            server.join(DRAIN_S)
            if server.is_alive():
                publisher.finish("now")
                server.join(2.0)
        finally:
            halt.set()
            server.join()
        counted.close(settled=publisher.settled)
        log.info("capture ended", line=config.id, run=run, captured=captured, settled=publisher.settled)
        return 0 if publisher.settled else 1


def _serve(
    publisher: Publisher,
    halt: threading.Event,
    stop: threading.Event,
    *,
    moves: Callable[[str], None],
    waits: Callable[[str], None],
) -> None:
    try:
        publisher.run(stop=halt, turn=lambda: moves("publisher"))
    except Exception:  # whatever it is, no frame may be numbered that nobody sends: the next start accounts for all
        log.exception("publisher failed: capture ends", line=publisher.line, run=publisher.run_id)
        stop.set()
    waits("publisher")


def _watched(grabs: Iterator[Grab], busy: Callable[[str], None], waits: Callable[[str], None]) -> Iterator[Grab]:
    """Tell what the loop over `grabs` does: it owes turns, but not while it waits for the camera."""
    waits("grab")
    for grab in grabs:
        busy("grab")
        yield grab
        waits("grab")


def _patient(source: Source, config: CaptureConfig) -> bool:
    """Whether the source waits for room: it is never thinned and never overflows; `latest` has no use for waiting."""
    return not source.live and config.policy == "every"


def _await_worker(publisher: Publisher, stop: threading.Event, moves: Callable[[str], None]) -> None:
    """Wait for a first worker: a frame captured before anyone can judge it could only end as `unknown`."""
    until = time.monotonic() + START_PATIENCE_S
    while not stop.is_set() and time.monotonic() < until:
        moves("grab")
        if publisher.ready.wait(0.2):
            return
    if not stop.is_set():
        log.warning(
            "no worker answers: frames will be unknown until one does", line=publisher.line, waited_s=START_PATIENCE_S
        )


def _publisher(
    config: CaptureConfig, *, live: bool, run: str, workers: Sequence[str], journal: Path, keys: Path | None
) -> Publisher:
    deadline_ms = config.deadline_ms or (DEFAULT_DEADLINE_MS if live else None)
    ledger = Ledger(
        policy=config.policy,
        capacity=config.buffer_mb * 2**20,
        deadline_s=None if deadline_ms is None else deadline_ms / 1000,
    )
    view = View(roi=config.roi, mask=config.mask)
    return Publisher(line=config.id, run=run, ledger=ledger, view=view, endpoints=workers, journal=journal, keys=keys)


def _grab_all(
    grabs: Iterator[Grab],
    source: Source,
    config: CaptureConfig,
    *,
    run: str,
    publisher: Publisher,
    journal: RunJournal,
    stop: threading.Event,
) -> int:
    """Number what the source gives until it ends; the number of frames."""
    watch = ConditionWatch(
        frozen_after_s=config.frozen_after_s if source.live else 0,
        dark_below=config.dark_below,
        overexposed_above=config.overexposed_above,
    )
    wait = _patient(source, config)
    interval = 1 / config.fps if config.fps and source.live else 0.0
    due, seq = time.monotonic(), 0
    for grab in grabs:
        now = time.monotonic()
        if interval and now < due - interval / 4:
            continue
        due = max(due + interval, now - interval)
        condition = watch.observe(grab.picture, now)
        publisher.report(condition if condition is not Condition.CORRUPT else Condition.OK)
        journal.advance(seq + 1)
        frame = Frame(
            line=config.id,
            run=run,
            seq=seq,
            wall_ns=time.time_ns(),
            mono_ns=time.monotonic_ns(),
            picture=grab.picture,
            condition=condition,
            part=None if grab.part is None else part_id(grab.part),
        )
        log.debug("captured", verdict=frame.id, part=frame.part, condition=condition.value)
        publisher.offer(frame, wait=wait, stop=stop)
        seq += 1
    return seq


def _grabs(source: Source, config: CaptureConfig, publisher: Publisher, stop: threading.Event) -> Iterator[Grab]:
    """Grab until the end, reconnecting with growing pauses when the source is gone."""
    failures = 0
    while not stop.is_set():
        try:
            grab = source.grab()
        except SourceError as error:
            if stop.is_set():
                return
            publisher.report(Condition.LOST)
            pause = _BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)]
            log.warning("source lost", line=config.id, run=publisher.run_id, error=str(error), retry_in_s=pause)
            failures += 1
            stop.wait(pause)
            continue
        if grab is None or stop.is_set():
            return
        if failures:
            log.info("source is back", line=config.id, run=publisher.run_id, attempts=failures)
            failures = 0
        yield grab


@contextmanager
def _closing_on(stop: threading.Event, source: Source) -> Iterator[None]:
    """Close the source as soon as `stop` is set, so that a blocked grab ends."""
    done = threading.Event()

    def close() -> None:
        while not done.is_set() and not stop.wait(0.2):
            pass
        source.close()

    thread = threading.Thread(target=close, name="closer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(2.0)
