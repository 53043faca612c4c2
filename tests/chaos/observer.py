"""Reads the verdict stream and the cameras' ledgers while the system runs, as a party of its own."""

import threading
import time
from pathlib import Path

from alerts.follower import entry_number
from storage.config import StorageConfig
from storage.errors import StorageError
from storage.history import History
from storage.records import Status, Verdict
from storage.server import connect
from storage.verdicts import VerdictStream
from tests.chaos.books import read_entries

_PAUSE_S = 0.05


class Observer:
    """Keeps every verdict it has seen; the stream itself is trimmed in the end."""

    def __init__(self, storage: StorageConfig, ledgers: Path, lines: list[str]) -> None:
        self._stream = VerdictStream(connect(storage))
        self._history = History(storage)
        self._ledgers = ledgers
        self._offsets: dict[Path, int] = {}
        self._sent_ns: dict[str, int] = {}
        self._position = "0"
        self._judged: dict[str, tuple[int, str]] = {}
        self._lines = lines
        self._stop = threading.Event()
        self.verdicts: list[Verdict] = []
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def well_since(self, mono_ns: int) -> bool:
        """Whether of every line a picture sent after `mono_ns` was judged, and its verdict has reached the history."""
        judged = dict(self._judged)
        if any(line not in judged or judged[line][0] < mono_ns for line in self._lines):
            return False
        try:
            position = self._history.position()
        except StorageError:
            return False
        return all(entry_number(position) >= entry_number(name) for _, name in judged.values())

    def ailing(self, mono_ns: int) -> str:
        """Which lines are not well, for whoever waits."""
        judged = dict(self._judged)
        ill = [line for line in self._lines if line not in judged or judged[line][0] < mono_ns]
        return ", ".join(ill) or "history"

    def caught_up(self, newest: str) -> bool:
        """Whether everything up to the stream entry `newest` was seen."""
        return entry_number(self._position) >= entry_number(newest)

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join()
        self._history.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                found = self._stream.read(self._position, count=500)
            except StorageError:
                time.sleep(_PAUSE_S)
                continue
            self._read_ledgers()
            for name, verdict in found:
                self.verdicts.append(verdict)
                self._position = name
                sent_ns = self._sent_ns.get(verdict.part or "")
                if sent_ns is not None and verdict.status is not Status.UNKNOWN:
                    newest, _ = self._judged.get(verdict.line, (0, ""))
                    if sent_ns > newest:
                        self._judged[verdict.line] = (sent_ns, name)
            time.sleep(_PAUSE_S)

    def _read_ledgers(self) -> None:
        for path in self._ledgers.glob("*.jsonl"):
            offset = self._offsets.get(path, 0)
            if path.stat().st_size == offset:
                continue
            entries, self._offsets[path] = read_entries(path, offset)
            self._sent_ns.update({entry["part"]: entry["mono_ns"] for entry in entries if "part" in entry})
