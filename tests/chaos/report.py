"""What came of it: as plain data, as reasons why it was not good enough, and as a person reads it."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from storage.records import AlertKind, Status
from tests.chaos.books import Books
from tests.chaos.checkers import PROMISES
from tests.chaos.striking import Struck

MEDIAN_S = 5.0
"""Half of all faults must be over sooner."""
_SHOWN = 20
_HEAD = ("asked", "faults", "frames", "unaccounted", "wrong_pass", "lost_alerts", "doubled_alerts", "median_recovery_s")
_MORE = ("unpictured", "unfounded_alerts", "uncounted_rejects", "miscounted", "strange_reasons", "not_recovered")
_REST = ("defects", "alerts", "overkill", "unknown", "rescored", "deliveries", "repeated_deliveries", "minutes")


def report(
    books: Books, struck: Struck, *, asked: int, stopped: bool, seed: int, left_out: Sequence[str]
) -> dict[str, Any]:
    """All that is known in the end, as JSON takes it."""
    broken = {promise: check(books) for promise, check in PROMISES.items()}
    by_kind: dict[str, list[float | None]] = defaultdict(list)
    for name, recovery in struck.recoveries:
        by_kind[name].append(recovery)
    recovered = [recovery for _, recovery in struck.recoveries if recovery is not None]
    defects = {picture.part for line in books.sent.values() for picture in line if picture.defect}
    rejected = [v for v in books.verdicts if v.status is Status.REJECT]
    found = {
        "asked": asked,
        "faults": len(struck.recoveries),
        "stopped": stopped and len(struck.recoveries) < asked,
        "seed": seed,
        "frames": sum(len(line) for line in books.sent.values()),
        **{promise: len(found) for promise, found in broken.items()},
        "not_recovered": struck.not_recovered,
        "median_recovery_s": _median(recovered),
        "defects": len(defects),
        "alerts": sum(alert.kind is AlertKind.DEFECT for alert in books.alerts),
        "overkill": sum(v.part not in defects for v in rejected),
        "unknown": sum(v.status is Status.UNKNOWN for v in books.verdicts),
        "rescored": len(books.rescored),
        "deliveries": len(books.told),
        "repeated_deliveries": len(books.told) - len({told.key for told in books.told}),
        "left_out": list(left_out),
        "hit_nothing": [name for name, _ in struck.missed],
        "kinds": {
            name: {
                "faults": len(times),
                "median_recovery_s": _median(times),
                "slowest_recovery_s": max((t for t in times if t is not None), default=None),
            }
            for name, times in sorted(by_kind.items())
        },
        "broken": {promise: found[:_SHOWN] for promise, found in broken.items() if found},
    }
    return found | {"ok": not shortcomings(found)}


def shortcomings(report: dict[str, Any]) -> list[str]:
    """Why it was not good enough, in words."""
    found = [f"{report[promise]} {promise}" for promise in report["broken"]]
    if report["not_recovered"]:
        found.append(f"{report['not_recovered']} faults not recovered from")
    median = report["median_recovery_s"]
    if median is not None and median >= MEDIAN_S:
        found.append(f"median recovery {median} s, not below {MEDIAN_S:.0f} s")
    if not report["faults"]:
        found.append("nothing was hit")
    elif report["faults"] < report["asked"] and not report["stopped"]:
        found.append(f"only {report['faults']} of {report['asked']} faults hit anything")
    return found


def last_line(report: dict[str, Any]) -> str:
    """The outcome, with what limits it."""
    reasons = shortcomings(report)
    said = [f"NOT good enough: {', '.join(reasons)}"] if reasons else ["every promise was kept"]
    if report["stopped"]:
        said.append(f"as far as it went: it was stopped after {report['faults']} of {report['asked']} faults")
    if report["left_out"]:
        said.append(f"but left out, because this machine does not allow it: {', '.join(report['left_out'])}")
    return "; ".join(said)


def print_table(report: dict[str, Any]) -> None:
    """Print what happened, and each promise that was broken."""
    print("\n| fault | times | median recovery, s | slowest, s |\n|---|---|---|---|")
    for name, kind in report["kinds"].items():
        slowest = "-" if kind["slowest_recovery_s"] is None else f"{kind['slowest_recovery_s']:.1f}"
        print(f"| {name} | {kind['faults']} | {kind['median_recovery_s']} | {slowest} |")
    for names in (_HEAD, _MORE, _REST):
        print("\n" + ", ".join(f"{name} {report[name]}" for name in names if name in report))
    if report["hit_nothing"]:
        print(f"\nhit nothing, and not counted: {', '.join(report['hit_nothing'])}")
    for promise, found in report["broken"].items():
        print(f"\nBROKEN {promise}:")
        for line in found:
            print(f"  {line}")
    print(f"\n{last_line(report)}")


def _median(times: Sequence[float | None]) -> float | None:
    known = [time for time in times if time is not None]
    return round(statistics.median(known), 2) if known else None
