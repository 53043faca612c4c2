"""Whose the files are, and who can read them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from linewatch.config import Config
from linewatch.findings import Finding, bad, good, note

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MOST_NAMED = 5


def belongings(config: Config, file: Path) -> Iterator[Finding]:
    """Look at the data folder, keys, evidence and the configuration itself."""
    if not config.data.exists():
        yield good("data folder", f"{config.data} will be made by the first start, for its user alone")
    else:
        yield _folder("data folder", config.data)
        for subject, name in (("evidence folder", "evidence"), ("key folder", "keys")):
            if (config.data / name).exists():
                yield _folder(subject, config.data / name)
        yield from _secrets(config.data / "keys")
        yield from _strangers(config.data)
    yield _configuration(file)


def _folder(subject: str, folder: Path) -> Finding:
    try:
        found = folder.stat()
    except OSError as error:
        return bad(subject, f"{folder} cannot be looked at: {error.strerror}", "run doctor as linewatch's user")
    mode = stat.S_IMODE(found.st_mode)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        mend = f"chown -R {os.getuid()} {folder}, or run doctor as linewatch's user"
        return bad(subject, f"{folder} belongs to uid {found.st_uid}; this user, {os.getuid()}, cannot use it", mend)
    if mode & _OTHERS:
        return note(subject, f"{folder} has mode {mode:o}: others of this machine can look in", f"chmod 700 {folder}")
    return good(subject, f"{folder}, mode {mode:o}")


def _secrets(keys: Path) -> Iterator[Finding]:
    secrets = sorted(keys.rglob("*secret*")) if keys.is_dir() else []
    if not secrets:
        return
    loose = [file for file in secrets if file.lstat().st_mode & _OTHERS]
    if loose:
        yield bad("key files", f"others can read {_named(loose)}", f"make new keys, or chmod 600 {loose[0]}")
    else:
        yield good("key files", f"{len(secrets)} secret, none that others can read")


def _strangers(data: Path) -> Iterator[Finding]:
    """What another user made there, and linewatch would fail on later: typically root, by a command run once."""
    owner = data.stat().st_uid
    first_levels = [
        *data.iterdir(),
        *(inner for folder in data.iterdir() if folder.is_dir() for inner in _inside(folder)),
    ]
    others = [path for path in first_levels if path.lstat().st_uid != owner]
    if others:
        mend = f"chown -R --reference={data} {data}"
        yield note("owners", f"{_named(others)} in it belong to another user than {data}", mend)


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if os.access(folder, os.R_OK | os.X_OK) else []


def _named(files: list[Path]) -> str:
    rest = len(files) - _MOST_NAMED
    return ", ".join(map(str, files[:_MOST_NAMED])) + (f" and {rest} more" if rest > 0 else "")


def _configuration(file: Path) -> Finding:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and file.stat().st_gid != 0):
        return note("configuration", f"{file} has mode {mode:o}: others can change what runs", f"chmod 640 {file}")
    return good("configuration", f"{file}, mode {mode:o}")
