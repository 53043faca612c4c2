"""What a capture tells of its queues."""

import msgpack
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest import wire
from ingest.figures import Figures
from ingest.frame import Frame
from ingest.ledger import Ledger

BYTES = 4 * 4 * 3


def frame(seq: int) -> Frame:
    return Frame(line="a", run="0" * 16, seq=seq, wall_ns=0, mono_ns=seq * 10**9, picture=np.zeros((4, 4, 3), np.uint8))


STEPS = st.lists(st.sampled_from(["admit", "send", "lost", "expire", "settle", "abandon"]), max_size=60)


@given(steps=STEPS, policy=st.sampled_from(["every", "latest"]))
def test_figures_account_for_every_frame(steps: list[str], policy: str) -> None:
    ledger = Ledger(policy=policy, capacity=3 * BYTES, deadline_s=5.0)
    seq = settled = 0
    for step in steps:
        before = ledger.figures()
        match step:
            case "admit":
                ledger.admit(frame(seq))
                seq += 1
            case "send":
                ledger.send("w", 0.0)
            case "lost":
                assert ledger.worker_lost("w") == before.in_flight
            case "expire":
                ledger.expire(seq)
            case "settle":
                settled += len(ledger.settle([(0, max(0, seq - 2))], 0.0))
            case "abandon":
                ledger.abandon_all("capture stopped")
        told = ledger.figures()
        assert told.waiting + told.in_flight + sum(told.given_up.values()) + settled == seq
        assert told.buffered_bytes == BYTES * (told.waiting + told.in_flight)
        assert told.resent >= before.resent
        assert all(told.given_up.get(reason, 0) >= count for reason, count in before.given_up.items())
    assert ledger.figures().buffer_bytes == 3 * BYTES


def test_a_newer_captures_figures_are_passed_over() -> None:
    beat = wire.Beat(line="a", run="0" * 16, next_seq=3, wall_ns=1, figures=Figures(waiting=2, given_up={"late": 1}))
    (header,) = wire.pack(beat)
    assert wire.unpack([header]) == (beat, None)
    fields = msgpack.unpackb(header)
    fields["figures"]["of a later version"] = 7
    assert wire.unpack([msgpack.packb(fields)])[0] == beat
