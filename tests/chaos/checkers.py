"""Whether the promises were kept: pure functions over the books, each the list of what broke one of them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from storage.records import Alert, AlertKind, Change, Status, Verdict
from tests.chaos import camera
from tests.chaos.books import Books, Sent

CONDITIONS = frozenset({"frozen", "dark", "overexposed"})
"""Why a frame is `unknown` on the camera's account: alerts of their own tell of these."""
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
    pictures = _pictures(books)
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


def lost_alerts(books: Books) -> list[str]:
    """Defects that no alert tells of, and alerts that were never delivered."""
    broken = [f"{v.id}: defect, {v.status}, no alert" for v, alerts in _of_defects(books) if not alerts]
    delivered = {(told.alert, told.change) for told in books.told}
    broken += [f"{alert.id}: never delivered" for alert in books.alerts if (alert.id, Change.RAISED) not in delivered]
    return broken


def doubled_alerts(books: Books) -> list[str]:
    """Defects with two alerts, and a repeated delivery that does not say the same."""
    broken = [
        f"{v.id}: alerts {', '.join(alert.id for alert in alerts)}"
        for v, alerts in _of_defects(books)
        if len(alerts) > 1
    ]
    said: dict[str, set[str]] = defaultdict(set)
    for told in books.told:
        said[told.key].add(told.body)
    known = {alert.id for alert in books.alerts}
    broken += [
        f"{key}: delivered with {len(bodies)} different texts" for key, bodies in said.items() if len(bodies) > 1
    ]
    broken += [f"{told.alert}: delivered, but not in the history" for told in books.told if told.alert not in known]
    return broken


def unpictured(books: Books) -> list[str]:
    """Defect alerts without their evidence on the disk when they were delivered, save where the disk took none."""
    shown = _pictures(books)
    parts = {v.id: v.part for v in books.verdicts}
    verdict_of = {alert.id: alert.verdict for alert in books.alerts}
    broken = []
    for told in books.told:
        if told.kind != AlertKind.DEFECT or told.change != Change.RAISED or told.pictured:
            continue
        picture = shown.get(parts.get(verdict_of.get(told.alert) or "") or "")
        if picture is None or not any(first <= picture.mono_ns <= last for first, last in books.blind):
            broken.append(f"{told.alert}: evidence {told.evidence}")
    return broken


PROMISES: dict[str, Callable[[Books], list[str]]] = {
    "unaccounted": unaccounted,
    "miscounted": miscounted,
    "wrong_pass": wrong_passes,
    "strange_reasons": strange_reasons,
    "lost_alerts": lost_alerts,
    "doubled_alerts": doubled_alerts,
    "unpictured": unpictured,
}


def _pictures(books: Books) -> dict[str, Sent]:
    return {picture.part: picture for line in books.sent.values() for picture in line}


def _of_defects(books: Books) -> Iterator[tuple[Verdict, list[Alert]]]:
    """Each judged or missed defect with the alerts that tell of it."""
    by_kind: dict[tuple[str, AlertKind], list[Alert]] = defaultdict(list)
    for alert in books.alerts:
        by_kind[alert.line, alert.kind].append(alert)
    boots = {line: books.runs(line) for line in books.sent}
    defects = {(line, p.boot, p.number) for line, sent in books.sent.items() for p in sent if p.defect}
    streaks = _streaks(books)
    for verdict in books.verdicts:
        if (verdict.line, boots[verdict.line].get(verdict.run), verdict.seq) not in defects:
            continue
        if verdict.status is Status.UNKNOWN:
            yield verdict, streaks.get(verdict.id, [])
        else:
            alerts = by_kind[verdict.line, AlertKind.DEFECT]
            own = [alert for alert in alerts if alert.verdict == verdict.id]
            yield verdict, own or [alert for alert in alerts if _covers(alert, verdict)][:1]


def _streaks(books: Books) -> dict[str, list[Alert]]:
    """Id of a frame that was not inspected -> the alerts about its streak: it lasts until a frame is judged.

    By the order of the stream: the time of such a verdict may be that of giving up.
    """
    raised_by: dict[str, list[Alert]] = defaultdict(list)
    for alert in books.alerts:
        if alert.kind is AlertKind.UNKNOWN_STREAK and alert.verdict is not None:
            raised_by[alert.verdict].append(alert)
    current: dict[str, list[Alert]] = {}
    covered: dict[str, list[Alert]] = {}
    for verdict in books.verdicts:
        if verdict.status is not Status.UNKNOWN:
            current.pop(verdict.line, None)
        elif verdict.reason not in CONDITIONS:
            alerts = current.get(verdict.line, []) + raised_by[verdict.id]
            covered[verdict.id] = current[verdict.line] = alerts
    return covered


def _covers(alert: Alert, verdict: Verdict) -> bool:
    """Whether the event had begun and not ended when the frame was captured."""
    first = alert.raised_ns if alert.started_ns is None else alert.started_ns
    last = max(alert.ended_ns or 0, alert.cleared_ns or 0, alert.raised_ns)
    return first <= verdict.captured_ns <= last
