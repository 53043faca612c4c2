"""Golden samples on demand: shown by the workers that run, or here when none does."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from linewatch.config import Config
from linewatch.errors import FrontError
from storage.audits import Audits
from storage.challenges import ChallengeStream
from storage.errors import StoreUnavailable
from storage.golden import UNLISTED, GoldenSamples
from storage.history import History
from storage.records import Challenge
from storage.requests import GoldenRequests
from storage.server import connect
from storage.workers import Workers

if TYPE_CHECKING:
    from inference.config import JudgeConfig

HEARD_S = 5.0
"""A worker not heard of for this long does not run."""
PATIENCE_S = 30.0
"""How long workers may take to answer a request, plus `EACH_S` for each sample."""
EACH_S = 2.0
HERE = "command line"
"""Who showed samples that no worker was asked to show."""


class Unanswered(FrontError):  # noqa: N818 - a state of the world, not a mistake
    """Workers that run did not answer in time."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of the samples of a line.

    Attributes:
        results: by worker and sample.
        silent: workers that have not answered for all samples.
    """

    results: list[Challenge]
    silent: list[str]

    @property
    def good(self) -> bool:
        """Whether each sample was judged by each worker as it must be."""
        return not self.silent and not any(result.missed for result in self.results)


def show(config: Config, line: str) -> Answers:
    """Show the samples of a line to the models in service.

    Raises:
        StorageError: Redis, the samples' index or the history fails.
    """
    workers = running(config)
    return ask(config, line, workers, patience_s=PATIENCE_S) if workers else judge_here(config, line)


def told_again(config: Config, line: str) -> bool:
    """Let workers that run show what samples there are now, without waiting for it; False: Redis does not answer."""
    try:
        if running(config):
            GoldenRequests(connect(config.storage)).ask(line)
    except StoreUnavailable:
        return False
    return True


def running(config: Config) -> list[str]:
    """Names of the configuration's workers that run; with an embedded Redis that is down, none does.

    Raises:
        StoreUnavailable: a Redis of its own is configured and cannot be asked.
    """
    try:
        beats = Workers(connect(config.storage)).all()
    except StoreUnavailable:
        if config.redis == "embedded":
            return []
        raise
    oldest_ns = time.time_ns() - round(HEARD_S * 1e9)
    return [worker.name for worker in config.workers if beats.get(worker.name, {}).get("wall_ns", 0) >= oldest_ns]


def ask(config: Config, line: str, workers: list[str], *, patience_s: float) -> Answers:
    """Ask workers to show the samples of a line, and wait for their answers; the alert service keeps those.

    Args:
        config: of the site.
        line: which line.
        workers: who is to answer.
        patience_s: how long to wait for them, plus `EACH_S` for each sample.

    Raises:
        StorageError: Redis or the samples' index fails.
    """
    client = connect(config.storage)
    stream = ChallengeStream(client)
    names = [sample.name for sample in GoldenSamples(config.storage.golden).of(line)]
    awaited = {(worker, name) for worker in workers for name in names}
    position = stream.newest()
    GoldenRequests(client).ask(line)
    deadline = time.monotonic() + patience_s + EACH_S * len(names)
    answers: dict[tuple[str, str], Challenge] = {}
    while awaited and time.monotonic() < deadline:
        entries = stream.read(position)
        for position, result in entries:  # noqa: B007 - the position read up to
            if result.line == line:
                answers[result.worker, result.image] = result
                unreadable = result.image == UNLISTED
                awaited -= {(w, n) for w, n in awaited if w == result.worker and (unreadable or n == result.image)}
        if not entries:
            time.sleep(0.1)
    return Answers([answers[key] for key in sorted(answers)], sorted({worker for worker, _ in awaited}))


def judge_here(config: Config, line: str) -> Answers:
    """Judge the samples of a line in this process, as its first worker would, and keep the results for audits.

    Raises:
        StorageError: the history fails.
    """
    from inference.challenge import challenge_model  # noqa: PLC0415 - brings torch
    from inference.occasions import ASKED  # noqa: PLC0415 - as above
    from inference.serving import Serving  # noqa: PLC0415 - as above
    from storage.models import Registry  # noqa: PLC0415 - brings numpy

    judge, worker = judge_of(config, line), config.workers[0]
    serving = Serving(
        [judge], registry=Registry(config.storage.models), device=worker.device, threads=worker.threads, warm_up=1
    )
    serving.refresh()
    served = serving[line]
    results = challenge_model(
        None if served is None else served.engine,
        None if served is None else served.standard,
        GoldenSamples(config.storage.golden),
        judge,
        worker=HERE,
        occasion=ASKED,
        now_ns=time.time_ns(),
    )
    history = History.open(config.storage)
    try:
        Audits(history.database).keep(results)
    finally:
        history.close()
    return Answers(results, [])


def judge_of(config: Config, line: str) -> "JudgeConfig":
    """What a line is judged by.

    Raises:
        ConfigError: there is no such line.
    """
    config.line(line)
    return next(judge for judge in config.judges() if judge.line == line)
