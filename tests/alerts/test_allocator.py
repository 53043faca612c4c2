"""What glibc was told, as glibc itself reports it."""

import subprocess
import sys

PROGRAM = """
import ctypes, sys, threading
from alerts.allocator import give_back
assert give_back()
held, turn = [], threading.Barrier(12)
def work():
    turn.wait()
    held.append(bytearray(600))
    turn.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
ctypes.CDLL(None).malloc_stats()
"""


def test_many_threads_share_two_arenas():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert 1 <= ended.stderr.count("Arena ") <= 2
