"""Findings as a person reads many of them, in columns with what to do below; or as JSON for a program."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from linewatch.findings import Finding, Grade

_SUBJECT = 22
_STYLES = {Grade.GOOD: "green", Grade.NOTE: "yellow", Grade.BAD: "bold red"}
_WIDE = 200
"""Columns where the output is a file or a pipe, so that a line stays a line."""


def show(findings: Iterable[Finding], *, as_json: bool = False) -> int:
    """Print findings as they come (as JSON: at the end); 1 if any is bad, else 0."""
    return _as_json(findings) if as_json else _in_columns(findings)


def _as_json(findings: Iterable[Finding]) -> int:
    found = list(findings)
    typer.echo(json.dumps([asdict(finding) for finding in found], indent=1, ensure_ascii=False))
    return _code(Counter(finding.grade for finding in found))


def _in_columns(findings: Iterable[Finding]) -> int:
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = _WIDE
    counts: Counter[Grade] = Counter()
    for finding in findings:
        counts[finding.grade] += 1
        row = Table.grid(padding=(0, 1))
        row.add_column(width=4)
        row.add_column(width=_SUBJECT, overflow="fold")
        row.add_column(overflow="fold", ratio=1)
        body = Text(finding.text)
        if finding.mend:
            body.append(f"\n→ {finding.mend}", style="" if finding.grade is Grade.GOOD else "bold")
        row.add_row(Text(finding.grade.value, style=_STYLES[finding.grade]), finding.subject, body)
        console.print(row)
    total = (
        f"{sum(counts.values())} looked at: {counts[Grade.GOOD]} ok, {counts[Grade.NOTE]} note, {counts[Grade.BAD]} BAD"
    )
    worst = max(counts, key=list(Grade).index, default=Grade.GOOD)
    console.print(Padding(Text(total, style=_STYLES[worst]), (1, 0, 0, 0)))
    return _code(counts)


def _code(counts: Counter[Grade]) -> int:
    return 1 if counts[Grade.BAD] else 0
