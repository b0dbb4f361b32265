"""What a job of the running system can reach, and what its certificate says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sovctl import verify
from sovctl.client import Job
from tests.agent.node.rig import needs_root
from tests.e2e.local import LONDON, World
from tests.shared.elsewhere import Elsewhere, elsewhere

pytestmark = needs_root

# Sends a line to each address, and tells what came back.
ASK = """
import json, socket, sys
def ask(address):
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), 10) as line:
            line.sendall(b"hello\\n")
            return line.recv(64).decode().strip() or "closed"
    except OSError as error:
        return error.strerror or type(error).__name__
print(json.dumps({address: ask(address) for address in sys.argv[1:]}))
"""


@pytest.fixture(scope="module")
def other() -> Iterator[Elsewhere]:
    with elsewhere() as host:
        yield host


def asked(world: World, *addresses: str, egress: list[str], **more: Any) -> tuple[Job, Any]:
    """A job that asks these and may reach those, when it is over, and what it heard."""
    command = ["python3", "-c", ASK, *addresses]
    resources = {"gpus_per_node": 1, **more}
    job = world.ada.submit(
        {"name": "asking", "command": command, "resources": resources, "egress": egress}
    )
    info = world.end(job)
    said = world.log(job).decode()
    assert info.state == "SUCCEEDED", said
    return job, json.loads(said.splitlines()[0])


def way_out(world: World, job: Job) -> Any:
    """What a verified certificate says of it."""
    trust = verify.parse_trust(world.ada.trust())
    found = verify.verify(world.ada.certificate(job.id), trust)
    return found.predicate["data"]["egress"]


def test_a_job_reaches_what_it_listed_and_its_certificate_counts_it(
    shared_world: World, other: Elsewhere
) -> None:
    job, heard = asked(shared_world, other.destination, egress=[other.destination])
    assert heard == {other.destination: "HELLO"}
    told = way_out(shared_world, job)
    assert (told["control"], told["allowed"]) == ("CONTROLLED", [other.destination])
    (attempt,) = told["attempts"]
    assert attempt["denied"] == 0
    assert attempt["destinations"] == [
        {
            "destination": other.destination,
            "connections": 1,
            "sent_bytes": 6,
            "received_bytes": 6,
        }
    ]


def test_a_job_does_not_reach_what_it_did_not_list_and_its_certificate_has_the_attempt(
    shared_world: World, other: Elsewhere
) -> None:
    """Neither another host, nor its node's Ray."""
    ray = shared_world.cluster.cell(shared_world.site(LONDON)).address
    job, heard = asked(shared_world, other.destination, ray, egress=[])
    assert "HELLO" not in heard.values()
    assert heard[other.destination] == "Network is unreachable"
    told = way_out(shared_world, job)
    assert (told["control"], told["allowed"]) == ("CONTROLLED", [])
    assert [attempt["denied"] for attempt in told["attempts"]] >= [1]
    assert b"attempts to reach" in shared_world.log(job)
    info = job.refresh().attempts[-1].ranks[0]
    assert info.denied == told["attempts"][-1]["denied"]


def test_ranks_of_one_node_are_controlled_together(shared_world: World, other: Elsewhere) -> None:
    listed = [other.destination]
    job, heard = asked(shared_world, other.destination, egress=listed, tasks_per_node=2)
    assert heard == {other.destination: "HELLO"}
    told = way_out(shared_world, job)
    assert told["control"] == "CONTROLLED"
    assert told["attempts"][0]["destinations"][0]["connections"] == 2


# Rank 0 answers whoever comes to MASTER_ADDR:MASTER_PORT; the other one asks there.
MEET = """
import os, socket, time
at = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if os.environ["RANK"] == "0":
    with socket.create_server(("", at[1])) as server:
        server.accept()[0].sendall(b"from rank 0")
else:
    give_up_at = time.monotonic() + 120
    while True:
        try:
            with socket.create_connection(at, 5) as line:
                print(line.recv(64).decode())
                break
        except OSError:
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
"""


def test_a_gang_meets_across_nodes_and_reaches_nobody_but_the_listed(
    shared_world: World, other: Elsewhere
) -> None:
    listed = [other.destination]
    job = shared_world.ada.submit(
        {
            "name": "gang",
            "command": ["python3", "-c", MEET + ASK, other.destination, "192.0.2.77:443"],
            "resources": {"nodes": 2, "gpus_per_node": 1},
            "egress": listed,
        }
    )
    assert shared_world.end(job).state == "SUCCEEDED", shared_world.log(job).decode()
    assert shared_world.log(job, rank=1).decode().splitlines()[0] == "from rank 0"
    told = way_out(shared_world, job)
    assert told["control"] == "CONTROLLED"
    (attempt,) = told["attempts"]
    assert (attempt["denied"], attempt["destinations"][0]["connections"]) == (2, 2)
