"""Between image files and pictures in memory."""

import errno
import stat
from pathlib import Path

import cv2
import numpy as np

from ingest.errors import ImageError
from ingest.frame import Picture
from ingest.headers import HeaderError, dimensions
from ingest.quiet import silence

PICTURE_SUFFIXES: frozenset[str] = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""Suffixes (compared in lower case) of files `read_picture` is meant for."""

MAX_PIXELS = 100_000_000
"""A larger picture is refused from its header: decoding it would cost 300 MB and more."""
MAX_BYTES = 1 << 30
"""A larger file is refused unread; 100 megapixels of 16-bit RGBA, uncompressed, are 0.8 GB."""

silence()


def read_picture(path: Path) -> Picture:
    """Read a PNG, JPEG, BMP, TIFF or WebP file; its content, not its suffix, says which.

    Grey becomes three equal channels, 16-bit values are divided by 257 (full scale to full scale), alpha is dropped,
    and the camera's orientation (EXIF) is applied. Of a file with several pages the first is read.

    Returns:
        `[H, W, 3]` uint8 BGR, contiguous.

    Raises:
        ImageError: missing, empty, corrupt, truncated, no image, more than 8 or 16 bits, or larger than `MAX_PIXELS`.
    """
    return decode_picture(_read(path), str(path))


def decode_picture(data: bytes, name: str) -> Picture:
    """Decode what `read_picture` reads, from memory; `name` is what errors call it.

    Raises:
        ImageError: as `read_picture`.
    """
    width, height = check_size(data, name)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise ImageError(f"{name}: cannot be decoded ({error.err})") from error
    # OpenCV's stubs hide that a failed decode gives None.
    if picture is None or picture.size == 0:
        raise ImageError(f"{name}: cannot be decoded; its header says {width}x{height} pixels, the rest is damaged")
    if picture.dtype == np.uint16:
        picture = cv2.convertScaleAbs(picture, alpha=1 / 257)
    if picture.dtype != np.uint8:
        raise ImageError(f"{name}: its pixels are {picture.dtype}: save it with 8 or 16 bits per channel")
    return np.asarray(picture, np.uint8)


def check_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of an image file as its header tells them, without decoding it.

    Raises:
        ImageError: no whole image file, or larger than `MAX_PIXELS`.
    """
    try:
        width, height = dimensions(data)
    except HeaderError as error:
        raise ImageError(f"{name}: {error}") from error
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: {width}x{height} is {width * height / 1e6:.1f} megapixels, the limit is {MAX_PIXELS / 1e6:.0f}: "
            "crop or shrink it"
        )
    return width, height


def encode_jpeg(picture: Picture, quality: int = 90) -> bytes:
    """Encode `[H, W, 3]` uint8 BGR as JPEG; `quality` 1 to 100.

    Raises:
        ImageError: the picture is empty, or larger than a JPEG can be (65,535 pixels a side).
    """
    try:
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error as error:
        raise ImageError(f"a picture of shape {picture.shape} cannot be a JPEG ({error.err})") from error
    if not done:
        raise ImageError(f"a picture of shape {picture.shape} cannot be a JPEG")
    return data.tobytes()


def encode_png(picture: Picture) -> bytes:
    """Encode `[H, W, 3]` uint8 BGR without loss.

    Raises:
        ImageError: the picture is empty.
    """
    try:
        done, data = cv2.imencode(".png", picture)
    except cv2.error as error:
        raise ImageError(f"a picture of shape {picture.shape} cannot be a PNG ({error.err})") from error
    if not done:
        raise ImageError(f"a picture of shape {picture.shape} cannot be a PNG")
    return data.tobytes()


def _read(path: Path) -> bytes:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # reading a pipe would wait for ever
            raise ImageError(f"{path}: not a file")
        if about.st_size > MAX_BYTES:
            raise ImageError(f"{path}: {about.st_size / 2**20:.0f} MiB, the limit is {MAX_BYTES / 2**20:.0f} MiB")
        data = path.read_bytes()
    except OSError as error:
        reason = "no such file" if error.errno == errno.ENOENT else error.strerror
        raise ImageError(f"{path}: {reason}") from error
    except ValueError as error:  # a NUL in the name
        raise ImageError(f"{str(path)!r}: {error}") from error
    if not data:
        raise ImageError(f"{path}: the file is empty (0 bytes)")
    return data
