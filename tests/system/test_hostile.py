"""What comes from outside and means harm: pictures that unpack without end, names that lead elsewhere, texts that would
be commands. Real Redis, real SQLite, real decoders.
"""

import base64
import io
import json
import shutil
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest

from alerts.report.pictures import shrunk
from inference.errors import DataError
from inference.scene import _decode
from inference.training.tally import joined
from ingest.errors import ImageError
from ingest.headers import dimensions
from ingest.pictures import MAX_PIXELS, decode_picture
from linewatch.cli import main
from storage.bundle import Manifest
from storage.config import StorageConfig
from storage.errors import BundleError, StorageError
from storage.evidence import EvidenceStore
from storage.golden import GoldenSamples
from storage.history import History
from storage.lines import Lines
from storage.models import Registry, open_bundle
from storage.records import Status, Verdict
from storage.verdicts import VerdictStream

RUN = "00000000000000aa"
WAYS_OUT = [
    "..",
    "../x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "a/../../x",
    "a/b",
    "a\0b",
    "a\n",
    ".x",
    "",
    "a" * 5000,
    "a\\b",
    "\u202ea",
]
TEXTS = [
    "'; DROP TABLE alerts; --",
    '"}]} redis.call("FLUSHALL")',
    "\r\nFLUSHALL\r\n",
    "{p0}:verdicts",
    "*",
    "\x1b[2J\x07",
    "<script>alert(1)</script>",
    "%s%n{0}",
    '","seq":0,"status":"pass',
    "x" * 128,
]


def png(width, height):
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def jpeg(*sizes):
    """A JPEG with a frame header for each size."""
    frames = (b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, h, w, 3) + bytes(9) for w, h in sizes)
    return b"\xff\xd8" + b"".join(frames) + b"\xff\xd9"


def bmp(width, height):
    return b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, width, height, 1, 24, 1, 0, 0, 0, 0, 0)


def tiff(*widths):
    """A TIFF that tells its width once for each of `widths`."""
    tags = [(256, width) for width in widths] + [(257, 50_000)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries


def webp(width, height):
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas


BOMBS = [
    png(50_000, 50_000),
    jpeg((65_000, 65_000)),
    jpeg((8, 8), (65_000, 65_000)),
    jpeg((65_000, 65_000), (8, 8)),
    bmp(50_000, 50_000),
    tiff(50_000),
    tiff(50_000, 8),
    tiff(8, 50_000),
    webp(16_000, 16_000),
]


@pytest.mark.parametrize("data", BOMBS, ids=lambda data: f"{data[:4]!r} {len(data)} B")
def test_a_picture_is_measured_before_it_is_decoded(data, monkeypatch):
    monkeypatch.setattr("ingest.pictures.cv2.imdecode", lambda *_: pytest.fail("it was decoded"))
    width, height = dimensions(data)
    assert width * height > MAX_PIXELS
    with pytest.raises(ImageError, match=r"^bomb: \d+x\d+ is [\d.]+ megapixels, the limit is 100: crop or shrink it$"):
        decode_picture(data, "bomb")


def test_neither_a_report_nor_a_bundle_opens_a_bomb():
    assert shrunk(png(50_000, 50_000), most=10_000) is None
    assert shrunk(png(9_900, 9_900), most=10_000) is None
    with pytest.raises(ValueError, match="megapixels"):
        _decode(base64.b64encode(png(50_000, 50_000)).decode())


def test_counts_that_would_unpack_without_end_are_refused(tmp_path):
    array = io.BytesIO()
    np.save(array, np.zeros(4))
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("good.npy", "w") as out,
    ):
        out.write(array.getvalue())
        for _ in range(1100):
            out.write(bytes(2**20))
    assert (tmp_path / "bomb.npz").stat().st_size < 2**21
    with pytest.raises(DataError, match=r"bomb\.npz is damaged"):
        joined([tmp_path / "bomb.npz"])
    np.savez(tmp_path / "code.npz", good=np.array([print], dtype=object))
    with pytest.raises(DataError, match=r"code\.npz is damaged"):
        joined([tmp_path / "code.npz"])


@pytest.mark.parametrize("name", WAYS_OUT)
def test_no_name_leads_out_of_its_folder(tmp_path, name, plate_model):
    (tmp_path / "in").mkdir()
    evidence, golden = (
        EvidenceStore(tmp_path / "in" / "e", StorageConfig(data=tmp_path).retention),
        GoldenSamples(tmp_path / "in" / "g"),
    )
    before = set(tmp_path.rglob("*"))
    frame = np.zeros((4, 4, 3), np.uint8)
    about = {"frame": frame, "anomaly_map": None, "threshold": None, "captured_ns": 1}
    manifest = plate_model.manifest.model_dump() | {"tensors": {name: "0" * 64}}
    attempts = [
        lambda: evidence.put(line=name, run=RUN, seq=0, **about),
        lambda: evidence.put(line="a", run=name, seq=0, **about),
        lambda: evidence.latest(name, b"\xff\xd8\xff"),
        lambda: evidence.portrait(line=name, run=RUN, seq=0, jpeg=b"\xff\xd8\xff"),
        lambda: golden.add(name, "sample", png(1, 1), expected="pass", added_ns=1),
        lambda: golden.add("a", name, png(1, 1), expected="pass", added_ns=1),
        lambda: Registry(tmp_path / "in").resolve(name),
        lambda: Registry(tmp_path / "in").promote(name, 1),
        lambda: Manifest.model_validate(manifest),
        lambda: Manifest.model_validate(manifest | {"tensors": {}, "reference": {name: "0" * 64}}),
        lambda: Manifest.model_validate(manifest | {"tensors": {}, "name": name}),
    ]
    for attempt in attempts:
        with pytest.raises((StorageError, ValueError)) as caught:
            attempt()
        assert len(str(caught.value)) < 1000 or not isinstance(caught.value, StorageError)
    assert set(tmp_path.rglob("*")) == before


def test_a_bundle_whose_files_are_links_to_others_is_not_what_was_sealed(tmp_path, plate_model):
    copy = tmp_path / "plate" / "1"
    shutil.copytree(plate_model.path, copy)
    (tmp_path / "other").write_bytes(b"not the tensors")
    (copy / "tensors.safetensors").unlink()
    (copy / "tensors.safetensors").symlink_to(tmp_path / "other")
    with pytest.raises(BundleError, match="is not the manifest's"):
        open_bundle(str(copy)).tensors()


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_kept_as_they_are_and_do_nothing(redis_client, tmp_path, text):
    lines, stream = Lines(redis_client), VerdictStream(redis_client)
    redis_client.set("bystander", "1")
    now = time.time_ns()
    about = {"score": 2.0, "threshold": 1.0, "captured_ns": now, "judged_ns": now}
    texts = {"reason": text, "part": text, "model": text, "worker": text}
    verdict = Verdict(line="cam", run=RUN, seq=3, status=Status.REJECT, **about, **texts)
    lines.record([verdict])
    lines.close_gap(line="cam", run=RUN, ranges=[(0, 2)], status="unknown", reason=text, wall_ns=now, worker=text)
    lines.beat(line="cam", run=RUN, next_seq=4, camera=text, wall_ns=now, ended=False)
    found = {entry.seq: entry for _, entry in stream.latest(10)}
    assert found[3] == verdict
    assert {found[seq].reason for seq in (0, 1, 2)} == {text}
    assert {found[seq].status for seq in (0, 1, 2)} == {Status.UNKNOWN}
    state = lines.state("cam")
    assert (state.captured, state.unknown, state.rejected, state.passed, state.open) == (4, 3, 1, 0, 0)
    assert redis_client.get("bystander") == "1"

    history = History.open(StorageConfig(data=tmp_path))
    assert history.alerts(line=text) == []
    with pytest.raises(StorageError):
        history.acknowledge(text, by=text, now_ns=1, sinks=())
    assert history.alerts() == []


@pytest.mark.parametrize("line", ["a:b", "{p0}", "a}:x{", "lw:settings:x", "*"])
def test_a_line_whose_name_looks_like_a_key_has_accounts_of_its_own(redis_client, line):
    lines = Lines(redis_client)
    lines.beat(line="cam", run=RUN, next_seq=1, camera="ok", wall_ns=1, ended=False)
    lines.beat(line=line, run=RUN, next_seq=7, camera="ok", wall_ns=1, ended=False)
    assert lines.state("cam").captured == 1
    assert lines.state(line).captured == 7
    assert [state.line for state in lines.states()] == sorted(["cam", line])


def test_a_gap_without_end_is_closed_a_piece_at_a_time(redis_client):
    lines = Lines(redis_client)
    about = {"line": "cam", "run": RUN, "status": "skipped", "reason": "x", "wall_ns": 1, "worker": "w"}
    endless = [(0, 2**40 - 1)]
    assert [lines.close_gap(ranges=endless, most=3000, **about) for _ in range(2)] == [3000, 3000]
    assert lines.close_gap(ranges=[(0, 6999)], most=3000, **about) == 1000
    assert lines.close_gap(ranges=[(0, 6999)], most=3000, **about) == 0


def test_a_config_that_nests_without_end_or_names_itself_is_one_line(tmp_path, capsys):
    for number, text in enumerate(
        ["[" * 5000, "a: &a [*a, *a]", "&a {b: *a}", "lines: !!python/object/apply:os.system [id]"]
    ):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        assert main(["check", str(path)]) == 2
        assert "defect" not in capsys.readouterr().err


def test_a_manifest_that_is_no_manifest_is_one_line(tmp_path):
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    for text in ("[" * 100_000, json.dumps({"schema_version": 1, "zzz": "x" * 10**6}), "\0", "null"):
        (folder / "manifest.json").write_text(text, encoding="utf-8")
        with pytest.raises(BundleError) as caught:
            open_bundle(str(folder))
        assert len(str(caught.value)) < 1000
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]
