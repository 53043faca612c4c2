"""What pydantic found wrong, in words for whoever writes the YAML file."""

import difflib
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from linewatch.yamlfile import yaml_path

Location = tuple[int | str, ...]
_SHOWN = 60
# `user:password@`, and whatever stands before an `@` in a URL: passwords with an unescaped `/` or `@` exist.
_CREDENTIALS = re.compile(r"(?<=://)\S*@|[^\s'\"]*:\S*@")


def complaints(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """One line per problem: where in the file, what is wrong, what to write instead.

    Args:
        error: raised by `model`.
        model: root of the tree.
    """
    problems = error.errors()
    for problem in problems:
        location = problem["loc"]
        if problem["type"] == "too_short" and any(other["loc"][:-1][: len(location)] == location for other in problems):
            continue  # not short, but full of entries that were refused
        where = yaml_path(location)
        match problem["type"]:
            case "extra_forbidden":
                text = f"unknown key{_suggestion(model, location)}"
            case "missing":
                text = "is missing"
            case "value_error":
                text = _CREDENTIALS.sub("***@", problem["msg"].removeprefix("Value error, "))
            case "string_pattern_mismatch":
                text = f"{_shown(problem['input'])} does not match {problem['ctx']['pattern']}"
            case "too_short":
                text = f"is empty; it needs at least {problem['ctx']['min_length']}"
            case "model_type" | "model_attributes_type" | "dict_type":
                text = f"should be `key: value` lines, not {_shown(problem['input'])}"
            case "tuple_type" | "list_type":
                text = f"should be a list, not {_shown(problem['input'])}"
            case _:
                message = problem["msg"].replace("Input should be", "should be")
                text = f"{message}, not {_shown(problem['input'])}"
        yield f"{where}: {text}" if where else text


def _shown(value: Any) -> str:
    """The offending value, short; a text with credentials in it stays out of logs."""
    text = repr(value)
    if _CREDENTIALS.search(text):
        return "(an address with credentials)"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _suggestion(model: type[BaseModel], location: Location) -> str:
    *parents, key = location
    known = sorted(_keys(_at(model, tuple(parents))))
    close = difflib.get_close_matches(str(key), known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there is {', '.join(known)}" if known else ""


def _keys(model: type[BaseModel] | None) -> list[str]:
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


def _at(annotation: Any, location: Location) -> type[BaseModel] | None:
    """Find the model at a place of the tree."""
    found = _model(annotation)
    for part in location:
        if isinstance(part, int):
            continue  # the entries of a list are all of one model
        if found is None:
            return None
        field = next((f for name, f in found.model_fields.items() if part in (name, f.alias)), None)
        found = None if field is None else _model(field.annotation)
    return found


def _model(annotation: Any) -> type[BaseModel] | None:
    """Look through `X | None`, `Annotated[X, …]` and `tuple[X, ...]` for the model inside."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    if get_origin(annotation) in (Annotated, Union, types.UnionType, tuple, list):
        return next((model for inner in get_args(annotation) if (model := _model(inner)) is not None), None)
    return None
