"""Hostile messages: good ones that were damaged, fields that hold what they must not, msgpack that lies, and noise.

Now and then one is as large as the wire lets through, or larger. The same seed gives the same inputs.
"""

import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgpack

from ingest import wire

LINE = "cam"
RUN = "0" * 16
SIZE = 16
_PAYLOAD = bytes(range(256)) * 3  # 16x16x3

LARGE_EVERY = 10_000
"""One in so many is large. That is far more than ZeroMQ queues, so that never two of them are under way at once."""
_FEW = 2**20
_NEAR, _OVER = (-_FEW, -1, 0), (1, _FEW)

Parts = list[bytes]


def inputs(seed: int, count: int) -> Iterator[Parts]:
    """`count` messages as their ZeroMQ parts, at least one each."""
    drawn = random.Random(seed)
    for number in range(count):
        rounds, place = divmod(number, LARGE_EVERY)
        if place == LARGE_EVERY // 2:
            yield _large(drawn, drawn.choice(_OVER if rounds % 2 else _NEAR))
            continue
        make = drawn.choices(_WAYS, weights=_WEIGHTS)[0]
        yield make(drawn) or [b""]


def too_large(parts: Parts) -> bool:
    """Whether a worker's socket must not take it in."""
    return any(len(part) > wire.MAX_PAYLOAD_BYTES for part in parts)


def _large(drawn: random.Random, more: int) -> Parts:
    """A frame or a picture with a payload of the largest size there is, and some bytes more or less: all of them 0."""
    fields, payload = _good(drawn)
    while payload is None:
        fields, payload = _good(drawn)
    return _parts(fields, bytes(wire.MAX_PAYLOAD_BYTES + more))


def _good(drawn: random.Random) -> tuple[dict[str, Any], bytes | None]:
    """Fields and payload of a message that is all right."""
    seq = drawn.randrange(1000)
    span = [[seq, seq + drawn.randrange(5)] for _ in range(drawn.randrange(1, 4))]
    known = {"v": 1, "line": LINE, "run": RUN}
    match drawn.randrange(7):
        case 0:
            return known | {"kind": "beat", "next_seq": seq, "wall_ns": 1, "condition": "ok", "ended": False}, None
        case 1:
            return known | {"kind": "gap", "ranges": span, "outcome": "unknown", "reason": "late", "wall_ns": 1}, None
        case 2:
            return known | {"kind": "ack", "ranges": span, "portrait": True, "retry": False}, None
        case 3:
            grant = {"kind": "grant", "worker": "w0-1", "credits": 4, "preprocessing": {"size": [64, 64]}}
            return {"v": 1, "line": LINE} | grant, None
        case 4:
            return known | {"kind": "portrait", "seq": seq}, b"\xff\xd8\xff" + _PAYLOAD
        case _:
            about = {"wall_ns": 1, "mono_ns": 1, "shape": [SIZE, SIZE, 3], "dtype": "uint8", "encoding": "raw"}
            return known | about | {"kind": "frame", "seq": seq, "part": "p-1", "deadline_ms": 100.0}, _PAYLOAD


def _parts(fields: Any, payload: bytes | None) -> Parts:
    return [msgpack.packb(fields)] if payload is None else [msgpack.packb(fields), payload]


_DAMAGES: tuple[Callable[[random.Random, bytes, int], bytes], ...] = (
    lambda drawn, data, at: (
        data[:at] + bytes(byte ^ 1 << drawn.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]
    ),
    lambda drawn, data, at: data[:at] + drawn.randbytes(1) + data[at + 1 :],
    lambda _, data, at: data[:at],
    lambda drawn, data, at: data[:at] + drawn.randbytes(drawn.randrange(1, 20)) + data[at:],
    lambda drawn, data, at: data[: at + drawn.randrange(1, 40)] + data[at:],
    lambda drawn, data, at: data[:at] + data[at + drawn.randrange(1, 10) :],
)


def _damaged(drawn: random.Random) -> Parts:
    """A good message with bytes changed, lost, doubled or put in; or with parts lost, added or swapped."""
    parts = _parts(*_good(drawn))
    for _ in range(drawn.choice((1, 1, 1, 2, 5))):
        which = drawn.randrange(len(parts)) if drawn.random() < 0.2 else 0
        parts[which] = drawn.choice(_DAMAGES)(drawn, parts[which], drawn.randrange(len(parts[which]) + 1))
    if drawn.random() < 0.1:
        parts.append(drawn.randbytes(drawn.randrange(50)))
    return parts[::-1] if drawn.random() < 0.05 else parts[: drawn.choice((1, 3, 3, 3, 3))]


_VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda drawn: drawn.choice((0, -1, 2**31, 2**40, 2**53, 2**63 - 1, 2**64 - 1, -(2**63))),
    lambda drawn: drawn.choice((float("nan"), float("inf"), -float("inf"), 1e308, -0.0, 5e-324)),
    lambda drawn: drawn.choice(("", "../" * 20, "/etc/passwd", "a\0b", "\x1b[2J", "cam\n", "\uff41", "{p0}", "*")),
    lambda drawn: "x" * drawn.choice((63, 64, 65, 128, 129, 1000, 1025, 60_000)),
    lambda drawn: drawn.randbytes(drawn.randrange(40)),
    lambda _: None,
    lambda drawn: drawn.random() < 0.5,
    lambda drawn: [[0, 2 ** drawn.randrange(64) - 1]],
    lambda drawn: [[drawn.randrange(99), drawn.randrange(99)] for _ in range(drawn.choice((0, 1, 1024, 1025, 4000)))],
    lambda _: [4096, 4096, 3],
    lambda drawn: msgpack.ExtType(drawn.randrange(128), drawn.randbytes(8)),
    lambda drawn: drawn.choice(("beat", "gap", "ack", "grant", "portrait", "frame", "none", "raw", "jpeg")),
)


def _hostile(drawn: random.Random, depth: int = 0) -> Any:
    """A value that no field expects."""
    way = drawn.random()
    if depth < 4 and way < 0.1:
        return [_hostile(drawn, depth + 1) for _ in range(drawn.randrange(4))]
    if depth < 4 and way < 0.2:
        return {str(_hostile(drawn, 4))[:40]: _hostile(drawn, depth + 1) for _ in range(drawn.randrange(4))}
    return drawn.choice(_VALUES)(drawn)


def _misused(drawn: random.Random) -> Parts:
    """A good message with one to three fields replaced, removed or added."""
    fields, payload = _good(drawn)
    for _ in range(drawn.randrange(1, 4)):
        name = drawn.choice([*fields, "zzz", "figures", "__class__"])
        match drawn.randrange(5):
            case 0:
                fields.pop(name, None)
            case 1:
                fields[drawn.choice(("preprocessing", "ranges", "shape", "figures"))] = _hostile(drawn)
            case _:
                fields[name] = _hostile(drawn)
    return _parts(fields, payload if drawn.random() < 0.9 else None)


_LIES: tuple[Callable[[random.Random], Parts], ...] = (
    lambda drawn: [drawn.choice((b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")) + _huge(drawn) + drawn.randbytes(20)],
    lambda drawn: [_nest(drawn)[: wire.MAX_HEADER_BYTES]],
    lambda drawn: [msgpack.packb({n: n for n in range(drawn.choice((1, 100, 10_000)))})],
    lambda drawn: [msgpack.packb({f"k{n}": n for n in range(drawn.choice((64, 65, 4000)))})],
    lambda drawn: [msgpack.packb([0] * drawn.choice((1, 16_384, 16_385, 60_000)))],
    lambda drawn: [b"\x82\xa4kind\xa4beat\xa4kind" + msgpack.packb(_hostile(drawn))],
    lambda drawn: [msgpack.packb(_hostile(drawn)) for _ in range(drawn.randrange(1, 4))],
)


def _huge(drawn: random.Random) -> bytes:
    return struct.pack(">I", drawn.choice((2**16, 2**24, 2**31, 2**32 - 1)))


def _nest(drawn: random.Random) -> bytes:
    return drawn.choice((b"\x91", b"\x81\xa1a", b"\xdd\x00\x00\x00\x01")) * drawn.choice((10, 500, 5000, 30_000))


def _lying(drawn: random.Random) -> Parts:
    """Msgpack that promises more than it holds, nests without end, or uses what the protocol has no use for."""
    return drawn.choice(_LIES)(drawn)


def _noise(drawn: random.Random) -> Parts:
    """Bytes; now and then many."""
    longest = 2_000_000 if drawn.random() < 0.002 else 100
    return [drawn.randbytes(drawn.randrange(longest)) for _ in range(drawn.choice((1, 1, 1, 2, 3)))]


_WAYS: tuple[Callable[[random.Random], Parts], ...] = (_damaged, _misused, _lying, _noise)
_WEIGHTS = (50, 30, 8, 12)
