"""What a job may reach: through a gate it does, counted, and nothing else; gates leave nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.node import gate
from agent.node.confine import descendants
from agent.node.executor import Executor
from agent.node.nursery import GATES, SHIMS
from agent.node.spool import NETWORKS, Cause, Phase
from tests.agent.node.executing import KEY, facts_at, spec, start
from tests.agent.node.rig import LEVELS, Site, needs_root, running, wait_until
from tests.agent.node.test_network import NOBODY, networks
from tests.shared.elsewhere import PORT, Elsewhere, elsewhere

pytestmark = needs_root
ALONE: dict[str, Any] = {"world_size": 1, "num_nodes": 1, "isolation": LEVELS[-1]}

# Sends a line to each address, and says what came back.
ASK = """/usr/bin/python3 - "$@" <<'END'
import socket, sys
for address in sys.argv[1:]:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), 5) as line:
            line.sendall(b"hello\\n")
            print(address, line.recv(64).decode().strip() or "closed")
    except OSError as error:
        print(address, error.strerror or type(error).__name__)
END
"""


@pytest.fixture(scope="module")
def other() -> Iterator[Elsewhere]:
    with elsewhere() as host:
        yield host


@pytest.fixture
def executor(site: Site) -> Executor:
    return Executor(facts_at(site))


def asking(*addresses: str, egress: list[str], more: str = "", **terms: Any) -> Any:
    """A rank that asks these, and may reach those."""
    made = spec("", **(ALONE | terms), egress=egress)
    made["argv"] = ["/bin/sh", "-c", ASK + more, "ask", *addresses]
    return made


def recorded(site: Site, key: str = KEY) -> dict[str, Any]:
    """What the exit record says of the way out."""
    return json.loads((site.spool.home(key) / "exit.json").read_text())["egress"]


def test_what_is_on_the_list_is_reached_and_nothing_else(
    site: Site, executor: Executor, other: Elsewhere
) -> None:
    near = f"{other.address.rpartition('.')[0]}.1:{PORT}"
    executor.prepare(KEY)
    what = asking(other.destination, near, NOBODY, egress=[NOBODY, other.destination])
    start(executor, KEY, what)
    assert site.end(KEY).exit_code == 0, site.log(KEY)
    reached, denied, away = site.log(KEY).splitlines()[:3]
    assert reached == f"{other.destination} HELLO"
    assert denied == f"{near} Network is unreachable"
    assert away.startswith(NOBODY)  # On the list, and nobody there: it is cut off.
    assert "HELLO" not in away
    assert recorded(site) == {"denied": 1, "uses": [[0, 0, 0], [1, 6, 6]]}


def test_a_host_that_is_listed_answers_at_its_listed_port_only(
    site: Site, executor: Executor, other: Elsewhere
) -> None:
    executor.prepare(KEY)
    start(executor, KEY, asking(f"{other.address}:{PORT + 1}", egress=[other.destination]))
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY).splitlines() == [f"{other.address}:{PORT + 1} Connection refused"]


def test_a_name_is_known_inside_and_no_other_is(site: Site, executor: Executor) -> None:
    look = "getent hosts data.invalid | tr -s ' '; getent hosts other.invalid; true"
    executor.prepare(KEY)
    listed = ["data.invalid:443", "data.invalid:444"]
    start(executor, KEY, spec(look, **ALONE, egress=listed))
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY).splitlines()[0] == "127.64.0.1 data.invalid"


def test_ranks_of_one_node_share_a_network_and_its_doors(
    site: Site, executor: Executor, other: Elsewhere
) -> None:
    keys = ["job-a.1.0", "job-a.1.1"]
    both = {"world_size": 2, "local_world_size": 2}
    listed = [other.destination]
    for at, key in enumerate(keys):
        executor.prepare(key)
        more = "readlink /proc/self/ns/net >> $SOV_CHECKPOINT_DIR/networks\n"
        start(
            executor, key, asking(*listed, egress=listed, **both, more=more, rank=at, local_rank=at)
        )
    for key in keys:
        assert site.end(key).exit_code == 0, site.log(key)
    networks = (site.root / "checkpoints" / "job-a" / "networks").read_text().split()
    assert len(networks) == 2
    assert len({*networks, os.readlink("/proc/self/ns/net")}) == 2
    assert max(recorded(site, key)["uses"] for key in keys) == [[2, 12, 12]]


def gates(site: Site) -> list[int]:
    """The processes of this spool's gates."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and running(int(folder.name)):
            with contextlib.suppress(OSError):
                if Path(os.readlink(folder / "cwd")).parent == site.spool.root / NETWORKS:
                    found.append(int(folder.name))
    return found


def test_a_gate_ends_with_its_ranks_and_its_folder_with_the_last_of_them(
    site: Site, executor: Executor, other: Elsewhere
) -> None:
    executor.prepare(KEY)
    start(executor, KEY, asking(egress=[other.destination], more="echo up; sleep 600\n"))
    site.wait_log(KEY, "up")
    assert len(gates(site)) == 1
    shim = json.loads((site.spool.home(KEY) / "started.json").read_text())["shim_pid"]
    os.kill(shim, signal.SIGKILL)
    wait_until(lambda: not gates(site), "the end of the gate")
    assert site.spool.network(KEY).exists()
    wait_until(lambda: site.spool.status(KEY).phase is Phase.OVER, "the end of the rank")
    site.spool.archive(KEY)
    assert not site.spool.network(KEY).exists()


def spare_gates(executor: Executor) -> list[int]:
    """The nursery's children that have a network, and no rank below them."""
    pid = executor.nursery.pid
    below = [] if pid is None else children(pid)
    return [child for child in below if not children(child)]


def children(pid: int) -> list[int]:
    """By the kernel's own list."""
    with contextlib.suppress(OSError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def all_ready(executor: Executor) -> bool:
    """Whether every spare is there, with all that is below it."""
    pid = executor.nursery.pid
    return pid is not None and len(descendants(pid)) == 3 * SHIMS + GATES


def test_a_gate_is_one_that_was_made_ahead(
    site: Site, executor: Executor, other: Elsewhere
) -> None:
    executor.nursery.warm_up()
    wait_until(lambda: all_ready(executor), "spares")
    spares = spare_gates(executor)
    assert len(spares) == GATES
    executor.prepare(KEY)
    what = asking(other.destination, egress=[other.destination], more="echo up; sleep 600\n")
    start(executor, KEY, what)
    site.wait_log(KEY, "up")
    (gate_of_rank,) = gates(site)
    assert gate_of_rank in spares
    assert f"{other.destination} HELLO" in site.log(KEY)
    executor.nursery.close()
    assert running(gate_of_rank)  # What has an order owes the nursery nothing.
    site.spool.stop(KEY, 0)
    site.end(KEY)
    wait_until(lambda: not running(gate_of_rank), "the end of the gate")


def test_spare_gates_and_their_networks_end_with_a_nursery_that_is_killed(
    executor: Executor,
) -> None:
    executor.nursery.warm_up()
    wait_until(lambda: all_ready(executor), "spares")
    spares = spare_gates(executor)
    held = {name for pid in spares for name in namespaces_held(pid)}
    assert len(held) == GATES
    assert executor.nursery.pid is not None
    os.kill(executor.nursery.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(running, spares)), "the end of the spares")
    wait_until(lambda: not held & networks(), "the end of their networks")


def namespaces_held(pid: int) -> set[str]:
    """The network namespaces that a process has open."""
    opened = (os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir())
    return {name for name in opened if name.startswith("net:")}


def test_a_gate_whose_spare_was_killed_is_started_anew(
    site: Site, executor: Executor, other: Elsewhere
) -> None:
    executor.nursery.warm_up()
    wait_until(lambda: all_ready(executor), "spares")
    assert executor.nursery.pid is not None
    os.kill(executor.nursery.pid, signal.SIGKILL)
    executor.prepare(KEY)
    start(executor, KEY, asking(other.destination, egress=[other.destination]))
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY).splitlines()[0] == f"{other.destination} HELLO"


def test_without_its_gate_a_rank_reaches_nothing_and_nothing_is_claimed(
    site: Site, executor: Executor, other: Elsewhere
) -> None:
    executor.prepare(KEY)
    wait = "echo up; while ! [ -e $SOV_CHECKPOINT_DIR/go ]; do sleep 0.1; done\n"
    what = asking(other.destination, egress=[other.destination])
    what["argv"][2] = wait + ASK
    start(executor, KEY, what)
    site.wait_log(KEY, "up")
    (pid,) = gates(site)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not running(pid), "the end of the gate")
    (site.root / "checkpoints" / "job-a" / "go").touch()
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY).splitlines()[-1] == f"{other.destination} Connection refused"
    assert "egress" not in json.loads((site.spool.home(KEY) / "exit.json").read_text())


def test_a_rank_whose_gate_is_gone_does_not_start(site: Site, executor: Executor) -> None:
    """Another rank of the attempt had one; it ended with that."""
    executor.prepare(KEY)
    folder = site.spool.network(KEY)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as gone:
        gone.bind(str(folder / "gate"))
    start(executor, KEY, asking(egress=["data.invalid:1"], more="echo ran\n"))
    assert site.end(KEY).cause is Cause.INFRASTRUCTURE
    assert "ran" not in site.log(KEY)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "::ffff:127.0.0.1", "localhost"]
)
def test_a_name_that_means_the_node_itself_leads_nowhere(host: str) -> None:
    with socket.create_server(("", 0)) as server:
        assert gate.connect(host, server.getsockname()[1]) is None


def test_an_address_of_the_node_leads_nowhere(other: Elsewhere) -> None:
    own = f"{other.address.rpartition('.')[0]}.1"
    with socket.create_server((own, 0)) as server:
        assert gate.connect(own, server.getsockname()[1]) is None
