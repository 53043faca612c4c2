"""Whether one role of a running system does its work: what a container's health check asks.

A process that merely exists proves nothing. A capture is healthy when its beat has come all the way through a worker
into storage, a worker when its heartbeat has, the alert service when its page answers or, without a page, when it has
followed the verdict stream.
"""

import time
from pathlib import Path

from linewatch.config import Config
from linewatch.errors import FrontError
from storage.lines import Lines
from storage.server import connect
from storage.verdicts import VerdictStream
from storage.workers import Workers

FRESH_S = 15.0
"""A sign of life older than this is none."""
_ANSWER_S = 5.0


class Unhealthy(FrontError):  # noqa: N818 - a state of the world, not a mistake
    """A role does not do its work; one line saying what is missing."""


def probe_capture(config: Config, line: str) -> str:
    """Ask for the beat of a line.

    Raises:
        Unhealthy: there is none, or it is old.
        StorageError: storage does not answer.
    """
    state = Lines(connect(config.storage)).state(config.line(line).id)
    return _fresh(f"capture {line}", 0 if state is None else state.beat_ns)


def probe_worker(config: Config, name: str) -> str:
    """Ask for the heartbeat of a worker.

    Raises:
        Unhealthy: there is none, or it is old.
        StorageError: storage does not answer.
    """
    info = Workers(connect(config.storage)).all().get(config.worker(name).name, {})
    return _fresh(f"worker {name}", int(info.get("wall_ns", 0)))


def probe_alerts(config: Config) -> str:
    """Ask the page, or without one the history.

    Raises:
        Unhealthy: the page does not answer or says that something is wrong, or verdicts wait too long to be read.
        StorageError: storage does not answer.
    """
    return _read_lately(config) if config.alerts.page is None else _page_answers(config.data / "page.url")


def _page_answers(address: Path) -> str:
    import httpx  # noqa: PLC0415 - not in the image of a capture

    if not address.exists():
        raise Unhealthy("alerts: the page has not been opened")
    url = f"{address.read_text(encoding='utf-8').strip()}/healthz"
    try:
        answer = httpx.get(url, timeout=_ANSWER_S, trust_env=False)
    except httpx.HTTPError as error:
        raise Unhealthy(f"alerts: {url} does not answer: {error}") from error
    if answer.is_error:
        raise Unhealthy(f"alerts: {url} answers {answer.status_code}: {answer.text[:200]}")
    return "alerts: the page answers"


def _read_lately(config: Config) -> str:
    from storage.history import History  # noqa: PLC0415 - not in the image of a capture

    history = History.open(config.storage)
    try:
        position = history.position()
    finally:
        history.close()
    unread = VerdictStream(connect(config.storage)).read(position, count=1)
    if unread:
        waiting_s = time.time() - int(unread[0][0].partition("-")[0]) / 1000  # an entry's id is its time in ms
        if waiting_s > FRESH_S:
            raise Unhealthy(f"alerts: a verdict has been waiting for {waiting_s:.0f} s")
    return f"alerts: verdicts are read up to {position}"


def _fresh(subject: str, wall_ns: int) -> str:
    if wall_ns == 0:
        raise Unhealthy(f"{subject}: never heard of")
    age_s = (time.time_ns() - wall_ns) / 1e9
    if age_s > FRESH_S:
        raise Unhealthy(f"{subject}: last sign of life {age_s:.0f} s ago")
    if age_s < -FRESH_S:  # from before the clock was set back: who lives has told a newer one since
        raise Unhealthy(f"{subject}: last sign of life {-age_s:.0f} s ahead of this clock: it was set, or hosts differ")
    return f"{subject}: last sign of life {max(age_s, 0):.1f} s ago"
