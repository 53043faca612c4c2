"""Whose the files are, and who can read them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from linewatch.config import Config
from linewatch.findings import Finding, bad, good, note
from linewatch.yamlfile import literal_passwords

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MOST_NAMED = 5
_MOUNTED = Path("/run/secrets")
"""Modes there are a container engine's, in a container of one user."""


def belongings(config: Config, file: Path) -> Iterator[Finding]:
    """Look at the data folder, keys, evidence and the configuration itself."""
    yield from _data(config.data)
    yield from _configuration(file)


def _data(data: Path) -> Iterator[Finding]:
    try:
        data.stat()
    except (FileNotFoundError, NotADirectoryError):
        yield good("data folder", f"{data} will be made by the first start, for its user alone")
        return
    except OSError:
        yield _folder("data folder", data)  # says why
        return
    yield _folder("data folder", data)
    if not _open(data):
        return  # what lies in it cannot be looked at; the finding above says so
    for subject, name in (("evidence folder", "evidence"), ("key folder", "keys")):
        if _status(data / name):  # not `exists`: it may be a link to where this user may not look
            yield _folder(subject, data / name)
    yield from _secrets(data / "keys")
    yield from _strangers(data)


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
    secrets = sorted(keys.rglob("*secret*")) if _open(keys) else []
    if not secrets:
        return
    loose = [file for file in secrets if (found := _status(file)) and found.st_mode & _OTHERS]
    if loose:
        yield bad("key files", f"others can read {_named(loose)}", f"make new keys, or chmod 600 {loose[0]}")
    else:
        yield good("key files", f"{len(secrets)} secret, none that others can read")


def _strangers(data: Path) -> Iterator[Finding]:
    """What another user made there, and linewatch would fail on later: typically root, by a command run once."""
    owner = data.stat().st_uid
    first_levels = [*data.iterdir(), *(inner for folder in data.iterdir() for inner in _inside(folder))]
    others = [path for path in first_levels if (found := _status(path)) and found.st_uid != owner]
    if others:
        mend = f"chown -R --reference={data} {data}"
        yield note("owners", f"{_named(others)} in it belong to another user than {data}", mend)


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if _open(folder) else []


def _open(folder: Path) -> bool:
    """Whether it is a folder that this user can look into."""
    return os.access(folder, os.R_OK | os.X_OK) and folder.is_dir()


def _status(path: Path) -> os.stat_result | None:
    """Whose it is and its mode; None: gone meanwhile, or where this user may see names only."""
    try:
        return path.lstat()
    except OSError:
        return None


def _named(files: list[Path]) -> str:
    rest = len(files) - _MOST_NAMED
    return ", ".join(map(str, files[:_MOST_NAMED])) + (f" and {rest} more" if rest > 0 else "")


def _configuration(file: Path) -> Iterator[Finding]:
    found = file.stat()
    mode = stat.S_IMODE(found.st_mode)
    changed = mode & stat.S_IWOTH or (mode & stat.S_IWGRP and found.st_gid != 0)
    passwords = literal_passwords(file) if _others_read(file, found) else []
    if passwords:
        text = f"{file} has mode {mode:o}, and others can read the password in {', '.join(passwords)}"
        yield bad("configuration", text, f"{_closing(file, found)}, or name an environment variable: ${{NAME}}")
    if changed:
        yield note("configuration", f"{file} has mode {mode:o}: others can change what runs", f"chmod 640 {file}")
    if not passwords and not changed:
        yield good("configuration", f"{file}, mode {mode:o}")


def _others_read(file: Path, found: os.stat_result) -> bool:
    """By the rules for the files of secrets: root's may be its group's, which is how the service's user reads it."""
    group = found.st_mode & stat.S_IRGRP and found.st_uid != 0 and found.st_gid != 0
    return bool(found.st_mode & stat.S_IROTH or group) and not file.resolve().is_relative_to(_MOUNTED)


def _closing(file: Path, found: os.stat_result) -> str:
    """What keeps others out and lets linewatch's user in."""
    if os.getuid() not in (0, found.st_uid):
        return f"chown root:{os.getgid()} {file}; chmod 640 {file}"
    return f"chmod {640 if found.st_uid == 0 and found.st_gid != 0 else 600} {file}"
