"""Whatever a scanner reads becomes an identity that can be sent and stored."""

from hypothesis import given
from hypothesis import strategies as st

from ingest import wire
from ingest.frame import MAX_PART, part_id

ANYTHING = st.text(st.characters(), max_size=300)


@given(ANYTHING)
def test_any_text_can_be_sent(said):
    header = wire.FrameHeader(
        line="a", run="0" * 16, seq=0, wall_ns=0, mono_ns=0, shape=(1, 1, 3), encoding="none", part=part_id(said)
    )
    message, _ = wire.unpack(wire.pack(header, None))
    assert message.part == part_id(said)
    assert len(message.part) <= MAX_PART


@given(ANYTHING, ANYTHING)
def test_different_parts_stay_different(one, other):
    assert (part_id(one) == part_id(other)) == (one == other)


def test_what_can_be_sent_is_left_as_it_is():
    assert part_id("Gehäuse 4711/β") == "Gehäuse 4711/β"
    assert part_id("7" * MAX_PART) == "7" * MAX_PART
    assert part_id("7" * 200).startswith("7" * 100)
    assert part_id("\ud800a\0").startswith("?a~")
