"""`linewatch accounts`: who may look at the page, and who may act."""

import secrets
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linewatch.commands.running import ConfigFile
from linewatch.config import load
from linewatch.errors import ConfigError
from linewatch.tables import print_table
from linewatch.yamlfile import read_secret
from storage.roles import Role

if TYPE_CHECKING:
    from storage.accounts import Accounts

app = typer.Typer()
accounts = typer.Typer(
    no_args_is_help=True, help="Accounts of the page: add | list | role | password | token | remove."
)
app.add_typer(accounts, name="accounts")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits and _ . @ -", show_default=False)]
PasswordFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Take the password from a file of mode 600; default: asked for, or from stdin."),
]
_LONGEST_LINE = 4096


@accounts.command("add")
def add(
    config: ConfigFile,
    name: Name,
    *,
    role: Annotated[Role, typer.Option(help="A viewer looks; an operator acknowledges and labels too.")] = Role.VIEWER,
    password_file: PasswordFile = None,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="Nobody can log in with it: for a program, which has a token.")
    ] = False,
) -> None:
    """Make an account. As soon as there is one, page and API ask everybody who they are."""
    if no_password and password_file is not None:
        raise typer.BadParameter("--no-password and --password-file exclude each other")
    known = _open(config)
    password = secrets.token_urlsafe(32) if no_password else _password(password_file)
    try:
        account = known.add(name, role, password, now_ns=time.time_ns())
    except ValueError as error:
        raise ConfigError(str(error)) from error
    typer.echo(f"{account.name}: {account.role.value}")


@accounts.command("list")
def list_accounts(
    config: ConfigFile,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List accounts, never their secrets."""
    found = _open(config).all()
    if as_json:
        for account in found:
            typer.echo(account.model_dump_json())
        return
    rows = ((a.name, a.role.value, _day(a.created_ns), _day(a.token_ns)) for a in found)
    print_table(("name", "role", "since", "token since"), rows)


@accounts.command("role")
def change_role(
    config: ConfigFile, name: Name, role: Annotated[Role, typer.Argument(help="What it may do from now on.")]
) -> None:
    """Let an account do more or less, from its next request on."""
    _open(config).set_role(name, role)
    typer.echo(f"{name}: {role.value}")


@accounts.command("password")
def change_password(config: ConfigFile, name: Name, *, password_file: PasswordFile = None) -> None:
    """Give an account another password; whoever is logged in with it is out."""
    known = _open(config)
    try:
        known.set_password(name, _password(password_file))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    typer.echo(f"{name}: new password; all its logins have ended")


@accounts.command("token")
def make_token(
    config: ConfigFile,
    name: Name,
    *,
    drop: Annotated[bool, typer.Option("--drop", help="End the token instead.")] = False,
) -> None:
    """Print a token for a program, this once; the one before it ends. Send it as `Authorization: Bearer TOKEN`."""
    known = _open(config)
    if drop:
        known.drop_token(name)
        typer.echo(f"{name}: has no token")
        return
    typer.echo(known.make_token(name, now_ns=time.time_ns()))


@accounts.command("remove")
def remove(config: ConfigFile, name: Name) -> None:
    """Remove an account; whoever is logged in with it is out."""
    known = _open(config)
    known.remove(name)
    typer.echo(f"{name}: removed; its logins and its token have ended")
    if not known.there_are():
        typer.echo("That was the last one: from now on this machine alone may look, without a login.", err=True)


def _open(config: Path) -> "Accounts":
    loaded = load(config)
    from storage.accounts import Accounts  # noqa: PLC0415 - brings SQLAlchemy
    from storage.history import History  # noqa: PLC0415 - as above

    return Accounts(History.open(loaded.storage).database)


def _password(file: Path | None) -> str:
    """Never from the command line, which every user of this machine can read while it runs."""
    if file is not None:
        return read_secret(file)
    if sys.stdin.isatty():
        typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return typed
    return sys.stdin.readline(_LONGEST_LINE).removesuffix("\n")


def _day(wall_ns: int | None) -> str:
    return "-" if wall_ns is None else f"{datetime.fromtimestamp(wall_ns / 1e9).astimezone():%Y-%m-%d %H:%M}"
