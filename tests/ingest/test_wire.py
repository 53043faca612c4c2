import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import wire
from ingest.errors import WireError
from ingest.frame import Condition
from ingest.preprocess import Preprocessing

lines = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
runs = st.from_regex(r"[0-9a-f]{16}", fullmatch=True)
seqs = st.integers(0, 2**40 - 1)
times = st.integers(0, 2**62 - 1)
stretches = st.lists(st.tuples(seqs, seqs).map(sorted).map(tuple), min_size=1, max_size=5)


def texts(most):
    return st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=most)


messages = st.one_of(
    st.builds(
        wire.Beat, line=lines, run=runs, next_seq=seqs, wall_ns=times, condition=st.sampled_from(Condition), ended=...
    ),
    st.builds(wire.Gap, line=lines, run=runs, ranges=stretches, outcome=..., reason=texts(64), wall_ns=times),
    st.builds(
        wire.Grant,
        worker=texts(30),
        line=lines,
        credits=st.integers(0, 4096),
        preprocessing=st.none() | st.builds(Preprocessing, size=st.just((64, 32)), roi=st.none(), mask=st.none()),
    ),
    st.builds(wire.Ack, line=lines, run=runs, ranges=stretches, portrait=..., retry=...),
)


def a_frame(height, width, encoding="raw"):
    return wire.FrameHeader(
        line="a", run="0" * 16, seq=1, wall_ns=2, mono_ns=3, shape=(height, width, 3), encoding=encoding
    )


def a_header(**fields):
    return a_frame(1, 1).model_dump(mode="json") | fields


def a_gap(**fields):
    known = {"line": "a", "run": "0" * 16, "ranges": [(0, 1)], "outcome": "unknown", "reason": "late", "wall_ns": 1}
    return {"v": 1, "kind": "gap"} | known | fields


@given(messages)
def test_unpack_is_the_inverse_of_pack(message):
    assert wire.unpack(wire.pack(message)) == (message, None)


@given(st.integers(1, 20), st.integers(1, 20))
def test_a_frame_crosses_bit_for_bit_and_without_a_copy(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    header, payload = wire.unpack(parts := wire.pack(a_frame(height, width), pixels))
    assert np.shares_memory(np.frombuffer(parts[1], np.uint8), pixels)
    received = wire.pixels(header, payload)
    assert np.array_equal(received, pixels)


def test_a_frame_without_pixels_says_so_in_its_header():
    header, payload = wire.unpack(wire.pack(a_frame(1, 1, encoding="none")))
    assert payload is None
    assert header.encoding == "none"


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "1 or 2 parts"),
        ([b"x" * (wire.MAX_HEADER_BYTES + 1)], "longer than"),
        ([b"\xc1"], "not msgpack"),
        ([msgpack.packb({"v": 2, "kind": "beat", "line": "a", "run": "0" * 16, "next_seq": 0, "wall_ns": 0})], "v"),
        ([msgpack.packb({"v": 1, "kind": "bear"})], "bear"),
        (wire.pack(a_frame(2, 2)), "must carry a payload"),
        ([*wire.pack(a_frame(2, 2)), b"short"], "not 2x2x3"),
        ([*wire.pack(a_frame(1, 1, encoding="none")), b"abc"], "must not carry"),
        ([b"\x91" * 2000], "StackError"),
        ([b"\xdd\xff\xff\xff\xff"], "not msgpack within bounds"),
        ([msgpack.packb({"k" * 2000: 1})], "not msgpack within bounds"),
        ([msgpack.packb(a_gap(ranges=[(5, 4)]))], "5 to 4 runs backwards"),
        ([msgpack.packb(a_gap(ranges=[(0, 2**40)]))], "less than"),
        ([msgpack.packb(a_gap(ranges=[(0, 1)] * 1025))], "not msgpack within bounds"),
        ([msgpack.packb(a_gap(reason="a\0b"))], "reason"),
        ([msgpack.packb(a_gap(wall_ns=2**63))], "wall_ns"),
        ([msgpack.packb(a_gap(line="../other"))], "line"),
        ([msgpack.packb(a_gap(line="a\n"))], "line"),
        ([msgpack.packb(a_header(deadline_ms=float("nan")))], "deadline_ms"),
        ([msgpack.packb(a_header(part="p" * 129))], "part"),
        ([msgpack.packb({"v": 1, "kind": "grant", "worker": "w" * 129, "line": "a", "credits": 1})], "worker"),
    ],
)
def test_anything_else_is_refused_with_a_reason(parts, says):
    with pytest.raises(WireError, match=says):
        wire.unpack(parts)


def test_what_a_stranger_wrote_cannot_flood_or_forge_a_log():
    with pytest.raises(WireError) as caught:
        wire.unpack([msgpack.packb({"kind": "x\n\x1b[2J" * 100})])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@settings(max_examples=2000)
@given(st.lists(st.binary(max_size=200), max_size=3))
def test_random_bytes_never_do_more_than_raise(parts):
    with pytest.raises(WireError):
        wire.unpack(parts)


@settings(max_examples=1000)
@given(
    st.dictionaries(
        st.sampled_from(["v", "kind", "line", "run", "seq", "shape", "ranges", "next_seq", "wall_ns", "zzz"]),
        st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)),
    )
)
def test_wrong_fields_never_do_more_than_raise(fields):
    try:
        message, _ = wire.unpack([msgpack.packb(fields)])
    except (WireError, OverflowError):  # msgpack itself cannot write integers beyond 64 bits
        return
    assert isinstance(message, wire.Message)
