"""What glibc was told, as glibc itself reports it."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from linewatch import allocator
assert allocator.{told}()
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


@pytest.mark.parametrize("told", ["few_arenas", "give_back"])
def test_many_threads_share_two_arenas(told):
    program = PROGRAM.replace("{told}", told)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert 1 <= ended.stderr.count("Arena ") <= 2
