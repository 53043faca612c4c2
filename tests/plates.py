"""Pictures of a grey plate, good or with a red patch: the smallest product there is."""

from pathlib import Path

import cv2
import numpy as np


def plate(number: int, *, defect: bool = False) -> np.ndarray:
    draw = np.random.default_rng(number)
    picture = np.full((96, 96, 3), 120, np.uint8)
    cv2.circle(picture, (48, 48), 30, (200, 200, 200), -1)
    if defect:
        cv2.rectangle(picture, (40, 40), (60, 60), (0, 0, 255), -1)
    return cv2.add(picture, draw.integers(0, 6, picture.shape, np.uint8))


def write_plates(folder: Path, count: int, *, defects: tuple[int, ...] = (), first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:04}.png"), plate(first + number, defect=number in defects))
    return folder
