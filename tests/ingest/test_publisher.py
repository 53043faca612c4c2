"""The publisher against real ZeroMQ sockets: the test plays the worker."""

import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import zmq

from ingest import publisher as publishing
from ingest import wire
from ingest.errors import IngestError
from ingest.frame import Frame
from ingest.journal import RunJournal
from ingest.ledger import Ledger
from ingest.preprocess import Preprocessing
from ingest.publisher import Publisher
from ingest.workerlink import View

RUN = "00000000000000aa"
SIZE = Preprocessing(size=(32, 16))
PICTURE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


class StandInWorker:
    """The worker's end of the wire, one step at a time."""

    def __init__(self, endpoint, name):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.bind(endpoint)
        self.name = name
        self.peer = None
        self.beats = []

    def hear(self, kind, timeout=5.0):
        """The next message of a kind; beats heard on the way are kept aside."""
        until = time.monotonic() + timeout
        while self.socket.poll(max(0.0, until - time.monotonic()) * 1000):
            self.peer, *parts = self.socket.recv_multipart()
            message, payload = wire.unpack(parts)
            if message.kind == kind:
                return message, payload
            assert message.kind == "beat", message
        return None

    def grant(self, count, preprocessing=SIZE, **fields):
        self.say(wire.Grant(worker=self.name, line="cam", credits=count, preprocessing=preprocessing, **fields))

    def acknowledge(self, *seqs, run=RUN, **kind):
        self.say(wire.Ack(line="cam", run=run, ranges=[(seq, seq) for seq in seqs], **kind))

    def say(self, message):
        self.socket.send_multipart([self.peer, *wire.pack(message)])

    def close(self):
        self.context.destroy(linger=0)


@contextmanager
def publishing_to(*endpoints, tmp_path, policy="every", deadline_s=None):
    ledger = Ledger(policy=policy, capacity=10**9, deadline_s=deadline_s)
    publisher = Publisher(
        line="cam", run=RUN, ledger=ledger, view=View(), endpoints=endpoints, journal=tmp_path / "journal", keys=None
    )
    stop = threading.Event()
    thread = threading.Thread(target=publisher.run, kwargs={"stop": stop})
    thread.start()
    try:
        yield publisher
    finally:
        stop.set()
        thread.join()


def offer(publisher, *seqs):
    for seq in seqs:
        frame = Frame("cam", RUN, seq, time.time_ns(), time.monotonic_ns(), PICTURE)
        publisher.offer(frame, wait=False, stop=threading.Event())


@pytest.fixture
def endpoints(tmp_path):
    return [f"ipc://{tmp_path}/w{n}" for n in range(2)]


def test_frames_come_prepared_and_never_beyond_the_credits(endpoints, tmp_path):
    worker = StandInWorker(endpoints[0], "w0-1")
    with publishing_to(endpoints[0], tmp_path=tmp_path) as publisher:
        offer(publisher, 0, 1, 2)
        beat, _ = worker.hear("beat")
        assert beat.line == "cam"
        worker.grant(2)
        for seq in (0, 1):
            header, payload = worker.hear("frame")
            assert (header.seq, header.shape) == (seq, (16, 32, 3))
            assert wire.pixels(header, payload).mean() > 0
        assert worker.hear("frame", timeout=0.3) is None
        worker.acknowledge(0)
        header, _ = worker.hear("frame")
        assert header.seq == 2
        worker.acknowledge(1, 2)
        publisher.finish("drain")
        while not (beat := worker.hear("beat")[0]).ended:
            pass
        assert beat.next_seq == 3
    assert publisher.settled
    worker.close()


def test_the_full_picture_follows_when_it_is_asked_for(endpoints, tmp_path):
    worker = StandInWorker(endpoints[0], "w0-1")
    with publishing_to(endpoints[0], tmp_path=tmp_path) as publisher:
        offer(publisher, 0)
        worker.hear("beat")
        worker.grant(1)
        worker.hear("frame")
        worker.acknowledge(0, portrait=True)
        portrait, jpeg = worker.hear("portrait")
        assert portrait.seq == 0
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == PICTURE.shape
    worker.close()


def test_a_picture_that_no_jpeg_can_hold_does_not_stop_the_line(endpoints, tmp_path):
    worker = StandInWorker(endpoints[0], "w0-1")
    with publishing_to(endpoints[0], tmp_path=tmp_path) as publisher:
        scan = np.zeros((4, 66_000, 3), np.uint8)
        publisher.offer(Frame("cam", RUN, 0, 1, 1, scan), wait=False, stop=threading.Event())
        offer(publisher, 1)
        worker.hear("beat")
        worker.grant(1)
        worker.hear("frame")
        worker.acknowledge(0, portrait=True)
        header, _ = worker.hear("frame")
        assert header.seq == 1, "no portrait came before it"
    worker.close()


def test_another_worker_gets_what_a_silent_one_held(endpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "SILENT_S", 0.5)
    first, second = (StandInWorker(endpoint, name) for endpoint, name in zip(endpoints, "ab", strict=True))
    with publishing_to(*endpoints, tmp_path=tmp_path) as publisher:
        first.hear("beat")
        first.grant(8)
        offer(publisher, 0, 1)
        assert [first.hear("frame")[0].seq for _ in range(2)] == [0, 1]
        second.hear("beat")
        first.close()
        time.sleep(0.6)
        second.grant(8)
        assert [second.hear("frame")[0].seq for _ in range(2)] == [0, 1]
    second.close()


def test_a_pinned_line_stays_with_one_worker_while_that_lives(endpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "SILENT_S", 0.5)
    workers = [StandInWorker(endpoint, name) for endpoint, name in zip(endpoints, "ab", strict=True)]
    with publishing_to(*endpoints, tmp_path=tmp_path) as publisher:
        for worker in workers:
            worker.hear("beat")
            worker.grant(2, pinned=True)
        time.sleep(0.1)
        offer(publisher, 0, 1, 2)
        holder = next(worker for worker in workers if worker.hear("frame", timeout=0.5))
        other = workers[1 - workers.index(holder)]
        assert holder.hear("frame")[0].seq == 1
        assert other.hear("frame", timeout=0.3) is None  # though it has credits and the holder has none left
        holder.close()
        time.sleep(0.6)
        other.grant(8, pinned=True)
        assert [other.hear("frame")[0].seq for _ in range(3)] == [0, 1, 2]
    other.close()


def test_a_worker_that_comes_back_under_a_new_name_is_sent_everything_again(endpoints, tmp_path):
    worker = StandInWorker(endpoints[0], "w0-1")
    with publishing_to(endpoints[0], tmp_path=tmp_path) as publisher:
        worker.hear("beat")
        worker.grant(8)
        offer(publisher, 0)
        worker.hear("frame")
        worker.close()
        reborn = StandInWorker(endpoints[0], "w0-2")
        reborn.hear("beat")
        reborn.grant(8)
        assert reborn.hear("frame")[0].seq == 0
    reborn.close()


def test_what_was_under_way_on_a_broken_connection_is_sent_again(endpoints, tmp_path):
    worker = StandInWorker(endpoints[0], "w0-1")
    with publishing_to(endpoints[0], tmp_path=tmp_path) as publisher:
        offer(publisher, 0)
        worker.hear("beat")
        worker.grant(1, connection=1)
        worker.hear("frame")
        worker.grant(1, connection=1)
        assert worker.hear("frame", timeout=0.5) is None
        worker.grant(1, connection=2)
        header, _ = worker.hear("frame")
        assert (header.seq, header.preparation) == (0, SIZE.digest())
    worker.close()


def test_beats_say_below_which_number_all_have_their_outcome(endpoints, tmp_path):
    worker = StandInWorker(endpoints[0], "w0-1")
    with publishing_to(endpoints[0], tmp_path=tmp_path) as publisher:
        offer(publisher, 0, 1, 2)
        worker.hear("beat")
        worker.grant(3)
        for _ in range(3):
            worker.hear("frame")
        worker.acknowledge(0, 2)
        until = time.monotonic() + 5
        while (beat := worker.hear("beat")[0]).settled != 1:
            assert time.monotonic() < until
        assert beat.next_seq == 3
    worker.close()


def test_a_frame_is_prepared_anew_when_the_model_changed_its_mind(endpoints, tmp_path):
    worker = StandInWorker(endpoints[0], "w0-1")
    with publishing_to(endpoints[0], tmp_path=tmp_path) as publisher:
        worker.hear("beat")
        worker.grant(8)
        offer(publisher, 0)
        worker.hear("frame")
        worker.grant(8, Preprocessing(size=(64, 64)))
        worker.acknowledge(0, retry=True)
        assert worker.hear("frame")[0].shape == (64, 64, 3)
    worker.close()


def test_late_frames_are_reported_as_a_gap(endpoints, tmp_path):
    worker = StandInWorker(endpoints[0], "w0-1")
    with publishing_to(endpoints[0], tmp_path=tmp_path, deadline_s=0.2) as publisher:
        worker.hear("beat")
        worker.grant(0)
        offer(publisher, 0, 1)
        gap, _ = worker.hear("gap")
        assert (gap.outcome, gap.reason, gap.ranges) == ("unknown", "late", [(0, 1)])
    worker.close()


def test_a_killed_run_is_closed_by_the_next_one(endpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "LEFTOVER_GRACE_S", 0.1)
    old = RunJournal(tmp_path / "journal", line="cam", run="0000000000000001")
    old.advance(5)
    old.close(settled=False)
    worker = StandInWorker(endpoints[0], "w0-1")
    with publishing_to(endpoints[0], tmp_path=tmp_path):
        worker.hear("beat")
        worker.grant(8)
        gap, _ = worker.hear("gap")
        assert (gap.run, gap.ranges, gap.reason) == ("0000000000000001", [(0, 4)], "capture lost")
        assert old.path.exists()
        worker.say(wire.Ack(line="cam", run=gap.run, ranges=gap.ranges))
        until = time.monotonic() + 5
        while old.path.exists() and time.monotonic() < until:
            time.sleep(0.02)
        assert not old.path.exists()
    worker.close()


def test_the_count_of_the_run_under_way_is_left_alone(endpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "LEFTOVER_GRACE_S", 0.1)
    worker = StandInWorker(endpoints[0], "w0-1")
    with RunJournal(tmp_path / "journal", line="cam", run=RUN) as counted:
        with publishing_to(endpoints[0], tmp_path=tmp_path):
            worker.hear("beat")
            worker.grant(8)
            assert worker.hear("gap", timeout=1.0) is None
        assert counted.path.exists()
    worker.close()


def test_views_and_models_must_agree_on_what_is_looked_at():
    corner, triangle = (0, 0, 10, 10), ((0, 0), (9, 0), (0, 9))
    assert View(roi=corner).apply(SIZE).roi == corner  # fitted on pictures of the region itself
    assert View(mask=triangle).apply(SIZE.model_copy(update={"mask": triangle})).mask == triangle
    for view, wanted in (
        (View(), {"roi": corner}),
        (View(roi=(0, 0, 9, 9)), {"roi": corner}),
        (View(mask=triangle), {}),
        (View(), {"mask": triangle}),
    ):
        with pytest.raises(IngestError, match="is not the one its model was fitted with"):
            view.apply(SIZE.model_copy(update=wanted))


def test_a_model_fitted_on_another_region_judges_nothing(endpoints, tmp_path):
    worker = StandInWorker(endpoints[0], "w0-1")
    with publishing_to(endpoints[0], tmp_path=tmp_path) as publisher:
        worker.hear("beat")
        worker.grant(8, Preprocessing(size=(32, 16), roi=(0, 0, 10, 10)))
        offer(publisher, 0)
        gap, _ = worker.hear("gap")
        assert (gap.outcome, gap.ranges) == ("unknown", [(0, 0)])
    worker.close()
