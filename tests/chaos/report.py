"""The report as a person reads it; Markdown, so that it can be kept."""

from typing import Any

_HEAD = ("faults", "frames", "unaccounted", "wrong_pass", "lost_alerts", "doubled_alerts", "median_recovery_s")
_MORE = ("unpictured", "miscounted", "strange_reasons", "not_recovered", "defects", "alerts", "overkill", "unknown")
_REST = ("rescored", "deliveries", "repeated_deliveries", "minutes")


def print_table(report: dict[str, Any]) -> None:
    """Print what happened, and each promise that was broken."""
    print("\n| fault | times | median recovery, s | slowest, s |\n|---|---|---|---|")
    for name, kind in report["kinds"].items():
        slowest = "-" if kind["slowest_recovery_s"] is None else f"{kind['slowest_recovery_s']:.1f}"
        print(f"| {name} | {kind['faults']} | {kind['median_recovery_s']} | {slowest} |")
    for names in (_HEAD, _MORE, _REST):
        print("\n" + ", ".join(f"{name} {report[name]}" for name in names if name in report))
    if report["left_out"]:
        print(f"\nleft out, because this machine does not allow it: {', '.join(report['left_out'])}")
    for promise, found in report["broken"].items():
        print(f"\nBROKEN {promise}:")
        for line in found:
            print(f"  {line}")
    print("\nevery promise was kept" if report["ok"] else "\nNOT every promise was kept")
