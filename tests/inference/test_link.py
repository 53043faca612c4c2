"""The worker's end of the wire against real sockets: who may say what, and how much of it."""

import random
import threading
import time
from contextlib import contextmanager
from itertools import islice

import numpy as np
import pytest
import zmq

from inference import link as linking
from inference.lanes import MOST_LANES
from inference.link import Link
from inference.recorder import Recorded
from ingest import curve, wire
from ingest.allowlist import AllowList
from ingest.frame import new_run
from ingest.preprocess import Preprocessing
from tests.chaos.stranger import knock, sense

SIZE = Preprocessing(size=(32, 16))
RUN = "0" * 16
AHEAD = 4


class Worker:
    """A link whose frames and messages end in lists."""

    def __init__(self, endpoint, keys):
        self.frames, self.told = [], []
        self.link = Link(
            endpoint=endpoint,
            keys=keys,
            worker="w0-1",
            ahead=AHEAD,
            serves={"cam", "dock"}.__contains__,
            wanted=lambda line: SIZE if line == "cam" else None,
            pinned=lambda _: False,
            frame=self.frames.append,
            told=lambda told: self.told.append(told) or True,
        )
        self.endpoint = self.link._socket.last_endpoint.decode().rstrip("\0")


@contextmanager
def working(endpoint, keys=None):
    worker, stop = Worker(endpoint, keys), threading.Event()
    thread = threading.Thread(target=worker.link.serve, args=(stop,))
    thread.start()
    try:
        yield worker
    finally:
        stop.set()
        thread.join(10)
        worker.link.close()


@contextmanager
def calling(worker, keys=None, line="cam"):
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        if keys is not None:
            curve.secure_client(socket, keys, line=line)
        socket.connect(worker.endpoint)
        yield socket


@contextmanager
def watching(socket, events):
    """What happens to its connection."""
    with socket.get_monitor_socket(events) as monitor:
        yield monitor
        socket.disable_monitor()


def say(socket, message, payload=None):
    socket.send_multipart(wire.pack(message, payload))


def beat(line="cam", run=RUN):
    return wire.Beat(line=line, run=run, next_seq=0, wall_ns=1)


def frame(seq, size=SIZE.size, line="cam", run=RUN):
    width, height = size
    header = wire.FrameHeader(line=line, run=run, seq=seq, wall_ns=1, mono_ns=1, shape=(height, width, 3))
    return header, np.zeros((height, width, 3), np.uint8)


def hear(socket, kind, timeout_ms=3000):
    """The next message of a kind."""
    until = time.monotonic() + timeout_ms / 1000
    while socket.poll(max(0, 1000 * (until - time.monotonic()))):
        message, _ = wire.unpack(socket.recv_multipart())
        if message.kind == kind:
            return message
    return None


def wait_until(condition, timeout=10.0):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def unix(tmp_path):
    with working(f"ipc://{tmp_path}/w") as worker:
        yield worker


def test_a_camera_cannot_speak_for_another_line(tmp_path):
    with working("tcp://127.0.0.1:*", tmp_path) as worker, calling(worker, tmp_path, "cam") as camera:
        say(camera, beat("cam"))
        assert hear(camera, "grant").line == "cam"
        for message in (beat("dock"), beat("cam", "1" * 16)):
            say(camera, message)
        say(camera, *frame(0, line="dock"))
        say(camera, wire.Gap(line="dock", run=RUN, ranges=[(0, 5)], outcome="skipped", reason="x", wall_ns=1))
        wait_until(lambda: worker.link.dropped == 4)
        assert [told.line for told in worker.told] == ["cam"]
        assert worker.frames == []
        say(camera, beat("cam"))
        wait_until(lambda: len(worker.told) == 2)


def test_a_key_may_speak_for_all_lines_that_it_stands_under(tmp_path):
    with working("tcp://127.0.0.1:*", tmp_path) as worker:
        AllowList(tmp_path).allow("dock", curve.camera_pair(tmp_path, "cam").public)
        with calling(worker, tmp_path, "cam") as camera:
            wait_until(lambda: worker.link._allowed)
            say(camera, wire.Gap(line="dock", run=RUN, ranges=[(0, 5)], outcome="skipped", reason="x", wall_ns=1))
            wait_until(lambda: len(worker.told) == 1)
        assert worker.link.dropped == 0


def test_a_stranger_is_counted_and_never_heard(tmp_path):
    with working("tcp://127.0.0.1:*", tmp_path / "keys") as worker:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "worker.key").write_bytes((tmp_path / "keys" / "worker.key").read_bytes())
        with calling(worker, elsewhere) as camera:
            say(camera, beat())
            wait_until(lambda: worker.link.strangers >= 1)
        assert (worker.told, worker.link.dropped) == ([], 0)


def test_who_does_not_encrypt_is_cut_off_before_anybody_is_asked_and_counted_nowhere(tmp_path):
    with working("tcp://127.0.0.1:*", tmp_path) as worker, calling(worker) as camera:
        with watching(camera, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED) as events:
            say(camera, beat())
            assert events.poll(5000)
        assert (worker.told, worker.frames) == ([], [])
        assert (worker.link.strangers, worker.link.dropped) == (0, 0)


def test_strangers_who_speak_as_captures_do_are_not_heard(tmp_path):
    with working("tcp://127.0.0.1:*", tmp_path) as worker:
        knock(worker.endpoint, tmp_path, lines=["cam"], size=SIZE.size, draw=random.Random(0), count=30)
        wait_until(lambda: worker.link.strangers >= 1)
        assert (worker.told, worker.frames, worker.link.dropped) == ([], [], 0)


def test_what_strangers_say_is_taken_in_where_nobody_asks_who_they_are(unix):
    said = list(islice(sense(["cam"], SIZE.size, random.Random(0)), 2 * AHEAD))
    with calling(unix) as camera:
        for parts in said:
            camera.send_multipart(parts)
        wait_until(lambda: len(unix.told) + len(unix.frames) == len(said))
    assert {wire.unpack(parts)[0].kind for parts in said} == {"beat", "gap", "frame"}
    assert unix.link.dropped == 0


def test_a_message_larger_than_the_bound_is_not_taken_in_and_others_are_served_on(unix):
    portrait = wire.Portrait(line="cam", run=RUN, seq=3)
    with calling(unix) as camera, calling(unix) as dock:
        say(camera, beat())
        say(dock, beat("dock"))
        wait_until(lambda: len(unix.told) == 2)
        say(camera, portrait, bytes(wire.MAX_PAYLOAD_BYTES))
        wait_until(lambda: unix.link.dropped == 1)  # it arrived, and nobody had asked for it
        with watching(camera, zmq.EVENT_DISCONNECTED) as events:
            say(camera, portrait, bytes(wire.MAX_PAYLOAD_BYTES + 1))
            assert events.poll(20_000)
        say(dock, beat("dock"))
        say(camera, beat())  # over a connection that was made anew
        wait_until(lambda: len(unix.told) == 4)
        assert hear(dock, "grant") is not None
    assert (unix.link.dropped, unix.frames) == (1, [])


def test_a_revoked_key_is_not_heard_any_more_although_it_is_connected(tmp_path):
    with working("tcp://127.0.0.1:*", tmp_path) as worker, calling(worker, tmp_path) as camera:
        say(camera, beat())
        wait_until(lambda: len(worker.told) == 1)
        AllowList(tmp_path).revoke("cam", curve.camera_pair(tmp_path, "cam").public)
        wait_until(lambda: not worker.link._peers)
        say(camera, beat())
        say(camera, *frame(0))
        wait_until(lambda: worker.link.dropped == 2)
        assert (len(worker.told), worker.frames) == (1, [])


def test_frames_beyond_the_credits_are_counted_dropped_and_asked_for_again(unix):
    with calling(unix) as camera:
        say(camera, beat())
        hear(camera, "grant")
        for seq in range(3 * AHEAD):
            say(camera, *frame(seq))
        wait_until(lambda: unix.link.dropped == AHEAD)
        assert [job.header.seq for job in unix.frames] == list(range(2 * AHEAD))
        again = [hear(camera, "ack") for _ in range(AHEAD)]
        assert all(ack.retry for ack in again)
        assert [ack.ranges[0][0] for ack in again] == list(range(2 * AHEAD, 3 * AHEAD))
        # A gap says nothing of frames that are held: it makes no room.
        unix.link.acknowledge(Recorded(unix.frames[0].peer, "cam", RUN, [(0, 2**39)], gap=True))
        hear(camera, "ack")
        say(camera, *frame(99))
        wait_until(lambda: unix.link.dropped == AHEAD + 1)
        unix.link.acknowledge(Recorded(unix.frames[0].peer, "cam", RUN, [(0, 0)]))
        wait_until(lambda: unix.link._held["cam"] == 2 * AHEAD - 1)
        say(camera, *frame(100))
        wait_until(lambda: len(unix.frames) == 2 * AHEAD + 1)


def test_pictures_that_no_model_wants_are_not_held(unix):
    with calling(unix) as camera, calling(unix) as dock:
        say(camera, *frame(0, size=(4096, 4096)))
        assert hear(camera, "ack").retry
        say(dock, *frame(0, line="dock"))  # it has no model
        assert hear(dock, "ack").retry
    assert (unix.frames, unix.link.dropped) == ([], 0)


def test_only_pictures_that_were_asked_for_are_taken_and_each_once(unix):
    portrait = wire.Portrait(line="cam", run=RUN, seq=3)
    with calling(unix) as camera:
        say(camera, beat())
        say(camera, portrait, b"\xff\xd8\xff")
        wait_until(lambda: unix.link.dropped == 1)
        unix.link.acknowledge(Recorded(next(iter(unix.link._peers)), "cam", RUN, [(3, 3)], portrait=True))
        assert hear(camera, "ack").portrait
        for _ in range(2):
            say(camera, portrait, b"\xff\xd8\xff")
        wait_until(lambda: unix.link.dropped == 2)
        wait_until(lambda: len(unix.told) == 2)
    assert unix.told[1] == (portrait, b"\xff\xd8\xff")


def test_a_line_has_so_many_connections_and_a_connection_one_run(unix, monkeypatch):
    monkeypatch.setattr(linking, "MAX_PEERS", 3)
    with zmq.Context() as context:
        cameras = [context.socket(zmq.DEALER) for _ in range(5)]
        for number, camera in enumerate(cameras):
            camera.linger = 0
            camera.connect(unix.endpoint)
            say(camera, beat(run=new_run(number)))
        wait_until(lambda: unix.link.dropped == 2)
        assert len(unix.link._peers) == 3
        heard = next(camera for camera in cameras if hear(camera, "grant", 500))
        say(heard, beat(run="f" * 16))
        wait_until(lambda: unix.link.dropped == 3)
        for camera in cameras:
            camera.close()


def test_messages_of_the_wrong_direction_make_no_peer(unix):
    with calling(unix) as camera:
        say(camera, wire.Grant(worker="w", line="cam", credits=3))
        say(camera, wire.Ack(line="cam", run=RUN, ranges=[(0, 0)]))
        wait_until(lambda: unix.link.dropped == 2)
    assert unix.link._peers == {}


@pytest.mark.parametrize("lanes", [1, MOST_LANES])
def test_the_largest_batches_are_granted_what_the_wire_can_say(tmp_path, lanes):
    link = Link(
        endpoint=f"ipc://{tmp_path}/w",
        keys=None,
        worker="w0-1",
        ahead=(3 + lanes) * 1024,
        serves=lambda _: True,
        wanted=lambda _: Preprocessing(size=(32, 16)),
        pinned=lambda _: False,
        frame=lambda _: None,
        told=lambda _: True,
    )
    link.endpoint = f"ipc://{tmp_path}/w"
    stop = threading.Event()
    thread = threading.Thread(target=link.serve, args=(stop,))
    thread.start()
    try:
        numbers = []
        for _ in range(2):
            with calling(link) as socket:
                say(socket, beat())
                grant = hear(socket, "grant")
                assert grant.credits == min((3 + lanes) * 1024, wire.MAX_CREDITS)
                numbers.append(grant.connection)
        assert len(set(numbers)) == 2, "each connection has a number of its own"
    finally:
        stop.set()
        thread.join(10)
        link.close()
