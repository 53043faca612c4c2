"""What an examination found: for a person a mark and a mend, for a program an exit code."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console
from rich.text import Text


class Grade(StrEnum):
    """How bad a finding is."""

    GOOD = "ok"
    NOTE = "note"  # works, but know this
    BAD = "BAD"


_STYLES = {Grade.GOOD: "green", Grade.NOTE: "yellow", Grade.BAD: "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    grade: Grade
    text: str
    mend: str = ""
    """What to do about it; for anything that is not good."""


def good(subject: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(subject, Grade.GOOD, text)


def note(subject: str, text: str, mend: str = "") -> Finding:
    """Works, with a limit one should know."""
    return Finding(subject, Grade.NOTE, text, mend)


def bad(subject: str, text: str, mend: str = "") -> Finding:
    """Will not work."""
    return Finding(subject, Grade.BAD, text, mend)


def report(findings: Iterable[Finding]) -> int:
    """Print findings as they come; 1 if any is bad, else 0."""
    console = Console(soft_wrap=True, highlight=False)
    code = 0
    for finding in findings:
        line = Text(f"{finding.grade.value:4} ", style=_STYLES[finding.grade])
        line.append(f"{finding.subject}: {finding.text}", style="default")
        if finding.mend:
            line.append(f" -> {finding.mend}", style="default")
        console.print(line)
        if finding.grade is Grade.BAD:
            code = 1
    return code
