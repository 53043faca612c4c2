"""Which engine judges which line: what one model cannot do must not become the other lines' trouble."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from inference import serving as module
from inference.config import JudgeConfig
from inference.detectors.padim import Padim
from inference.engine import Engine
from inference.errors import EngineError
from inference.false_alarms import parse_false_alarms
from inference.job import Job
from inference.serving import Serving
from ingest.wire import FrameHeader
from storage.models import Bundle, Registry, open_bundle


@pytest.fixture
def registry(tmp_path: Path, plate_model: Bundle) -> Registry:
    for name in ("good", "bad"):
        shutil.copytree(plate_model.path.parent, tmp_path / name)
        rewrite(tmp_path / name / "1", name=name)
    return Registry(tmp_path)


def rewrite(folder: Path, **fields: object) -> None:
    """Change what the manifest of a version says."""
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def serving(registry: Registry) -> Serving:
    lines = [
        JudgeConfig(line=name, model=name, false_alarms=parse_false_alarms("10%")) for name in ("bad", "good", "too")
    ]
    lines[2] = lines[2].model_copy(update={"model": "good"})
    return Serving(lines, registry=registry, device="cpu", threads=1, warm_up=1)


def break_preprocessing(registry: Registry, _: pytest.MonkeyPatch) -> None:
    rewrite(registry.root / "bad" / "1", preprocessing={"size": "wide"})


def fail_on_loading(error: Exception):
    def arrange(_: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        def load(bundle: Bundle, **settings) -> Engine:
            if bundle.ref.startswith("bad"):
                raise error
            return Engine(bundle, **settings)

        monkeypatch.setattr(module, "Engine", load)

    return arrange


@pytest.mark.parametrize(
    ("arrange", "said"),
    [
        (break_preprocessing, "preprocessing of bad@1 does not fit this version"),
        (
            fail_on_loading(RuntimeError("CUDA error: device-side assert")),
            "RuntimeError: CUDA error: device-side assert",
        ),
        (fail_on_loading(ValueError("bad scene")), "ValueError: bad scene"),
    ],
)
def test_a_model_that_cannot_be_used_stops_no_other_line(registry, monkeypatch, arrange, said):
    arrange(registry, monkeypatch)
    serves = serving(registry)
    with capture_logs() as logs:
        serves.refresh()
        serves.refresh()
    assert serves["bad"] is None
    assert serves["good"] is not None, logs
    assert serves["too"].engine is serves["good"].engine
    complaints = [entry for entry in logs if entry["event"] == "model not usable"]
    assert len(complaints) == 1, "said once, not every second"
    assert said in complaints[0]["error"]


def test_a_version_for_another_region_does_not_take_over(registry):
    serves = serving(registry)
    serves.refresh()
    first = serves["bad"]
    shutil.copytree(registry.root / "bad" / "1", registry.root / "bad" / "2")
    masked = first.engine.preprocessing.model_copy(update={"mask": ((0, 0), (9, 0), (9, 9))})
    rewrite(registry.root / "bad" / "2", version=2, preprocessing=masked.model_dump(mode="json"))
    registry.promote("bad", 2)
    with capture_logs() as logs:
        serves.refresh()
    assert serves["bad"] is first
    assert "mask of the line" in logs[-1]["error"]


def test_a_frame_prepared_for_another_model_of_the_same_size_does_not_fit(registry):
    serves = serving(registry)
    serves.refresh()
    ours = serves["good"].engine.preprocessing
    other = ours.model_copy(update={"resample": "cubic"})
    for preparation, fits in ((ours.digest(), True), (other.digest(), False), (None, True)):
        header = FrameHeader(
            line="good", run="0" * 16, seq=0, wall_ns=0, mono_ns=0, shape=(64, 64, 3), preparation=preparation
        )
        assert serves["good"].fits(Job(b"", header, np.zeros((64, 64, 3), np.uint8), None)) is fits


def test_what_cannot_be_loaded_is_not_tried_each_second(registry, monkeypatch):
    tries = []

    def load(bundle: Bundle, **_: object) -> Engine:
        tries.append(bundle.ref)
        raise EngineError("no room")

    monkeypatch.setattr(module, "Engine", load)
    serves = serving(registry)
    for _ in range(3):
        serves.refresh()
    assert tries == ["bad@1", "good@1", "good@1"], "once for each line"
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    serves._put_off.clear()
    for _ in range(2):
        serves.refresh()
    assert len(tries) == 3 + 2 * 3


def test_promotions_are_followed_after_one_that_failed(registry, monkeypatch):
    serves = serving(registry)
    loaded = threading.Event()
    monkeypatch.setattr(module.Serving, "refresh", lambda _: loaded.set())
    serves.start()
    try:
        assert loaded.wait(5)
        assert serves.alive
    finally:
        serves.stop()
    assert not serves.alive


def test_a_device_without_room_for_the_model_is_named(plate_model, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Padim, "to", full)
    with pytest.raises(EngineError, match="cpu has too little memory for plate@1"):
        Engine(open_bundle(str(plate_model.path)), device="cpu")
