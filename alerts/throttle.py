"""How often a wrong password may be tried: a leaky bucket for each account and for each address, in bounded memory."""

import hashlib
import ipaddress
import math
import secrets
import threading

_BUCKETS = 4096
_ROUNDING_S = 1e-3


class Throttle:
    """Leaky buckets in a fixed number, shared by whatever falls into the same one.

    Names and addresses are spread over the buckets with a key that nobody knows, so that made-up names cannot push out
    what is remembered of real ones, and cannot be chosen to fill the bucket of a real one.

    Args:
        capacity: attempts at once.
        leak_s: seconds after which one more is allowed.
    """

    def __init__(self, *, capacity: int, leak_s: float) -> None:
        self._capacity = capacity
        self._leak_s = leak_s
        self._key = secrets.token_bytes(16)
        self._full_until = [0.0] * _BUCKETS  # when each will have leaked empty, monotonic seconds
        self._lock = threading.Lock()

    def wait(self, subject: str, now: float) -> float:
        """Seconds until another attempt is allowed; 0: now."""
        level = max(0.0, self._full_until[self._bucket(subject)] - now) / self._leak_s
        wait_s = (level + 1 - self._capacity) * self._leak_s
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def charge(self, subject: str, now: float) -> None:
        """Count an attempt."""
        self._add(subject, self._leak_s, now)

    def refund(self, subject: str, now: float) -> None:
        """Take an attempt back: the password was right."""
        self._add(subject, -self._leak_s, now)

    def _add(self, subject: str, seconds: float, now: float) -> None:
        bucket = self._bucket(subject)
        with self._lock:
            self._full_until[bucket] = max(self._full_until[bucket], now) + seconds

    def _bucket(self, subject: str) -> int:
        made = hashlib.blake2b(subject.encode("utf-8", "surrogatepass"), key=self._key, digest_size=8).digest()
        return int.from_bytes(made, "big") % _BUCKETS


class LoginThrottle:
    """Both at once: ten wrong passwords for an account, then one in 30 s; thirty from an address, then one in 5 s.

    A right password costs nothing. All that is known of an attacker is where the attempts come from and whom they are
    for; who shares either waits along, for as long as one attempt takes to leak.
    """

    def __init__(self) -> None:
        self._accounts = Throttle(capacity=10, leak_s=30.0)
        self._addresses = Throttle(capacity=30, leak_s=5.0)
        self._lock = threading.Lock()

    def enter(self, account: str, address: str, now: float) -> int:
        """Count an attempt if it is allowed.

        Returns:
            0, or the whole seconds to wait; then nothing was counted.
        """
        network = network_of(address)
        with self._lock:
            wait_s = max(self._accounts.wait(account, now), self._addresses.wait(network, now))
            if wait_s > 0:
                return math.ceil(wait_s)
            self._accounts.charge(account, now)
            self._addresses.charge(network, now)
        return 0

    def succeeded(self, account: str, address: str, now: float) -> None:
        """Take back what `enter` counted."""
        self._accounts.refund(account, now)
        self._addresses.refund(network_of(address), now)


def network_of(address: str) -> str:
    """The address, or of IPv6 its /64: one machine has as many as it wants there."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
