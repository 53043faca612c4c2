"""Bundles are sealed, versions only grow, promotion is one step, and a kill leaves the old or the new."""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from storage import bundle as bundle_module
from storage.bundle import calibration_file
from storage.durable import replace_synced
from storage.errors import BundleError, StorageError, StorageFull
from storage.models import Bundle, Registry, open_bundle

TENSORS = {"mean": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(7, np.int64)}
CALIBRATION = {"method": "split", "scores": [0.1, 1 / 3, 1e-300]}


def write(registry: Registry, name: str = "bottle", **other: Any) -> Bundle:
    fields: dict[str, Any] = {
        "detector": "padim",
        "settings": {"seed": 0},
        "preprocessing": {"size": [256, 256]},
        "backbone": "resnet18",
        "backbone_sha256": "0" * 64,
        "data_fingerprint": "abc",
        "n_train": 3,
        "metrics": {"image_auroc": 0.5},
        "tensors": TENSORS,
        "calibration": CALIBRATION,
        "reference": {"0.png": b"picture"},
    }
    return registry.write(name, **fields | other)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def test_a_bundle_comes_back_as_it_was_written(registry: Registry) -> None:
    written = write(registry)
    found = registry.resolve("bottle")
    assert (found.ref, found.path) == ("bottle@1", registry.root / "bottle" / "1")
    assert found.manifest == written.manifest
    assert (found.manifest.detector, found.manifest.n_train, found.manifest.metrics) == (
        "padim",
        3,
        {"image_auroc": 0.5},
    )
    assert found.calibration() == CALIBRATION
    assert (found.path / "reference" / "0.png").read_bytes() == b"picture"
    tensors = found.tensors()
    assert {name: (array.dtype, array.shape, array.tobytes()) for name, array in tensors.items()} == {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in TENSORS.items()
    }
    found.verify()


@given(
    array=nps.arrays(
        dtype=st.sampled_from([np.float32, np.float64, np.float16, np.uint8, np.int64, np.bool_]),
        shape=nps.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    turned=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_any_tensor_survives_bit_for_bit(array: Any, turned: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    array = array.T if turned else array
    tensors = write(Registry(tmp_path_factory.mktemp("models")), tensors={"a": array}).tensors()
    assert (tensors["a"].shape, tensors["a"].dtype, tensors["a"].tobytes()) == (
        array.shape,
        array.dtype,
        array.tobytes(),
    )


def test_versions_grow_and_the_first_is_promoted(registry: Registry) -> None:
    assert [write(registry).ref for _ in range(3)] == ["bottle@1", "bottle@2", "bottle@3"]
    assert (registry.versions("bottle"), registry.current("bottle")) == ([1, 2, 3], 1)
    assert registry.resolve("bottle@3").manifest.version == 3
    assert registry.names() == ["bottle"]
    assert Registry(registry.root / "nowhere").names() == []


def test_the_number_of_a_removed_version_is_not_given_again(registry: Registry) -> None:
    write(registry)
    registry.promote("bottle", write(registry).manifest.version)
    last = registry.root / "bottle" / "2"
    last.rename(registry.root.parent / "removed")
    assert write(registry).ref == "bottle@3"
    with pytest.raises(BundleError, match=r"no version 2 of bottle .* there are 1, 3: `linewatch models list`"):
        registry.resolve("bottle")
    assert registry.current("bottle") == 2


def test_rolling_back_goes_down_what_was_promoted(registry: Registry) -> None:
    for _ in range(4):
        write(registry)
    for version in (3, 3, 2, 4):
        registry.promote("bottle", version)
    assert [registry.rollback("bottle") for _ in range(3)] == [2, 3, 1]
    with pytest.raises(BundleError, match="never promoted to another"):
        registry.rollback("bottle")
    registry.promote("bottle", 4)
    assert (registry.rollback("bottle"), registry.current("bottle")) == (1, 1)


@given(steps=st.lists(st.one_of(st.integers(1, 3), st.none()), max_size=12))
@settings(max_examples=25, deadline=None)
def test_promotions_are_a_stack(steps: list[int | None], tmp_path_factory: pytest.TempPathFactory) -> None:
    registry = Registry(tmp_path_factory.mktemp("models"))
    for _ in range(3):
        write(registry, tensors={}, reference={})
    stack = [1]
    for step in steps:
        if step is not None:
            registry.promote("bottle", step)
            stack += [step] * (stack[-1] != step)
        elif len(stack) > 1:
            stack.pop()
            assert registry.rollback("bottle") == stack[-1]
        else:
            with pytest.raises(BundleError):
                registry.rollback("bottle")
        assert registry.current("bottle") == stack[-1]


def test_a_promotion_cut_short_before_its_history_can_be_rolled_back(registry: Registry) -> None:
    for _ in range(3):
        write(registry)
    registry.promote("bottle", 2)
    (registry.root / "bottle" / "current").write_text("3\n")
    assert registry.rollback("bottle") == 2


WRITER = """
import pathlib, sys
from storage.models import Registry
for _ in range(4):
    Registry(pathlib.Path(sys.argv[1])).write(
        "bottle", detector="padim", settings={}, preprocessing={}, backbone=None, backbone_sha256=None,
        data_fingerprint="abc", n_train=1, metrics={}, tensors={}, calibration=None, reference={},
    )
"""


def test_writers_at_the_same_time_get_numbers_of_their_own(registry: Registry) -> None:
    command = [sys.executable, "-c", WRITER, str(registry.root)]
    writers = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert registry.versions("bottle") == list(range(1, 13))
    assert registry.current("bottle") == 1
    for version in registry.versions("bottle"):
        registry.resolve(f"bottle@{version}").verify()


def test_open_bundle_takes_a_name_a_version_or_a_folder(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    write(registry)
    write(registry)
    assert open_bundle(f"{registry.root}/bottle").ref == "bottle@1"
    assert open_bundle(f"{registry.root}/bottle@2").ref == "bottle@2"
    assert open_bundle(f"{registry.root}/bottle/2/").ref == "bottle@2"
    monkeypatch.chdir(registry.root / "bottle")
    open_bundle("2").verify()
    monkeypatch.chdir(registry.root)
    assert open_bundle("bottle").ref == "bottle@1"


@pytest.mark.parametrize(
    "ref", ["", "../bottle", "a/b", "bottle@", "bottle@x", "bottle@-1", ".hidden", "a" * 65, "a\n"]
)
def test_what_is_no_name_is_refused(ref: str, registry: Registry) -> None:
    with pytest.raises(BundleError, match="is no model: write NAME or NAME@3"):
        registry.resolve(ref)


@pytest.mark.parametrize("name", ["..", "a/b", "", "@", "-x"])
def test_nothing_is_written_outside(name: str, registry: Registry) -> None:
    with pytest.raises(BundleError, match="is no name of a model"):
        write(registry, name)
    with pytest.raises(BundleError, match="is no name of a model"):
        registry.promote(name, 1)
    with pytest.raises(BundleError, match="is no name of a file"):
        write(registry, reference={f"{name}/x.png": b""})
    assert not registry.root.exists()


def test_missing_things_name_the_mend(registry: Registry) -> None:
    with pytest.raises(BundleError, match=r"no model bottle in .*: `linewatch models list` .* `linewatch fit --out"):
        registry.resolve("bottle")
    write(registry)
    with pytest.raises(BundleError, match="no version 2 of bottle"):
        registry.promote("bottle", 2)
    (registry.root / "bottle" / "current").unlink()
    with pytest.raises(BundleError, match=r"no version of bottle is promoted: `linewatch models promote .*bottle@1`"):
        registry.resolve("bottle")
    (registry.root / "bottle" / "current").write_text("one")
    with pytest.raises(BundleError, match="'one' is no version: `linewatch models promote`"):
        registry.resolve("bottle")


@pytest.mark.parametrize("file", ["tensors.safetensors", "reference/0.png", "calibration"])
def test_a_file_that_is_missing_or_changed_is_named(file: str, registry: Registry) -> None:
    written = write(registry)
    name = calibration_file(str(written.manifest.calibration_sha256)) if file == "calibration" else file
    path = written.path / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=rf"{path}: sha256 .* is not the manifest's"):
        registry.resolve("bottle").verify()
    with pytest.raises(BundleError, match="is not the manifest's"):
        registry.promote("bottle", 1)
    path.unlink()
    with pytest.raises(BundleError, match=rf"bottle/1: {path.name} is missing"):
        registry.resolve("bottle")


def test_tensors_and_calibration_are_checked_when_read(registry: Registry) -> None:
    written = write(registry)
    for path in written.path.iterdir():
        if path.suffix in {".safetensors", ".json"} and path.name != "manifest.json":
            path.write_bytes(b"{}")
    with pytest.raises(BundleError, match="sha256"):
        written.tensors()
    with pytest.raises(BundleError, match="sha256"):
        written.calibration()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"tensors": {"../../x": "0" * 64}}, "tensors"),
        ({"surprise": 1}, "surprise"),
        ({"n_train": "many"}, "n_train"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(change: dict[str, Any], said: str, registry: Registry) -> None:
    path = write(registry).path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match=rf"manifest.json: {said}.*: fit anew"):
        registry.resolve("bottle")
    path.write_text("{")
    with pytest.raises(BundleError, match=r"manifest\.json: it: "):
        registry.resolve("bottle")


def test_a_copy_under_another_name_does_not_pass(registry: Registry) -> None:
    write(registry).path.rename(registry.root / "bottle" / "9")
    with pytest.raises(BundleError, match=r"its manifest says bottle@1: put it at bottle/1"):
        registry.resolve("bottle@9").verify()


def test_a_new_calibration_replaces_the_old_one(registry: Registry) -> None:
    written = write(registry, calibration=None)
    assert written.calibration() is None
    for calibration in (CALIBRATION, {"scores": [2.0]}, {"scores": [2.0]}):
        written.set_calibration(calibration)
        assert written.calibration() == registry.resolve("bottle").calibration() == calibration
    assert len(list(written.path.glob("calibration-*"))) == 1
    registry.resolve("bottle").verify()
    with pytest.raises(BundleError, match="give finite numbers"):
        written.set_calibration({"scores": [float("nan")]})
    assert written.calibration() == {"scores": [2.0]}


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_calibration_cut_short_is_the_old_or_the_new_one(
    done: int, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write(registry)
    steps = iter(range(10))

    class Killed(BaseException):
        pass

    def replace(path: Path, data: bytes) -> None:
        if next(steps) == done:
            raise Killed
        replace_synced(path, data)

    monkeypatch.setattr(bundle_module, "replace_synced", replace)
    if done < 2:
        with pytest.raises(Killed):
            written.set_calibration({"scores": []})
    else:
        written.set_calibration({"scores": []})
    found = registry.resolve("bottle")
    found.verify()
    assert found.calibration() == ({"scores": []} if done == 2 else CALIBRATION)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tensors": {"a": np.array(["x"], object)}}, "tensors cannot be written"),
        ({"calibration": {"scores": [float("inf")]}}, "calibration cannot be written"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(change: dict[str, Any], said: str, registry: Registry) -> None:
    with pytest.raises(BundleError, match=said):
        write(registry, **change)
    assert registry.names() == []


@pytest.mark.parametrize(("number", "error"), [(28, StorageFull), (30, StorageError)])
def test_a_full_disk_leaves_no_half_version(
    number: int, error: type[Exception], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(registry)

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(error, match=str(registry.root)):
        write(registry)
    assert sorted(path.name for path in (registry.root / "bottle").iterdir() if not path.name.startswith(".")) == [
        "1",
        "current",
        "promotions.jsonl",
    ]
    assert not list((registry.root / "bottle").glob(".new-*"))


def test_what_a_killed_writer_left_is_cleared_away_in_time(registry: Registry) -> None:
    write(registry)
    old, young = (registry.root / "bottle" / f".new-{name}" for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    write(registry)
    assert (old.exists(), young.exists()) == (False, True)
    assert registry.versions("bottle") == [1, 2]


def test_a_lock_that_is_held_for_long_is_named(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    write(registry)
    monkeypatch.setattr("storage.durable.LOCK_S", 0.1)
    with (registry.root / "bottle" / ".lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match=r"\.lock: another process holds it"):
            registry.promote("bottle", 1)
    registry.promote("bottle", 1)
