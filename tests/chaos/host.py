"""What only root may do to the machine, and only inside folders and namespaces made here: small disks, another host."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NAMESPACE_NET = "10.213.{0}.{1}"


def may_mount() -> bool:
    """Whether small file systems can be mounted here."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


def may_split() -> bool:
    """Whether network namespaces can be made here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"lw{os.getpid()}t"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        run("ip", "netns", "del", name)
    return made


def may_step() -> bool:
    """Whether the library that steps the clocks of our processes can be built."""
    return shutil.which("cc") is not None


def run(*command: str) -> None:
    """Run a system command that must succeed."""
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)


@contextmanager
def small_disk(folder: Path, *, mb: int) -> Iterator[None]:
    """A file system of its own, in memory, at `folder`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={mb}m,mode=0700", "tmpfs", str(folder))
    try:
        yield
    finally:
        run("umount", "--lazy", str(folder))


class OtherHost:
    """A network namespace joined to this one by a cable that can be pulled."""

    def __init__(self) -> None:
        number = os.getpid() % 250 + 1
        self.name, self._here, self._there = f"lw{os.getpid()}", f"lw{os.getpid()}a", f"lw{os.getpid()}b"
        self.address, remote = NAMESPACE_NET.format(number, 1), NAMESPACE_NET.format(number, 2)
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self._here, "type", "veth", "peer", "name", self._there)
        run("ip", "link", "set", self._there, "netns", self.name)
        run("ip", "addr", "add", f"{self.address}/24", "dev", self._here)
        run("ip", "link", "set", self._here, "up")
        run("ip", "netns", "exec", self.name, "ip", "addr", "add", f"{remote}/24", "dev", self._there)
        run("ip", "netns", "exec", self.name, "ip", "link", "set", self._there, "up")

    def command(self, command: Sequence[str]) -> list[str]:
        """The same command, on that host."""
        return ["ip", "netns", "exec", self.name, *command]

    def pull_cable(self) -> None:
        """Cut the two hosts off from each other: packets vanish, no connection is closed."""
        run("ip", "link", "set", self._here, "down")

    def plug_cable(self) -> None:
        """Join them again."""
        run("ip", "link", "set", self._here, "up")

    def close(self) -> None:
        """Remove the namespace, and the cable with it."""
        run("ip", "netns", "del", self.name)


def build_clock(folder: Path) -> Path:
    """Compile `clock.c`; the path of the library to preload."""
    library = folder / "clock.so"
    run("cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(Path(__file__).with_name("clock.c")))
    return library
