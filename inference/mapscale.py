"""One scale for the anomaly maps of all detectors.

A detector's map has units of its own: Mahalanobis distances, likelihoods, reconstruction errors. The 90 % and 99.5 %
quantiles of the pixels of good images are mapped linearly to 0 and 0.1, so that 0 is usual and 0.1 is rare in whatever
detector (Batzner, Heckler, Koenig: EfficientAD, WACV 2024, section 3.4). Quantiles are taken per image and then the
median over images, so that a few odd images among the good ones do not move them.
"""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator

LOW, HIGH = 0.9, 0.995
"""Quantiles of good pixels that are mapped to 0 and `RARE`."""
RARE = 0.1


class MapScale(BaseModel):
    """From a detector's own units to the common scale; linear, so order is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: FiniteFloat
    """Value of a detector's map that becomes 0."""
    high: FiniteFloat
    """Value that becomes 0.1."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"map scale {self.low:g} to {self.high:g}: the second must be higher")
        return self

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map values of any shape to the common scale."""
        return ((values - np.float32(self.low)) * np.float32(RARE / (self.high - self.low))).astype(np.float32)

    def of(self, value: float) -> float:
        """Map one value."""
        return (value - self.low) * RARE / (self.high - self.low)
