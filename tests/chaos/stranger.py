"""Somebody who talks to workers without being a capture: nonsense over the local socket, knocks at the tcp port."""

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import zmq

from ingest import curve, wire
from ingest.errors import WireError
from ingest.frame import Condition

_RUN = "00000000000000ff"


def nonsense(lines: Sequence[str], draw: random.Random) -> Iterator[list[bytes]]:
    """Messages that are not of the protocol: valid ones with bytes changed, cut or added, and plain noise."""
    while True:
        line = draw.choice(lines)
        beat = wire.Beat(line=line, run=_RUN, next_seq=5, wall_ns=time.time_ns(), condition=Condition.OK)
        gap = wire.Gap(line=line, run=_RUN, ranges=[(0, 3)], outcome="unknown", reason="x", wall_ns=time.time_ns())
        parts = [bytearray(part) for part in wire.pack(draw.choice([beat, gap]))]
        match draw.randrange(5):
            case 0:
                for _ in range(draw.randint(1, 8)):
                    parts[0][draw.randrange(len(parts[0]))] = draw.randrange(256)
            case 1:
                parts[0] = parts[0][: draw.randrange(len(parts[0]))]
            case 2:
                parts.append(bytearray(draw.randbytes(draw.randrange(4096))))
            case 3:
                parts = [bytearray(draw.randbytes(draw.randrange(1, 2048))) for _ in range(draw.randint(1, 4))]
            case _:
                parts[0] += draw.randbytes(draw.randint(1, 9))
        message = [bytes(part) for part in parts]
        try:
            wire.unpack(message)
        except WireError:
            yield message


def babble(endpoint: str, keys: Path, *, lines: Sequence[str], draw: random.Random, count: int) -> None:
    """Send nonsense to a worker, over tcp with a camera's own key: one that was taken over."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.SNDTIMEO, 2000)
        socket.setsockopt(zmq.LINGER, 500)
        if curve.needs_curve(endpoint):
            curve.secure_client(socket, keys, line=draw.choice(lines))
        socket.connect(endpoint)
        messages = nonsense(lines, draw)
        for _ in range(count):
            try:
                socket.send_multipart(next(messages))
            except zmq.Again:
                return  # nobody is there right now


def knock(endpoint: str, keys: Path, *, lines: Sequence[str], draw: random.Random, count: int) -> None:
    """Speak to a tcp port with a key that nobody let in, and with none."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as plain, context.socket(zmq.DEALER) as keyed:
        keyed.curve_publickey, keyed.curve_secretkey = zmq.curve_keypair()
        keyed.curve_serverkey = curve.worker_pair(keys).public
        messages = nonsense(lines, draw)
        for socket in (plain, keyed):
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(endpoint)
            for _ in range(count):
                try:
                    socket.send_multipart(next(messages), zmq.NOBLOCK)
                except zmq.Again:
                    break
        time.sleep(0.3)  # for the handshakes
