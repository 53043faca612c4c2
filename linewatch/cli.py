"""The command line: commands from `linewatch/commands/`, and what an error becomes.

Exit codes: 0 done, 1 the work failed, 2 the request was wrong, 70 a defect of linewatch itself. Whatever goes wrong is
one line per problem on stderr; `--debug` (or `LINEWATCH_DEBUG=1`) adds the traceback.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import structlog
import typer

from alerts.errors import AlertError
from inference.errors import DataError, EngineError, InferenceError, WeightsError
from ingest.errors import IngestError
from linewatch.errors import ConfigError, FrontError
from linewatch.telemetry import DEBUG, DEFECTS
from storage.errors import BundleError, StorageError

_MODULES = (
    "running",
    "status",
    "backup",
    "watching",
    "accounts",
    "feedback",
    "reporting",
    "replaying",
    "recommending",
    "fitting",
    "judging",
    "updating",
    "learning",
    "golden",
    "benchmarking",
    "models",
    "keys",
    "listing",
    "checking",
)
_WRONG_REQUEST = (ConfigError, BundleError, DataError, WeightsError, EngineError)
_FAILED = (FrontError, IngestError, StorageError, InferenceError, AlertError)
_DEFECT = 70  # EX_SOFTWARE of sysexits.h
# Newer versions of typer carry their own copy of click: its base of all usage errors is only reachable through one.
_MISUSE: type[Exception] = typer.BadParameter.__mro__[2]

log = structlog.get_logger()

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Watch fixed cameras: learn what normal looks like, judge every frame, raise alerts you can trust.",
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"linewatch {version('linewatch')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Without a command, say which there are."""
    if debug:
        os.environ[DEBUG] = "1"
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


for _name in _MODULES:
    app.add_typer(import_module(f"linewatch.commands.{_name}").app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    # torch's OpenMP threads spin while they wait for each other. Beside a capture, a Redis and an alert service that
    # want the same cores this makes inference several times slower; asleep they cost next to nothing.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        command = typer.main.get_command(app)
        result = command.main(args=arguments, prog_name="linewatch", standalone_mode=False)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone: nothing is left to say, also not while Python shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: no user sees a traceback unasked
        return _explain(error)
    return result if isinstance(result, int) else 0


def _explain(error: Exception) -> int:
    debugging = os.environ.get(DEBUG, "") not in ("", "0", DEFECTS)
    if debugging:
        traceback.print_exc()
    if isinstance(error, _MISUSE):
        return _misuse(error)
    if isinstance(error, typer.Abort):
        return _fail("aborted", 1)
    if isinstance(error, _WRONG_REQUEST):
        return _fail(str(error), 2)
    if isinstance(error, _FAILED):
        return _fail(str(error), 1)
    if os.environ.get(DEBUG) == DEFECTS:
        log.critical("defect", exc_info=error)
    hint = "" if debugging else "; run with --debug to see where"
    return _fail(f"defect: {type(error).__name__}: {error}{hint}", _DEFECT)


def _misuse(error: Exception) -> int:
    format_message = getattr(error, "format_message", error.__str__)
    if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: the message is its help
        typer.echo(format_message(), err=True)
        return 2
    context = getattr(error, "ctx", None)
    hint = f" (see `{context.command_path} --help`)" if context is not None else ""
    return _fail(f"{format_message()}{hint}", 2)


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        typer.echo(f"linewatch: {line}", err=True)
    return code
