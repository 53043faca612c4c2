"""What a recorder does with what captures send, on a real Redis and a real disk."""

import struct
import time

import pytest

from inference import pictures
from inference import recorder as recording
from inference.recorder import Recorder
from ingest.wire import Beat, Gap, Portrait
from storage.config import RetentionConfig
from storage.errors import StoreUnavailable
from storage.evidence import EvidenceStore
from storage.lines import Lines
from storage.workers import Workers

RUN = "00000000000000aa"


def jpeg(width, height):
    """The least that has a JPEG's markers."""
    return b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9) + b"\xff\xd9"


@pytest.fixture
def acknowledged():
    return []


@pytest.fixture
def recorder(redis_client, tmp_path, acknowledged):
    made = Recorder(
        lines=Lines(redis_client),
        workers=Workers(redis_client),
        evidence=EvidenceStore(tmp_path / "evidence", RetentionConfig(min_free_gb=0)),
        name="w0",
        acknowledge=acknowledged.append,
        info=dict,
    )
    yield made
    if made.alive:
        made.stop(patience_s=10)


def wait_until(condition, timeout=20.0):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)


def test_a_wide_gap_is_acknowledged_once_all_of_it_is_closed(recorder, redis_client, acknowledged, monkeypatch):
    monkeypatch.setattr(recording, "MOST_OF_A_GAP", 3000)
    gap = Gap(line="cam", run=RUN, ranges=[(0, 6999)], outcome="unknown", reason="capture lost", wall_ns=1)
    recorder.start()
    for told in range(1, 4):  # as a capture does that hears no answer
        recorder.tell((b"peer", gap))
        wait_until(
            lambda told=told: Lines(redis_client).state("cam") and closed(redis_client) >= min(7000, 3000 * told)
        )
    wait_until(lambda: acknowledged)
    assert closed(redis_client) == 7000
    assert [(recorded.gap, list(recorded.ranges)) for recorded in acknowledged] == [(True, [(0, 6999)])]


def closed(client):
    return Lines(client).state("cam").unknown


def test_a_line_that_fills_numbers_without_end_leaves_time_for_others(recorder, acknowledged, monkeypatch):
    monkeypatch.setattr(recording, "MOST_OF_A_GAP", 2000)
    endless = Gap(line="rogue", run=RUN, ranges=[(0, 2**40 - 1)], outcome="unknown", reason="x", wall_ns=1)
    honest = Gap(line="cam", run=RUN, ranges=[(0, 4)], outcome="unknown", reason="late", wall_ns=1)
    recorder.start()
    for gap in (endless, endless, honest):
        recorder.tell((b"peer", gap))
    wait_until(lambda: acknowledged)
    assert [recorded.line for recorded in acknowledged] == ["cam"]


def test_the_last_beat_of_a_run_waits_for_the_store(redis_client, tmp_path):
    """No other tells that the source has ended: without it the line would seem to have fallen silent."""
    failures = iter([True, True])
    told = []

    class Away(Lines):
        def beat(self, **fields):
            if next(failures, False):
                raise StoreUnavailable("away")
            told.append(fields["next_seq"])

    recorder = Recorder(
        lines=Away(redis_client),
        workers=Workers(redis_client),
        evidence=EvidenceStore(tmp_path / "evidence", RetentionConfig(min_free_gb=0)),
        name="w0",
        acknowledge=lambda _: None,
        info=dict,
    )
    recorder.tell(Beat(line="a", run=RUN, next_seq=1, wall_ns=1))
    recorder.tell(Beat(line="a", run=RUN, next_seq=2, wall_ns=1, ended=True))
    recorder.start()
    wait_until(lambda: told == [2])
    recorder.stop(patience_s=10)


@pytest.mark.parametrize("data", [jpeg(65_000, 65_000), b"\xff\xd8\xff", b"GIF89a", b""])
def test_a_picture_no_browser_should_open_is_not_kept(recorder, tmp_path, data):
    recorder.start()
    recorder.tell((Portrait(line="cam", run=RUN, seq=1), data))
    recorder.tell((Portrait(line="cam", run=RUN, seq=2), jpeg(8, 8)))
    latest = tmp_path / "evidence" / "latest" / "cam.jpg"
    wait_until(latest.exists)
    assert latest.read_bytes() == jpeg(8, 8)


def test_pictures_that_wait_are_bounded_in_bytes(recorder, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PORTRAIT_BYTES", 100)
    portrait = Portrait(line="cam", run=RUN, seq=1)
    assert [recorder.tell((portrait, bytes(40))) for _ in range(4)] == [True, True, False, False]
    recorder.start()
    wait_until(lambda: recorder._pictures._waiting_bytes == 0)
    assert recorder.tell((portrait, bytes(100)))
