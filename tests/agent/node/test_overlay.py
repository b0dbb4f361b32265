"""Ranks of one attempt on several nodes: they reach one another and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from agent.node import overlay
from agent.node.executor import Executor
from tests.agent.node.executing import facts_at, spec, start
from tests.agent.node.rig import LEVELS, Site, needs_root
from tests.agent.node.test_gate import ASK, recorded
from tests.agent.node.test_network import NOBODY

# Rank 0 answers at MASTER_ADDR:MASTER_PORT whoever comes first; the other one asks there.
MEET = """/usr/bin/python3 - <<'END'
import os, socket, time
at = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if os.environ["RANK"] == "0":
    with socket.create_server(("", at[1])) as server:
        line, peer = server.accept()
        line.sendall(b"from rank 0" * 20_000)
        print("met", peer[0], socket.gethostbyname(socket.gethostname()))
else:
    give_up_at = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection(at, 5) as line:
                print("heard", sum(len(part) for part in iter(lambda: line.recv(65536), b"")))
                break
        except OSError:
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
END
"""


def test_nodes_have_addresses_of_their_own_in_one_network() -> None:
    assert [overlay.address_of(at) for at in (0, 1, 255)] == [
        "198.18.0.1",
        "198.18.0.2",
        "198.18.1.0",
    ]
    for beyond in (-1, overlay.NODES_MAX):
        with pytest.raises(ValueError, match="node rank"):
            overlay.address_of(beyond)


@needs_root
@pytest.mark.parametrize(
    ("egress", "told"),
    [
        ([], {"denied": 1}),  # The shim's network.
        (["data.invalid:443"], {"denied": 1, "uses": [[0, 0, 0]]}),  # A gate's.
    ],
)
def test_ranks_on_two_nodes_meet_and_reach_nobody_else(
    site: Site, egress: list[str], told: dict[str, Any]
) -> None:
    """Two spools are two nodes here: each has a network and a port of its own. Nothing is asked of
    them before but where they are.
    """
    sites = [site, Site(site.root / "second")]
    keys = ["job-a.1.0", "job-a.1.1"]
    sites[1].root.chmod(0o711)
    executors = [Executor(facts_at(each)) for each in sites]
    nodes = [(said["address"], said["overlay_port"]) for said in map(Executor.hello, executors)]
    assert None not in dict(nodes), "this kernel has no VXLAN"
    assert nodes[0] != nodes[1]
    for at, (node, key) in enumerate(zip(executors, keys, strict=True)):
        terms: dict[str, Any] = {"rank": at, "node_rank": at, "master_address": None}
        what = spec("", **terms, isolation=LEVELS[-1], nodes=nodes, egress=egress)
        what["argv"] = ["/bin/sh", "-c", MEET + ASK, "ask", NOBODY]
        start(node, key, what)
    for each, key in zip(sites, keys, strict=True):
        assert each.end(key).exit_code == 0, (each.end(key).detail, each.log(key))
        assert f"{NOBODY} Network is unreachable" in each.log(key)
        assert recorded(each, key) == told
    assert sites[0].log(keys[0]).splitlines()[0] == "met 198.18.0.2 198.18.0.1"
    assert sites[1].log(keys[1]).splitlines()[0] == f"heard {len(b'from rank 0') * 20_000}"
