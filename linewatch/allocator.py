"""The C allocator of a process that runs for months: told to keep little of what it took.

glibc keeps an arena for every few threads, and each keeps the most it ever held. A server whose answers grow with its
history so takes some 40 MB an hour for a while, without a single object more; a worker, whose batches vary in size and
in the thread that computes them, ends some ten megabytes higher than with two. Two arenas cost no speed that was seen.
"""

import ctypes
import platform

# mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_FEW_ARENAS = ((_ARENA_MAX, 2),)
_GIVE_BACK = (*_FEW_ARENAS, (_MMAP_THRESHOLD, 64 * 1024), (_TRIM_THRESHOLD, 128 * 1024))


def few_arenas() -> bool:
    """Two arenas for all threads, set up before they start; False where the C library is another one."""
    return _set(_FEW_ARENAS)


def give_back() -> bool:
    """The same, and large pieces straight from the kernel and back: for what allocates little, or seldom."""
    return _set(_GIVE_BACK)


def _set(settings: tuple[tuple[int, int], ...]) -> bool:
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(setting, value) == 1 for setting, value in settings)
