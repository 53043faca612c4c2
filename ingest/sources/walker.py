"""A person on foot, drawn limb by limb, for the synthetic yard."""

import cv2
import numpy as np

from ingest.frame import Picture

_SHIFT = 4  # OpenCV draws at 1/16 of a pixel
Point = tuple[float, float]
Colour = tuple[int, int, int]

_CLOTHES: tuple[tuple[Colour, Colour], ...] = (  # jacket and trousers, BGR
    ((28, 112, 244), (62, 44, 34)),  # orange safety jacket
    ((44, 34, 30), (36, 34, 34)),  # dark hood
    ((52, 44, 186), (74, 56, 44)),  # red
    ((196, 226, 232), (58, 50, 46)),  # white
    ((60, 228, 222), (84, 60, 40)),  # yellow safety jacket
    ((150, 74, 28), (40, 36, 34)),  # blue
)
_SKIN: Colour = (120, 158, 206)
_HAIR: Colour = (28, 32, 40)
_STRIDE = 0.62  # ground covered by one full cycle of the legs, as a share of the height


def draw_walker(picture: Picture, *, feet: Point, tall: float, leftwards: bool, clothes: int) -> None:
    """Draw a person into `picture`, in place.

    Args:
        picture: `[H, W, 3]` uint8 BGR.
        feet: the point on the ground below the body, x and y in pixels; the step follows from x.
        tall: height in pixels.
        leftwards: which way they walk.
        clothes: picks the colours.
    """
    jacket, trousers = _CLOTHES[clothes % len(_CLOTHES)]
    way = -1.0 if leftwards else 1.0
    swing = np.sin(2 * np.pi * feet[0] / (_STRIDE * tall))
    lift = 0.012 * np.cos(4 * np.pi * feet[0] / (_STRIDE * tall))

    def at(x: float, y: float) -> Point:
        """From shares of the height, x forwards and y up, to pixels."""
        return feet[0] + way * x * tall, feet[1] - (y + lift) * tall

    _ground_shadow(picture, feet, tall)
    hip, neck = (0.0, 0.50), (0.025, 0.83)
    for side, far in ((-swing, True), (swing, False)):
        knee = (0.10 * side + 0.02, 0.27 + 0.015 * abs(side))
        foot = (0.19 * side - 0.03 * (side < 0), 0.035 + 0.035 * max(0.0, -side))
        _limb(picture, [at(*hip), at(*knee), at(*foot)], 0.085 * tall, _shade(trousers, 0.72 if far else 1.0))
        _limb(picture, [at(*foot), at(foot[0] + 0.06, foot[1] - 0.015)], 0.05 * tall, (26, 26, 28))
    for side, far in ((swing, True), (-swing, False)):
        if not far:
            _limb(picture, [at(0.005, 0.55), at(0.02, 0.77)], 0.175 * tall, jacket)
            _limb(picture, [at(0.035, 0.60), at(0.045, 0.77)], 0.06 * tall, _shade(jacket, 1.16))
        elbow = (neck[0] + 0.07 * side - 0.01, 0.64)
        hand = (neck[0] + 0.15 * side + 0.03, 0.52 + 0.03 * abs(side))
        arm = [at(neck[0] - 0.01, 0.79), at(*elbow), at(*hand)]
        _limb(picture, arm, 0.062 * tall, _shade(jacket, 0.68 if far else 0.86))
        _limb(picture, [at(*hand), at(hand[0] + 0.01, hand[1] - 0.01)], 0.042 * tall, _SKIN)
    _limb(picture, [at(*neck), at(0.035, 0.88)], 0.06 * tall, _shade(_SKIN, 0.8))
    _limb(picture, [at(0.04, 0.920), at(0.042, 0.935)], 0.115 * tall, _SKIN)
    _limb(picture, [at(0.022, 0.945), at(0.038, 0.962)], 0.10 * tall, _HAIR)


def _limb(picture: Picture, joints: list[Point], width: float, colour: Colour) -> None:
    points = np.rint(np.array(joints) * 2**_SHIFT).astype(np.int32)
    cv2.polylines(picture, [points], False, colour, max(1, round(width)), cv2.LINE_AA, _SHIFT)


def _shade(colour: Colour, by: float) -> Colour:
    blue, green, red = (min(255, round(channel * by)) for channel in colour)
    return blue, green, red


def _ground_shadow(picture: Picture, feet: Point, tall: float) -> None:
    """The low sun's shadow, to the right of everything in this yard."""
    left, right = max(0, int(feet[0] - 0.3 * tall)), int(feet[0] + 0.75 * tall)
    top, bottom = max(0, int(feet[1] - 0.15 * tall)), int(feet[1] + 0.12 * tall)
    under = picture[top:bottom, left:right]
    if under.size == 0:
        return
    dark = np.full(under.shape[:2], 255, np.uint8)
    centre = np.rint((np.array([feet[0] + 0.2 * tall, feet[1] - 0.02 * tall]) - (left, top)) * 2**_SHIFT).astype(int)
    axes = np.rint(np.array([0.30, 0.055]) * tall * 2**_SHIFT).astype(int)
    cv2.ellipse(
        dark, (int(centre[0]), int(centre[1])), (int(axes[0]), int(axes[1])), -4, 0, 360, 150, -1, cv2.LINE_AA, _SHIFT
    )
    soft = cv2.blur(dark, (max(1, int(0.05 * tall)), max(1, int(0.03 * tall))))
    under[:] = cv2.multiply(under, cv2.cvtColor(soft, cv2.COLOR_GRAY2BGR), scale=1 / 255)
