"""What Redis says of the running plant, for whoever strikes at it."""

from storage.config import StorageConfig
from storage.errors import StorageError
from storage.lines import Lines, Unsettled
from storage.server import connect
from storage.workers import Workers


class Inside:
    """Looks, changes nothing; None while Redis does not answer."""

    def __init__(self, storage: StorageConfig) -> None:
        client = connect(storage)
        self._lines, self._workers = Lines(client), Workers(client)

    def strangers(self, worker: str) -> tuple[int, int] | None:
        """Process id of the worker that said so last, and how many strangers it has turned away."""
        try:
            told = self._workers.all().get(worker)
        except StorageError:
            return None
        return None if told is None else (int(told["pid"]), int(told["strangers"]))

    def owed(self, line: str) -> Unsettled | None:
        """The present run of a line, if it owes verdicts."""
        try:
            return next((run for run in self._lines.unsettled(line) if run.beat_ns), None)
        except StorageError:
            return None
