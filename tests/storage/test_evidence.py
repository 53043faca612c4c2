"""The evidence store: whole folders, oldest first, never more than allowed, never outside."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import evidence as module
from storage.config import RetentionConfig
from storage.errors import StorageError, StorageFull
from storage.evidence import EvidenceStore
from storage.shelf import Shelf

RUN = "00000000000000ab"
NOW_NS = time.time_ns()
FRAME = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
FREE = RetentionConfig(min_free_gb=0)


def put(store: EvidenceStore, seq: int, **other: Any) -> str:
    given: dict[str, Any] = {
        "line": "a",
        "run": RUN,
        "frame": FRAME,
        "anomaly_map": None,
        "threshold": None,
        "captured_ns": NOW_NS + seq * 10**6,
    }
    return store.put(seq=seq, **given | other)


def kept(root: Path) -> list[int]:
    return sorted(int(path.parent.name.rpartition("-")[2]) for path in root.glob("*/*/*/frame.jpg"))


def total_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("*/*/*/*"))


def test_a_folder_holds_frame_heat_map_and_values(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, FREE)
    hot = np.random.default_rng(1).random((8, 12)).astype(np.float32)
    folder = put(store, 7, anomaly_map=hot, threshold=0.5, captured_ns=1_700_000_000 * 10**9)
    assert folder == f"a/2023-11-14/{RUN}-7"
    assert sorted(path.name for path in (tmp_path / folder).iterdir()) == ["frame.jpg", "heat.jpg", "map.npz"]
    with np.load(tmp_path / folder / "map.npz", allow_pickle=False) as arrays:
        assert arrays["map"].dtype == np.float32
        assert (arrays["map"] == hot).all()
        assert arrays["threshold"] == 0.5
    assert cv2.imread(str(tmp_path / folder / "heat.jpg")).shape[0] == 384
    assert not list((tmp_path / ".incoming").iterdir())


def test_colours_of_the_frame_are_kept(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, FREE)
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    blue, green, red_found = cv2.imread(str(tmp_path / put(store, 0, frame=red) / "frame.jpg"))[8, 8]
    assert (blue < 10, green < 10, red_found > 240) == (True, True, True)


@pytest.mark.parametrize("anomaly_map", [None, np.zeros((1, 1), np.float32)])
def test_without_a_pixel_map_there_is_only_the_frame(anomaly_map: Any, tmp_path: Path) -> None:
    folder = put(EvidenceStore(tmp_path, FREE), 0, anomaly_map=anomaly_map)
    assert [path.name for path in (tmp_path / folder).iterdir()] == ["frame.jpg"]


def test_the_first_evidence_of_a_frame_stays(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, FREE)
    folder = put(store, 0)
    before = (tmp_path / folder / "frame.jpg").read_bytes()
    assert put(store, 0, frame=255 - FRAME) == folder
    assert (tmp_path / folder / "frame.jpg").read_bytes() == before


def test_a_portrait_replaces_the_frame_and_keeps_its_age(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, FREE)
    folder = put(store, 3)
    jpeg = b"\xff\xd8\xff" + bytes(5000)
    store.portrait(line="a", run=RUN, seq=3, jpeg=jpeg)
    assert (tmp_path / folder / "frame.jpg").read_bytes() == jpeg
    assert (tmp_path / folder).stat().st_mtime_ns == NOW_NS + 3 * 10**6
    assert store._shelf.bytes == total_bytes(tmp_path) == len(jpeg)
    store.portrait(line="a", run=RUN, seq=4, jpeg=jpeg)  # has no evidence
    store.portrait(line="b", run=RUN, seq=3, jpeg=jpeg)
    assert kept(tmp_path) == [3]
    with pytest.raises(StorageError, match="are no JPEG"):
        store.portrait(line="a", run=RUN, seq=3, jpeg=b"<svg>")


@pytest.mark.parametrize("line", ["..", "../b", "a/b", "/etc", "", ".a", "a" * 65, "a\0", "a\n"])
def test_a_line_that_leads_elsewhere_is_refused(line: str, tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path / "evidence", FREE)
    calls: list[Callable[[], object]] = [
        lambda: put(store, 0, line=line),
        lambda: store.latest(line, b"\xff\xd8\xff"),
        lambda: store.portrait(line=line, run=RUN, seq=0, jpeg=b"\xff\xd8\xff"),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="is no name of a line"):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["evidence"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"run": "../x"}, "is no name of a run"),
        ({"run": "*"}, "is no name of a run"),
        ({"seq": -1}, "numbers begin at 0"),
        ({"captured_ns": 2**80}, "is no date"),
    ],
)
def test_what_names_no_frame_is_refused(other: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=said):
        put(EvidenceStore(tmp_path, FREE), **{"seq": 0} | other)


def test_the_oldest_go_first_when_there_is_too_much(tmp_path: Path) -> None:
    put(EvidenceStore(tmp_path / "one", FREE), 0)
    size = total_bytes(tmp_path / "one")
    store = EvidenceStore(tmp_path / "many", RetentionConfig(max_gb=4.5 * size / 1e9, min_free_gb=0))
    for seq in (5, 1, 4, 2, 3, 0):  # captured in the order of their numbers
        put(store, seq, line=f"line-{seq % 2}")
        assert total_bytes(tmp_path / "many") <= 4.5 * size
    assert kept(tmp_path / "many") == [0, 3, 4, 5]


def test_a_full_store_does_not_fill_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(EvidenceStore(tmp_path / "one", FREE), 0)
    most = RetentionConfig(max_gb=4.5 * total_bytes(tmp_path / "one") / 1e9, min_free_gb=0)
    store = EvidenceStore(tmp_path / "many", most)
    with structlog.testing.capture_logs() as said:
        for seq in range(30):
            put(store, seq)
        monkeypatch.setattr(module, "_SAY_S", 0.0)
        put(store, 30)
    assert [entry["frames"] for entry in said] == [1, 26]  # at once, then all of a minute together


def test_one_that_is_more_than_all_that_may_be_kept_is_refused(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, RetentionConfig(max_gb=1e-9, min_free_gb=0))
    with pytest.raises(StorageFull, match=r"more than retention\.max_gb 1e-09: raise it"):
        put(store, 0)
    assert kept(tmp_path) == []


def test_room_on_the_disk_comes_before_evidence(tmp_path: Path) -> None:
    put(EvidenceStore(tmp_path, FREE), 0)
    store = EvidenceStore(tmp_path, RetentionConfig(min_free_gb=1e9))
    with pytest.raises(StorageFull, match=r"short of retention\.min_free_gb"):
        put(store, 1)
    assert kept(tmp_path) == []
    assert store.prune() == 0


def test_pruning_stops_when_there_is_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EvidenceStore(tmp_path, RetentionConfig(min_free_gb=1))
    for seq in range(6):
        put(store, seq)

    class Usage(NamedTuple):
        free: float

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1e9 - len(kept(tmp_path)) + 2))
    assert store.prune() == 4
    assert kept(tmp_path) == [4, 5]


def test_old_evidence_goes(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, RetentionConfig(max_days=2, min_free_gb=0))
    day_ns = 24 * 3600 * 10**9
    for age in (5, 3, 1):
        put(store, 10 - age, captured_ns=NOW_NS - age * day_ns)
    assert kept(tmp_path) == [9]
    again = EvidenceStore(tmp_path, RetentionConfig(max_days=0.5, min_free_gb=0))
    assert again.prune() == 1
    assert [path.name for path in tmp_path.iterdir() if path.name not in {".incoming", "latest"}] == []


@given(
    frames=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40), st.booleans()), max_size=25),
    most=st.integers(1, 40),
)
@settings(max_examples=25, deadline=None)
def test_never_more_than_allowed_and_what_is_left_is_newest(
    frames: list[tuple[int, int, bool]], most: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("evidence")
    retention = RetentionConfig(max_gb=most * 1000 / 1e9, min_free_gb=0)
    store = EvidenceStore(root, retention)
    for seq, kilobytes, restart in frames:
        if restart:
            store = EvidenceStore(root, retention)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "_encode", lambda *_, size=kilobytes: {"frame.jpg": bytes(size * 1000)})
                put(store, seq)
            assert seq in kept(root)
        except StorageFull:
            assert kilobytes > most
        assert total_bytes(root) == store._shelf.bytes <= most * 1000
        assert len(kept(root)) == len(store._shelf)
    walked = Shelf(root)
    assert (walked.bytes, len(walked), walked.oldest_ns()) == (
        store._shelf.bytes,
        len(store._shelf),
        store._shelf.oldest_ns(),
    )


@pytest.mark.parametrize(("failures", "older", "kept_after"), [(1, 3, [9]), (1, 0, None), (2, 3, None)])
def test_a_full_disk_is_retried_once_without_older_evidence(
    failures: int, older: int, kept_after: list[int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EvidenceStore(tmp_path, FREE)
    for seq in range(older):
        put(store, seq)
    left = iter(range(failures))
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if next(left, None) is not None:
            raise OSError(28, os.strerror(28))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    if kept_after is None:
        with pytest.raises(StorageFull, match="the disk is full"):
            put(store, 9)
    else:
        put(store, 9)
        assert kept(tmp_path) == kept_after
    assert not list((tmp_path / ".incoming").iterdir())


def test_a_disk_that_refuses_otherwise_costs_no_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EvidenceStore(tmp_path, FREE)
    put(store, 0)

    def refuse(*_: object) -> int:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StorageError, match=r"Read-only file system: check the disk") as raised:
        put(store, 1)
    assert not isinstance(raised.value, StorageFull)
    assert kept(tmp_path) == [0]


def test_two_stores_on_one_folder_do_not_disturb_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = EvidenceStore(tmp_path, FREE), EvidenceStore(tmp_path, FREE)
    put(ours, 0)
    put(theirs, 1)
    shutil.rmtree(tmp_path / put(ours, 2))
    tight = RetentionConfig(max_gb=1e-9, min_free_gb=0)
    monkeypatch.setattr(ours, "_retention", tight)
    assert ours.prune() == 3
    assert kept(tmp_path) == []
    assert ours.held_bytes == 0


def test_what_others_add_is_seen_at_a_glance_and_what_they_change_at_a_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = EvidenceStore(tmp_path, FREE), EvidenceStore(tmp_path, FREE)
    put(ours, 0)
    for seq in range(1, 6):
        put(theirs, seq, line=f"line-{seq % 2}")
        assert ours.prune() == 0
        assert ours.held_bytes == total_bytes(tmp_path), seq
    shutil.rmtree(tmp_path / "line-1")
    put(theirs, 7, line="line-1")  # a day of the same name again
    theirs.portrait(line="line-0", run=RUN, seq=2, jpeg=b"\xff\xd8\xff" + bytes(99_999))
    monkeypatch.setattr(module, "_REWALK_S", 0.0)
    ours.prune()
    assert ours.held_bytes == total_bytes(tmp_path)


def test_two_stores_together_keep_no_more_than_one_may(tmp_path: Path) -> None:
    put(EvidenceStore(tmp_path / "one", FREE), 0)
    size = total_bytes(tmp_path / "one")
    most = RetentionConfig(max_gb=8.5 * size / 1e9, min_free_gb=0)
    stores = [EvidenceStore(tmp_path / "many", most) for _ in range(3)]
    for seq in range(60):
        put(stores[seq % 3], seq)
        if seq % 3 == 2:
            for store in stores:
                store.prune()
        assert total_bytes(tmp_path / "many") <= (8.5 + 2) * size, "what the others added since the last glance"
    assert kept(tmp_path / "many") == list(range(52, 60))


def test_threads_may_share_a_store(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, FREE)
    threads = [
        threading.Thread(target=lambda part=part: [put(store, seq) for seq in range(part, 24, 3)]) for part in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert kept(tmp_path) == list(range(24))
    assert store._shelf.bytes == total_bytes(tmp_path)


def test_what_a_killed_process_left_unfinished_goes_in_time(tmp_path: Path) -> None:
    EvidenceStore(tmp_path, FREE)
    old, young = tmp_path / ".incoming" / "old", tmp_path / ".incoming" / "young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "frame.jpg").write_bytes(b"")
    os.utime(old, (NOW_NS / 1e9 - 7200,) * 2)
    store = EvidenceStore(tmp_path, FREE)
    assert (old.exists(), young.exists()) == (False, True)
    assert store.prune() == 0


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("")
    with pytest.raises(StorageError, match=f"{tmp_path}/evidence: .* check the disk"):
        EvidenceStore(tmp_path / "evidence", FREE)


def test_latest_is_replaced(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, FREE)
    for value in (0, 250):
        store.latest("a", cv2.imencode(".jpg", np.full((16, 16, 3), value, np.uint8))[1].tobytes())
    with pytest.raises(StorageError, match="are no JPEG"):
        store.latest("a", b"<svg>")
    assert cv2.imread(str(tmp_path / "latest" / "a.jpg")).mean() > 240
    assert kept(tmp_path) == []
