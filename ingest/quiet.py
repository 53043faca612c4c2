"""OpenCV and FFmpeg write to stderr on their own, addresses with passwords included; here errors are raised instead."""

import os

import cv2


def silence() -> None:
    """Turn both off; to be called before the first capture is opened, for OpenCV reads FFmpeg's level only then."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # OpenCV 5 moved the function.
    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    set_level(0)
