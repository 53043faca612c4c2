"""Whether the promises about alerts were kept: pure functions over the books, each the list of what broke one."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from storage.records import Alert, AlertKind, Change, Status, Verdict
from tests.chaos.books import Books

CONDITIONS = frozenset({"frozen", "dark", "overexposed"})
"""Why a frame is `unknown` on the camera's account: alerts of their own tell of these."""


def lost_alerts(books: Books) -> list[str]:
    """Defects that no alert tells of, and alerts of which the raise, or the clear if there was one, was never told."""
    broken = [f"{v.id}: defect, {v.status}, no alert" for v, alerts in _of_defects(books) if not alerts]
    delivered = {(told.alert, told.change) for told in books.told}
    owed = [(alert.id, Change.RAISED) for alert in books.alerts]
    owed += [(alert.id, Change.CLEARED) for alert in books.alerts if alert.cleared_ns is not None]
    broken += [f"{alert}: {change}, never delivered" for alert, change in owed if (alert, change) not in delivered]
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
    shown = books.pictures()
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


def unfounded_alerts(books: Books) -> list[str]:
    """Defect alerts that no reject raised: without evidence that adds up, which is off here, nothing else may."""
    status = {v.id: v.status for v in books.verdicts}
    return [
        f"{alert.id}: raised by {alert.verdict}, {status.get(alert.verdict or '', 'of which there is no verdict')}"
        for alert in books.alerts
        if alert.kind is AlertKind.DEFECT and status.get(alert.verdict or "") is not Status.REJECT
    ]


def uncounted_rejects(books: Books) -> list[str]:
    """Defect alerts whose count is not that of their rejects, and rejects that belong to none.

    By the rules here one reject suffices and each counts, so in the order of the stream a reject either raises an alert
    or goes on with the one that is open. That is the last raised before, but for one that was told at once because it
    was over already: such an alert has one reject, so the open one is the last of those that have more.
    """
    broken = []
    for line in books.sent:
        rejects = dict.fromkeys(v.id for v in books.verdicts if v.line == line and v.status is Status.REJECT)
        alerts = [a for a in books.alerts if a.line == line and a.kind is AlertKind.DEFECT and a.verdict in rejects]
        raised_by = {alert.verdict: alert for alert in alerts}
        counted: Counter[str] = Counter()
        open_: Alert | None = None
        for reject in rejects:
            alert = raised_by.get(reject)
            if alert is not None and (alert.count > 1 or open_ is None):
                open_ = alert
            belongs = alert or open_
            if belongs is None:
                broken.append(f"{reject}: belongs to no alert")
            else:
                counted[belongs.id] += 1
        broken += [f"{a.id}: counts {a.count} rejects, has {counted[a.id]}" for a in alerts if a.count != counted[a.id]]
    return broken


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
