"""A Ray cluster of a job's own, inside its gang: what each rank of a job of kind `ray` runs.

Nothing here is the site's Ray. A rank's program is this file itself, given to the job's own Python
as text, because a rank sees nothing of the node's runtime: rank 0 starts the cluster's head and
runs the job's command, every other rank starts a raylet that joins it and ends when the head
has. What Ray leaves running ends with the rank, as all of a rank's processes do; `ray stop` would
end other clusters of the node too, where ranks share its processes.

Standard library only.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

JOIN_S = 120
"""How long a rank waits for the head to answer."""
POLL_S = 1
MISSED_MAX = 3
"""The head is gone when so many tries to reach it in a row came to nothing."""
CONNECT_S = 2
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What a job may be told; its whole session is."""
NOT_FOUND = 127
"""The exit code of a shell that finds no such program."""
NO_RAY = (
    "sov: a job of kind ray needs Ray in its own Python: found no program `ray` in PATH;"
    " put it into the image, or into an environment that the job's PATH names"
)
LATE = "sov: the Ray cluster's head at {} did not answer within {} s"
RAYLET_ENDED = "sov: this node's part of the Ray cluster ended with code {}"


def command(argv: Sequence[str], address: str, gpus: int) -> list[str]:
    """What a rank of a Ray job runs: `argv` in a cluster where its node is `address` and has so
    many GPUs."""
    text = Path(__file__).read_text(encoding="utf-8")
    return ["python3", "-I", "-c", text, address, str(gpus), *argv]


def main(address: str, gpus: str, argv: list[str]) -> int:
    """Runs the job's command on rank 0, and elsewhere stays until the cluster is over; how that
    ended, as `subprocess` says it."""
    ray = shutil.which("ray")
    if ray is None:
        print(NO_RAY, file=sys.stderr, flush=True)
        return NOT_FOUND
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # Of each rank its own: ranks of one machine may be of different users. Paths of sockets in it
    # must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        node = [ray, "start", f"--node-ip-address={address}", f"--num-gpus={gpus}"]
        node += ["--disable-usage-stats", f"--temp-dir={folder}"]
        node.append(f"--dashboard-agent-listen-port={free_port()}")
        if os.environ["RANK"] != "0":
            return follow(host, port, [*node, f"--address={host}:{port}", "--block"])
        head = [*node, "--head", f"--port={port}", "--include-dashboard=false"]
        head.append(f"--ray-client-server-port={free_port()}")
        started = subprocess.run(head, stdout=sys.stderr, check=False)
        if started.returncode:
            return started.returncode
        for number in SIGNALS:  # They are the command's, which gets them too.
            signal.signal(number, lambda _number, _frame: None)
        told = {**os.environ, "RAY_ADDRESS": f"{host}:{port}"}
        try:
            return subprocess.run(argv, env=told, check=False).returncode
        except OSError as error:
            print(f"sov: cannot run {argv[0]!r}: {error.strerror}", file=sys.stderr, flush=True)
            return NOT_FOUND


def end_as(code: int) -> None:
    """Ends this process as the one that ended with `code` did: by itself, or by a signal."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def follow(host: str, port: int, raylet: list[str]) -> int:
    """Joins the cluster, and is done when its head is gone: the job's end is rank 0's."""
    waited_s = 0
    while not reaches(host, port):
        if waited_s >= JOIN_S:
            print(LATE.format(f"{host}:{port}", JOIN_S), file=sys.stderr, flush=True)
            return 1
        time.sleep(POLL_S)
        waited_s += POLL_S
    missed = 0
    with subprocess.Popen(raylet, stdout=sys.stderr) as running:
        while missed < MISSED_MAX:
            time.sleep(POLL_S)
            missed = 0 if reaches(host, port) else missed + 1
            if not missed and (code := running.poll()) is not None:
                print(RAYLET_ENDED.format(code), file=sys.stderr, flush=True)
                return code or 1
        running.terminate()
    return 0


def reaches(host: str, port: int) -> bool:
    """Whether the head answers."""
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    end_as(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
