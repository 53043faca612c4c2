"""What systemd is told, over a real socket of its kind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from linewatch.notify import Notifier

ROOT = Path(__file__).parents[2]


@pytest.fixture
def manager(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        yield listener, str(tmp_path / "notify")


def test_ready_is_said_once_and_children_cannot_speak(manager, monkeypatch):
    listener, address = manager
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notifier = Notifier()
    assert "NOTIFY_SOCKET" not in os.environ
    for _ in range(2):
        notifier.turn()
    notifier.stopping()
    assert [listener.recv(100) for _ in range(3)] == [b"READY=1\nWATCHDOG=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_an_abstract_address_is_understood(monkeypatch):
    name = f"linewatch-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        Notifier().turn()
        listener.settimeout(10)
        assert listener.recv(100) == b"READY=1\nWATCHDOG=1"


def test_nobody_who_listens_is_no_failure(monkeypatch, tmp_path, capsys):
    Notifier().turn()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notifier = Notifier()
    for _ in range(3):
        notifier.turn()
    assert capsys.readouterr().out.count("systemd does not listen") == 1


def test_up_tells_systemd(manager, tmp_path):
    listener, address = manager
    (tmp_path / "linewatch.yaml").write_text(
        "data: var/\nlines: [{id: a, source: 'synthetic:belt?fps=2', model: m}]\nalerts: {page: null}\n"
    )
    command = [sys.executable, "-P", "-m", "linewatch", "up", str(tmp_path / "linewatch.yaml")]
    with subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": address, "PYTHONPATH": str(ROOT)}) as process:
        assert listener.recv(100) == b"READY=1\nWATCHDOG=1"
        assert listener.recv(100) == b"WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        said = b""
        while said != b"STOPPING=1":
            said = listener.recv(100)
        assert process.wait(60) == 0
