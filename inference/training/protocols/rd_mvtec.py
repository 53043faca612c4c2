"""Rd-MVTec AD: MVTec AD with every picture turned and shifted, so that nothing lies where it lay before.

PaDiM (arXiv 2011.08785, section IV-A): random rotation within 10 degrees either way and a random crop from 256x256 to
224x224, of training and test pictures. The authors' draws are not published; here they follow from each picture's
name, so that every detector and every seed sees the same dataset.
"""

from typing import ClassVar

from inference.training.protocols.geometry import Geometry, Size, enlarged
from inference.training.protocols.mvtec import CROP, CROPPED, Mvtec

TURN = 10.0
"""Degrees."""


class RdMvtec(Mvtec):
    """The protocol; below the root lies MVTec AD itself."""

    name: ClassVar[str] = "rd-mvtec"
    title: ClassVar[str] = "Rd-MVTec AD"
    source: ClassVar[str] = "Defard et al. 2020, arXiv 2011.08785, section IV-A"
    notes: ClassVar[tuple[str, ...]] = (
        "The paper's own draws of angles and places are not published; these follow from the pictures' names.",
        "What turns in from outside the picture is black, which the paper does not say.",
    )

    def geometry(self, detector: str, usual: Size, asked: Size | None = None) -> Geometry:
        """Turn, and cut at random, in proportion to the input's size."""
        size = asked or (CROP if detector in CROPPED else usual)
        return Geometry(enlarged(size), size, TURN)
