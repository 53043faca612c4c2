"""The trend of a line's scores against its threshold, as a small SVG."""

from collections.abc import Callable, Iterable, Sequence

from alerts.board import TREND, Point
from storage.records import Status

WIDTH, HEIGHT = 360, 72
_PAD = 6.0


def sparkline(points: Sequence[Point]) -> str:
    """Draw scores as a line, rejects as dots, `unknown` as ticks at the foot, the threshold as a dashed line.

    Args:
        points: oldest first; the newest stands at the right edge.

    Returns:
        SVG with numbers only: nothing in it comes from a name or a text.
    """
    scores = [point.score for point in points if point.score is not None]
    thresholds = [point.threshold for point in points if point.threshold is not None]
    if not scores or not thresholds:
        return _svg("no scores yet", "")
    low, high = min(0.0, *scores, *thresholds), max(*scores, *thresholds)
    scale = (HEIGHT - 2 * _PAD) / ((high - low) or 1.0)
    step = (WIDTH - 2 * _PAD) / (TREND - 1)

    def x(place: int) -> str:
        return f"{WIDTH - _PAD - (len(points) - 1 - place) * step:.1f}"

    def y(value: float) -> str:
        return f"{HEIGHT - _PAD - (value - low) * scale:.1f}"

    limit = y(thresholds[-1])
    drawn = [f'<path class="limit" d="M0 {limit}H{WIDTH}"/>']
    drawn += [f'<polyline class="score" points="{" ".join(run)}"/>' for run in _runs(points, x, y)]
    for place, point in enumerate(points):
        if point.score is None:
            drawn.append(f'<path class="missing" d="M{x(place)} {HEIGHT}v-6"/>')
        elif point.status is Status.REJECT:
            drawn.append(f'<circle class="reject" cx="{x(place)}" cy="{y(point.score)}" r="3.2"/>')
    return _svg(f"last score {scores[-1]:.3g}, threshold {thresholds[-1]:.3g}", "".join(drawn))


def _runs(points: Iterable[Point], x: Callable[[int], str], y: Callable[[float], str]) -> list[list[str]]:
    """Cut at frames without a score: a line drawn across them would say that they were judged."""
    runs: list[list[str]] = [[]]
    for place, point in enumerate(points):
        if point.score is None:
            runs.append([])
        else:
            runs[-1].append(f"{x(place)},{y(point.score)}")
    return [run for run in runs if run]


def _svg(label: str, content: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{content}</svg>'
