"""Passwords as they are kept: scrypt (RFC 7914), each with a salt of its own and the cost it was made with.

One hash takes 32 MiB and a few tenths of a second, on purpose: who steals the database has to pay that for each guess.
"""

import hashlib
import hmac
import secrets
from functools import cache

SHORTEST = 10
"""Characters a new password has at least (NIST SP 800-63B asks for 8, of any kind)."""
LONGEST = 1024
"""Characters a password has at most: what is hashed is bounded."""

_COST, _BLOCK, _PARALLEL = 2**15, 8, 3
_SALT_BYTES, _HASH_BYTES = 16, 32
_MEMORY = 64 * 2**20


def hash_password(password: str) -> str:
    """Give `scrypt$N$r$p$salt$hash` of a password.

    Raises:
        ValueError: too short or too long.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise ValueError(f"the password has {len(password)} characters: take {SHORTEST} to {LONGEST}")
    salt = secrets.token_bytes(_SALT_BYTES)
    made = _scrypt(password, salt, _COST, _BLOCK, _PARALLEL)
    return f"scrypt${_COST}${_BLOCK}${_PARALLEL}${salt.hex()}${made.hex()}"


def matches(password: str, kept: str | None) -> bool:
    """Compare a password with what is kept of one, in a time that tells nothing.

    Args:
        password: as it was typed.
        kept: of `hash_password`; None: there is no such account, which takes as long to find out as a wrong password.
    """
    _, cost, block, parallel, salt, wanted = (kept or _of_nobody()).split("$")
    made = _scrypt(password[: LONGEST + 1], bytes.fromhex(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(made, bytes.fromhex(wanted)) and kept is not None


@cache
def _of_nobody() -> str:
    return hash_password(secrets.token_urlsafe(32))


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    text = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=cost, r=block, p=parallel, maxmem=_MEMORY, dklen=_HASH_BYTES)
