"""What a configuration shows to whom it should not: a page without accounts, passwords in the file itself."""

from collections.abc import Iterator
from pathlib import Path

from alerts.origin import is_loopback
from linewatch.config import Config
from linewatch.findings import Finding, bad, good, note
from linewatch.yamlfile import literal_passwords
from storage.accounts import Accounts
from storage.errors import StorageError
from storage.history import History

_SUBJECT = "alerts.page"


def exposed_page(config: Config) -> Iterator[Finding]:
    """Whether a page that other machines reach asks who they are."""
    page = config.alerts.page
    if page is None or is_loopback(page.bind.rpartition(":")[0]):
        return
    add = "linewatch accounts add CONFIG NAME"
    try:
        guarded = _accounts(config)
    except StorageError as error:
        yield note(_SUBJECT, f"whether there are accounts is not known: {error}")
        return
    if guarded:
        yield good(_SUBJECT, f"other machines reach {page.bind}, and have to log in")
    elif page.open:
        yield note(_SUBJECT, f"everybody who reaches {page.bind} may look and act", add)
    else:
        mend = f"{add}, or let `bind` be 127.0.0.1:8700, or say `open: true`"
        yield bad(_SUBJECT, f"other machines reach {page.bind}, and there are no accounts", mend)


def written_passwords(path: Path) -> Iterator[Finding]:
    """Passwords that whoever reads the file, a backup of it, or its repository, reads too."""
    for where in literal_passwords(path):
        mend = "put it into a file of mode 600 and write ${file:PATH} in its place, or ${NAME} for the environment's"
        yield note(where, "holds a password as it stands", mend)


def _accounts(config: Config) -> bool:
    if config.history is None and not (config.data / "history.db").exists():
        return False  # and an examination makes none
    history = History.open(config.storage)
    try:
        return Accounts(history.database).there_are()
    finally:
        history.close()
