"""Stretches of time that overlap, counted once."""

from collections.abc import Iterable

Span = tuple[int, int]
"""From, to before: nanoseconds since the epoch."""


def merged(spans: Iterable[Span], *, within: Span) -> list[Span]:
    """Clip spans and join those that touch: disjoint ones, in order, that cover the same time."""
    out: list[Span] = []
    for begin, end in sorted((max(begin, within[0]), min(end, within[1])) for begin, end in spans):
        if begin >= end:
            continue
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((begin, end))
    return out


def length(spans: Iterable[Span]) -> int:
    """How long disjoint spans are together, nanoseconds."""
    return sum(end - begin for begin, end in spans)
