"""Bad input, as a person meets it: one clear line naming the thing and the mend, never a traceback, never a `pass`."""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from storage.config import StorageConfig
from storage.history import History
from storage.lines import Lines
from storage.records import Status
from storage.server import RedisServer, connect
from storage.verdicts import VerdictStream
from tests.plates import plate, write_plates


def run(*arguments, cwd, timeout=120):
    """A command line as a process of its own: exit code, stdout, stderr."""
    env = {**os.environ, "LINEWATCH_LOG_LEVEL": "error", "LINEWATCH_LOG": "console", "COLUMNS": "200"}
    command = [sys.executable, "-m", "linewatch", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def huge_png():
    """30,000 x 30,000 by its header; decoding it would take 2.7 GB."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.fixture
def site(tmp_path, plate_model):
    """A folder with a promoted model, and a configuration for pictures in `parts/`."""
    shutil.copytree(plate_model.path.parent, tmp_path / "d" / "models" / "plate")
    write_config(tmp_path)
    return tmp_path


def write_config(site, *, source="parts/", **changes):
    line = {"id": "cam", "source": source, "model": "plate", "false_alarms": "10%"}
    tree = {"data": "d", "lines": [line], "alerts": {"page": None, "sinks": []}, **changes}
    (site / "linewatch.yaml").write_text(json.dumps(tree))  # JSON is YAML


def test_odd_pictures_are_judged_and_broken_ones_are_unknown(site):
    parts = site / "parts"
    parts.mkdir()
    good = plate(500)
    cv2.imwrite(str(parts / "a-grey.png"), good[..., 0])
    cv2.imwrite(str(parts / "b-16-bit.png"), good.astype(np.uint16) * 257)
    cv2.imwrite(str(parts / "c-rgba.png"), np.dstack([good, np.full((96, 96), 9, np.uint8)]))
    (parts / "d-huge.png").write_bytes(huge_png())
    (parts / "e-empty.png").write_bytes(b"")
    cv2.imwrite(str(parts / "f-cut.jpg"), good)
    (parts / "f-cut.jpg").write_bytes((parts / "f-cut.jpg").read_bytes()[:-300])
    code, out, _ = run("score", "d/models/plate", *sorted(parts.iterdir()), "parts/nothing.png", "--json", cwd=site)
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [entry["status"] for entry in found[:3]].count("unknown") == 0
    assert [entry["status"] for entry in found[3:]] == ["unknown"] * 4
    for entry, says in zip(found[3:], ("30000x30000", "empty", "truncated", "no such file"), strict=True):
        assert says in entry["reason"]
    code, _, err = run("up", "linewatch.yaml", "--until-done", cwd=site)
    assert code == 0, err
    with RedisServer(site / "d"):
        client = connect(StorageConfig(data=site / "d"))
        [state] = Lines(client).states()
        verdicts = sorted((v for _, v in VerdictStream(client).latest(100)), key=lambda verdict: verdict.seq)
    assert (state.captured, state.open) == (6, 0)
    assert [verdict.reason for verdict in verdicts[3:]] == ["corrupt"] * 3
    assert all(verdict.status is not Status.UNKNOWN for verdict in verdicts[:3])
    assert History.open(StorageConfig(data=site / "d")).alerts(open=True, line="silent") == []


def test_a_video_cut_in_the_middle_is_watched_as_far_as_it_goes(site):
    writer = cv2.VideoWriter(str(site / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 96))
    for number in range(40):
        writer.write(plate(number))
    writer.release()
    data = (site / "v.avi").read_bytes()
    (site / "v.avi").write_bytes(data[: len(data) // 2])
    write_config(site, source="v.avi?rate=max")
    code, _, err = run("up", "linewatch.yaml", "--until-done", cwd=site)
    assert code == 0, err
    with RedisServer(site / "d"):
        [state] = Lines(connect(StorageConfig(data=site / "d"))).states()
    assert 10 <= state.captured <= 40
    assert state.open == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("fit", "--data", "empty.mp4", "--out", "m/x", "--weights", "random"), 2, "empty"),
        (("fit", "--data", "nowhere", "--out", "m/x", "--weights", "random"), 2, "nowhere"),
        (("fit", "--data", "good", "--out", "m/x", "--weights", "random", "--set", "dims=3"), 2, "no setting 'dims'"),
        (("fit", "--data", "good", "--out", "m/x", "--weights", "w.pth"), 2, "w.pth"),
        (("fit", "--data", "good", "--out", "m/x", "--weights", "random", "--device", "cuda:9"), 2, "no device"),
        (("score", "d/models/none", "x.png"), 2, "no model none"),
        (("score", "d/models/plate@9", "x.png"), 2, "plate"),
        (("up", "nothing.yaml"), 2, "nothing.yaml"),
        (("check", "typo.yaml"), 2, "lines[0].polcy: unknown key; did you mean policy?"),
    ],
)
def test_a_wrong_request_is_one_line_that_names_it(site, arguments, code, says):
    (site / "empty.mp4").write_bytes(b"")
    write_plates(site / "good", 3)
    (site / "typo.yaml").write_text("data: d\nlines: [{id: a, source: x/, model: m, polcy: every}]\n")
    got, _, err = run(*arguments, cwd=site)
    assert got == code
    assert len(err.strip().splitlines()) == 1, err
    assert says in err


TRAIN = ["--detector", "msflow", "--out", "m/x", "--weights", "random", "--image-size", "64", "--set", "hidden=8"]
TRAIN += ["--set", "epochs=1", "--device", "cpu"]


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (0, "bad has no good images ("),
        (1, "bad has one good image, 0000.png: a model needs at least two, better fifty"),
        (2, "2 good images are too few to fit and calibrate on: add images, better fifty"),
    ],
)
def test_too_few_good_images_for_a_training_are_one_line(site, count, says):
    write_plates(site / "bad", count)
    (site / "bad" / "notes.txt").touch()
    code, out, err = run("fit", "--data", "bad", *TRAIN, cwd=site)
    assert (code, out) == (1 if count == 2 else 2, "")
    assert len(err.strip().splitlines()) == 1, err
    assert says in err
    assert not list(site.glob("m/x/*"))


def test_a_training_takes_images_of_any_size_and_is_evaluated_on_whole_test_sets_alone(site):
    data = site / "mixed"
    write_plates(data / "train" / "good", 8)
    for number, size in enumerate(((30, 500), (500, 30), (64, 64), (1, 1))):
        cv2.imwrite(str(data / "train" / "good" / f"odd-{number}.png"), cv2.resize(plate(number), size))
    code, out, err = run("fit", "--data", "mixed", *TRAIN, cwd=site)
    assert (code, err) == (0, "")
    assert "x@1: msflow fitted on 10 good images" in out
    write_plates(data / "test" / "red", 2, first=60, defects=(0, 1))
    (data / "test" / "good").mkdir()
    code, _, err = run("evaluate", "m/x", "--data", "mixed", cwd=site)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "mixed/test has no good images: false alarms cannot be counted without test/good" in err
    write_plates(data / "test" / "good", 2, first=80)
    (data / "ground_truth" / "red").mkdir(parents=True)
    for number in range(3):
        cv2.imwrite(str(data / "ground_truth" / "red" / f"000{number}_mask.png"), np.full((96, 96), 255, np.uint8))
    code, _, err = run("evaluate", "m/x", "--data", "mixed", cwd=site)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "0002_mask.png has no image in mixed/test/red: remove it" in err
    (data / "ground_truth" / "red" / "0002_mask.png").unlink()
    assert run("evaluate", "m/x", "--data", "mixed", cwd=site)[0] == 0


def test_masks_that_do_not_fit_are_named(site):
    data = site / "set"
    write_plates(data / "train" / "good", 3)
    write_plates(data / "test" / "good", 2, first=50)
    write_plates(data / "test" / "red", 2, first=60, defects=(0, 1))
    masks = data / "ground_truth" / "red"
    masks.mkdir(parents=True)
    cv2.imwrite(str(masks / "0000_mask.png"), np.zeros((50, 50), np.uint8))
    cv2.imwrite(str(masks / "0001_mask.png"), np.zeros((96, 96), np.uint8))
    code, _, err = run("evaluate", "d/models/plate", "--data", "set", cwd=site)
    assert (code, "0000_mask.png is 50x50, its image 96x96" in err) == (2, True), err
    (masks / "0000_mask.png").unlink()
    code, _, err = run("evaluate", "d/models/plate", "--data", "set", cwd=site)
    assert (code, "has no mask" in err) == (2, True), err


def test_a_port_in_use_and_a_redis_that_refuses_are_named(site):
    write_plates(site / "parts", 2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        write_config(site, alerts={"page": {"bind": address}})
        code, _, err = run("up", "linewatch.yaml", cwd=site)
        assert (code, address in err) == (2, True), err
    write_config(site, redis=f"redis://{address}")
    code, _, err = run("lines", "linewatch.yaml", cwd=site)
    assert code == 1
    assert address in err
    assert len(err.strip().splitlines()) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of three megabytes."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mounted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"may not mount a small file system: {done.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


def test_a_full_disk_is_named_and_costs_pictures_before_verdicts(site, small_disk):
    write_plates(site / "good", 4)
    code, _, err = run("fit", "--data", "good", "--out", small_disk / "m" / "x", "--weights", "random", cwd=site)
    assert (code, "disk is full" in err) == (1, True), err
    assert list((small_disk / "m" / "x").glob("[0-9]*")) == []
    (small_disk / "m").rename(small_disk / "left")
    (site / "d" / "evidence").symlink_to(small_disk)
    write_plates(site / "parts", 60, defects=tuple(range(60)), first=500)
    code, _, err = run("up", "linewatch.yaml", "--until-done", cwd=site)
    assert code == 0, err
    with RedisServer(site / "d"):
        client = connect(StorageConfig(data=site / "d"))
        [state] = Lines(client).states()
        verdicts = [verdict for _, verdict in VerdictStream(client).latest(100)]
    assert (state.captured, state.rejected, state.open) == (60, 60, 0)
    assert any(verdict.evidence is None for verdict in verdicts)
