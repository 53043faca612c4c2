"""Capture to Redis in one process: real sockets, a real server, a real detector."""

import os
import random
import shutil
import signal
import socket
import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from inference import serving, worker
from inference.calibration import Calibration
from inference.config import JudgeConfig, WorkerConfig
from inference.false_alarms import parse_false_alarms
from inference.scene import SceneBuilder
from inference.smoothing import Smoother
from ingest import service
from ingest.config import CaptureConfig
from ingest.journal import leftovers
from ingest.preprocess import Preprocessing, prepare
from ingest.service import capture
from storage.config import StorageConfig
from storage.lines import Lines
from storage.models import Registry
from storage.records import Status
from storage.server import RedisServer, connect
from storage.verdicts import VerdictStream
from storage.workers import Workers
from tests.plates import plate, write_plates


@pytest.fixture
def site(tmp_path, plate_model):
    """A data folder with a promoted model, and its own Redis."""
    data = tmp_path / "d"
    (data / "models").mkdir(parents=True)
    shutil.copytree(plate_model.path.parent, data / "models" / "plate")
    with RedisServer(data):
        yield StorageConfig(data=data)


@contextmanager
def working(site, *, model="plate", endpoint=None, max_batch=4, slack=None, **config):
    endpoint = endpoint or f"ipc://{site.data}/w0"
    stop = threading.Event()
    arguments = {
        "endpoint": endpoint,
        "lines": [JudgeConfig(line="cam", model=model, false_alarms=parse_false_alarms("10%"), slack=slack)],
        "storage": site,
        "keys": site.data / "keys",
        "stop": stop,
    }
    settings = WorkerConfig(name="w0", max_batch=max_batch, device="cpu", **config)
    thread = threading.Thread(target=worker.serve, args=(settings,), kwargs=arguments)
    thread.start()
    try:
        yield endpoint
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def run_capture(site, endpoint, source, stop=None, **config):
    settings = CaptureConfig(id="cam", source=str(source), **config)
    return capture(
        settings,
        workers=[endpoint],
        journal=site.data / "journal",
        keys=site.data / "keys",
        stop=stop or threading.Event(),
    )


def state_of(site):
    return Lines(connect(site)).state("cam")


def wait_until(condition, timeout=20.0):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.05)


def test_every_picture_of_a_folder_gets_its_verdict_and_defects_their_pictures(site, tmp_path):
    folder = write_plates(tmp_path / "parts", 25, defects=(7, 19), first=500)
    with working(site) as endpoint:
        assert run_capture(site, endpoint, folder) == 0
        verdicts = {v.seq: v for _, v in VerdictStream(connect(site)).latest(100)}
        assert sorted(verdicts) == list(range(25))
        rejected = [seq for seq, verdict in verdicts.items() if verdict.status is Status.REJECT]
        assert {7, 19} <= set(rejected)
        assert len(rejected) <= 6
        state = state_of(site)
        assert (state.captured, state.open, state.unknown) == (25, 0, 0)
        evidence = site.evidence / verdicts[7].evidence
        wait_until((evidence / "frame.jpg").exists)
        assert {"frame.jpg", "heat.jpg", "map.npz"} <= {path.name for path in evidence.iterdir()}
        x, y = verdicts[7].map_peak
        assert 0.3 < x < 0.75
        assert 0.3 < y < 0.75
        x0, y0, x1, y1 = verdicts[7].region.box
        assert max(x0, y0) < 0.45
        assert min(x1, y1) > 0.6
        assert verdicts[7].region.area > 0.03
        assert (verdicts[7].basis.n, verdicts[7].basis.block_s) == (40, None)
        with np.load(evidence / "map.npz") as arrays:  # both on the scale of all models
            assert arrays["map"].max() == pytest.approx(verdicts[7].region.peak, rel=1e-4)
            assert 0 < arrays["threshold"] < arrays["map"].max()
        assert Workers(connect(site)).all()["w0"]["judged"] >= 0
    assert list((site.data / "journal").glob("*.run")) == []


def test_a_corrupt_picture_is_unknown_and_the_others_are_judged(site, tmp_path):
    folder = write_plates(tmp_path / "parts", 5, first=500)
    (folder / "0002.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    with working(site) as endpoint:
        run_capture(site, endpoint, folder)
    state = state_of(site)
    assert (state.captured, state.unknown, state.open) == (5, 1, 0)
    [verdict] = [v for _, v in VerdictStream(connect(site)).latest(10) if v.status is Status.UNKNOWN]
    assert (verdict.seq, verdict.reason) == (2, "corrupt")


def test_without_a_model_everything_is_unknown_and_nothing_passes(site, tmp_path):
    folder = write_plates(tmp_path / "parts", 3)
    with working(site, model="nothing") as endpoint:
        run_capture(site, endpoint, folder)
    state = state_of(site)
    assert (state.unknown, state.passed, state.open) == (3, 0, 0)


def test_a_detector_that_throws_or_answers_nan_never_passes_a_frame(site, tmp_path, monkeypatch):
    folder = write_plates(tmp_path / "parts", 6)
    judge = serving.Engine.judge

    def broken(engine, batch, *, threads=0):
        judgement = judge(engine, batch, threads=threads)
        if len(batch) == 1:
            raise RuntimeError("device lost")
        judgement.scores[:] = np.nan
        return judgement

    with working(site) as endpoint:
        workers = Workers(connect(site))
        wait_until(workers.all)
        monkeypatch.setattr(serving.Engine, "judge", broken)
        run_capture(site, endpoint, folder)
        monkeypatch.undo()
    state = state_of(site)
    assert (state.captured, state.unknown, state.passed, state.open) == (6, 6, 0, 0)
    reasons = {v.reason for _, v in VerdictStream(connect(site)).latest(10)}
    assert reasons <= {"score not finite", "detector failed"}
    assert "score not finite" in reasons


def test_maps_are_smoothed_in_order_of_time_though_batches_overtake_each_other(site, tmp_path, monkeypatch):
    folder = write_plates(tmp_path / "parts", 40, defects=(9, 10, 11, 25), first=500)
    recalibrate(site, smoothing=3)
    judge, drawn = serving.Engine.judge, random.Random(0)

    def unsteady(engine, batch, *, threads=0):
        time.sleep(drawn.choice((0.0, 0.05)))
        return judge(engine, batch, threads=threads)

    monkeypatch.setattr(serving.Engine, "judge", unsteady)
    with working(site, max_batch=2, threads=2) as endpoint:
        assert run_capture(site, endpoint, folder) == 0
    monkeypatch.undo()
    verdicts = [v for _, v in reversed(VerdictStream(connect(site)).latest(100))]
    assert [v.seq for v in verdicts] == list(range(40))
    engine, smoother = serving.Engine(Registry(site.models).resolve("plate"), device="cpu"), Smoother(3)
    expected = []
    for path in sorted(folder.iterdir()):
        judgement = engine.judge(prepare(cv2.imread(str(path)), engine.preprocessing)[None])
        expected.append(smoother.add(judgement.maps[0], float(judgement.scores[0]))[1])
    assert [v.score for v in verdicts] == pytest.approx(expected, rel=1e-3)


def test_a_frame_that_hardly_passes_has_a_picture_now_and_then(site, tmp_path):
    folder = write_plates(tmp_path / "parts", 30, first=500)
    few_above = (0.0,) * 95 + (1e9,) * 5  # every frame has a p-value of 6 / 101, and passes
    recalibrate(site, scores=few_above, sequence=few_above, peaks=None)
    with working(site, slack=1.5) as endpoint:
        started = time.monotonic()
        run_capture(site, endpoint, folder)
        seconds = time.monotonic() - started
    verdicts = [v for _, v in VerdictStream(connect(site)).latest(100)]
    assert {v.status for v in verdicts} == {Status.PASS}
    assert all(v.basis.limit > 0 for v in verdicts)
    pictured = [v for v in verdicts if v.evidence]
    assert 1 <= len(pictured) <= 2 + seconds
    assert (site.evidence / pictured[0].evidence / "heat.jpg").exists()


def test_what_an_unfit_camera_sees_is_unknown_and_not_judged(site, tmp_path):
    folder = write_plates(tmp_path / "parts", 12, first=500)
    learned = SceneBuilder()
    learned.add(np.stack([prepare(plate(number), Preprocessing(size=(64, 64))) for number in range(40)]))
    recalibrate(site, scene=learned.scene())
    for number in (3, 4):
        knocked = np.roll(plate(500 + number), (6, -8), axis=(0, 1))
        cv2.imwrite(str(folder / f"{number:04}.png"), knocked)
    with working(site) as endpoint:
        run_capture(site, endpoint, folder)
        verdicts = {v.seq: v for _, v in VerdictStream(connect(site)).latest(100)}
    moved = {seq for seq, v in verdicts.items() if v.reason == "moved"}
    assert moved == {3, 4}
    assert all(v.status is Status.UNKNOWN and v.score is None for v in verdicts.values() if v.seq in moved)
    assert [v.evidence is not None for v in (verdicts[3], verdicts[4])].count(True) == 1
    assert state_of(site).passed >= 6


def test_the_freshest_frame_wins_and_the_others_are_counted(site):
    with working(site, max_batch=1, threads=1) as endpoint:
        source = "synthetic:belt?fps=300&size=96x96&defect_every=0&frames=300"
        assert run_capture(site, endpoint, source, policy="latest") == 0
    state = state_of(site)
    assert (state.captured, state.open) == (300, 0)
    assert state.skipped > 50
    assert state.passed + state.rejected + state.unknown == 300 - state.skipped


@pytest.mark.parametrize(("level", "reason"), [(120, "frozen"), (2, "dark")])
def test_a_camera_that_shows_nothing_new_or_nothing_at_all_passes_nothing(site, tmp_path, level, reason):
    writer = cv2.VideoWriter(str(tmp_path / "still.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 20, (96, 96))
    for _ in range(40):
        writer.write(np.full((96, 96, 3), level, np.uint8))
    writer.release()
    with working(site) as endpoint:
        run_capture(site, endpoint, tmp_path / "still.avi", frozen_after_s=0.5)
    state = state_of(site)
    assert (state.captured, state.open) == (40, 0)
    reasons = [v.reason for _, v in VerdictStream(connect(site)).latest(100)]
    assert reasons.count(reason) >= 25
    if reason == "dark":
        assert state.passed == 0


def test_a_promoted_version_takes_over_while_frames_keep_coming(site):
    registry = Registry(site.models)
    registry.write(
        "plate",
        **_like(registry.resolve("plate@1")),
    )
    assert registry.current("plate") == 1
    stop = threading.Event()
    with working(site) as endpoint:
        source = "synthetic:belt?fps=20&size=96x96&defect_every=0"
        camera = threading.Thread(target=run_capture, args=(site, endpoint, source, stop))
        camera.start()
        stream = VerdictStream(connect(site))
        try:
            wait_until(lambda: any(v.model == "plate@1" for _, v in stream.latest(5)))
            registry.promote("plate", 2)
            wait_until(lambda: any(v.model == "plate@2" for _, v in stream.latest(5)))
        finally:
            stop.set()
            camera.join(30)
    state = state_of(site)
    assert state.open == 0
    models = [v.model for _, v in reversed(stream.latest(10_000)) if v.model]
    assert sorted(models) == models, "the old version judged after the new one took over"


def test_verdicts_wait_for_redis_and_none_is_lost(site, tmp_path):
    folder = write_plates(tmp_path / "parts", 60, first=500)
    with working(site) as endpoint:
        camera = threading.Thread(target=run_capture, args=(site, endpoint, folder))
        camera.start()
        wait_until(lambda: state_of(site) is not None and state_of(site).captured > 8)
        pid = connect(site).info("server")["process_id"]
        os.kill(pid, signal.SIGKILL)
        time.sleep(1.0)
        server = RedisServer(site.data)
        server.start()
        try:
            camera.join(60)
            assert not camera.is_alive()
            state = state_of(site)
            assert (state.captured, state.open) == (60, 0)
            assert len({v.seq for _, v in VerdictStream(connect(site)).latest(1000)}) == 60
        finally:
            server.stop()


@pytest.mark.parametrize("file", ["tensors.safetensors", "calibration-*.json", "reference/*"])
def test_a_bundle_whose_file_is_not_what_was_sealed_judges_nothing(site, tmp_path, file):
    registry = Registry(site.models)
    if file.startswith("reference"):
        version = registry.write("plate", **_like(registry.resolve("plate")) | {"reference": {"a.png": b"picture"}})
        registry.promote("plate", version.manifest.version)
    [sealed] = registry.resolve("plate").path.glob(file)
    content = bytearray(sealed.read_bytes())
    content[-1] ^= 1
    sealed.write_bytes(content)
    folder = write_plates(tmp_path / "parts", 3, first=500)
    with working(site) as endpoint:
        run_capture(site, endpoint, folder)
    state = state_of(site)
    assert (state.unknown, state.passed, state.rejected, state.open) == (3, 0, 0, 0)
    assert {v.reason for _, v in VerdictStream(connect(site)).latest(10)} == {"no model"}


def test_a_tampered_version_is_not_taken_and_the_one_in_service_goes_on(site):
    registry = Registry(site.models)
    stop = threading.Event()
    with working(site) as endpoint:
        camera = threading.Thread(
            target=run_capture, args=(site, endpoint, "synthetic:belt?fps=20&size=96x96&defect_every=0", stop)
        )
        camera.start()
        stream = VerdictStream(connect(site))
        try:
            wait_until(lambda: any(v.model == "plate@1" for _, v in stream.latest(5)))
            registry.write("plate", **_like(registry.resolve("plate@1")))
            tensors = site.models / "plate" / "2" / "tensors.safetensors"
            tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x7f")
            (site.models / "plate" / "current").write_text("2\n")  # `promote` itself refuses it
            newest = stream.latest(1)[0][1].seq
            wait_until(lambda: stream.latest(1)[0][1].seq > newest + 60)
        finally:
            stop.set()
            camera.join(30)
    assert {v.model for _, v in stream.latest(10_000) if v.model} == {"plate@1"}


def test_tcp_needs_a_key_that_is_allowed(site, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    folder = write_plates(tmp_path / "parts", 3, first=500)
    with working(site, endpoint=endpoint):
        workers = Workers(connect(site))
        wait_until(workers.all)
        assert run_capture(site, endpoint, folder) == 0
        assert state_of(site).open == 0
        stranger = StorageConfig(data=tmp_path / "elsewhere")
        keys = stranger.data / "keys"
        keys.mkdir(parents=True)
        shutil.copy(site.data / "keys" / "worker.key", keys)
        stop = threading.Event()
        threading.Timer(2.0, stop.set).start()
        monkeypatch.setattr(service, "START_PATIENCE_S", 0.2)
        assert run_capture(stranger, endpoint, folder, stop) == 1
        assert [left.next_seq for left in leftovers(stranger.data / "journal", line="cam")] == [3]
    assert state_of(site).captured == 3


def recalibrate(site, **changed):
    bundle = Registry(site.models).resolve("plate")
    bundle.set_calibration(
        bundle.calibration() | Calibration.model_construct(**changed).model_dump(include=set(changed))
    )


def _like(bundle):
    manifest = bundle.manifest
    return {
        "detector": manifest.detector,
        "settings": manifest.settings,
        "preprocessing": manifest.preprocessing,
        "backbone": manifest.backbone,
        "backbone_sha256": manifest.backbone_sha256,
        "data_fingerprint": manifest.data_fingerprint,
        "n_train": manifest.n_train,
        "metrics": manifest.metrics,
        "tensors": bundle.tensors(),
        "calibration": bundle.calibration(),
        "reference": {},
    }
