"""Videos and folders of images: whole, looping, truncated, damaged, empty."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from ingest.errors import SourceError
from ingest.sources import open_source
from ingest.sources.base import Grab, Source

FRAMES = 20


def everything(source: Source, *, at_most: int = 5000) -> list[Grab]:
    grabs: list[Grab] = []
    while len(grabs) < at_most and (grabbed := source.grab()) is not None:
        grabs.append(grabbed)
    source.close()
    return grabs


def level(grabbed: Grab) -> float:
    assert grabbed.picture is not None
    return float(grabbed.picture.mean())


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Frame n is grey of level 10 n, 10 frames a second; motion JPEG, so that each frame stands for itself."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for n in range(FRAMES):
        writer.write(np.full((48, 64, 3), 10 * n, np.uint8))
    writer.release()
    return path


def pictures_in(data: bytes) -> list[int]:
    """Where the frames of `video` begin."""
    starts = [at for at in range(len(data)) if data[at : at + 3] == b"\xff\xd8\xff"]
    assert len(starts) == FRAMES
    return starts


def test_a_video_gives_each_frame_once_and_in_order(video: Path) -> None:
    source = open_source(f"{video}?rate=max")
    assert not source.live
    with capture_logs() as logs:
        grabs = everything(source)
    assert [level(grabbed) for grabbed in grabs] == pytest.approx([10 * n for n in range(FRAMES)], abs=3)
    assert grabs[0].name == "clip.avi frame 0"
    assert logs == []
    assert source.grab() is None
    source.close()


def test_at_its_own_rate_a_video_takes_its_time(video: Path) -> None:
    source = open_source(str(video))
    assert source.live
    started = time.monotonic()
    assert len(everything(source, at_most=6)) == 6
    assert time.monotonic() - started >= 0.5  # the first frame comes at once


def test_a_loop_starts_again(video: Path) -> None:
    grabs = everything(open_source(f"{video}?rate=max&loop=1"), at_most=2 * FRAMES + 3)
    assert len(grabs) == 2 * FRAMES + 3
    assert [level(one) for one in grabs[:FRAMES]] == [level(one) for one in grabs[FRAMES : 2 * FRAMES]]


def test_a_truncated_video_ends_early_with_one_warning(video: Path) -> None:
    data = video.read_bytes()
    video.write_bytes(data[: pictures_in(data)[12]])
    with capture_logs() as logs:
        grabs = everything(open_source(f"{video}?rate=max&loop=1"), at_most=3 * FRAMES)
    assert len(grabs) == 3 * FRAMES
    assert [entry["event"] for entry in logs] == ["video_incomplete"]
    assert logs[0]["file"] == str(video)
    assert 0 < logs[0]["delivered"] < logs[0]["promised"] == FRAMES


def test_a_damaged_frame_is_a_grab_without_a_picture_and_the_rest_follows(video: Path) -> None:
    data = bytearray(video.read_bytes())
    seventh = pictures_in(data)[7]
    data[seventh : seventh + 200] = bytes(200)
    video.write_bytes(data)
    grabs = everything(open_source(f"{video}?rate=max"))
    assert [n for n, grabbed in enumerate(grabs) if grabbed.picture is None] == [7]
    assert [level(grabs[n]) for n in (6, 8, 19)] == pytest.approx([60, 80, 190], abs=3)


def test_files_that_are_no_videos_are_refused_at_once(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.touch()
    text.write_text("not a film")
    with pytest.raises(SourceError, match=r"empty.mp4: the file is empty \(0 bytes\)"):
        open_source(str(empty))
    with pytest.raises(SourceError, match=r"text.mp4: not a video that can be read"):
        open_source(str(text))


def test_a_video_without_frames_is_refused_at_once(video: Path) -> None:
    data = video.read_bytes()
    video.write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(SourceError, match=r"clip.avi: "):
        open_source(str(video))


@pytest.mark.shared
def test_a_real_video_is_delivered_to_its_last_frame(shared: Path) -> None:
    grabs = everything(open_source(f"{shared / 'data' / 'video' / 'bottle-detection.mp4'}?rate=max"))
    assert len(grabs) == 1189
    assert all(grabbed.picture is not None for grabbed in grabs)


@pytest.mark.shared
def test_a_real_video_cut_in_half_says_how_much_is_missing(shared: Path, tmp_path: Path) -> None:
    data = (shared / "data" / "video" / "one-by-one-person-detection.mp4").read_bytes()
    half = tmp_path / "half.mp4"
    half.write_bytes(data[: len(data) // 2])
    with capture_logs() as logs:
        grabs = everything(open_source(f"{half}?rate=max"))
    assert 600 < len(grabs) < 700
    assert logs == [
        {
            "event": "video_incomplete",
            "log_level": "warning",
            "file": str(half),
            "delivered": len(grabs),
            "promised": 1394,
        }
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of levels 10, 20, … in the order they should come in, among things that are none."""
    for at, name in enumerate(["img_2.png", "img_9.bmp", "img_10.JPG", "sub/img_1.png"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        done, data = cv2.imencode(path.suffix.lower(), np.full((8, 8, 3), 10 * (at + 1), np.uint8))
        assert done
        path.write_bytes(data.tobytes())
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "._img_2.png").write_bytes(b"a Mac was here")
    (tmp_path / "album.png").mkdir()
    return tmp_path


def test_a_folder_is_shown_in_the_order_of_its_numbers(folder: Path) -> None:
    source = open_source(str(folder))
    assert not source.live
    grabs = everything(source)
    assert [grabbed.name for grabbed in grabs] == ["img_2.png", "img_9.bmp", "img_10.JPG"]
    assert [level(grabbed) for grabbed in grabs] == pytest.approx([10, 20, 30], abs=1)


def test_folders_below_are_looked_into_when_asked(folder: Path) -> None:
    names = [grabbed.name for grabbed in everything(open_source(f"{folder}?recursive=1"))]
    assert names == ["img_2.png", "img_9.bmp", "img_10.JPG", "sub/img_1.png"]


def test_a_folder_with_a_rate_is_live_and_may_loop(folder: Path) -> None:
    source = open_source(f"{folder}/?fps=50&loop=1")
    assert source.live
    started = time.monotonic()
    assert len(everything(source, at_most=8)) == 8
    assert time.monotonic() - started >= 7 / 50


def test_a_corrupt_image_is_a_grab_without_a_picture(folder: Path) -> None:
    (folder / "img_9.bmp").write_bytes(b"")
    with capture_logs() as logs:
        grabs = everything(open_source(str(folder)))
    assert [grabbed.picture is None for grabbed in grabs] == [False, True, False]
    assert [entry["event"] for entry in logs] == ["picture_unreadable"]
    assert "img_9.bmp: the file is empty" in logs[0]["error"]


def test_an_image_that_disappears_does_not_stop_the_others(folder: Path) -> None:
    source = open_source(str(folder))
    (folder / "img_2.png").unlink()
    assert [grabbed.picture is None for grabbed in everything(source)] == [True, False, False]


def test_one_image_is_a_source_of_one(folder: Path) -> None:
    assert [grabbed.name for grabbed in everything(open_source(str(folder / "img_9.bmp")))] == ["img_9.bmp"]


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no image in it \(.bmp, .jpeg, .jpg.*recursive=1"):
        open_source(str(tmp_path))
    with pytest.raises(SourceError, match=r"no image in it \([^;]*\)$"):
        open_source(f"{tmp_path}?recursive=1")


@pytest.mark.shared
def test_a_real_folder_is_shown_whole(shared: Path) -> None:
    root = shared / "data" / "dobot_cubes"
    grabs = everything(open_source(f"{root}?recursive=1"))
    assert len(grabs) == len(list(root.rglob("*.jpg")))
    assert all(grabbed.picture is not None for grabbed in grabs)


def test_a_source_says_its_own_rate_however_fast_it_is_read(video: Path) -> None:
    for url, fps in (
        (f"{video}", 10.0),
        (f"{video}?rate=max", 10.0),
        (f"{video.parent / 'stills'}?fps=4", 4.0),
        (f"{video.parent / 'stills'}", None),
        ("synthetic:belt?fps=25&rate=max", 25.0),
        ("synthetic:belt?fps=max", None),
        ("rtsp://camera.invalid/main", None),
    ):
        (video.parent / "stills").mkdir(exist_ok=True)
        cv2.imwrite(str(video.parent / "stills" / "0.png"), np.zeros((8, 8, 3), np.uint8))
        source = open_source(url)
        assert source.fps == fps, url
        source.close()
