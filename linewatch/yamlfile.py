"""From a YAML file to plain values, strictly: no doubled key, no unexplained position, secrets from outside.

`${NAME}` in a value is replaced by the environment's NAME, `${file:PATH}` by the content of a file (a container's
secret) without its last line break; `$${` stands for a literal `${`.

A secret that others can read is none: such a file is refused. Two exceptions, which are not for the reader to mend: a
file of root's that its group may read (the rule of PostgreSQL's keys), and what lies below `/run/secrets`, where a
container engine mounts files of mode 0444 into a container that has one user.
"""

import os
import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from linewatch.errors import ConfigError

_REFERENCE = re.compile(r"\$(?P<literal>\$)?\{(?P<name>[^}]*)\}")
# A password may hold an unescaped `/`; what is digits and a `/` is a port.
_CREDENTIALS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#:@]*:(?!\d+/)(?P<password>.+)@")
_MOUNTED = Path("/run/secrets")

_BOOL = "tag:yaml.org,2002:bool"


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe subset, without two of PyYAML's surprises.

    The last of two equal keys would win in silence, and YAML 1.1 reads `on`, `off`, `yes` and `no` as booleans, so that
    a sink's `on:` would be the key `True`; YAML 1.2 has only `true` and `false`.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(_BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping and expand the references in its values.

    Raises:
        ConfigError: one line per problem: no such file, not YAML (with the line's number), no mapping, a reference to
            what is not there.
    """
    try:
        return _read(path)
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply, or holds itself (`&name`, `*name`)") from None


def _read(path: Path) -> dict[str, Any]:
    values = _parse(path)
    if values is None:
        raise ConfigError(f"{path}: is empty; it needs at least `data:` and one of `lines:`")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: should be `key: value` lines, not a {type(values).__name__}")
    problems: list[str] = []
    expanded = _expand(values, "", problems)
    if problems:
        raise ConfigError(*(f"{path}: {problem}" for problem in problems))
    return dict(expanded)


def _parse(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        values = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader, stricter
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path}: {where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    return values


def yaml_path(location: tuple[int | str, ...]) -> str:
    """Write `("lines", 0, "roi")` as a person would: `lines[0].roi`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _expand(value: Any, where: str, problems: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _expand(inner, f"{where}.{key}".removeprefix("."), problems) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, f"{where}[{number}]", problems) for number, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match["literal"]:
            return match[0][1:]
        try:
            return _look_up(match["name"])
        except ConfigError as error:
            problems.append(f"{where}: {error}")
            return ""

    return _REFERENCE.sub(replace, value)


def read_secret(path: Path) -> str:
    """Read a file that only its owner may read, without its last line break.

    Raises:
        ConfigError: it cannot be read, or others can read it too.
    """
    try:
        with path.open(encoding="utf-8") as file:  # what was opened is what is looked at
            status = os.fstat(file.fileno())
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        # A decoding error would quote what it could not decode.
        why = error.strerror if isinstance(error, OSError) else "is no text"
        raise ConfigError(f"{path}: cannot be read: {why}") from None
    mode = stat.S_IMODE(status.st_mode)
    refused = 0o007 if status.st_uid == 0 and os.geteuid() != 0 else 0o077
    if mode & refused and not path.resolve().is_relative_to(_MOUNTED):
        raise ConfigError(f"{path}: is a secret, and its mode {mode:03o} lets others read it: chmod 600 {path}")
    return text.removesuffix("\n")


def literal_passwords(path: Path) -> list[str]:
    """Places of a readable configuration where a URL holds a password as it stands, like `redis` or `lines[0].source`.

    Raises:
        ConfigError: it is not YAML.
    """
    found: list[str] = []
    _search(_parse(path), "", found)
    return found


def _search(value: Any, where: str, found: list[str]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _search(inner, f"{where}.{key}".removeprefix("."), found)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _search(inner, f"{where}[{number}]", found)
    elif isinstance(value, str):
        credentials = _CREDENTIALS.search(value)
        if credentials is not None and _REFERENCE.search(credentials["password"]) is None:
            found.append(where)


def _look_up(name: str) -> str:
    if name.startswith("file:"):
        try:
            return read_secret(Path(name.removeprefix("file:")))
        except ConfigError as error:
            raise ConfigError(f"${{{name}}}: {str(error).partition(': ')[2]}") from None
    if name not in os.environ:
        raise ConfigError(
            f"the environment has no {name or '(empty name)'}; set it, or write $${{{name}}} for the text"
        )
    return os.environ[name]
