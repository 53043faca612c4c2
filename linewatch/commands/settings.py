"""Settings and names as words of a command line; values of `--set` are YAML, so that they are what they look like."""

from collections.abc import Iterable, Sequence
from typing import Any

import typer
import yaml


def settings_of_one(given: Iterable[str]) -> dict[str, Any]:
    """Read `key=value`, for a command with a single detector."""
    return dict(_read(text, "key=value, for example --set epsilon=0.02") for text in given)


def settings_of_each(given: Iterable[str], names: Sequence[str], *, shared: bool) -> dict[str, dict[str, Any]]:
    """Read `detector.key=value`.

    Args:
        given: what was typed.
        names: of the detectors there are.
        shared: whether `key=value` is understood, too, as a setting of all; what names a detector goes first.

    Returns:
        The settings of each detector, also where there are none.
    """
    form = "key=value or detector.key=value" if shared else "detector.key=value, for example msflow.subfeatures=6"
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in given:
        place, value = _read(text, form)
        name, dot, key = (part.strip() for part in place.partition("."))
        if not dot and shared:
            common[name] = value
        elif not key:
            raise typer.BadParameter(f"--set {text!r}: write {form}")
        elif name not in own:
            raise typer.BadParameter(f"--set {text!r}: no detector {name!r} among {', '.join(names)}")
        else:
            own[name][key] = value
    return {name: {**common, **settings} for name, settings in own.items()}


def names_in(text: str) -> list[str]:
    """Read `a,b`, each name once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _read(text: str, form: str) -> tuple[str, Any]:
    place, equals, value = text.partition("=")
    if not equals or not place.strip():
        raise typer.BadParameter(f"--set {text!r}: write {form}")
    try:
        return place.strip(), yaml.safe_load(value)
    except yaml.YAMLError as exc:
        raise typer.BadParameter(f"--set {text!r}: the value is not YAML; quote it") from exc
