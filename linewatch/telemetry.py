"""Logs: one set-up for every process, to stderr, as JSON lines for machines or colours for a person.

`LINEWATCH_LOG=json|console` chooses (otherwise: console on a terminal), `LINEWATCH_LOG_LEVEL=debug|info|warning|error`
sets how much. Each line carries the time (UTC, milliseconds) and the role and name of its process, so that the logs of
many can be read as one; a line about a frame carries `verdict` (`line/run/seq`), one about an alert `alert`.
"""

import logging
import os
import sys
from datetime import UTC, datetime

import structlog

from linewatch.errors import ConfigError

DEBUG = "LINEWATCH_DEBUG"
"""Environment variable: `1` shows the traceback of every error."""
DEFECTS = "defects"
"""Its value in a role: nobody will run a worker again to see where it failed, so a defect's traceback is logged."""
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(role: str, name: str | None = None) -> None:
    """Set up logging once, at the start of a process.

    Args:
        role: capture, worker, alerts, up, …
        name: which of them, where there are several.

    Raises:
        ConfigError: an environment variable has a value that means nothing.
    """
    form = os.environ.get("LINEWATCH_LOG") or ("console" if sys.stderr.isatty() else "json")
    if form not in ("json", "console"):
        raise ConfigError(f"LINEWATCH_LOG={form}: should be json or console")
    level = os.environ.get("LINEWATCH_LOG_LEVEL", "info").lower()
    if level not in _LEVELS:
        raise ConfigError(f"LINEWATCH_LOG_LEVEL={level}: should be {', '.join(_LEVELS)}")
    known: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _identify(role, name),
        structlog.processors.add_log_level,
        _time,
    ]
    written: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if form == "json"
        # plain: the other formatters print local variables, and with them passwords
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=[*known, *written],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries speak through the standard logging; their warnings belong in the same place.
    logging.basicConfig(level=max(_LEVELS[level], logging.WARNING), stream=sys.stderr, force=True)
    logging.getLogger().handlers[0].setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=known,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *written],
        )
    )


def _time(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Milliseconds of UTC: lines of several hosts can be sorted, and compared with the page's times."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    event.setdefault("timestamp", f"{now.removesuffix('+00:00')}Z")
    return event


def _identify(role: str, name: str | None) -> structlog.typing.Processor:
    def add(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event.setdefault("role", role)
        if name is not None:
            event.setdefault("name", name)
        return event

    return add
