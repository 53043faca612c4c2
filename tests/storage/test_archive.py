"""Archives: as a whole or not at all, and nothing of a wrong one is taken over."""

import hashlib
import io
import json
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.archive import MANIFEST, Archive, Contents, archive
from storage.errors import StorageError

FILES = {
    "history.db": b"rows" * 1000,
    "models/m/current": b"1\n",
    "golden/a/samples.json": b"{}",
    "models/m/1/empty": b"",
}
CONTENTS = Contents(made_ns=1, site="plant", linewatch="1", revision="0002", keys=False)


def write(path: Path, files: dict[str, bytes] | None = None) -> Path:
    with archive(path, replace=False) as writer:
        for name, data in (FILES if files is None else files).items():
            writer.add(name, data)
        writer.seal(CONTENTS)
    return path


def made_by_hand(path: Path, *entries: tuple[tarfile.TarInfo, bytes], listed: dict[str, bytes]) -> Path:
    """What an attacker could make: any entries, and a manifest that lists what is wanted."""
    members = [
        {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in listed.items()
    ]
    manifest = json.dumps({**CONTENTS.model_dump(), "members": members}).encode()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for entry, data in entries:
            tar.addfile(entry, io.BytesIO(data))
        tar.addfile(plain(MANIFEST, manifest), io.BytesIO(manifest))
    return path


def plain(name: str, data: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    return entry


def test_what_went_in_comes_out_for_this_user_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "b.tar")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["b.tar"], "nothing is left beside it"
    found = Archive(path)
    found.verify()
    found.extract(tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in FILES} == FILES
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "out").rglob("*") if p.is_file()} == {0o600}
    assert (found.contents.site, found.size) == ("plant", sum(map(len, FILES.values())))


def test_the_systems_tar_reads_it(tmp_path: Path) -> None:
    with tarfile.open(write(tmp_path / "b.tar")) as tar:
        assert tar.getnames() == [*FILES, MANIFEST]


def test_an_older_file_is_replaced_only_when_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "b.tar")
    with pytest.raises(StorageError, match="is there already"), archive(path, replace=False):
        pass
    before = path.read_bytes()
    with pytest.raises(StorageError, match="gone: No such file"), archive(path, replace=True) as writer:
        writer.add_file("history.db", tmp_path / "gone")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["b.tar"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_damage_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damage")
    whole = write(folder / "b.tar").read_bytes()
    end = whole.rstrip(b"\0")
    at = data.draw(st.integers(0, len(end) - 1))
    if data.draw(st.booleans()):
        broken = whole[:at]
    else:
        broken = whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :]
    (folder / "c.tar").write_bytes(broken)
    try:
        found = Archive(folder / "c.tar")
        found.verify()
    except StorageError:
        return
    found.extract(folder / "out")  # only what means nothing may differ: a spare byte of a header, a figure for people
    assert {name: (folder / "out" / name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "models/../../x", "models/.x", "evil", "models", "golden/a\nb", "models/a/b/c/d/e/f/g"]
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    path = made_by_hand(tmp_path / "b.tar", (plain(name, b"x"), b"x"), listed={name: b"x"})
    with pytest.raises(StorageError, match="which no backup of linewatch does"):
        Archive(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    entry = plain("models/m/current", b"")
    entry.type, entry.linkname = kind, "/etc/passwd"
    with pytest.raises(StorageError, match="refused"):
        Archive(made_by_hand(tmp_path / "b.tar", (entry, b""), listed={}))


def test_a_long_name_extension_is_refused(tmp_path: Path) -> None:
    name = "models/" + "m" * 120 + "/current"
    with pytest.raises(StorageError, match="refused"):
        Archive(made_by_hand(tmp_path / "b.tar", (plain(name, b"x"), b"x"), listed={name: b"x"}))


def test_what_is_not_listed_or_twice_or_missing_is_refused(tmp_path: Path) -> None:
    one = (plain("models/m/current", b"1"), b"1")
    with pytest.raises(StorageError, match="lists: models/m/current"):
        Archive(made_by_hand(tmp_path / "a.tar", one, listed={}))
    with pytest.raises(StorageError, match="twice"):
        Archive(made_by_hand(tmp_path / "b.tar", one, one, listed={"models/m/current": b"1"}))
    with pytest.raises(StorageError, match=r"lists: history\.db"):
        Archive(made_by_hand(tmp_path / "c.tar", listed={"history.db": b"1"}))


def test_a_size_beyond_the_file_is_refused(tmp_path: Path) -> None:
    """Nothing is compressed, so no archive can grow beyond its own size; a header may still claim it."""
    path = tmp_path / "b.tar"
    path.write_bytes(plain("history.db", b"").tobuf(tarfile.GNU_FORMAT))
    entry = tarfile.TarInfo("history.db")
    entry.size = 2**62
    path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(StorageError, match=r"cut off within history\.db"):
        Archive(path)


def test_a_compressed_one_and_what_is_none_are_one_clear_line(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "b.tar", "w:gz") as tar:
        tar.addfile(plain("history.db", b"x" * 5000), io.BytesIO(b"x" * 5000))
    for content in ((tmp_path / "b.tar").read_bytes().ljust(2048, b"x"), b"", b"hello" * 1000, bytes(4096)):
        (tmp_path / "c.tar").write_bytes(content)
        with pytest.raises(StorageError, match=r"c\.tar: ") as caught:
            Archive(tmp_path / "c.tar")
        assert "\n" not in str(caught.value)


def test_a_newer_one_is_refused(tmp_path: Path) -> None:
    newer = Contents.model_construct(**{**CONTENTS.model_dump(), "v": 2})
    with archive(tmp_path / "b.tar", replace=False) as writer:
        writer.seal(newer)
    with pytest.raises(StorageError, match="made by a newer linewatch"):
        Archive(tmp_path / "b.tar")


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)

    def told(_size: int) -> None:
        (tmp_path / "f").write_bytes(b"x")

    with (
        pytest.raises(StorageError, match="changed while it was read"),
        archive(tmp_path / "b.tar", replace=False, told=told) as writer,
    ):
        writer.add_file("history.db", tmp_path / "f")
    assert not (tmp_path / "b.tar").exists()
