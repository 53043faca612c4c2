"""A camera that keeps books: before it hands a picture over, it writes down which one, and obeys orders to misbehave.

It is reached as `chaos:FOLDER?line=NAME`, through the same entry point as any camera with a driver of its own. Each
opening makes a new ledger `FOLDER/LINE-BOOT.jsonl`; a line reaches the kernel before the picture reaches capture, so it
outlives a SIGKILL. That picture n was taken is known once picture n + 1 was asked for: one more line. So is what orders
it obeys, whenever they change.
"""

import json
import os
import time
from pathlib import Path
from urllib.parse import parse_qs

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.errors import SourceError
from ingest.sources.base import Grab
from ingest.sources.closing import ClosableSource
from ingest.sources.pacing import Pacer

FPS = 5.0
SIZE = (96, 96)
OTHER_SIZE = (144, 144)
BLOCK = 12
"""One defect in so many pictures, never two closer than `APART`."""
APART = 6
END, OK, STALL, GONE, RESIZED, FROZEN, DARK = "end", "ok", "stall", "gone", "resized", "frozen", "dark"
_LOOK_S = 0.02


def paint(boot: int, number: int, *, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Picture `number` of a boot, `[H, W, 3]` BGR: a plate, with a black and red patch if it is defective."""
    draw = np.random.default_rng((boot, number))
    width, height = size
    picture = np.full((height, width, 3), 120, np.uint8)
    centre, radius = (width // 2, height // 2), round(height * 0.31)
    cv2.circle(picture, centre, radius, (200, 200, 200), -1)
    if defective(boot, number):
        corner = (centre[0] - radius // 2, centre[1] - radius // 2)
        cv2.rectangle(picture, corner, (centre[0] + radius // 2, centre[1] + radius // 2), (0, 0, 255), -1)
        cv2.rectangle(picture, corner, centre, (0, 0, 0), -1)
    return np.asarray(cv2.add(picture, draw.integers(0, 6, picture.shape, np.uint8)), np.uint8)


def defective(boot: int, number: int) -> bool:
    """Ground truth: one in each block of pictures, where chance puts it, the first pictures spared."""
    block, place = divmod(number, BLOCK)
    return bool(place == np.random.default_rng((boot, block, 7)).integers(APART, BLOCK))


class ChaosCamera(ClosableSource):
    """See the module."""

    def __init__(self, url: str) -> None:
        folder, _, query = url.removeprefix("chaos:").partition("?")
        self._folder, self._line = Path(folder), parse_qs(query)["line"][0]
        self.boot, self._ledger = self._open()
        self._number = 0
        self._obeyed = OK
        self.fps = FPS
        super().__init__(pacer=Pacer(FPS))

    def _open(self) -> tuple[int, int]:
        for boot in range(1_000_000):
            path = self._folder / f"{self._line}-{boot:06}.jsonl"
            try:
                return boot, os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
            except FileExistsError:
                continue
        raise SourceError(f"{self._folder}: holds too many ledgers")

    def _next(self) -> Grab | None:
        orders = self._orders()
        while orders == STALL and not self._closed.is_set():
            time.sleep(_LOOK_S)
            orders = self._orders()
        if orders == GONE:
            raise SourceError("the cable is out")
        if self._number:
            self._write({"taken": self._number - 1})
        if orders == END or self._closed.is_set():
            return None
        number, self._number = self._number, self._number + 1
        size = OTHER_SIZE if orders == RESIZED else SIZE
        picture = paint(self.boot, 0 if orders == FROZEN else number, size=size)
        if orders == DARK:
            picture = np.asarray(picture // 64, np.uint8)
        part = f"{self._line}-{self.boot}-{number}"
        self._write(
            {
                "n": number,
                "part": part,
                "defect": defective(self.boot, number) and orders not in (FROZEN, DARK),
                "orders": orders,
                "mono_ns": time.monotonic_ns(),
            }
        )
        return Grab(picture, part, part)

    def _orders(self) -> str:
        try:
            orders = (self._folder / f"{self._line}.orders").read_text(encoding="ascii").strip() or OK
        except FileNotFoundError:
            orders = OK
        if orders != self._obeyed:
            self._obeyed = orders
            self._write({"obeys": orders})
        return orders

    def _write(self, entry: dict[str, object]) -> None:
        os.write(self._ledger, json.dumps(entry).encode() + b"\n")

    def _release(self) -> None:
        """The ledger stays open: the process ends soon, and a number used twice would write into another's file."""


def order(folder: Path, line: str, orders: str) -> None:
    """Tell a line's camera what to do from its next picture on."""
    new = folder / f".{line}.orders"
    new.write_text(orders, encoding="ascii")
    new.replace(folder / f"{line}.orders")
