"""Memory that is at hand after a fork."""

from __future__ import annotations

import subprocess
import sys

import pytest

PAGES = 2_000
TOUCH = """
import os, resource, sys
from agent.node.warmth import take_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

pages, size = int(sys.argv[1]), resource.getpagesize()
memory = bytearray(b"x" * pages * size)
read, write = os.pipe()
if os.fork() == 0:
    if sys.argv[2] == "warm":
        take_memory()
    before = faults()
    for page in range(pages):
        memory[page * size] = 0
    os.write(write, str(faults() - before).encode())
    os._exit(0)
os.wait()
print(os.read(read, 100).decode())
"""


def faults(how: str) -> int:
    """How many faults a forked process has in writing to PAGES pages."""
    command = [sys.executable, "-c", TOUCH, str(PAGES), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


def test_what_a_forked_process_wrote_to_costs_no_fault_once_it_was_taken() -> None:
    if faults("cold") < PAGES:
        pytest.skip("memory comes in larger pages here")
    assert faults("warm") < PAGES // 10
