"""Two alert services on one history: whoever comes second commits nothing, and says so."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from alerts.config import AlertRules, AlertsConfig
from alerts.follower import Follower
from storage.config import StorageConfig
from storage.errors import StorageError
from storage.history import History
from storage.lines import Lines
from storage.verdicts import VerdictStream

RULES = {"a": AlertRules(silent_after=0)}


@pytest.fixture
def history(storage: StorageConfig) -> Iterator[History]:
    history = History.open(storage)
    yield history
    history.close()


class Paused(History):
    """Lets somebody else act between reading a batch and committing it."""

    meanwhile: Callable[[], None] | None = None

    def commit(self, consequences: Any, *, after: str) -> None:
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()
        super().commit(consequences, after=after)


def test_a_follower_that_was_paused_in_mid_batch_commits_nothing_and_can_go_on(
    redis_client: redis.Redis, storage: StorageConfig, history: History, belt: Any
) -> None:
    lines = Lines(redis_client)
    slow = Paused(storage)
    first, second = (
        Follower(redis_client, kept, rules=RULES, audience={}, on_verdicts=lambda _: None) for kept in (slow, history)
    )
    first.resume()
    lines.record(belt.verdicts("pass", "reject"))

    def take_over() -> None:
        second.resume()
        lines.record(belt.verdicts(*["pass"] * 60, "reject"))
        second.follow(block_ms=0)

    slow.meanwhile = take_over
    with pytest.raises(StorageError, match=r"another alert service writes to it; stop one of the two"):
        first.follow(block_ms=0)
    alerts = history.alerts()
    assert len(alerts) == 2
    assert history.position() == second.position
    assert first.position == "0", "nothing that was not committed is believed"
    first.resume()
    assert first.follow(block_ms=0) == (False, False)
    assert history.alerts() == alerts
    slow.close()


@pytest.mark.timeout(120)
def test_a_service_that_sleeps_while_another_takes_over_ends_with_one_clear_line(
    start_service: Any, redis_client: redis.Redis, history: History, belt: Any
) -> None:
    lines = Lines(redis_client)
    config = AlertsConfig(page=None, sinks=())
    old = start_service(config, RULES)
    lines.record(belt.verdicts("reject"))
    old.until(lambda: len(history.alerts()) == 1, "the first alert")
    os.kill(old._process.pid, signal.SIGSTOP)
    new = start_service(config, RULES)
    lines.record(belt.verdicts(*["pass"] * 60, "reject"))
    new.until(lambda: len(history.alerts()) == 2, "the second alert")
    os.kill(old._process.pid, signal.SIGCONT)
    ended: list[Any] = []
    for _ in range(500):
        lines.record(belt.verdicts("pass"))
        ended = [service for service in (old, new) if service._process.poll() is not None]
        if ended:
            break
        old._process.poll()
    else:
        old._process.wait(60)
        ended = [old]
    [loser] = ended
    assert loser._process.returncode != 0
    assert "another alert service writes to it; stop one of the two" in loser.log
    winner = new if loser is old else old
    last = VerdictStream(redis_client).latest(1)[0][0]
    winner.until(lambda: history.position() == last, "the end of the stream")
    assert len(history.alerts()) == len({alert.id for alert in history.alerts()}) == 2
    assert winner.terminate() == 0
