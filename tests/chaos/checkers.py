"""Whether the promises were kept: pure functions over the books, each the list of what broke one of them."""

from collections import Counter
from collections.abc import Callable, Iterator

from storage.records import Status, Verdict
from tests.chaos import camera
from tests.chaos.alert_checkers import (
    CONDITIONS,
    doubled_alerts,
    lost_alerts,
    uncounted_rejects,
    unfounded_alerts,
    unpictured,
)
from tests.chaos.books import Books, Sent

REASONS = CONDITIONS | frozenset(
    {
        "late",
        "no answer",
        "overflow",
        "capture lost",
        "capture stopped",
        "corrupt",
        "no model",
        "detector failed",
    }
)
"""Why a frame may be `unknown` in these runs."""
_SAME = 1e-3
"""Relative difference of two scores of one picture: other batches, other threads."""


def unaccounted(books: Books) -> list[str]:
    """Frames without exactly one verdict, or counted skip; and verdicts of frames that nobody sent."""
    return [broken for line in books.sent for broken in _unaccounted(books, line)]


def _unaccounted(books: Books, line: str) -> Iterator[str]:
    boots = books.runs(line)
    counts = Counter((boots.get(v.run, -1), v.seq) for v in books.verdicts if v.line == line)
    sent = {(picture.boot, picture.number): picture for picture in books.sent[line]}
    skipped = 0
    for key, picture in sent.items():
        ended = counts.pop(key, 0)
        if ended > 1:
            yield f"{picture.part}: {ended} verdicts"
        if ended == 0 and picture.taken:
            if line in books.latest:
                skipped += 1
            else:
                yield f"{picture.part}: no verdict"
    yield from (f"{line}: verdict of {boot}-{number}, which was never sent" for boot, number in counts)
    state = books.states.get(line)
    if state is None:
        yield f"{line}: no counters"
        return
    # A picture that was handed over as capture died may or may not have been numbered.
    loose = sum(not picture.taken for picture in sent.values())
    if not skipped <= state.skipped <= skipped + loose:
        yield f"{line}: {skipped} frames have no verdict, {state.skipped} skips were counted"
    if state.open:
        yield f"{line}: {state.open} of {state.captured} frames are still open"


def miscounted(books: Books) -> list[str]:
    """Where the verdicts, Redis's counters and the history's counts differ."""
    broken = []
    for line in books.sent:
        seen = Counter(v.status for v in books.verdicts if v.line == line)
        verdicts = (seen[Status.PASS], seen[Status.REJECT], seen[Status.UNKNOWN])
        state, counted = books.states.get(line), books.counted.get(line)
        redis = None if state is None else (state.passed, state.rejected, state.unknown)
        history = None if counted is None else (counted.passed, counted.rejected, counted.unknown)
        if not verdicts == redis == history:
            broken.append(f"{line}: verdicts {verdicts}, counters {redis}, history {history}")
    return broken


def wrong_passes(books: Books) -> list[str]:
    """A `pass` of a defective frame, of one no camera showed well, or without a score of the model named."""
    pictures = books.pictures()
    boots = {line: books.runs(line) for line in books.sent}
    broken = []
    for verdict in books.verdicts:
        if verdict.status is Status.PASS:
            boot = boots[verdict.line].get(verdict.run, -1)
            broken += [f"{verdict.id}: {why}" for why in _wrong(books, verdict, pictures, boot=boot)]
    return broken


def _wrong(books: Books, verdict: Verdict, pictures: dict[str, Sent], *, boot: int) -> Iterator[str]:
    again = books.rescored.get(verdict.id)
    if again is not None and verdict.score is not None and abs(again - verdict.score) > _SAME * max(abs(again), 1.0):
        yield f"score {verdict.score}, the model itself says {again}"
    if verdict.score is None or verdict.threshold is None or verdict.score > verdict.threshold:
        yield f"passed with score {verdict.score}, threshold {verdict.threshold}"
    if verdict.model != books.models.get(verdict.line):
        yield f"judged by {verdict.model}"
    picture = pictures.get(verdict.part or "")
    if picture is None:
        yield f"names the part {verdict.part!r}, which was never sent"
    elif picture.defect:
        yield f"{picture.part} has a defect"
    elif picture.orders == camera.DARK:
        yield f"{picture.part} was taken in the dark"
    elif (boot, verdict.seq) != (picture.boot, picture.number):
        yield f"is the verdict of another picture than {picture.part}"


def strange_reasons(books: Books) -> list[str]:
    """An `unknown` for a reason that nothing injected explains."""
    return [f"{v.id}: {v.reason}" for v in books.verdicts if v.status is Status.UNKNOWN and v.reason not in REASONS]


PROMISES: dict[str, Callable[[Books], list[str]]] = {
    "unaccounted": unaccounted,
    "miscounted": miscounted,
    "wrong_pass": wrong_passes,
    "strange_reasons": strange_reasons,
    "lost_alerts": lost_alerts,
    "doubled_alerts": doubled_alerts,
    "unfounded_alerts": unfounded_alerts,
    "uncounted_rejects": uncounted_rejects,
    "unpictured": unpictured,
}
