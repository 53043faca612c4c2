"""Pictures of events, small enough that a report can be sent by mail, inside the page itself."""

import base64
import io
import warnings
from collections.abc import Callable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

BUDGET = 3_300_000
"""Bytes of all pictures of a report together; base64 makes a third more of them."""
_WIDTHS = (1000, 800, 640, 480, 320, 200)
_QUALITY = 82
_NAMES = ("heat.jpg", "frame.jpg")

Read = Callable[[str], bytes | None]
"""Folder of an event's evidence -> its picture as a file; None: it is not there any more."""
Pictures = Callable[[str], str | None]
"""Folder of an event's evidence -> the address of its picture; None: it is not there any more."""


def from_store(root: Path) -> Read:
    """Read from an evidence store: the frame with its heat map, or the frame alone where there is no map."""

    def read(evidence: str) -> bytes | None:
        folder = (root / evidence).resolve()
        if not folder.is_relative_to(root.resolve()):
            return None
        for name in _NAMES:
            try:
                return (folder / name).read_bytes()
            except OSError:  # pruned, or this detector has no maps
                continue
        return None

    return read


def inlined(read: Read, *, count: int, budget: int = BUDGET) -> Pictures:
    """Put pictures into the page as `data:` addresses.

    Args:
        read: where they are.
        count: how many there may be: each gets its share of the budget.
        budget: bytes together.
    """

    def picture(evidence: str) -> str | None:
        found = read(evidence)
        small = None if found is None else shrunk(found, most=budget // max(1, count))
        return None if small is None else f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"

    return picture


def shrunk(picture: bytes, *, most: int) -> bytes | None:
    """Make a JPEG of at most `most` bytes, or of 200 pixels if that is not enough; None: this is no picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # from 89 megapixels on, by the header
            found = Image.open(io.BytesIO(picture), formats=("JPEG", "PNG"))
        with found as opened:
            opened.draft("RGB", (_WIDTHS[0], _WIDTHS[0]))
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    small = b""
    for width in _WIDTHS:
        image.thumbnail((width, width))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=_QUALITY)
        small = out.getvalue()
        if len(small) <= most:
            break
    return small
