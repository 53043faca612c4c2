"""A real worker process with a real Redis and a model that judges, and what can be asked of it."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np
import psutil
import zmq

from ingest import wire
from linewatch.config import Config, load
from storage.server import RedisServer, connect
from storage.verdicts import VerdictStream
from storage.workers import Workers
from tests.fuzz.inputs import LINE

PATIENCE_S = 120.0
"""A busy machine may take this long to load torch."""
CUT_OFF_S = 20.0
"""And this long to read the size of a message."""
_CONFIG = """
data: {folder}
workers: [{{name: w0, bind: "ipc://{folder}/w0", device: cpu}}]
lines: [{{id: {line}, source: "synthetic:belt", model: belt, false_alarms: 10%}}]
"""
_FIT = "--detector padim --weights random --image-size 64 --device cpu --data"
_BELT = "synthetic:belt?rate=max&seed=1&defect_every=0&frames=40&size=96x96"


class HungError(Exception):
    """The worker did not do something in time."""


class Target:
    """A context manager; inside it the worker serves line `LINE` on a unix socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "linewatch.yaml"
        path.write_text(_CONFIG.format(folder=folder, line=LINE), encoding="utf-8")
        self.config: Config = load(path)
        self._command = [sys.executable, "-P", "-m", "linewatch"]
        fit = [*self._command, "fit", *_FIT.split(), _BELT, "--out", str(folder / "models" / "belt")]
        subprocess.run(fit, check=True, capture_output=True, cwd="/")
        self._redis, self._ends = RedisServer(folder), ExitStack()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._silent_since = time.monotonic()
        self.longest_silence = 0.0

    def __enter__(self) -> Self:
        with ExitStack() as ends:
            ends.enter_context(self._redis)
            log = ends.enter_context((self.folder / "worker.log").open("wb"))
            command = [*self._command, "worker", str(self.folder / "linewatch.yaml"), "--name", "w0"]
            self.process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log)
            ends.callback(self._end)
            self.witness, self.sender = self._socket(), self._socket()
            self.sender.sndtimeo = int(PATIENCE_S * 1000)
            self._until(lambda: "w0" in Workers(connect(self.config.storage)).all(), "its first heartbeat")
            self.grant()
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _end(self) -> None:
        self._context.destroy(linger=0)
        self.process.terminate()
        self.process.wait(60)

    def _socket(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.connect(self.config.bind("w0"))
        return socket

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > until or self.process.poll() is not None:
                raise HungError(f"the worker did not tell {what}; it said: {self.said()}")
            time.sleep(0.05)

    def said(self) -> str:
        """The end of its log."""
        return (self.folder / "worker.log").read_text(encoding="utf-8", errors="replace")[-1500:]

    @property
    def rss(self) -> int:
        """Bytes of memory of the worker."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def verdicts(self) -> int:
        """How many it has stored."""
        return len(VerdictStream(connect(self.config.storage)).latest(1000))

    @property
    def dropped(self) -> int:
        """Messages it has dropped, by its last heartbeat."""
        return int(Workers(connect(self.config.storage)).all()["w0"]["dropped_messages"])

    def send(self, parts: list[bytes]) -> None:
        """Send one message, waiting while the worker has enough to do."""
        try:
            self.sender.send_multipart(parts)
        except zmq.Again as error:
            raise HungError(f"the worker took nothing for {PATIENCE_S:.0f} s; it said: {self.said()}") from error

    def cuts_off(self, parts: list[bytes]) -> bool:
        """Whether it closes the connection of whoever sends this."""
        with self._socket() as sender, sender.get_monitor_socket(zmq.EVENT_DISCONNECTED) as events:
            sender.linger = 0
            sender.send_multipart(parts)
            cut = bool(events.poll(CUT_OFF_S * 1000))
            sender.disable_monitor()
        return cut

    def look(self) -> None:
        """Note how long the worker has been silent; it grants every half second to those who live."""
        if self.process.poll() is not None:
            raise HungError(f"the worker ended with {self.process.returncode}; it said: {self.said()}")
        heard = False
        while self.witness.poll(0):
            self.witness.recv_multipart()
            heard = True
        now = time.monotonic()
        self.longest_silence = max(self.longest_silence, now - self._silent_since)
        if heard:
            self._silent_since = now
            self._beat()

    def settle(self, sent: int) -> None:
        """Wait until everything that was sent has been dropped."""
        self._until(lambda: self.dropped >= sent, f"{sent} dropped messages")

    def grant(self) -> wire.Grant:
        """Its next grant."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            self._beat()
            if self.witness.poll(1000):
                message, _ = wire.unpack(self.witness.recv_multipart())
                self._silent_since = time.monotonic()
                if isinstance(message, wire.Grant) and message.preprocessing is not None:
                    return message
        raise HungError(f"no grant; it said: {self.said()}")

    def judge_one(self) -> bool:
        """Whether a good frame still gets its verdict and its acknowledgement."""
        grant = self.grant()
        assert grant.preprocessing is not None
        width, height = grant.preprocessing.size
        about = {"run": "1" * 16, "seq": 0, "wall_ns": time.time_ns(), "mono_ns": 1}
        header = wire.FrameHeader(line=LINE, shape=(height, width, 3), **about)
        with self._socket() as camera:
            camera.send_multipart(wire.pack(header, np.zeros((height, width, 3), np.uint8)))
            until = time.monotonic() + PATIENCE_S
            while time.monotonic() < until:
                if camera.poll(500):
                    message, _ = wire.unpack(camera.recv_multipart())
                    if isinstance(message, wire.Ack):
                        return not message.retry
        return False

    def _beat(self) -> None:
        beat = wire.Beat(line=LINE, run="1" * 16, next_seq=0, wall_ns=time.time_ns())
        self.witness.send_multipart(wire.pack(beat))
