"""The ledger's law: every number that was admitted is settled once, and never silently gone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest.frame import Frame
from ingest.ledger import GAP_RESEND_S, PATIENCE_S, Ledger

PICTURE = np.zeros((2, 5, 3), np.uint8)  # 30 bytes
WORKERS = ("w0", "w1")


def frame(seq, now=0.0):
    return Frame("line", "0" * 16, seq, 0, int(now * 1e9), PICTURE)


def ledger(policy="every", capacity=10_000, deadline_s=None):
    return Ledger(policy=policy, capacity=capacity, deadline_s=deadline_s)


def gaps(book, now=0.0):
    return [(gap.outcome, gap.reason, list(gap.ranges)) for gap in book.gaps(now)]


def test_frames_leave_in_order_and_go_back_when_their_worker_is_lost():
    book = ledger()
    for seq in range(3):
        book.admit(frame(seq))
    assert [book.send("w0", 0.0).seq, book.send("w1", 0.0).seq] == [0, 1]
    assert book.worker_lost("w0") == 1
    assert [book.send("w1", 0.0).seq, book.send("w1", 0.0).seq, book.send("w1", 0.0)] == [0, 2, None]


def test_latest_keeps_only_the_freshest_and_counts_the_others_as_skipped():
    book = ledger("latest")
    for seq in range(5):
        book.admit(frame(seq))
    assert book.send("w0", 0.0).seq == 4
    assert gaps(book) == [("skipped", "superseded", [(0, 3)])]


def test_a_full_buffer_gives_up_the_oldest_waiting_frame():
    book = ledger(capacity=60)
    for seq in range(4):
        book.admit(frame(seq))
    assert gaps(book) == [("unknown", "overflow", [(0, 1)])]
    assert book.send("w0", 0.0).seq == 2


@given(st.integers(1, 400), st.lists(st.integers(1, 8), min_size=1, max_size=30))
def test_who_waits_while_the_buffer_is_full_never_loses_a_frame(capacity, arrivals):
    book = ledger(capacity=capacity)
    for seq in range(sum(arrivals)):
        while book.full:
            sent = book.send("w0", 0.0)
            assert sent is not None
            book.settle([(sent.seq, sent.seq)], 0.0)
        book.admit(frame(seq))
    assert gaps(book) == []


def test_deadlines_close_what_waits_and_what_is_never_answered():
    book = ledger(deadline_s=1.0)
    book.admit(frame(0))
    book.send("w0", 0.0)
    book.admit(frame(1))
    book.expire(1.5)
    assert gaps(book) == [("unknown", "late", [(1, 1)])]
    book.expire(1.1 + PATIENCE_S)
    assert gaps(book, now=10) == [("unknown", "late", [(1, 1)]), ("unknown", "no answer", [(0, 0)])]


def test_a_gap_is_told_again_until_it_is_acknowledged():
    book = ledger("latest")
    book.admit(frame(0))
    book.admit(frame(1))
    assert gaps(book, now=0) == [("skipped", "superseded", [(0, 0)])]
    assert gaps(book, now=GAP_RESEND_S / 2) == []
    assert gaps(book, now=GAP_RESEND_S) == [("skipped", "superseded", [(0, 0)])]
    book.settle([(0, 0)], 0.0)
    assert gaps(book, now=100) == []
    assert book.open == 1


class LedgerMachine(RuleBasedStateMachine):
    """Any order of arrivals, sends, answers, losses and expiries keeps the books balanced."""

    def __init__(self):
        super().__init__()
        self.now, self.next_seq, self.settled = 0.0, 0, set()
        self.flying, self.told = {}, set()
        self.book = ledger(capacity=150, deadline_s=2.0)

    @rule(count=st.integers(1, 4))
    def admit(self, count):
        for _ in range(count):
            self.book.admit(frame(self.next_seq, self.now))
            self.next_seq += 1

    @rule(worker=st.sampled_from(WORKERS))
    def send(self, worker):
        sent = self.book.send(worker, self.now)
        if sent is not None:
            assert sent.seq not in self.flying
            assert sent.seq not in self.settled
            self.flying[sent.seq] = worker

    @rule(worker=st.sampled_from(WORKERS))
    def lose(self, worker):
        assert self.book.worker_lost(worker) <= sum(w == worker for w in self.flying.values())
        self.flying = {seq: w for seq, w in self.flying.items() if w != worker}

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def answer(self, data):
        seq = data.draw(st.sampled_from(sorted(self.flying)))
        self.book.settle([(seq, seq)], self.now)
        self.settled.add(seq)
        del self.flying[seq]

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds):
        self.now += seconds
        self.book.expire(self.now)

    @rule()
    def tell_and_hear(self):
        for gap in self.book.gaps(self.now):
            self.book.settle(gap.ranges, self.now)
            for first, last in gap.ranges:
                self.settled |= set(range(first, last + 1))
                self.flying = {seq: w for seq, w in self.flying.items() if not first <= seq <= last}

    @invariant()
    def nothing_is_lost(self):
        assert self.book.open + len(self.settled) == self.next_seq
        assert self.book.oldest == min(set(range(self.next_seq)) - self.settled, default=None)

    def teardown(self):
        self.book.abandon_all("capture stopped")
        self.now += GAP_RESEND_S
        self.tell_and_hear()
        assert self.settled == set(range(self.next_seq))
        assert self.book.open == 0


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
