"""Findings as a person reads many of them, in columns with what to do below; or as JSON for a program."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict

import typer
from rich.console import Console
from rich.text import Text

from linewatch.findings import Finding, Grade

_SUBJECT = 20
_INDENT = 5 + _SUBJECT + 1
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
        _print_row(console, finding)
    total = (
        f"{sum(counts.values())} looked at: {counts[Grade.GOOD]} ok, {counts[Grade.NOTE]} note, {counts[Grade.BAD]} BAD"
    )
    worst = max(counts, key=list(Grade).index, default=Grade.GOOD)
    console.print()
    console.print(Text(total, style=_STYLES[worst]))
    return _code(counts)


def _print_row(console: Console, finding: Finding) -> None:
    """Mark, subject and text side by side; what follows stands below the text. No line ends in blanks."""
    body = Text(finding.text)
    if finding.mend:
        body.append(f"\n-> {finding.mend}", style="bold")
    head = Text(f"{finding.grade.value:5}", style=_STYLES[finding.grade])
    head.append(f"{finding.subject:{_SUBJECT}} ", style="default")
    for number, line in enumerate(body.wrap(console, max(20, console.width - _INDENT))):
        line.rstrip()
        console.print(Text.assemble(head if number == 0 else " " * _INDENT, line), soft_wrap=True)


def _code(counts: Counter[Grade]) -> int:
    return 1 if counts[Grade.BAD] else 0
