"""How a picture of a dataset becomes an input: resized, perhaps turned, perhaps cut; its mask alike.

The papers resize with torchvision, which averages over what it shrinks (antialiased bicubic), and masks by nearest
neighbour. OpenCV's bicubic does not average, so it is not what they used.
"""

from dataclasses import dataclass
from hashlib import sha256

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from inference.training.datasets import Mask
from ingest.frame import Picture
from ingest.preprocess import RGB

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """One way from picture to input.

    Attributes:
        resize: to this size, whatever the picture's proportions.
        crop: then cut to this size; None: not cut.
        turn: before the cut, turned by up to so many degrees either way, and cut at a random place instead of the
            centre; angle and place follow from the picture's name, so that they are the same in every pass, for every
            detector and for its mask. 0: not turned, cut at the centre.
    """

    resize: Size
    crop: Size | None = None
    turn: float = 0.0

    @property
    def size(self) -> Size:
        """Of the input."""
        return self.crop or self.resize

    def __str__(self) -> str:
        text = f"{_by(self.resize)} bicubic"
        if self.turn:
            text += f", turned by up to {self.turn:g} degrees"
        if self.crop:
            text += f", {'random' if self.turn else 'centre'} {_by(self.crop)} cut out"
        return text

    def picture(self, picture: Picture, name: str) -> RGB:
        """Make the input of a picture.

        Args:
            picture: `[H, W, 3]` uint8 BGR.
            name: of the picture, for what is random.

        Returns:
            `[h, w, 3]` uint8 RGB, contiguous, of `size`.
        """
        width, height = self.resize
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None]  # [1, 3, H, W], channels last in memory
        resized = F.interpolate(pixels, (height, width), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
        placed = self._place(resized.numpy(), name, cv2.INTER_LINEAR)
        return np.ascontiguousarray(placed[..., ::-1])

    def mask(self, mask: Mask, name: str) -> Mask:
        """Do to a mask `[H, W]` what `picture` does to its picture, by nearest neighbour."""
        resized = cv2.resize(mask.astype(np.uint8), self.resize, interpolation=cv2.INTER_NEAREST_EXACT)
        return np.ascontiguousarray(self._place(np.asarray(resized), name, cv2.INTER_NEAREST) > 0)

    def _place(self, pixels: RGB, name: str, interpolation: int) -> RGB:
        width, height = self.resize
        crop_width, crop_height = self.size
        spare_x, spare_y = width - crop_width, height - crop_height
        if not self.turn:
            left, top = round(spare_x / 2), round(spare_y / 2)
        else:
            draw = np.random.default_rng(list(sha256(name.encode()).digest()))
            angle = draw.uniform(-self.turn, self.turn)
            left, top = int(draw.integers(spare_x + 1)), int(draw.integers(spare_y + 1))
            matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
            # What turns in from outside is black, as torchvision's rotation leaves it; a mask has no defect there.
            pixels = np.asarray(cv2.warpAffine(pixels, matrix, self.resize, flags=interpolation), np.uint8)
        return pixels[top : top + crop_height, left : left + crop_width]


def enlarged(size: Size) -> Size:
    """What is resized to before `size` is cut out: 256 for 224, as SPADE and PaDiM do it, other sizes in proportion."""
    width, height = size
    return round(width * 256 / 224), round(height * 256 / 224)


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
