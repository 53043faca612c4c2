"""The one way from a picture to what a detector sees.

Capture, fitting, scoring and every engine call `prepare` and nothing else: a training path that resizes differently
from the serving path is how deployed models come to judge differently.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ingest.errors import ImageError, IngestError
from ingest.frame import Picture

RGB = NDArray[np.uint8]
"""A prepared picture: `[h, w, 3]` uint8, red, green, blue."""

_RESAMPLE = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
_OUTSIDE = 127  # grey level outside the mask polygon: the same in fitting and serving, hence never anomalous


class Preprocessing(BaseModel):
    """How pictures of one camera become inputs of one model; recorded in the model's manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[Annotated[int, Field(ge=16, le=4096)], Annotated[int, Field(ge=16, le=4096)]]
    """Width and height in pixels of the model's input."""
    resample: Literal["area", "linear", "cubic"] = "area"
    """Interpolation of OpenCV's resize. `area` averages when shrinking, so thin defects do not alias away."""
    roi: tuple[int, int, int, int] | None = None
    """Region of interest `[x0, y0, x1, y1]` in pixels of the full picture, cut out first."""
    mask: tuple[tuple[int, int], ...] | None = None
    """Polygon in pixels of the full picture; everything outside becomes a constant grey."""

    @classmethod
    def recorded(cls, fields: object, *, ref: str) -> Self:
        """Read what the manifest of model `ref` records.

        Raises:
            IngestError: it is none of this version.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as exc:
            reason = " ".join(str(exc).split())
            raise IngestError(f"preprocessing of {ref} does not fit this version: {reason}") from exc

    @model_validator(mode="after")
    def _check_regions(self) -> "Preprocessing":
        if self.roi is not None:
            x0, y0, x1, y1 = self.roi
            if not (0 <= x0 < x1 and 0 <= y0 < y1):
                raise ValueError(f"roi {list(self.roi)} must be [x0, y0, x1, y1] with 0 <= x0 < x1 and 0 <= y0 < y1")
        if self.mask is not None and len(self.mask) < 3:
            raise ValueError(f"mask has {len(self.mask)} corners: a polygon needs at least 3")
        return self

    def digest(self) -> str:
        """What names it: 16 hexadecimal digits."""
        return _digest(self)

    def made(self, shape: Sequence[int], digest: str | None) -> bool:
        """Whether a picture was prepared with this.

        Args:
            shape: of the picture, `(h, w, 3)`.
            digest: of what it was asked to be prepared with; None: not known, its size decides.
        """
        return (shape[1], shape[0]) == self.size and digest in (None, _digest(self))


@lru_cache(maxsize=256)
def _digest(preprocessing: Preprocessing) -> str:
    return hashlib.sha256(preprocessing.model_dump_json().encode()).hexdigest()[:16]


def prepare(picture: Picture, preprocessing: Preprocessing) -> RGB:
    """Cut, mask, resize and reorder one picture.

    Args:
        picture: `[H, W, 3]` uint8 BGR.
        preprocessing: what the model was fitted with.

    Returns:
        `[h, w, 3]` uint8 RGB, contiguous, of `preprocessing.size`.

    Raises:
        ImageError: the region of interest lies outside the picture.
    """
    height, width = picture.shape[:2]
    if preprocessing.mask is not None:
        inside = np.zeros((height, width), np.uint8)
        cv2.fillPoly(inside, [np.asarray(preprocessing.mask, np.int32)], 1)
        picture = np.where(inside[..., None] == 1, picture, np.uint8(_OUTSIDE))
    if preprocessing.roi is not None:
        x0, y0, x1, y1 = preprocessing.roi
        if x1 > width or y1 > height:
            raise ImageError(
                f"region of interest {list(preprocessing.roi)} reaches outside the {width}x{height} picture"
            )
        picture = picture[y0:y1, x0:x1]
    resized = cv2.resize(picture, preprocessing.size, interpolation=_RESAMPLE[preprocessing.resample])
    return np.asarray(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB))
