"""A node has one port for all its overlays, and keeps it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.node import networks, overlay
from agent.node.executor import Executor
from agent.node.overlay_port import FILE, OverlayPort
from agent.node.refusals import ExecutorError
from agent.node.spool import Phase
from agent.node.spool_files import put, read_document
from agent.node.status import Rendezvous
from tests.agent.node.executing import KEY, facts_at, spec, start
from tests.agent.node.rig import Site, needs_root

HERE = "127.0.0.1"
Make = Callable[[Path], OverlayPort]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes ports of nodes whose spool is the folder; all are let go of at the end."""
    made: list[OverlayPort] = []

    def of(spool: Path) -> OverlayPort:
        spool.mkdir(exist_ok=True)
        made.append(OverlayPort(spool, HERE))
        return made[-1]

    yield of
    for port in made:
        port.close()


def may_be_bound(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


@needs_root
def test_it_is_nobody_elses_until_it_is_let_go(tmp_path: Path, make: Make) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    port = first.number()
    assert port is not None
    assert first.number() == port
    assert second.number() not in (None, port)
    assert not may_be_bound(port)


@needs_root
def test_who_comes_after_has_the_same_even_beside_the_one_before(
    tmp_path: Path, make: Make
) -> None:
    before, after = make(tmp_path), make(tmp_path)
    assert before.number() == after.number()
    before.close()
    assert make(tmp_path).number() == after.number()


@needs_root
def test_one_that_a_stranger_took_is_left_to_it(tmp_path: Path, make: Make) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("", 0))
        taken = stranger.getsockname()[1]
        put(tmp_path, FILE, {"port": taken})
        found = make(tmp_path).number()
        assert found not in (None, taken)
    assert read_document(tmp_path / FILE) == {"port": found}


@needs_root
def test_a_rank_whose_others_were_told_another_port_is_not_started(site: Site) -> None:
    executor = Executor(facts_at(site))
    port = executor.hello()["overlay_port"]
    assert port is not None
    elsewhere = [(HERE, port + 1), ("127.0.0.2", port)]
    what = spec("true", master_address=None, nodes=elsewhere)
    with pytest.raises(ExecutorError, match=f"this node is at {HERE} {port}"):
        start(executor, KEY, what)
    assert site.spool.status(KEY).phase is Phase.PREPARED
    executor.overlay_port.close()


def test_attempts_have_numbers_of_their_own_and_none_of_a_ports_holder() -> None:
    numbers = [overlay.number_of(f"job-{at}.1") for at in range(1000)]
    assert len(set(numbers)) == 1000
    assert all(0 <= number < 1 << 48 for number in numbers)
    assert not {number % overlay.NUMBERS for number in numbers} & set(overlay.HOLDERS)


def test_ranks_of_a_network_of_their_own_know_where_they_meet() -> None:
    own = spec(nodes=[(HERE, 20_000), (HERE, 20_001)], master_address=None, master_port=None)
    assert networks.rendezvous(own) == Rendezvous("198.18.0.1", 29_500)
    own["egress"] = ["a.example:29500", "[2001:db8::1]:29501", "b.example:443"]
    assert networks.rendezvous(own) == Rendezvous("198.18.0.1", 29_502)
    alone = spec(num_nodes=1, master_address=None, master_port=None)
    assert networks.rendezvous(alone) == Rendezvous(HERE, 29_500)
    assert networks.rendezvous({**alone, "isolation": "none"}) is None
    assert networks.rendezvous({**own, "nodes": []}) is None
    assert networks.rendezvous(spec()) == Rendezvous("127.0.0.9", 20_009)
