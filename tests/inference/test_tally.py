"""What a worker counts for its heartbeat."""

import json
import threading

from inference.tally import _MOST_LINES, Tally
from storage.measures import Buckets


def total(told: object) -> int:
    buckets = Buckets.read(told)
    assert buckets is not None
    return sum(buckets.counts)


def test_however_many_lines_the_heartbeat_stays_small() -> None:
    tally = Tally()
    for number in range(2 * _MOST_LINES):
        tally.stored(f"line {number}", 0.1)
    told = tally.told()["verdict_s"]
    assert len(told) == _MOST_LINES + 1
    assert sum(map(total, told.values())) == 2 * _MOST_LINES, "the rest share one"
    assert len(json.dumps(told)) < 100_000


def test_threads_lose_no_count() -> None:
    tally, several = Tally(), 8

    def count() -> None:
        for _ in range(500):
            tally.judged(4, 0.03)
            tally.stored("a", 0.1)
            tally.store_retried()

    threads = [threading.Thread(target=count) for _ in range(several)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = tally.told()
    assert total(told["batch_size"]) == total(told["judge_s"]) == total(told["verdict_s"]["a"]) == 500 * several
    assert told["store_retries"] == 500 * several
