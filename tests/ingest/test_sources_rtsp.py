"""Network cameras against real servers on loopback: GStreamer's for RTSP, the standard library's for motion JPEG."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import SourceError
from ingest.pictures import encode_jpeg
from ingest.sources import open_source
from ingest.sources.base import Grab
from ingest.sources.camera import Camera
from ingest.sources.rtsp import open_rtsp

SCRIPT = Path(__file__).with_name("rtsp_server.py")
PYTHON = "/usr/bin/python3"
PARTS = """
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
missing = [name for name in ("videotestsrc", "x264enc", "rtph264pay") if not Gst.ElementFactory.find(name)]
raise SystemExit(f"no GStreamer element {missing}" if missing else 0)
"""
APT = (
    "apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-ugly"
)
OPEN_S, READ_S = 8.0, 2.0


@pytest.fixture(scope="module")
def gstreamer() -> None:
    """Skip without a real RTSP server: nothing else would prove anything."""
    if not Path(PYTHON).exists():
        pytest.skip(f"no {PYTHON} to run GStreamer's RTSP server")
    found = subprocess.run([PYTHON, "-c", PARTS], capture_output=True, text=True, timeout=60, check=False)
    if found.returncode != 0:
        pytest.skip(f"no RTSP server: {found.stderr.strip().splitlines()[-1]}; {APT}")


@contextmanager
def camera(port: int = 0, *login: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    server = subprocess.Popen([PYTHON, str(SCRIPT), str(port), *login], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server, int(server.stdout.readline())
    finally:
        server.kill()
        server.wait(10)
        server.stdout.close()


def first_grab(source: Camera, *, within_s: float = 20.0) -> Grab:
    """What capture does: try again until the camera is there."""
    end = time.monotonic() + within_s
    while True:
        try:
            grabbed = source.grab()
        except SourceError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            assert grabbed is not None
            return grabbed


def until_gone(source: Camera) -> tuple[list[Grab], SourceError]:
    """Grab until the source says that it is gone."""
    grabs = []
    while True:
        try:
            grabbed = source.grab()
        except SourceError as error:
            return grabs, error
        assert grabbed is not None
        grabs.append(grabbed)


@pytest.mark.usefixtures("gstreamer")
def test_frames_arrive_a_dead_camera_is_told_and_a_new_one_is_found() -> None:
    with camera() as (server, port):
        source = open_rtsp(f"rtsp://127.0.0.1:{port}/cam", open_timeout_s=OPEN_S, read_timeout_s=READ_S)
        assert source.live
        pictures = [first_grab(source).picture for _ in range(6)]
        assert all(picture is not None and picture.shape == (240, 320, 3) for picture in pictures)
        assert not np.array_equal(pictures[0], pictures[-1])  # the ball moves

        server.kill()
        killed = time.monotonic()
        _, gone = until_gone(source)  # what was on its way still arrives
        assert time.monotonic() - killed < READ_S + 3
        assert str(gone).startswith(f"rtsp://127.0.0.1:{port}/cam: no picture came")
        with pytest.raises(SourceError, match="no stream"):
            source.grab()

    with camera(port):
        assert first_grab(source).picture is not None
        source.close()
        assert source.grab() is None


@pytest.mark.usefixtures("gstreamer")
def test_a_camera_that_hangs_is_told_within_the_time_out() -> None:
    with camera() as (server, port):
        source = open_rtsp(f"rtsp://127.0.0.1:{port}/cam", open_timeout_s=OPEN_S, read_timeout_s=READ_S)
        first_grab(source)
        os.kill(server.pid, signal.SIGSTOP)  # the connection stays, nothing comes
        try:
            stopped = time.monotonic()
            _, gone = until_gone(source)
            assert time.monotonic() - stopped < READ_S + 3
            assert "gone or hangs" in str(gone)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert first_grab(source).picture is not None
        source.close()


@pytest.mark.usefixtures("gstreamer")
def test_close_from_another_thread_ends_a_blocked_grab() -> None:
    with camera() as (server, port):
        source = open_rtsp(f"rtsp://127.0.0.1:{port}/cam", open_timeout_s=OPEN_S, read_timeout_s=READ_S)
        first_grab(source)
        os.kill(server.pid, signal.SIGSTOP)

        def drain() -> None:
            try:
                while source.grab() is not None:
                    pass
            except SourceError:
                pass

        grabbing = threading.Thread(target=drain)
        grabbing.start()
        time.sleep(0.5)
        source.close()
        source.close()
        grabbing.join(READ_S + 3)
        os.kill(server.pid, signal.SIGCONT)
        assert not grabbing.is_alive()
        assert source._capture is None  # released by the grab that was blocked
        assert source.grab() is None


@pytest.mark.usefixtures("gstreamer")
def test_passwords_open_doors_and_are_never_shown(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with camera(0, "inspector", "s3cr3t") as (_, port):
        source = open_rtsp(
            f"rtsp://inspector:s3cr3t@127.0.0.1:{port}/cam", open_timeout_s=OPEN_S, read_timeout_s=READ_S
        )
        assert first_grab(source).picture is not None
        source.close()
        refused = open_rtsp(f"rtsp://inspector:wr0ng@127.0.0.1:{port}/cam?token=t0ken")
        with pytest.raises(SourceError, match=r"rtsp://\*\*\*@127.0.0.1.*user and password") as told:
            refused.grab()
    written = capfd.readouterr()
    for secret in ("inspector", "s3cr3t", "wr0ng", "t0ken"):
        assert secret not in str(told.value) + str(told.value.__cause__) + written.out + written.err + caplog.text


def test_nobody_there_is_an_error_at_the_grab_and_not_before() -> None:
    source = open_source("rtsp://user:hush@127.0.0.1:9/cam")
    assert source.live
    for _ in range(2):
        with pytest.raises(SourceError, match="no stream; check") as told:
            source.grab()
        assert "hush" not in str(told.value)
    source.close()


class MotionJpeg(BaseHTTPRequestHandler):
    """Ten pictures, each a little brighter, then the connection ends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for level in range(0, 200, 20):
            jpeg = encode_jpeg(np.full((48, 64, 3), level, np.uint8))
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
            time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Stay quiet."""


def test_motion_jpeg_over_http_plays_and_reconnects() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), MotionJpeg)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        source = open_rtsp(f"http://127.0.0.1:{server.server_port}/video", open_timeout_s=OPEN_S, read_timeout_s=READ_S)
        for _ in range(2):  # the second round is a new connection
            grabs, gone = until_gone(source)
            assert "no picture came" in str(gone)
            pictures = [grabbed.picture for grabbed in grabs if grabbed.picture is not None]
            assert {picture.shape for picture in pictures} == {(48, 64, 3)}
            levels = [float(picture.mean()) for picture in pictures]
            assert len(levels) >= 8
            assert levels == sorted(levels)
        source.close()
    finally:
        server.shutdown()
        server.server_close()
        serving.join(5)
