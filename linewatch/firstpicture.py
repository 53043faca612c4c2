"""One picture of a source, or why there is none, within a bounded time."""

import os
import threading

from ingest.errors import IngestError
from ingest.frame import Picture
from ingest.sources import open_source

CAMERA_S = 15.0
"""How long a camera may take to deliver its first picture."""


def first_picture(url: str) -> Picture | str:
    """One picture, or why there is none; a camera that does not answer is given up after `CAMERA_S`."""
    result: list[Picture | str] = []

    def take() -> None:
        try:
            source = open_source(url)
            try:
                grab = source.grab()
            finally:
                source.close()
        except IngestError as error:
            result.append(str(error))
            return
        if grab is None:
            result.append("has no picture at all")
        else:
            result.append(f"{grab.name} cannot be decoded" if grab.picture is None else grab.picture)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(CAMERA_S)
    return result[0] if result else f"delivers nothing within {CAMERA_S:.0f} s (process {os.getpid()} gave up)"
