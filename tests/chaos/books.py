"""What was sent and what was held, as plain records; everything the checkers look at."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.history import Counts
from storage.records import Alert, LineState, Verdict


@dataclass(frozen=True, slots=True)
class Sent:
    """One picture as its camera wrote it down.

    Attributes:
        boot: which opening of the camera.
        number: which picture of it; capture gives it the same number in its run.
        part: its identity, also in its verdict.
        defect: there is one in it.
        orders: what the camera was told to do.
        mono_ns: when, on the machine's monotonic clock.
        taken: capture came back for the next one, so it had this one.
    """

    boot: int
    number: int
    part: str
    defect: bool
    orders: str
    mono_ns: int
    taken: bool


@dataclass(frozen=True, slots=True)
class Told:
    """One message that the webhook received.

    Attributes:
        key: names it for good.
        body: what it said.
        alert: id of its alert.
        kind, change, evidence: of the alert.
        pictured: the evidence it names was on the disk when it arrived.
    """

    key: str
    body: str
    alert: str
    kind: str
    change: str
    evidence: str | None
    pictured: bool


@dataclass(frozen=True, slots=True)
class Books:
    """All that is known at the end of a run.

    Attributes:
        sent: line -> pictures in the order they were sent.
        verdicts: as read from the stream, in its order.
        states: line -> its counters in Redis.
        counted: line -> verdicts as the history counted them.
        alerts: in the history.
        told: what the webhook received.
        latest: lines that may skip frames, counted.
        models: line -> the only model that may judge it.
        blind: spans (monotonic ns) in which evidence could not be kept.
        rescored: id of a verdict -> score of the same picture by the same model, outside of the system.
    """

    sent: Mapping[str, Sequence[Sent]]
    verdicts: Sequence[Verdict]
    states: Mapping[str, LineState]
    counted: Mapping[str, Counts]
    alerts: Sequence[Alert]
    told: Sequence[Told]
    latest: frozenset[str] = frozenset()
    models: Mapping[str, str] = field(default_factory=dict)
    blind: Sequence[tuple[int, int]] = ()
    rescored: Mapping[str, float] = field(default_factory=dict)

    def pictures(self) -> dict[str, Sent]:
        """Part -> its picture."""
        return {picture.part: picture for line in self.sent.values() for picture in line}

    def runs(self, line: str) -> dict[str, int]:
        """Run -> boot of the camera: by the parts that verdicts name, and by elimination where none does."""
        found: dict[str, int] = {}
        seen: dict[str, int] = {}
        for verdict in self.verdicts:
            if verdict.line == line:
                seen[verdict.run] = max(seen.get(verdict.run, 0), verdict.seq + 1)
                if verdict.part is not None:
                    found[verdict.run] = int(verdict.part.rsplit("-", 2)[1])
        lengths: dict[int, int] = {}
        for sent in self.sent.get(line, ()):
            if sent.taken or sent.boot not in lengths:
                lengths[sent.boot] = lengths.get(sent.boot, 0) + sent.taken
        free = {boot: length for boot, length in lengths.items() if boot not in found.values()}
        for run in sorted(seen.keys() - found.keys()):
            # The last picture may have been counted without having been asked past.
            fits = [boot for boot, length in free.items() if seen[run] in (length, length + 1)]
            if fits:
                found[run] = fits[0]
                del free[fits[0]]
        return found


def read_entries(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Read the whole lines of a ledger from `offset` on, and where the next one begins."""
    with path.open("rb") as file:
        file.seek(offset)
        whole, newline, _ = file.read().rpartition(b"\n")
    return [json.loads(text) for text in whole.splitlines()], offset + len(whole) + len(newline)


def newest_entries(folder: Path, line: str) -> list[dict[str, Any]]:
    """What a line's camera has written since it was last opened."""
    path = max(folder.glob(f"{line}-??????.jsonl"), default=None)
    return [] if path is None else read_entries(path)[0]


def read_ledgers(folder: Path, line: str) -> Iterator[Sent]:
    """All pictures that a line's cameras sent; the last line of a killed one may be torn."""
    for path in sorted(folder.glob(f"{line}-??????.jsonl")):
        boot = int(path.stem.rpartition("-")[2])
        entries, _ = read_entries(path)
        taken = {entry["taken"] for entry in entries if "taken" in entry}
        for entry in entries:
            if "n" in entry:
                yield Sent(
                    boot=boot,
                    number=entry["n"],
                    part=entry["part"],
                    defect=entry["defect"],
                    orders=entry["orders"],
                    mono_ns=entry["mono_ns"],
                    taken=entry["n"] in taken,
                )
