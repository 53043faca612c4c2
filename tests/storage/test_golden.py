"""Golden samples on disk, what is kept of them for audits, and the counters that ask for them."""

import fcntl
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import redis

from storage import durable, keys
from storage.audits import Audits
from storage.config import StorageConfig
from storage.errors import StorageError, StoreUnavailable
from storage.golden import GoldenSamples
from storage.history import Consequences, History
from storage.records import Challenge, Status
from storage.requests import GoldenRequests
from storage.server import connect


def png(level: int) -> bytes:
    return cv2.imencode(".png", np.full((8, 8, 3), level, np.uint8))[1].tobytes()


@pytest.fixture
def samples(tmp_path: Path) -> GoldenSamples:
    return GoldenSamples(tmp_path / "golden")


def test_samples_are_kept_listed_read_and_removed(samples: GoldenSamples) -> None:
    assert samples.of("belt") == ()
    scratch = samples.add("belt", "scratch", png(1), expected="reject", added_ns=7, origin="a.png")
    good = samples.add("belt", "good.1", png(2), expected="pass", added_ns=8)
    other = samples.add("other", "scratch", png(3), expected="reject", added_ns=9)
    assert samples.of("belt") == (good, scratch)
    assert (scratch.origin, scratch.added_ns) == ("a.png", 7)
    assert samples.picture("belt", scratch) == png(1)
    assert samples.picture("other", other) == png(3)
    assert samples.remove("belt", "scratch") == scratch
    assert samples.of("belt") == (good,)
    assert samples.picture("belt", scratch) is None, "removed, not missing"
    assert samples.add("belt", "scratch", png(4), expected="reject", added_ns=10) in samples.of("belt")
    assert samples.picture("belt", scratch) is None, "replaced, not swapped"
    for folder in (samples.root, samples.root / "belt"):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", "x\n", "a" * 65, "ä", ".x"])
def test_a_name_never_leads_out_of_the_folder(samples: GoldenSamples, name: str) -> None:
    with pytest.raises(StorageError, match="is no name of a golden sample"):
        samples.add("belt", name, png(1), expected="reject", added_ns=0)
    with pytest.raises(StorageError, match="is no name of a line"):
        samples.add(name, "x", png(1), expected="reject", added_ns=0)
    with pytest.raises(StorageError, match="is no name of a line"):
        samples.of(name)
    assert not list(samples.root.rglob("*.png"))


def test_what_is_wrong_with_a_picture_is_said_with_its_name(samples: GoldenSamples) -> None:
    one = samples.add("belt", "one", png(1), expected="reject", added_ns=0)
    samples.add("belt", "two", png(2), expected="pass", added_ns=0)
    folder = samples.root / "belt"
    for damage, complaint in (
        (lambda: (folder / "one.png").write_bytes(png(2)), "sample one of line belt is not the picture"),
        (lambda: (folder / "one.png").write_bytes(png(1)[:-9]), "sample one of line belt is not the picture"),
        ((folder / "one.png").unlink, "sample one of line belt cannot be read"),
    ):
        damage()
        with pytest.raises(StorageError, match=complaint):
            samples.picture("belt", one)
    assert samples.remove("belt", "one") == one, "also without its picture"


def test_a_wrong_request_changes_nothing(samples: GoldenSamples) -> None:
    one = samples.add("belt", "one", png(1), expected="reject", added_ns=0)
    with pytest.raises(StorageError, match="has a golden sample one already"):
        samples.add("belt", "one", png(2), expected="pass", added_ns=0)
    with pytest.raises(StorageError, match="are no PNG"):
        samples.add("belt", "two", b"\xff\xd8\xff", expected="pass", added_ns=0)
    with pytest.raises(StorageError, match="has no golden sample 'two'; there is one"):
        samples.remove("belt", "two")
    assert samples.of("belt") == (one,)
    assert samples.picture("belt", one) == png(1)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": 2, "samples": []}'])
def test_a_damaged_index_is_no_empty_one(samples: GoldenSamples, damage: bytes) -> None:
    samples.add("belt", "one", png(1), expected="reject", added_ns=0)
    (samples.root / "belt" / "samples.json").write_bytes(damage)
    with pytest.raises(StorageError, match="index of golden samples cannot be read"):
        samples.of("belt")
    with pytest.raises(StorageError, match="index of golden samples cannot be read"):
        samples.add("belt", "two", png(2), expected="reject", added_ns=0)


def test_those_who_add_at_once_lose_nothing(samples: GoldenSamples) -> None:
    def add(who: int) -> None:
        for number in range(8):
            GoldenSamples(samples.root).add("belt", f"{who}-{number}", png(who), expected="pass", added_ns=0)

    adding = [threading.Thread(target=add, args=(who,)) for who in range(4)]
    for thread in adding:
        thread.start()
    seen = 0
    while any(thread.is_alive() for thread in adding):
        now = samples.of("belt")
        assert len(now) >= seen, "a reader sees whole indices only"
        seen = len(now)
        assert all(samples.picture("belt", sample) for sample in now)
    assert {s.name for s in samples.of("belt")} == {f"{who}-{number}" for who in range(4) for number in range(8)}
    assert not list((samples.root / "belt").glob(".*"))


def challenge(at_ns: int, *, line: str = "belt", status: Status = Status.REJECT) -> Challenge:
    return Challenge(
        line=line, image="one", expected="reject", status=status, reason="x", worker="w0", occasion="start", at_ns=at_ns
    )


def test_results_are_read_newest_first_by_line_and_time(tmp_path: Path) -> None:
    history = History.open(StorageConfig(data=tmp_path))
    audits = Audits(history.database)
    assert audits.results() == []
    audits.keep([])
    of_workers = [challenge(1), challenge(3, status=Status.PASS)]
    entries = {f"{result.at_ns}-0": result for result in of_workers}
    history.commit(Consequences(position="1-0", challenges=entries), after="0")
    direct = [challenge(2, status=Status.UNKNOWN), challenge(4), challenge(5, line="other")]
    audits.keep(direct)
    audits.keep([direct[0]])
    assert history.challenge_position() == "3-0", "what went through no stream does not move its cursor"
    assert [r.at_ns for r in audits.results()] == [5, 4, 3, 2, 2, 1]
    assert audits.results(line="belt", since_ns=2, until_ns=4) == [of_workers[1], direct[0], direct[0]]
    assert [r.at_ns for r in audits.results(missed=True)] == [3, 2, 2]
    assert [r.at_ns for r in audits.results(missed=False, limit=2)] == [5, 4]
    history.close()


def test_requests_are_counted_by_line(redis_client: redis.Redis) -> None:
    requests = GoldenRequests(redis_client)
    assert requests.counts(["a", "b"]) == {"a": 0, "b": 0}
    assert requests.counts([]) == {}
    assert [requests.ask("a"), requests.ask("a")] == [1, 2]
    assert requests.counts(["b", "a"]) == {"b": 0, "a": 2}
    assert redis_client.get(keys.golden_request("a")) == "2"


def test_a_server_that_is_away_is_said(tmp_path: Path) -> None:
    requests = GoldenRequests(connect(StorageConfig(data=tmp_path)))
    with pytest.raises(StoreUnavailable, match="does not answer"):
        requests.counts(["a"])


def test_a_folder_that_somebody_holds_is_not_waited_for_without_end(
    samples: GoldenSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples.add("belt", "one", png(1), expected="pass", added_ns=1)
    monkeypatch.setattr(durable, "LOCK_S", 0.1)
    held = os.open(tmp_path / "golden" / "belt", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(StorageError, match="another process holds it"):
        samples.add("belt", "two", png(2), expected="pass", added_ns=2)
    os.close(held)
    samples.add("belt", "two", png(2), expected="pass", added_ns=2)
