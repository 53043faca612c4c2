"""The picture an operator looks at: the frame, and beside it the same frame with what was judged anomalous glowing.

Colours are tied to the threshold, not to the picture: the threshold lies at two thirds of the scale. A calm image looks
calm however its noise is spread, and two pictures of one model can be compared.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

THRESHOLD_AT = 2 / 3
"""Where the threshold lies on the colour scale."""
_SHORT_SIDE = 384  # pixels: smaller frames are enlarged to it, to be seen on a screen
_FAINT, _FULL = (
    0.35,
    0.85,
)  # of the scale: below the first the frame shows through untouched, from the second on it glows
_OPAQUE = 0.7
_DIM = 0.8
_SCALE_WIDTH = 18
_GAP = 6
_MARGIN, _ARM = 5, 14  # pixels: how far outside its box a region is marked, and how long the marks are
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_INK = (235, 235, 235)
_PAPER = (24, 24, 24)


Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 as shares of the picture."""


def draw(
    frame: Picture, anomaly_map: NDArray[np.float32], threshold: float | None, *, box: Box | None = None
) -> Picture:
    """Draw frame and heat map beside each other, or below each other when the frame is wide.

    Args:
        frame: `[H, W, 3]` uint8 RGB.
        anomaly_map: `[h, w]` float32, higher = more anomalous, covering the same view; what is not finite glows.
        threshold: value above which a pixel counts as anomalous; its contour is drawn. None: colours span the map.
        box: what is marked in both pictures: the largest region.

    Returns:
        `[H', W', 3]` uint8 BGR, as OpenCV writes it.
    """
    picture = _enlarged(np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), np.uint8))
    height, width = picture.shape[:2]
    shares = _shares(anomaly_map, threshold)
    share = np.asarray(cv2.resize(shares, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    glowing = _blend(picture, share)
    if threshold is not None:
        _outline(glowing, share)
    if box is not None:
        for marked in (picture, glowing):
            _corners(marked, box)
    wide = width > 1.6 * height
    gap = np.full((_GAP, width, 3) if wide else (height, _GAP, 3), _PAPER, np.uint8)
    pair = np.concatenate([picture, gap, glowing], axis=0 if wide else 1)
    return np.concatenate([pair, _scale(pair.shape[0], marked=threshold is not None)], axis=1)


def _enlarged(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    factor = _SHORT_SIDE / min(height, width)
    if factor <= 1:
        return picture
    size = (round(width * factor), round(height * factor))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _shares(anomaly_map: NDArray[np.float32], threshold: float | None) -> NDArray[np.float32]:
    """Where each value lies on the colour scale, 0 to 1."""
    finite = anomaly_map[np.isfinite(anomaly_map)].astype(np.float64)
    least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if threshold is None:
        low, span = least, most - least
    else:
        # Scores of likelihoods may be negative: the scale then begins at the map's lowest value instead of 0.
        low = 0.0 if threshold > 0 else min(least, threshold - 1)
        span = (threshold - low) / THRESHOLD_AT
    with np.errstate(over="ignore"):
        shares = (anomaly_map.astype(np.float64) - low) / max(span, np.finfo(np.float64).tiny)
    return np.clip(np.nan_to_num(shares, nan=1.0, posinf=1.0, neginf=0.0), 0, 1).astype(np.float32)


def _blend(picture: Picture, share: NDArray[np.float32]) -> Picture:
    """Lay colours over the frame, grey and dimmed, the more opaque the more anomalous."""
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    colours = cv2.applyColorMap(cv2.convertScaleAbs(share, alpha=255), cv2.COLORMAP_INFERNO)
    rise = np.clip((share - _FAINT) / (_FULL - _FAINT), 0, 1)
    opaque = _OPAQUE * rise * rise * (3 - 2 * rise)  # smooth at both ends
    # blendLinear divides by the sum of the weights: dim first.
    dimmed = cv2.convertScaleAbs(grey, alpha=_DIM)
    return np.asarray(cv2.blendLinear(dimmed, colours, 1 - opaque, opaque), np.uint8)


def _outline(picture: Picture, share: NDArray[np.float32]) -> None:
    """Draw where the map crosses the threshold: light on dark, seen on any background."""
    # By morphology, not by tracing contours: it costs the same however ragged the map is.
    above = (share > THRESHOLD_AT).astype(np.uint8)
    around = cv2.dilate(above, _CROSS)
    picture[around > above] = _INK
    picture[cv2.dilate(around, _CROSS) > around] = _PAPER


def _corners(picture: Picture, box: Box) -> None:
    """Mark a box by its corners, a little outside: what is in it stays to be seen."""
    height, width = picture.shape[:2]
    x0, x1 = (int(np.clip(round(x * width) + d, 1, width - 2)) for x, d in ((box[0], -_MARGIN), (box[2], _MARGIN)))
    y0, y1 = (int(np.clip(round(y * height) + d, 1, height - 2)) for y, d in ((box[1], -_MARGIN), (box[3], _MARGIN)))
    arm_x, arm_y = (min(_ARM, (end - start) // 3) for start, end in ((x0, x1), (y0, y1)))
    corners = [
        np.array([[x + dx, y], [x, y], [x, y + dy]], np.int32)
        for x, dx in ((x0, arm_x), (x1, -arm_x))
        for y, dy in ((y0, arm_y), (y1, -arm_y))
    ]
    cv2.polylines(picture, corners, isClosed=False, color=_PAPER, thickness=3)
    cv2.polylines(picture, corners, isClosed=False, color=_INK, thickness=1)


def _scale(height: int, *, marked: bool) -> Picture:
    """A bar of the colours, high at the top, with a tick at the threshold."""
    bar = np.full((height, _GAP + _SCALE_WIDTH + _GAP, 3), _PAPER, np.uint8)
    ramp = np.linspace(255, 0, height).round().astype(np.uint8)[:, None]
    bar[:, _GAP : _GAP + _SCALE_WIDTH] = cv2.applyColorMap(np.repeat(ramp, _SCALE_WIDTH, 1), cv2.COLORMAP_INFERNO)
    if marked:
        row = round((1 - THRESHOLD_AT) * (height - 1))
        cv2.line(bar, (_GAP - 3, row), (_GAP + _SCALE_WIDTH + 2, row), _PAPER, 3)
        cv2.line(bar, (_GAP - 3, row), (_GAP + _SCALE_WIDTH + 2, row), _INK, 1)
    return bar
