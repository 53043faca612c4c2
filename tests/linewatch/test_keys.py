"""`linewatch keys`: on one host, on two, and what is told."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from ingest.allowlist import AllowList
from ingest.curve import camera_pair
from linewatch.cli import main

CONFIG = """
data: {data}
workers: [{{name: w0, bind: "tcp://127.0.0.1:5550"}}]
lines:
  - {{id: cam, source: "synthetic:belt", model: belt}}
  - {{id: dock, source: "synthetic:yard", model: yard}}
"""


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Each command points the logs of this process at its own stderr."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


class Host:
    """One machine with its configuration and folder of keys."""

    def __init__(self, folder, capsys):
        folder.mkdir()
        self.keys, self.config, self._capsys = folder / "var" / "keys", folder / "linewatch.yaml", capsys
        self.config.write_text(CONFIG.format(data=folder / "var"), encoding="utf-8")

    def __call__(self, verb, *arguments, code=0):
        self._capsys.readouterr()
        assert main(["keys", verb, str(self.config), *map(str, arguments)]) == code
        said = self._capsys.readouterr()
        return said.out if code == 0 else said.err

    def states(self):
        rows = [json.loads(line) for line in self("list", "--json").splitlines()]
        return {(row["line"], row["state"]) for row in rows}


@pytest.fixture
def host(tmp_path, capsys):
    return Host(tmp_path / "worker", capsys)


def test_a_camera_on_another_host_is_let_in_by_its_public_key(host, tmp_path, capsys):
    camera = Host(tmp_path / "camera", capsys)
    assert "linewatch keys allow CONFIG cam cam.key" in camera("new", "cam")
    assert host.states() == {("cam", "none"), ("dock", "none")}
    public = camera.keys / "cameras" / "cam.key"
    assert "may speak for it" in host("allow", "cam", public)
    assert AllowList(host.keys).read() == {camera_pair(camera.keys, "cam").public: {"cam"}}
    assert host.states() == {("cam", "allowed"), ("dock", "none")}
    host("revoke", "cam")
    assert AllowList(host.keys).read() == {}
    assert host.states() == {("cam", "revoked"), ("dock", "none")}
    host("allow", "cam", public)
    assert host.states() == {("cam", "allowed"), ("dock", "none")}


def test_what_a_cameras_host_needs_is_made_on_the_workers_host_once(host, tmp_path):
    out = tmp_path / "for-dock"
    host("new", "dock", "--out", out)
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.key*")}
    assert set(files) == {"worker.key", "cameras/dock.key", "cameras/dock.key_secret"}
    assert not (host.keys / "cameras").exists(), "the camera's secret is the camera's"
    host("new", "dock", "--out", out)
    assert {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.key*")} == files
    host("revoke", "dock")
    assert "was revoked and stays out" in host("new", "dock", "--out", out)
    assert host.states() == {("dock", "revoked"), ("cam", "none")}
    host("new", "dock", "--out", out, "--replace")
    assert host.states() == {("dock", "revoked"), ("dock", "allowed"), ("cam", "none")}
    assert len(AllowList(host.keys).read()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("new", "nowhere"), "no line 'nowhere'; there is cam, dock"),
        (("new", "../cam"), "no line '../cam'"),
        (("allow", "cam", "/nonexistent.key"), "holds no public key"),
        (("allow", "cam", "cam.key_secret"), "is a secret key: it stays"),
        (("revoke", "cam"), "those that may: none"),
        (("revoke", "cam", "--key", "0123456789abcdef"), "no key 0123456789abcdef may speak"),
    ],
)
def test_a_wrong_request_is_one_line_that_names_the_mend(host, arguments, says):
    verb, *rest = arguments
    code = 1 if verb == "allow" and rest[1].endswith("nonexistent.key") else 2
    said = host(verb, *rest, code=code)
    assert says in said
    assert len(said.strip().splitlines()) == 1


def test_a_key_of_an_older_version_is_told_with_its_mend(host, tmp_path):
    key = camera_pair(tmp_path / "old", "capture")
    AllowList(host.keys).allow("cam", key.public)
    host.keys.joinpath("allowed", "capture.key").write_bytes((tmp_path / "old/cameras/capture.key").read_bytes())
    assert "capture.key: names no line, so it lets nobody in: linewatch keys allow" in host("list")
