"""Cameras on this machine: `usb:0`, or a name that survives replugging, `usb:/dev/v4l/by-id/…`."""

import sys
from typing import Annotated

import cv2
import structlog
from pydantic import Field

from ingest.errors import SourceError
from ingest.sources.camera import Camera
from ingest.sources.capture import Capture
from ingest.sources.urls import SourceOptions, read_options

log = structlog.get_logger()

_BACKEND = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
_BUFFERS = 2  # one being filled while one is read; more only makes frames old


class UsbOptions(SourceOptions):
    """Options of `usb:N?…`: what the camera is asked for; it may give something near."""

    size: Annotated[str, Field(pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$")] | None = None
    """Width x height in pixels, such as `1280x720`."""
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Frames per second."""
    format: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{4}$")] | None = None
    """Pixel format by its four letters; `MJPG` lets most cameras keep their rate at large sizes."""


def open_usb(device: str, query: str = "") -> Camera:
    """Watch a local camera.

    Args:
        device: its number, or its path below `/dev/`.
        query: see `UsbOptions`.

    Raises:
        SourceError: neither a number nor a path, or a wrong option. (A camera that is absent raises at `grab`.)
    """
    called = f"usb:{device}"
    options = read_options(UsbOptions, query, of=called)
    if not (device.isascii() and device.isdigit() and len(device) < 4) and not device.startswith("/dev/"):
        raise SourceError(f"{called}: give the camera's number (usb:0) or its path (usb:/dev/v4l/by-id/…)")
    target: int | str = device if device.startswith("/") else int(device)

    def connect() -> Capture:
        try:
            capture = Capture(target, backend=_BACKEND, called=called)
        except SourceError as error:
            raise SourceError(
                f"{called}: no camera; is it plugged in, free, and may this user read it (group video)?"
            ) from error
        for prop, value in _settings(options).items():
            if not capture.ask(prop, value):
                log.warning("camera_setting_refused", source=called, wanted=options.model_dump(exclude_none=True))
        return capture

    return Camera(called, connect)


def _settings(options: UsbOptions) -> dict[int, float]:
    wanted: dict[int, float] = {}
    if options.format is not None:  # first: sizes and rates depend on it
        wanted[cv2.CAP_PROP_FOURCC] = cv2.VideoWriter.fourcc(*options.format)
    if options.size is not None:
        width, height = options.size.split("x")
        wanted |= {cv2.CAP_PROP_FRAME_WIDTH: int(width), cv2.CAP_PROP_FRAME_HEIGHT: int(height)}
    if options.fps is not None:
        wanted[cv2.CAP_PROP_FPS] = options.fps
    if _BACKEND == cv2.CAP_V4L2:
        wanted[cv2.CAP_PROP_BUFFERSIZE] = _BUFFERS
    return wanted
