"""Who is asking, and what they may do: logins, sessions with an end, tokens of programs.

Without accounts everybody may who can reach the page, which is this machine alone, unless the configuration says
`open`. As soon as there is one account everybody has to say who they are; this is asked of the database each time, so
that an account that is removed is out at once.
"""

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from alerts.config import PageConfig
from alerts.errors import PageError
from alerts.origin import is_loopback
from alerts.throttle import LoginThrottle
from storage.accounts import Account, Accounts, digest
from storage.database import Database
from storage.passwords import matches
from storage.roles import Role
from storage.sessions import Session, Sessions

log = structlog.get_logger()

_TOUCH_S = 60.0
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who may look.

    Attributes:
        account: whose; None: there are no accounts.
        session: id of the session, of a browser.
        token: digest of the token, of a program.
    """

    account: Account | None = None
    session: str | None = None
    token: str | None = None

    @property
    def may_act(self) -> bool:
        """Whether they may acknowledge, label, note what was missed."""
        return self.account is None or self.account.role is Role.OPERATOR

    def signs(self, by: str) -> str:
        """In whose name something is noted: of an account in its own, whatever is said."""
        return by if self.account is None else self.account.name


class TooOften(Exception):  # noqa: N818 - a state of the world, not a mistake
    """Too many wrong passwords; `wait_s` whole seconds until another attempt is allowed."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"too many wrong passwords: wait {wait_s} s")
        self.wait_s = wait_s


class Access:
    """Decides who may look and act. Threads may share it.

    Every method raises StoreUnavailable when the database is away: then nobody is let in.

    Args:
        database: of the history.
        config: where the page is, how long sessions last.
        now_ns: wall clock, nanoseconds since the epoch.
        monotonic: seconds.
    """

    def __init__(
        self,
        database: Database,
        config: PageConfig,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._accounts = Accounts(database)
        self._sessions = Sessions(database)
        self._throttle = LoginThrottle()
        self._now_ns = now_ns
        self._monotonic = monotonic
        self._idle_ns, self._session_ns = round(config.idle * _NS), round(config.session * _NS)
        self._free = config.open or is_loopback(config.bind.rpartition(":")[0])

    def check(self) -> None:
        """See that what is served to other machines is not served to everybody by mistake.

        Raises:
            PageError: it would be.
        """
        if not self._free and not self._accounts.there_are():
            raise PageError(
                f"page: other machines reach {self.config.bind}, and there are no accounts: "
                "`linewatch accounts add CONFIG NAME`, or let `alerts.page.bind` be 127.0.0.1:8700, "
                "or say `alerts.page.open: true` if everybody may look and act"
            )

    def visitor(self, *, session: str | None = None, token: str | None = None) -> Visitor | None:
        """Find out who asks.

        Args:
            session: token of a browser's cookie.
            token: of a program's `Authorization: Bearer`.

        Returns:
            None: nobody who may look.
        """
        return self._known(
            session=None if session is None else digest(session), token=None if token is None else digest(token)
        )

    def still(self, visitor: Visitor) -> Visitor | None:
        """Look at somebody again who was let in before; their role may be another by now.

        Returns:
            None: what let them in does so no more, though something else might.
        """
        known = self._known(session=visitor.session, token=visitor.token)
        same = known is not None and (known.session, known.token) == (visitor.session, visitor.token)
        return known if same else None

    def _known(self, *, session: str | None, token: str | None) -> Visitor | None:
        if token is not None:
            account = self._accounts.of_token(token)
            if account is not None:
                return Visitor(account, token=token)
        if session is not None:
            found = self._sessions.find(session)
            if found is not None and self._lasts(found):
                return Visitor(found.account, session=session)
        if self._free and not self._accounts.there_are():
            return Visitor()
        return None

    def _lasts(self, session: Session) -> bool:
        now_ns = self._now_ns()
        return now_ns - session.opened_ns < self._session_ns and now_ns - session.used_ns < self._idle_ns

    def wanted(self) -> bool:
        """Whether there is anything to log in to."""
        return self._accounts.there_are()

    def touch(self, visitor: Visitor) -> None:
        """Note that somebody did something: their session is not idle. Written once in a while."""
        if visitor.session is None:
            return
        found = self._sessions.find(visitor.session)
        step_ns = min(round(_TOUCH_S * _NS), self._idle_ns // 20)
        if found is not None and self._now_ns() - found.used_ns > step_ns:
            self._sessions.touch(visitor.session, now_ns=self._now_ns())

    def log_in(self, name: str, password: str, *, address: str, instead_of: str | None = None) -> str | None:
        """Verify a password and open a session. Takes some tenths of a second and 32 MiB: let one run at a time.

        Args:
            name: of the account, as it was typed.
            password: as it was typed.
            address: where it comes from.
            instead_of: token of a session that the browser has already; it ends.

        Returns:
            The token of a new session, or None: there is no such account, or the password is wrong.

        Raises:
            TooOften: not now.
        """
        name = name.strip().lower()
        wait_s = self._throttle.enter(name, address, self._monotonic())
        if wait_s:
            log.warning("login refused: too many wrong passwords", address=address, wait_s=wait_s)
            raise TooOften(wait_s)
        kept = self._accounts.kept_password(name)
        token = None
        if matches(password, kept) and kept is not None:
            token = self._sessions.open(name, password=kept, now_ns=self._now_ns())
        if token is None:
            # What was typed as a name may be a password: only names that exist are written down.
            log.warning("login failed", account=name if kept else "(no such account)", address=address)
            return None
        self._throttle.succeeded(name, address, self._monotonic())
        if instead_of is not None:
            self._sessions.end(digest(instead_of))
        now_ns = self._now_ns()
        self._sessions.forget(opened_before_ns=now_ns - self._session_ns, used_before_ns=now_ns - self._idle_ns)
        log.info("logged in", account=name, address=address)
        return token

    def log_out(self, visitor: Visitor) -> None:
        """End a session."""
        if visitor.session is not None:
            self._sessions.end(visitor.session)
            log.info("logged out", account=None if visitor.account is None else visitor.account.name)


def is_local(*, client: str, server: str, forwarded: bool, proxies: tuple[str, ...]) -> bool:
    """Whether a request was made on this machine, and not handed on by a proxy that runs here.

    Args:
        client: address it comes from.
        server: address it came to.
        forwarded: whether a proxy says so.
        proxies: addresses and networks of proxies; one of these may hand on anybody's.
    """
    if forwarded or not (is_loopback(client) or client == server):
        return False
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return False
    return not any(address in ipaddress.ip_network(proxy) for proxy in proxies)
