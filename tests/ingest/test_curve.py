"""Keys and allow list over real CURVE sockets: who comes in, and what ZeroMQ says of them."""

import random
import socket as sockets
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from ingest import curve
from ingest.allowlist import AllowList, State, fingerprint, read_public
from ingest.errors import IngestError


@contextmanager
def listening(keys):
    """A guarded ROUTER as a worker has it; gives its port and who was turned away."""
    context, strangers = zmq.Context(), []
    guard = curve.authenticator(context, AllowList(keys).read, turned_away=strangers.append)
    socket = context.socket(zmq.ROUTER)
    curve.secure_server(socket, keys)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    try:
        yield socket, port, strangers
    finally:
        guard.stop()
        context.destroy(linger=0)


@contextmanager
def calling(keys, line, port):
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        curve.secure_client(socket, keys, line=line)
        socket.connect(f"tcp://127.0.0.1:{port}")
        yield socket


def key_of_sender(router, timeout_ms=3000):
    if not router.poll(timeout_ms):
        return None
    identity, *_ = router.recv_multipart(copy=False)
    return identity.get("User-Id")


def remote(tmp_path, keys, name="remote"):
    """The folder of a camera on another host: it knows the workers' public key only."""
    folder = tmp_path / name
    folder.mkdir()
    curve.worker_pair(keys)
    (folder / "worker.key").write_bytes((keys / "worker.key").read_bytes())
    return folder


def test_on_one_host_a_camera_lets_itself_in_with_a_key_of_its_own(tmp_path):
    with listening(tmp_path) as (router, port, strangers):
        for line in ("a", "b"):
            with calling(tmp_path, line, port) as camera:
                camera.send(b"hello")
                key = key_of_sender(router)
            assert key.encode() == read_public(tmp_path / "cameras" / f"{line}.key")
            assert AllowList(tmp_path).read()[key.encode()] == {line}
        assert strangers == []
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.key_secret")}
    assert modes == {0o600}


def test_a_stranger_is_turned_away_and_let_in_and_shut_out_while_the_worker_runs(tmp_path):
    keys = tmp_path / "keys"
    camera_host = remote(tmp_path, keys)
    allow_list = AllowList(keys)
    key = curve.camera_pair(camera_host, "a").public
    with listening(keys) as (router, port, strangers):
        with calling(camera_host, "a", port) as camera:
            camera.send(b"hello")
            assert key_of_sender(router, 800) is None
        assert set(strangers) == {fingerprint(key)}
        allow_list.allow("a", key)
        with calling(camera_host, "a", port) as camera:
            camera.send(b"hello")
            assert key_of_sender(router) == key.decode()
        allow_list.revoke("a", key)
        assert allow_list.read() == {}
        with calling(camera_host, "a", port) as camera:
            camera.send(b"hello")
            assert key_of_sender(router, 800) is None


def test_without_somebody_to_ask_nobody_comes_in(tmp_path):
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        curve.secure_server(router, tmp_path)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        with calling(tmp_path, "a", port) as camera:
            camera.send(b"hello")
            assert key_of_sender(router, 800) is None


def test_an_allow_list_that_cannot_be_read_lets_nobody_in_and_the_guard_lives_on(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no")

    with listening(tmp_path) as (router, port, strangers):
        with monkeypatch.context() as broken:
            broken.setattr(Path, "glob", refuse)
            with calling(tmp_path, "a", port) as camera:
                camera.send(b"hello")
                assert key_of_sender(router, 800) is None
        assert strangers
        with calling(tmp_path, "a", port) as camera:
            camera.send(b"hello")
            assert key_of_sender(router) is not None


def test_a_revoked_key_does_not_let_itself_in_again(tmp_path):
    curve.worker_pair(tmp_path)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        curve.secure_client(socket, tmp_path, line="a")
        AllowList(tmp_path).revoke("a", curve.camera_pair(tmp_path, "a").public)
        with pytest.raises(IngestError, match=r"line a: its key [0-9a-f]{16} was revoked: `linewatch keys new"):
            curve.secure_client(socket, tmp_path, line="a")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_secret_that_others_can_read_is_refused_with_the_mend(tmp_path, mode):
    curve.camera_pair(tmp_path, "a")
    secret = tmp_path / "cameras" / "a.key_secret"
    secret.chmod(mode)
    with pytest.raises(IngestError, match=rf"mode 0{mode:o}\): chmod 600 .*a.key_secret$"):
        curve.camera_pair(tmp_path, "a")


@pytest.mark.parametrize("content", ["", "nonsense", 'curve\n    public-key = "too short"\n', "x" * 5000, "\0" * 99])
def test_a_file_that_holds_no_key_lets_nobody_in_and_hides_no_other(tmp_path, content):
    allow_list = AllowList(tmp_path)
    key = curve.camera_pair(tmp_path, "a").public
    allow_list.allow("a", key)
    (tmp_path / "allowed" / "a" / "damaged.key").write_text(content, encoding="utf-8")
    assert allow_list.read() == {key: {"a"}}
    with pytest.raises(IngestError, match=r"damaged\.key"):
        read_public(tmp_path / "allowed" / "a" / "damaged.key")


def test_a_key_file_put_there_by_hand_counts_and_one_without_a_line_does_not(tmp_path):
    key = curve.camera_pair(tmp_path / "elsewhere", "a").public
    copied = (tmp_path / "elsewhere" / "cameras" / "a.key").read_bytes()
    for place in ("allowed/a/by-hand.key", "allowed/b/by-hand.key", "allowed/capture.key"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(copied)
    allow_list = AllowList(tmp_path)
    assert allow_list.read() == {key: {"a", "b"}}
    assert [path.name for path in allow_list.unbound()] == ["capture.key"]
    allow_list.revoke("a", key)
    assert allow_list.read() == {key: {"b"}}
    assert [(entry.line, entry.state) for entry in allow_list.entries()] == [("a", State.REVOKED), ("b", State.ALLOWED)]


def test_two_processes_that_start_at_once_hold_the_same_pair(tmp_path):
    pairs, barrier = [], threading.Barrier(8)

    def make():
        barrier.wait()
        pairs.append(curve.camera_pair(tmp_path, "a"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pairs) == 8
    assert len(set(pairs)) == 1


def test_bytes_that_are_no_handshake_disturb_nobody(tmp_path):
    drawn = random.Random(0)
    with listening(tmp_path) as (router, port, _):
        for _ in range(200):
            with sockets.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(drawn.randbytes(drawn.randrange(1, 200)))
        with calling(tmp_path, "a", port) as camera:
            camera.send(b"hello")
            assert key_of_sender(router) is not None
