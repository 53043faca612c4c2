"""How a source is written, `kind:rest?option=value`, and how it is shown to people."""

import re
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, ValidationError

from ingest.errors import SourceError


class SourceOptions(BaseModel):
    """Base of the options of one kind of source: what follows the `?`. Unknown ones are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


OptionsT = TypeVar("OptionsT", bound=SourceOptions)


def read_options(model: type[OptionsT], query: str, *, of: str) -> OptionsT:
    """Read `a=1&b=2` into `model`; `of` names the source in errors.

    Raises:
        SourceError: an unknown, doubled or wrong option; names it and the ones that exist.
    """
    given: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in given:
            raise SourceError(f"{of}: option {name} is given twice")
        given[name] = value
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(model.model_fields) or "none"
        option = str(first["loc"][0]) if first["loc"] else query
        if first["type"] == "extra_forbidden":
            raise SourceError(f"{of}: unknown option {option!r}; it has: {known}") from error
        said = first["msg"].removeprefix("Value error, ")
        raise SourceError(f"{of}: option {option}={given.get(option)!r}: {said}; options are: {known}") from error


def redacted(url: str) -> str:
    """Make a URL fit for a log: user, password and query (which may hold either) are blotted out.

    Everything up to the last `@` goes, because passwords with an unescaped `/` or `@` exist.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    if "@" in rest:
        rest = "***@" + rest.rpartition("@")[2]
    return scheme + separator + re.sub(r"[?#].*", "?***", rest, flags=re.DOTALL)
