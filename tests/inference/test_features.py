"""Cached features: the same as computed, within their room, whoever else uses the folder."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from inference.detectors.backbones import Backbone
from inference.detectors.features import FrozenFeatures
from inference.errors import FitError
from inference.weights import load_backbone_weights

SIZE = (40, 32)  # width, height
COUNT = 11
NODES = ("layer1", "layer2")
CELLS = 64 * 8 * 10 + 128 * 4 * 5
ROW = 2 * CELLS  # bytes of an image


def ignore(_done: int, _total: int, _note: str = "", /) -> None:
    """Nobody watches the progress."""


class Pictures:
    """Says how often it was asked."""

    def __init__(self, scale: float = 1.0) -> None:
        width, height = SIZE
        self.images = scale * torch.rand(COUNT, 3, height, width, generator=torch.Generator().manual_seed(0))
        self.asked = 0

    def take(self, numbers: Sequence[int]) -> Tensor:
        self.asked += len(numbers)
        return self.images[list(numbers)]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    made = Backbone("resnet18", NODES)
    with capture_logs():
        load_backbone_weights(made, "random")
    return made


def features(backbone: Backbone, folder: Path | None, pictures: Pictures | None = None, **given: Any) -> FrozenFeatures:
    pictures = pictures or Pictures()
    usual: dict[str, Any] = {"count": COUNT, "fingerprint": "these", "room": 10 * COUNT * ROW, "progress": ignore}
    return FrozenFeatures(backbone, take=pictures.take, size=SIZE, folder=folder, **usual | given)


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Bit for bit, and laid out alike: another layout rounds differently in what comes next."""
    pairs = list(zip(one, other, strict=True))
    return all(torch.equal(a, b) and a.is_contiguous() and b.is_contiguous() and a.dtype == b.dtype for a, b in pairs)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.features"))


@pytest.mark.parametrize("numbers", [[3], [5, 0, 10, 5], [7] * 9, range(COUNT)])
def test_computed_written_and_read_are_the_same(backbone: Backbone, numbers: Sequence[int], tmp_path: Path) -> None:
    pictures = Pictures()
    without = features(backbone, None).take(numbers)
    written = features(backbone, tmp_path, pictures)
    assert pictures.asked == COUNT
    read = features(backbone, tmp_path, pictures)
    assert same(written.take(numbers), without)
    assert same(read.take(numbers), without)
    assert pictures.asked == COUNT
    assert [tuple(f.shape) for f in without] == [(len(numbers), 64, 8, 10), (len(numbers), 128, 4, 5)]
    torch.testing.assert_close(without, backbone(pictures.images[list(numbers)]), rtol=1e-3, atol=1e-6)
    assert len(written) == len(read) == COUNT


def test_what_makes_the_features_names_their_file(backbone: Backbone, tmp_path: Path) -> None:
    other = Backbone("resnet18", ["layer1"])
    with capture_logs():
        load_backbone_weights(other, "random", seed=1)
    features(backbone, tmp_path)
    features(other, tmp_path)
    features(backbone, tmp_path, fingerprint="those")
    features(backbone, tmp_path, count=COUNT - 1)
    assert len(files(tmp_path)) == 4
    with capture_logs():
        load_backbone_weights(other, "random", seed=2)
    features(other, tmp_path)
    assert len(files(tmp_path)) == 5


def test_the_oldest_go_first_and_reading_makes_young(backbone: Backbone, tmp_path: Path) -> None:
    room = 2 * COUNT * ROW
    for age, name in ((30, "a"), (20, "b")):
        before = set(files(tmp_path))
        features(backbone, tmp_path, fingerprint=name, room=room)
        (made,) = set(files(tmp_path)) - before
        then = time.time() - age
        os.utime(made, (then, then))
    unread = made
    features(backbone, tmp_path, fingerprint="a", room=room)
    features(backbone, tmp_path, fingerprint="c", room=room)
    assert len(files(tmp_path)) == 2
    assert unread not in files(tmp_path)
    assert sum(file.stat().st_size for file in files(tmp_path)) <= room


def test_what_does_not_fit_is_computed_each_time(backbone: Backbone, tmp_path: Path) -> None:
    features(backbone, tmp_path, fingerprint="others")
    pictures = Pictures()
    with capture_logs() as logs:
        uncached = features(backbone, tmp_path, pictures, room=COUNT * ROW - 1)
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert same(uncached.take([1, 2]), features(backbone, None).take([1, 2]))
    assert pictures.asked == 2
    assert len(files(tmp_path)) == 1  # nobody had to make room for it


def test_a_file_cut_short_is_computed_anew(backbone: Backbone, tmp_path: Path) -> None:
    wanted = features(backbone, tmp_path).take(range(COUNT))
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[:-2])
    assert same(features(backbone, tmp_path).take(range(COUNT)), wanted)
    assert file.stat().st_size == COUNT * ROW


def test_what_is_in_use_may_be_deleted(backbone: Backbone, tmp_path: Path) -> None:
    wanted = features(backbone, None).take(range(COUNT))
    used = features(backbone, tmp_path)
    for file in files(tmp_path):
        file.unlink()
    assert same(used.take(range(COUNT)), wanted)


def test_an_interrupted_computation_leaves_nothing(backbone: Backbone, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features(backbone, tmp_path, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_after_an_hour(backbone: Backbone, tmp_path: Path) -> None:
    for name, age in (("writing-old", 4000), ("writing-new", 10), ("yours.txt", 4000)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age, time.time() - age))
    features(backbone, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir() if file.suffix != ".features") == [
        "writing-new",
        "yours.txt",
    ]


@pytest.mark.parametrize("names", [["one"] * 4, ["one", "two", "three", "four"]], ids=["same", "others"])
def test_writers_at_the_same_time_do_not_collide(backbone: Backbone, names: list[str], tmp_path: Path) -> None:
    """There is room for one: each makes room for itself while the others write and read."""
    wanted = features(backbone, None).take(range(COUNT))

    def work(name: str) -> bool:
        made = (features(backbone, tmp_path, fingerprint=name, room=COUNT * ROW) for _ in range(8))
        return all(same(one.take(range(COUNT)), wanted) for one in made)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, names))
    assert not list(tmp_path.glob("writing-*"))


def test_a_folder_that_cannot_be_written_costs_one_line(backbone: Backbone, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(
            FitError,
            match=r"features cannot be kept in .*; make room or name another .*LINEWATCH_CACHE.*--features-gb 0",
        ) as caught:
            features(backbone, folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cached", [True, False])
def test_features_too_large_for_float16_are_refused(backbone: Backbone, cached: bool, tmp_path: Path) -> None:
    with pytest.raises(FitError, match="features of resnet18 are too large for float16"):
        features(backbone, tmp_path if cached else None, Pictures(scale=1e6)).take([0])
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told_in_images(backbone: Backbone, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    features(backbone, tmp_path, progress=lambda done, total, _note: told.append((done, total)))
    assert told == [(8, COUNT), (COUNT, COUNT)]
