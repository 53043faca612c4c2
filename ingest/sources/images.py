"""Folders of images: `folder/[?fps=5&recursive=1&loop=1]`, or one image file."""

import os
import re
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import Field

from ingest.errors import ImageError, SourceError
from ingest.pictures import PICTURE_SUFFIXES, read_picture
from ingest.sources.base import Grab
from ingest.sources.closing import ClosableSource
from ingest.sources.pacing import Pacer
from ingest.sources.urls import SourceOptions, read_options

log = structlog.get_logger()


class ImagesOptions(SourceOptions):
    """Options of a folder of images."""

    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Images per second, like a camera (live). Without it each waits until it is taken (not live)."""
    recursive: bool = False
    """Look into folders below, too."""
    loop: bool = False
    """Start again at the end, for ever."""


class ImagesSource(ClosableSource):
    """The images of a folder in the order of their names, numbers in them by value (`img_9` before `img_10`).

    The list is made once, at the start. An image that cannot be read is a grab without a picture, and a warning.

    Raises:
        SourceError: no such folder, it may not be read, or it holds no image.
    """

    def __init__(self, path: Path, query: str = "") -> None:
        options = read_options(ImagesOptions, query, of=str(path))
        self._root = path
        self._paths = list_pictures(path, recursive=options.recursive)
        if not self._paths:
            below = "" if options.recursive else "; ?recursive=1 looks into folders below, too"
            raise SourceError(f"{path}: no image in it ({', '.join(sorted(PICTURE_SUFFIXES))}){below}")
        self._loop = options.loop
        self._at = 0
        self.live = options.fps is not None
        self.fps = options.fps
        super().__init__(pacer=Pacer(options.fps) if options.fps is not None else None)

    def _next(self) -> Grab | None:
        if self._at == len(self._paths):
            if not self._loop:
                return None
            self._at = 0
        path = self._paths[self._at]
        self._at += 1
        name = path.name if path == self._root else path.relative_to(self._root).as_posix()
        try:
            return Grab(read_picture(path), name)
        except ImageError as error:
            log.warning("picture_unreadable", error=str(error))
            return Grab(None, name)


def list_pictures(path: Path, *, recursive: bool = False) -> list[Path]:
    """List the image files of a folder (or `path` itself, if it is one), in the order they are shown.

    Raises:
        SourceError: there is no such folder, or it may not be read.
    """
    if path.is_file():
        return [path]
    found: list[Path] = []
    try:
        for folder, below, names in os.walk(path, onerror=_fail):
            below[:] = [name for name in below if recursive and not name.startswith(".")]
            found += [Path(folder, name) for name in names if _is_picture(name)]
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    return sorted(found, key=_by_name_and_number)


def _fail(error: OSError) -> None:
    raise error  # os.walk passes over what it may not read; here a folder left out would look like one without images


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES


def _by_name_and_number(path: Path) -> tuple[list[str | int], str]:
    # Texts and numbers take turns in the split, so that like is always compared with like.
    pieces = re.split(r"(\d+)", path.as_posix())
    return [int(piece) if at % 2 else piece for at, piece in enumerate(pieces)], path.as_posix()
