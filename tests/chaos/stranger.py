"""Somebody who talks to workers without being a capture: nonsense over the local socket, knocks at the tcp port.

Whoever knocks also says what a capture would say: if a worker took it in, frames that no camera sent would have a
verdict, and the books would show it.
"""

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import zmq

from ingest import curve, wire
from ingest.errors import WireError
from ingest.frame import Condition

_RUN = "00000000000000ff"


def sense(lines: Sequence[str], size: tuple[int, int], draw: random.Random) -> Iterator[list[bytes]]:
    """Messages that are all right, of lines that there are, but of a run that no camera began."""
    while True:
        line, seq, now_ns = draw.choice(lines), draw.randrange(1000), time.time_ns()
        pixels = None
        match draw.randrange(3):
            case 0:
                message: wire.Message = wire.Beat(line=line, run=_RUN, next_seq=seq + 1, wall_ns=now_ns)
            case 1:
                ranges = [(seq, seq + draw.randrange(5))]
                message = wire.Gap(
                    line=line, run=_RUN, ranges=ranges, outcome="unknown", reason="capture lost", wall_ns=now_ns
                )
            case _:
                pixels = np.full((size[1], size[0], 3), draw.randrange(256), np.uint8)
                message = wire.FrameHeader(
                    line=line, run=_RUN, seq=seq, wall_ns=now_ns, mono_ns=1, shape=(size[1], size[0], 3)
                )
        yield [bytes(part) for part in wire.pack(message, pixels)]


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


def babble(endpoint: str, keys: Path, *, lines: Sequence[str], draw: random.Random, count: int) -> int:
    """Send nonsense to a worker, over tcp with a camera's own key: one that was taken over. Returns how much of it."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.SNDTIMEO, 2000)
        socket.setsockopt(zmq.LINGER, 500)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing counts as sent while nobody is there
        if curve.needs_curve(endpoint):
            curve.secure_client(socket, keys, line=draw.choice(lines))
        socket.connect(endpoint)
        messages = nonsense(lines, draw)
        for sent in range(count):
            try:
                socket.send_multipart(next(messages))
            except zmq.Again:
                return sent  # nobody is there right now
    return count


def knock(
    endpoint: str, keys: Path, *, lines: Sequence[str], size: tuple[int, int], draw: random.Random, count: int
) -> None:
    """Speak to a tcp port with a key that nobody let in, and with none: sense and nonsense.

    The one with a key is asked about, and counted as a stranger, at each of its tries. The one without never gets that
    far: the two ends of the connection do not agree on how to speak, and nobody counts that.
    """
    with zmq.Context() as context, context.socket(zmq.DEALER) as plain, context.socket(zmq.DEALER) as keyed:
        keyed.curve_publickey, keyed.curve_secretkey = zmq.curve_keypair()
        keyed.curve_serverkey = curve.worker_pair(keys).public
        messages = (sense(lines, size, draw), nonsense(lines, draw))
        for socket in (plain, keyed):
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(endpoint)
            for _ in range(count):
                try:
                    socket.send_multipart(next(draw.choice(messages)), zmq.NOBLOCK)
                except zmq.Again:
                    break
        time.sleep(0.5)  # for the handshakes
