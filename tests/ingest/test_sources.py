"""From an address to a source: the right kind, or one clear line."""

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import SourceError
from ingest.sources import open_source
from ingest.sources.base import Grab
from ingest.sources.camera import Camera
from ingest.sources.closing import ClosableSource
from ingest.sources.images import ImagesSource
from ingest.sources.pacing import Pacer
from ingest.sources.synthetic import SyntheticSource
from ingest.sources.urls import redacted


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "names nothing"),
        ("?rate=max", "names nothing"),
        ("nowhere.mp4", "nowhere.mp4: no such file"),
        ("nowhere/", "no such file"),
        ("nowhere.png", "No such file or directory"),
        ("ftp://user:hush@host/video.mp4", r"'ftp://\*\*\*@host/video.mp4': no such kind.*rtsp://"),
        ("gopher:hole", "no such kind.*synthetic:belt"),
        ("rtsp:", "no such kind"),
        ("rtsp://", "no such kind"),
        ("http:///path", "no such kind"),
        ("a\0b.mp4", "NUL"),
        ("usb:", "number"),
        ("usb:first", "number"),
        ("usb:-1", "number"),
        ("usb:0?size=big", "size='big'.*options are: size, fps, format"),
        ("usb:0?fps=0", "fps='0'.*greater than 0"),
        ("usb:0?speed=1", "unknown option 'speed'; it has: size, fps, format"),
        ("synthetic:moon", "no such scene; there are: synthetic:belt, synthetic:yard"),
        ("synthetic:", "no such scene"),
        ("synthetic:belt?fsp=3", "unknown option 'fsp'; it has: fps, rate, seed, frames, size, defect_every"),
        ("synthetic:belt?fps=ten", "fps='ten'"),
        ("synthetic:belt?fps=nan", "fps='nan'"),
        ("synthetic:belt?fps=-1", "fps='-1'"),
        ("synthetic:belt?seed=1.5", "seed='1.5'"),
        ("synthetic:yard?size=10x10", "size='10x10'.*64 and 4096"),
        ("synthetic:yard?size=640", "size='640'"),
        ("synthetic:belt?frames=-3", "frames='-3'"),
        ("synthetic:belt?seed=1&seed=2", "seed is given twice"),
        ("synthetic:belt?fps", "fps=''"),
    ],
)
def test_what_cannot_be_opened_is_told_in_one_line(url: str, says: str) -> None:
    with pytest.raises(SourceError, match=says) as told:
        open_source(url)
    assert "\n" not in str(told.value)
    assert "hush" not in str(told.value)


@pytest.mark.parametrize("option", ["rat=max", "rate=fast", "loop=perhaps", "rate=max&rate=own"])
def test_wrong_options_of_files_are_named_with_the_right_ones(tmp_path: Path, option: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"rate.*loop|given twice"):
        open_source(f"{tmp_path / 'a.mp4'}?{option}")
    with pytest.raises(SourceError, match="fps, recursive, loop"):
        open_source(f"{tmp_path}?size=3x3")


def test_names_that_look_like_addresses_are_still_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("line:3", "what?"):
        folder = Path(name)
        folder.mkdir()
        cv2.imwrite(str(folder / "a.png"), np.zeros((4, 4, 3), np.uint8))
        assert isinstance(open_source(name), ImagesSource)


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    assert isinstance(open_source(str(tmp_path)), ImagesSource)
    assert isinstance(open_source(str(tmp_path / "a.png")), ImagesSource)
    assert isinstance(open_source("synthetic:belt"), SyntheticSource)
    for url in (
        "usb:0",
        "usb:/dev/v4l/by-id/cam?size=640x480&fps=5&format=MJPG",
        "rtsp://a/b",
        "RTSPS://a",
        "https://a/x",
    ):
        source = open_source(url)
        assert isinstance(source, Camera)
        assert source.live
        source.close()


def test_an_absent_usb_camera_is_an_error_at_each_grab(capfd: pytest.CaptureFixture[str]) -> None:
    source = open_source("usb:97")
    for _ in range(2):
        with pytest.raises(SourceError, match="usb:97: no camera; is it plugged in"):
            source.grab()
    source.close()
    assert capfd.readouterr().err == ""


WORDS = st.text(
    st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="@ "), min_size=6, max_size=20
)


@settings(deadline=None)
@given(user=WORDS, password=WORDS, host=st.from_regex(r"[a-z]{3}\.[a-z]{2}:[0-9]{3}", fullmatch=True))
def test_no_password_survives_whatever_is_in_it(user: str, password: str, host: str) -> None:
    assert redacted(f"rtsp://{user}:{password}@{host}/main?key={password}") == f"rtsp://***@{host}/main?***"


def test_addresses_without_secrets_stay_as_they_are() -> None:
    assert redacted("rtsp://cam.local:554/main") == "rtsp://cam.local:554/main"
    assert redacted("folder/a@b?x=1") == "folder/a@b?x=1"


class Scripted:
    """Stands in for an open camera."""

    def __init__(self, reads: list[tuple[bool, np.ndarray | None]]) -> None:
        self.reads = reads
        self.closed = 0

    def read(self) -> tuple[bool, np.ndarray | None]:
        return self.reads.pop(0) if self.reads else (False, None)

    def close(self) -> None:
        self.closed += 1


def test_a_camera_that_goes_is_let_go_of_and_connected_again() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    devices = [Scripted([(True, picture), (True, None)]), Scripted([(True, picture)])]
    left = list(devices)
    camera = Camera("cam", lambda: left.pop(0))
    assert camera.grab() == Grab(picture, "frame 0")
    assert camera.grab() == Grab(None, "frame 1")  # could not be decoded: no reason to stop
    with pytest.raises(SourceError, match="cam: no picture came"):
        camera.grab()
    assert devices[0].closed == 1
    assert camera.grab() == Grab(picture, "frame 2")
    camera.close()
    camera.close()
    assert devices[1].closed == 1
    assert camera.grab() is None


class Slow(ClosableSource):
    """Reads for half a second, and would notice if it were released meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = threading.Event()
        self.busy = self.released_while_busy = False
        self.released = 0

    def _next(self) -> Grab:
        self.busy = True
        self.reading.set()
        time.sleep(0.5)
        self.busy = False
        return Grab(None, "slow")

    def _release(self) -> None:
        self.released += 1
        self.released_while_busy |= self.busy


def test_close_never_releases_under_a_running_grab() -> None:
    source = Slow()
    grabbing = threading.Thread(target=source.grab)
    grabbing.start()
    assert source.reading.wait(5)
    source.close()
    assert source.released == 0
    grabbing.join(5)
    assert source.released >= 1
    assert not source.released_while_busy
    assert source.grab() is None


@settings(deadline=None)
@given(st.floats(1, 200), st.lists(st.floats(0, 0.4), min_size=1, max_size=60))
def test_late_frames_never_add_up_to_a_drift(fps: float, works: list[float]) -> None:
    """However long each frame's work takes: no frame before its time, and none later than the work made it."""
    pacer, now, start = Pacer(fps), 50.0, 50.0
    for n, work in enumerate(works):
        delay = pacer.delay(now)
        assert delay >= 0
        now += delay
        if now - (start + n / fps) <= 1.0:
            assert now >= start + n / fps - 1e-9
            assert delay == 0 or now == pytest.approx(start + n / fps)
        else:
            return  # a stall: the beat starts anew
        now += work


def test_after_a_long_stall_there_is_no_burst() -> None:
    pacer = Pacer(10)
    assert pacer.delay(0.0) == 0
    assert pacer.delay(100.0) == 0
    assert pacer.delay(100.0) == pytest.approx(0.1)


def test_an_installed_package_may_bring_its_own_camera(tmp_path, monkeypatch):
    info = tmp_path / "grabber-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: grabber\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[linewatch.sources]\ngrabber = grabber_driver:Camera\n")
    (tmp_path / "grabber_driver.py").write_text(
        "class Camera:\n    def __init__(self, url):\n        self.url, self.live, self.fps = url, True, None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    source = open_source("grabber:0?gain=3")
    assert source.url == "grabber:0?gain=3"
    with pytest.raises(SourceError, match="no such kind"):
        open_source("grabbed:0")
