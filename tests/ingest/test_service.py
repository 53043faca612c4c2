"""The capture process as a whole, in this process; its workers are none."""

import threading

from structlog.testing import capture_logs

from ingest.config import CaptureConfig
from ingest.journal import leftovers
from ingest.publisher import Publisher
from ingest.service import capture


def test_nothing_is_numbered_that_nobody_would_send(tmp_path, monkeypatch):
    def step(self: Publisher, _now: float) -> None:
        if self._next_seq >= 3:
            raise RuntimeError("unforeseen")
        self.ready.set()

    monkeypatch.setattr(Publisher, "step", step)
    config = CaptureConfig(id="a", source="synthetic:belt?fps=50")
    stop = threading.Event()
    with capture_logs() as logs:
        code = capture(config, workers=[f"ipc://{tmp_path}/w0"], journal=tmp_path / "journal", keys=None, stop=stop)
    assert code == 1
    assert "publisher failed: capture ends" in [entry["event"] for entry in logs]
    [left] = leftovers(tmp_path / "journal", line="a")
    assert left.next_seq >= 3, "its successor accounts for them"
