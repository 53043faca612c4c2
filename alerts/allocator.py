"""The C allocator of a process that answers requests for months: told to give back what it took.

glibc keeps an arena for every few threads, and each keeps the most it ever held; a server whose answers grow with its
history so takes some 40 MB an hour for a while, without a single object more. Two arenas, and large pieces straight
from the kernel and back, keep it flat: the soak test shows it.
"""

import ctypes
import platform

# mallopt(3)
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_SETTINGS = ((_ARENA_MAX, 2), (_MMAP_THRESHOLD, 64 * 1024), (_TRIM_THRESHOLD, 128 * 1024))


def give_back() -> bool:
    """Set it up for this process, before it starts threads; False where the C library is another one."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(setting, value) == 1 for setting, value in _SETTINGS)
