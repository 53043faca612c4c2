"""The stream of golden samples' results: read from a cursor, capped, and loud about what it does not understand."""

import pytest
import redis

from storage import challenges, keys
from storage.challenges import ChallengeStream
from storage.errors import StorageError
from storage.records import Challenge, Status


def challenge(image: str, *, status: Status = Status.REJECT) -> Challenge:
    return Challenge(
        line="a", image=image, expected="reject", status=status, reason="late", worker="w0", occasion="start", at_ns=1
    )


def test_reading_goes_on_after_the_cursor(redis_client: redis.Redis) -> None:
    stream = ChallengeStream(redis_client)
    assert stream.read("0") == []
    assert stream.newest() == "0"
    assert stream.add() == []
    names = stream.add(*(challenge(f"{i}.png") for i in range(5)))
    first = stream.read("0", count=2)
    rest = stream.read(first[-1][0])
    assert [name for name, _ in first + rest] == names
    assert [one.image for _, one in first + rest] == [f"{i}.png" for i in range(5)]
    assert stream.newest() == names[-1]
    assert stream.read(names[-1]) == []


def test_the_newest_are_kept(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenges, "KEPT", 3)
    stream = ChallengeStream(redis_client)
    for i in range(5):
        stream.add(challenge(f"{i}.png"))
    assert [one.image for _, one in stream.read("0")] == ["2.png", "3.png", "4.png"]


def test_what_is_no_challenge_is_named(redis_client: redis.Redis) -> None:
    name = redis_client.xadd(keys.CHALLENGES, {"c": "{}"})
    with pytest.raises(StorageError, match=f"entry {name} .* is no golden sample's result"):
        ChallengeStream(redis_client).read("0")
