"""Where a picture differs: the largest connected region of an anomaly map above the pixel threshold."""

import sys

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.mapscale import MapScale
from storage.records import Region


def largest_region(anomaly_map: NDArray[np.float32], pixel_threshold: float, scale: MapScale) -> Region | None:
    """The largest 8-connected region strictly above the threshold; of several as large, the one with the highest peak.

    Args:
        anomaly_map: `[h, w]` float32, finite, in the detector's own units.
        pixel_threshold: in the same units.
        scale: to the units in which the region's peak is told.
    """
    # Almost every frame ends here. As Python floats: float32 would round the threshold, and miss what just exceeds it.
    if not float(anomaly_map.max()) > pixel_threshold:
        return None
    above = (anomaly_map > np.float64(pixel_threshold)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]  # label 0 is what lies below
    equals = 1 + np.flatnonzero(areas == areas.max())
    peaks = [float(anomaly_map[labels == label].max()) for label in equals]
    x, y, width, height, area = (int(number) for number in stats[equals[int(np.argmax(peaks))]])
    rows, columns = anomaly_map.shape
    return Region(
        box=(x / columns, y / rows, (x + width) / columns, (y + height) / rows),
        area=area / anomaly_map.size,
        peak=min(scale.of(max(peaks)), sys.float_info.max),
    )
