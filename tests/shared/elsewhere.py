"""Another host, for tests as root: a network namespace at the other end of a cable."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass

PORT = 8443
DEADLINE_S = 60
# Answers each line with the same in capitals, and says on stdout that it listens.
SERVER = f"""
import socketserver, sys
class Line(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())
socketserver.ThreadingTCPServer.daemon_threads = True
with socketserver.ThreadingTCPServer((sys.argv[1], {PORT}), Line) as server:
    print("listening", flush=True)
    server.serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A host that the node reaches at `address`, where `PORT` answers lines in capitals."""

    address: str

    @property
    def destination(self) -> str:
        """As `egress` has it."""
        return f"{self.address}:{PORT}"


@contextlib.contextmanager
def elsewhere() -> Generator[Elsewhere]:
    """Another host as long as this lasts. Two test runs beside one another have two."""
    own = os.getpid()
    ours, theirs = (f"10.{200 + own % 50}.{own // 50 % 250}.{last}" for last in (1, 2))
    cable = f"sovt{own}"
    command = ["unshare", "--net", "/usr/bin/python3", "-c"]
    waiting = f"import sys; sys.stdin.readline()\n{SERVER}"
    with subprocess.Popen(
        [*command, waiting, theirs], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        try:
            _wait_for_namespace(host.pid)
            _ip(f"link add {cable} type veth peer name eth0 netns {host.pid}")
            _ip(f"addr add {ours}/30 dev {cable}")
            _ip(f"link set {cable} up")
            enter = ["nsenter", "-t", str(host.pid), "-n"]
            for order in (f"addr add {theirs}/30 dev eth0", "link set eth0 up", "link set lo up"):
                subprocess.run([*enter, "ip", *order.split()], check=True)
            host.stdin.write("go\n")
            host.stdin.flush()
            assert host.stdout.readline() == "listening\n"
            yield Elsewhere(theirs)
        finally:
            host.kill()  # Its namespace ends with it, and the cable with that.


def _wait_for_namespace(pid: int) -> None:
    """Until `unshare` has done it."""
    ours = os.readlink("/proc/self/ns/net")
    give_up_at = time.monotonic() + DEADLINE_S
    while os.readlink(f"/proc/{pid}/ns/net") == ours:
        assert time.monotonic() < give_up_at, "unshare --net: no namespace of its own"
        time.sleep(0.01)


def _ip(order: str) -> None:
    subprocess.run(["ip", *order.split()], check=True)
