"""How well scores and maps tell defects from good: the field's metrics, in bounded memory.

Images are few, so their metrics are exact (scikit-learn). Pixels are many: 500 maps of 256x256 are 33 million scores,
so they are counted in bins as they come. A bin is the leading bits of the score's float32 pattern, which sort like the
numbers themselves: no range has to be known beforehand, and with 21 bits neighbours are 0.024 % apart at any scale.
The points of the ROC and PRO curves at the bins' edges are exact; between them the curves are interpolated, as they are
across tied scores anyway. `PixelScores.auroc_error` bounds what that does to the AUROC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

PRO_LIMIT = 0.3
"""False-positive rate up to which the PRO curve is integrated (Bergmann et al., MVTec AD, IJCV 2021, section 5)."""

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""False-positive rates, ascending from 0 to 1, and what is found at each."""


@dataclass(frozen=True, slots=True)
class ImageMetrics:
    """Metrics of image scores; `f1_max` is the best F1 over all thresholds, so an optimistic one."""

    auroc: float
    average_precision: float
    f1_max: float


def image_metrics(good: ArrayLike, defect: ArrayLike) -> ImageMetrics:
    """Compare the scores of good and of defective images, `[n_good]` and `[n_defect]`, neither empty."""
    scores = np.concatenate([np.asarray(good, np.float64), np.asarray(defect, np.float64)])
    labels = np.concatenate([np.zeros(np.size(good), bool), np.ones(np.size(defect), bool)])
    precision, recall, _ = precision_recall_curve(labels, scores)
    return ImageMetrics(
        auroc=float(roc_auc_score(labels, scores)),
        average_precision=float(average_precision_score(labels, scores)),
        f1_max=float(np.max(2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny))),
    )


class PixelScores:
    """Counts pixel scores of normal and defective pixels; memory is `24 * 2**bits` bytes whatever the number of maps.

    Args:
        bits: leading bits of float32 that tell scores apart, 10 to 24 (sign, 8 of the exponent, the rest fraction).
    """

    def __init__(self, bits: int = 21) -> None:
        self._shift = np.uint32(32 - bits)
        self._normal = np.zeros(2**bits, np.int64)
        self._defect = np.zeros(2**bits, np.int64)
        self._regions = np.zeros(2**bits, np.float64)  # each pixel weighs 1 / area of its region
        self.n_regions = 0

    def add(self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Count one map.

        Args:
            anomaly_map: `[h, w]` float32, finite.
            mask: `[h, w]`, True where defective; its 8-connected components are the regions.

        Raises:
            ValueError: the shapes differ, or the map is not finite.
        """
        if anomaly_map.shape != mask.shape:
            raise ValueError(f"a map of shape {anomaly_map.shape} cannot be compared with a mask of {mask.shape}")
        if not np.isfinite(anomaly_map).all():
            raise ValueError("the anomaly map has values that are not finite")
        bins = self._bins(anomaly_map)
        np.add.at(self._normal, bins[~mask], 1)
        np.add.at(self._defect, bins[mask], 1)
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        areas = np.bincount(labels.ravel(), minlength=count)
        np.add.at(self._regions, bins[mask], 1.0 / areas[labels[mask]])
        self.n_regions += count - 1

    def _bins(self, scores: NDArray[np.float32]) -> NDArray[np.intp]:
        """Bins that ascend with the scores: flip all bits of negative numbers and the sign bit of the others."""
        pattern = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)  # + 0 makes -0.0 the 0.0 it equals
        sign = np.uint32(0x80000000)
        ordered = np.where(pattern & sign, ~pattern, pattern | sign)
        return (ordered >> self._shift).astype(np.intp)

    def counts(self) -> dict[str, NDArray[Any]]:
        """Give what has been counted, to be kept in a file: the bins that are not empty."""
        used = np.flatnonzero((self._normal > 0) | (self._defect > 0))
        return {
            "bits": np.asarray(32 - int(self._shift)),
            "bins": used.astype(np.uint32),
            "normal": self._normal[used],
            "defect": self._defect[used],
            "regions": self._regions[used],
            "n_regions": np.asarray(self.n_regions),
        }

    def join(self, counts: Mapping[str, NDArray[Any]]) -> None:
        """Add what another's `counts` gave; both must tell scores apart by as many bits."""
        if int(counts["bits"]) != 32 - int(self._shift):
            raise ValueError(f"bins of {int(counts['bits'])} bits cannot join bins of {32 - int(self._shift)}")
        bins = counts["bins"]
        self._normal[bins] += counts["normal"]
        self._defect[bins] += counts["defect"]
        self._regions[bins] += counts["regions"]
        self.n_regions += int(counts["n_regions"])

    def roc_curve(self) -> Curve:
        """Share of normal pixels above a threshold, and of defective pixels; needs at least one of either."""
        return self._curve(self._defect.astype(np.float64), float(self._defect.sum()))

    def pro_curve(self) -> Curve:
        """Share of normal pixels above a threshold, and the mean share of each region: per-region overlap."""
        return self._curve(self._regions, float(self.n_regions))

    def auroc(self) -> float:
        """Area under the pixel ROC curve."""
        fpr, tpr = self.roc_curve()
        return float(trapezoid(tpr, fpr))

    def auroc_error(self) -> float:
        """How far binning can have moved the AUROC: half of the pairs (normal, defective) that share a bin."""
        pairs = float(self._normal.astype(np.float64) @ self._defect.astype(np.float64))
        return 0.5 * pairs / (float(self._normal.sum()) * float(self._defect.sum()))

    def aupro(self, limit: float = PRO_LIMIT) -> float:
        """Area under the PRO curve up to a false-positive rate of `limit`, divided by `limit`: in [0, 1].

        The rate runs over all normal pixels of the set, regions weigh the same whatever their size, and the curve is
        interpolated linearly at the limit.
        """
        fpr, pro = self.pro_curve()
        inside = fpr <= limit
        rates = np.append(fpr[inside], limit)
        overlaps = np.append(pro[inside], np.interp(limit, fpr, pro))
        return float(trapezoid(overlaps, rates) / limit)

    def average_precision(self) -> float:
        """Precision averaged over recall, one step per threshold: scikit-learn's `average_precision_score`."""
        hits, alarms = self._above()
        return float(np.sum(np.diff(hits, prepend=0.0) * hits / alarms) / hits[-1])

    def f1_max(self) -> float:
        """Compute the best F1 over all thresholds, so an optimistic one."""
        hits, alarms = self._above()
        return float(np.max(2 * hits / (alarms + hits[-1])))

    def _above(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Defective pixels and all pixels at or above each threshold, from the highest threshold down."""
        if not self._normal.any() or not self._defect.any():
            raise ValueError("pixel metrics need at least one normal and one defective pixel")
        used = np.flatnonzero((self._normal > 0) | (self._defect > 0))[::-1]
        hits = np.cumsum(self._defect[used], dtype=np.float64)
        return hits, hits + np.cumsum(self._normal[used], dtype=np.float64)

    def _curve(self, found: NDArray[np.float64], total: float) -> Curve:
        normal = float(self._normal.sum())
        if normal == 0 or total == 0:
            raise ValueError("pixel metrics need at least one normal and one defective pixel")
        used = np.flatnonzero((self._normal > 0) | (found > 0))[::-1]  # highest scores first
        rates = np.concatenate([[0.0], np.cumsum(self._normal[used]) / normal])
        shares = np.concatenate([[0.0], np.cumsum(found[used]) / total])
        return rates, shares
