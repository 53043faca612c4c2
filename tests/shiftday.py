"""One shift on two lines, as the alert service would have written it: figures that can be counted by hand."""

import random
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from storage.config import RetentionConfig
from storage.evidence import EvidenceStore
from storage.history import START, Consequences, Counts, History
from storage.labels import Labels
from storage.records import Alert, AlertKind, Challenge, Change, Held, Label, Transition

NS = 1_000_000_000
MINUTE_NS = 60 * NS
HOSTILE = "<script>alert('x')</script>&\"=1+1"
"""What a person may write."""


def alert(line: str, kind: AlertKind, begin_ns: int, *, seconds: float | None, number: int, **fields: object) -> Alert:
    """One alert, raised half a second after it began; `seconds` None: still open."""
    end_ns = None if seconds is None else begin_ns + round(seconds * NS)
    return Alert.model_validate(
        {
            "id": f"{line}/1/{number}/{kind}",
            "line": line,
            "kind": kind,
            "text": f"{kind.value}: look at it.",
            "started_ns": begin_ns,
            "raised_ns": begin_ns + NS // 2,
            "cleared_ns": end_ns,
            "ended_ns": end_ns,
            "model": "bottle@3",
            **fields,
        }
    )


def commit(history: History, alerts: list[Alert], **fields: object) -> None:
    """Store alerts, each raised and, where it is over, cleared."""
    transitions = []
    for one in sorted(alerts, key=lambda a: a.raised_ns):
        raised = one.model_copy(update={"cleared_ns": None})
        transitions.append(Transition(change=Change.RAISED, alert=raised, at_ns=one.raised_ns))
        if one.cleared_ns is not None:
            transitions.append(Transition(change=Change.CLEARED, alert=one, at_ns=one.cleared_ns))
    after = history.position()
    number = 1 if after == START else int(after.partition("-")[0]) + 1
    consequences = Consequences(position=f"{number}-0", transitions=transitions, **fields)  # type: ignore[arg-type]
    history.commit(consequences, after=after)


def minutes(line: str, begin_ns: int, counts: list[Counts]) -> Mapping[tuple[str, int], Counts]:
    """Verdicts of consecutive minutes."""
    return {(line, begin_ns // MINUTE_NS + n): one for n, one in enumerate(counts)}


def fill(history: History, evidence: Path, begin_ns: int, *, length: int = 480, events: int = 15) -> list[Alert]:
    """Fill a history with a shift of `length` minutes that begins at `begin_ns`; returns the events of `bottling-1`."""
    chance = random.Random(7)
    store = EvidenceStore(evidence, RetentionConfig(min_free_gb=0, max_days=10_000))
    counts = [Counts(chance.randint(280, 300), chance.choice([0, 0, 0, 1, 4]), 0) for _ in range(length)]
    down = range(length // 3, length // 3 + 25)
    for minute in down:
        counts[minute] = Counts(0, 0, 300)
    made, defects = [], []
    for n in range(events):
        at_ns = begin_ns + round((n + 0.5) * length / events) * MINUTE_NS + n * 7 * NS
        score = round(0.55 + 0.4 * chance.random(), 3)
        where = store.put(
            line="bottling-1",
            run="1",
            seq=n,
            frame=plate(n),
            anomaly_map=spot(n),
            threshold=0.5,
            captured_ns=at_ns,
        )
        defects.append(
            alert(
                "bottling-1",
                AlertKind.DEFECT,
                at_ns,
                seconds=0.4 + 3 * chance.random(),
                number=n,
                score=0.52,
                threshold=0.5,
                worst_score=score,
                worst_evidence=where,
                evidence=where,
                count=chance.randint(1, 12),
            )
        )
    start_ns = begin_ns + down.start * MINUTE_NS
    made += [
        alert("bottling-1", AlertKind.CAMERA_MOVED, start_ns, seconds=20 * 60, number=100),
        alert("bottling-1", AlertKind.CAMERA_DARK, start_ns + 10 * MINUTE_NS, seconds=15 * 60, number=101),
        alert("bottling-1", AlertKind.DRIFT, begin_ns + 60 * NS, seconds=None, number=102),
        alert("yard", AlertKind.LINE_SILENT, begin_ns - 30 * MINUTE_NS, seconds=45 * 60, number=1),
    ]
    commit(
        history,
        [*made, *defects],
        minutes={
            **minutes("bottling-1", begin_ns, counts),
            **minutes("yard", begin_ns + 15 * MINUTE_NS, [Counts(60)] * (length - 15)),
        },
        reasons={
            ("bottling-1", begin_ns // MINUTE_NS + minute, "dark" if minute > down.start + 20 else "moved"): 300
            for minute in down
        },
        held=[
            Held(line="bottling-1", since_ns=begin_ns - 10**15, model="bottle@2", threshold=0.45, n_good=400),
            Held(line="bottling-1", since_ns=begin_ns - 10**14, model="bottle@3", threshold=0.5, n_good=1200),
            Held(line="bottling-1", since_ns=begin_ns + 10**13, model="bottle@4", threshold=0.493, n_good=2400),
            Held(line="yard", since_ns=begin_ns + 15 * MINUTE_NS, model="yard@1", threshold=11.25, n_good=60),
        ],
        challenges={
            f"{n}-0": Challenge.model_validate(
                {
                    "line": "bottling-1",
                    "image": f"scratch-{n}.png",
                    "expected": "reject",
                    "status": "pass" if n == 3 else "reject",
                    "score": 0.4 if n == 3 else 0.8,
                    "threshold": 0.5,
                    "model": "bottle@3",
                    "worker": "w0",
                    "occasion": "shift",
                    "at_ns": begin_ns + n * NS,
                }
            )
            for n in range(1, 7)
        },
    )
    said = (Label.TRUE_DEFECT, Label.TRUE_DEFECT, Label.FALSE_ALARM, Label.KNOWN_VARIATION)
    for n, defect in enumerate(defects[: len(said)]):
        note = "water drop on the lens" if said[n] is Label.FALSE_ALARM else ""
        Labels(history).label(defect.id, said[n], by="Ann Weber", now_ns=defect.raised_ns + 90 * NS, note=note)
    return defects


def plate(number: int) -> np.ndarray:
    """A grey part with a dark scratch."""
    picture = np.full((256, 256, 3), 170, np.uint8)
    cv2.circle(picture, (128, 128), 100, (205, 205, 200), -1)
    picture = cv2.add(picture, np.random.default_rng(number).integers(0, 30, picture.shape, np.uint8))
    x, y = _place(number)
    cv2.line(picture, (x - 18, y - 8), (x + 18, y + 10), (60, 50, 50), 3)
    return np.asarray(picture)


def spot(number: int) -> np.ndarray:
    """Its anomaly map."""
    x, y = _place(number)
    field = np.zeros((64, 64), np.float32)
    field[y // 4, x // 4] = 1
    field = np.asarray(cv2.GaussianBlur(field, (0, 0), 4))
    return (field / field.max() * 0.8).astype(np.float32)


def _place(number: int) -> tuple[int, int]:
    return 70 + 37 * number % 110, 80 + 53 * number % 100
