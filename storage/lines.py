"""The accounts of every line: each captured frame ends once, as `pass`, `reject`, `unknown` or a counted skip.

Messages may come twice, late, out of order and from several workers. The first outcome of a frame stands, later ones
are ignored, so every call here may be repeated. Each call is one or more Lua scripts (`storage/scripts/`) that happen
as a whole or not at all; that a frame's verdict stands in the stream and that it is counted is one step.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import redis

from storage import keys
from storage.records import LineState, Status, Verdict
from storage.scripting import Call, Script
from storage.unavailable import mapped

CHUNK = 1000
"""Most numbers of a gap closed in one call of the script: others wait no longer than it takes."""

_RECORD = Script("accounts.lua", "record.lua")
_CLOSE_GAP = Script("accounts.lua", "close_gap.lua")
_BEAT = Script("accounts.lua", "beat.lua")
_COUNTERS = {Status.PASS: "passed", Status.REJECT: "rejected", Status.UNKNOWN: "unknown"}

Range = tuple[int, int]
"""First and last number, both included."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A run of which captured numbers have not ended.

    Attributes:
        line, run: which.
        floor: all numbers below have ended.
        next_seq: all numbers below were captured.
        beat_ns: last sign of life of the line, if this is its present run; 0 for an older one.
    """

    line: str
    run: str
    floor: int
    next_seq: int
    beat_ns: int


class Lines:
    """Line state in Redis.

    Args:
        client: from `storage.server.connect`.
        cap: most verdicts the stream holds when no one reads it: the oldest are then dropped, to bound the server's
            memory (about 0.5 KB a verdict).
    """

    def __init__(self, client: redis.Redis, *, cap: int = 1_000_000) -> None:
        self._client = client
        self._cap = cap

    def record(self, verdicts: Sequence[Verdict]) -> list[bool]:
        """Store verdicts, of any lines and runs, in one round trip.

        Returns:
            For each verdict whether it was newly stored; False: its frame had ended before.

        Raises:
            StoreUnavailable: some may have been stored; record all of them again.
        """
        calls = [
            self._call(
                verdict.line,
                verdict.run,
                verdict.seq,
                _COUNTERS[verdict.status],
                verdict.model_dump_json(exclude_none=True),
                *_shown(verdict),
            )
            for verdict in verdicts
        ]
        return [reply == 1 for reply in _RECORD.run(self._client, calls)] if calls else []

    def close_gap(
        self,
        *,
        line: str,
        run: str,
        ranges: Sequence[Range],
        status: Literal["unknown", "skipped"],
        reason: str,
        wall_ns: int,
        worker: str,
        most: int | None = None,
    ) -> int:
        """End numbers that will never be judged; those that have ended keep their outcome.

        Args:
            line: the line.
            run: one start of its capture.
            ranges: first and last numbers, both included; they may overlap.
            status: `unknown` writes a verdict for each number, `skipped` only counts.
            reason: why; becomes the verdicts' reason.
            wall_ns: wall clock, nanoseconds since the epoch.
            worker: who says so.
            most: stop once this many have ended (to the next whole chunk); call again for the rest.

        Returns:
            How many numbers newly ended; fewer than `most`: all have.

        Raises:
            ValueError: a range ends before it begins.
            StoreUnavailable: part may have been done; close the same ranges again.
        """
        wrong = next(((first, last) for first, last in ranges if not 0 <= first <= last), None)
        if wrong is not None:
            raise ValueError(f"gap {wrong[0]} to {wrong[1]} of line {line}: first must be from 0 to last")
        before, after = _unknown(line, run, reason, wall_ns, worker) if status == "unknown" else ("", "")
        rest, total, further = list(ranges), 0, False
        while (rest or further) and (most is None or total < most):
            chunk, rest = _cut(rest, CHUNK)
            flat = [number for span in chunk for number in span]
            [(count, floor, further)] = _CLOSE_GAP.run(
                self._client, [self._call(line, run, status, before, after, wall_ns, *flat)]
            )
            total += count
            # What lies below the floor has ended already: a long range of an old message costs nothing.
            rest = [(max(first, floor), last) for first, last in rest if last >= floor]
        return total

    def beat(
        self, *, line: str, run: str, next_seq: int, camera: str, wall_ns: int, ended: bool, settled: int = 0
    ) -> None:
        """Note a sign of life.

        Args:
            line: the line.
            run: one start of its capture.
            next_seq: all numbers below have been captured.
            camera: condition of the camera: ok, frozen, dark, lost.
            wall_ns: wall clock, nanoseconds since the epoch.
            ended: nothing new will be captured. Once all numbers have ended too, the run's accounts are kept for
                another 30 days, to recognise messages that come twice.
            settled: all numbers below had their outcome stored; those that are not known here any more were lost with
                the server's data, and no longer count as captured.

        Raises:
            StoreUnavailable: beat again.
            ValueError: more are settled than were captured.
        """
        if not 0 <= settled <= next_seq:
            raise ValueError(f"beat of line {line}: {settled} of {next_seq} settled")
        further = True
        while further:
            [further] = _BEAT.run(
                self._client, [self._call(line, run, next_seq, camera, wall_ns, "1" if ended else "0", settled)]
            )

    def state(self, line: str) -> LineState | None:
        """What is known of one line; None when it was never heard of.

        Raises:
            StoreUnavailable: ask again later.
        """
        with mapped(self._client):
            return _state(self._client.hgetall(keys.line(line)))

    def states(self) -> list[LineState]:
        """What is known of all lines, by name.

        Raises:
            StoreUnavailable: ask again later.
        """
        with mapped(self._client):
            names = sorted(str(name) for name in self._client.smembers(keys.LINES))
            with self._client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.hgetall(keys.line(name))
                found = pipeline.execute()
        return [state for state in map(_state, found) if state is not None]

    def unsettled(self, line: str) -> list[Unsettled]:
        """Runs of a line that still owe verdicts, oldest first.

        Raises:
            StoreUnavailable: ask again later.
        """
        with mapped(self._client):
            runs = sorted(str(run) for run in self._client.smembers(keys.unsettled(line)))
            if not runs:
                return []
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hmget(keys.line(line), "run", "beat_ns")
                for run in runs:
                    pipeline.hmget(keys.run(line, run), "floor", "next")
                (latest, beat_ns), *accounts = pipeline.execute()
        return [
            Unsettled(line, run, int(floor or 0), int(following or 0), int(beat_ns or 0) if run == latest else 0)
            for run, (floor, following) in zip(runs, accounts, strict=True)
        ]

    def _call(self, line: str, run: str, *arguments: str | int) -> Call:
        touched = (
            keys.line(line),
            keys.run(line, run),
            keys.ended(line, run),
            keys.VERDICTS,
            keys.LINES,
            keys.unsettled(line),
        )
        return touched, (line, run, self._cap, *arguments)


def _shown(verdict: Verdict) -> list[str]:
    """What the line shows of its last verdict: names and values, empty for what the verdict does not have."""
    fields = {
        "status": verdict.status.value,
        "score": verdict.score,
        "p_value": verdict.p_value,
        "threshold": verdict.threshold,
        "model": verdict.model,
        "verdict_ns": verdict.judged_ns,
    }
    return [text for name, value in fields.items() for text in (name, "" if value is None else str(value))]


def _unknown(line: str, run: str, reason: str, wall_ns: int, worker: str) -> tuple[str, str]:
    """JSON of an `unknown` verdict, before and after its number: the script writes one for each number of a gap."""
    verdict = Verdict(
        line=line,
        run=run,
        seq=0,
        status=Status.UNKNOWN,
        reason=reason,
        captured_ns=wall_ns,
        judged_ns=wall_ns,
        worker=worker,
    )
    # Quotes inside values are escaped, so the first match is the field itself.
    before, field, after = verdict.model_dump_json(exclude_none=True).partition('"seq":')
    return before + field, after.removeprefix("0")


def _cut(ranges: Iterable[Range], size: int) -> tuple[list[Range], list[Range]]:
    """Split ranges into the first `size` numbers and the rest."""
    head: list[Range] = []
    rest: list[Range] = []
    for first, last in ranges:
        room = min(last - first + 1, size)
        if room > 0:
            head.append((first, first + room - 1))
        if first + room <= last:
            rest.append((first + room, last))
        size -= room
    return head, rest


def _state(fields: dict[bytes | str, bytes | str]) -> LineState | None:
    known = {name: value for name, value in fields.items() if name in LineState.model_fields and value != ""}
    return LineState.model_validate(known) if known else None
