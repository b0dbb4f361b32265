"""A start is found again after a power cut, whatever names it took; and room for it is not kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.node.launcher import Nursery
from agent.node.nursery import SHIMS
from agent.node.spool import Cause, Phase, Rendezvous
from agent.node.spool_files import Document, read_document
from tests.agent.node.rig import Site, wait_until

KEY = "job-a.1.0"
HERE = Rendezvous("127.0.0.1", 20_000)


@pytest.fixture
def nursery(site: Site) -> Iterator[Nursery]:
    made = Nursery("none", site.spool)
    yield made
    made.close()


def rooms(site: Site) -> list[Path]:
    return sorted(site.spool.rooms.iterdir())


def killed(site: Site, nursery: Nursery) -> Path:
    """A rank that ran and whose shim was killed; its start's record under the record's own name."""
    site.prepare(KEY, ["/bin/sh", "-c", "exec sleep 1000"])
    site.spool.open_gate(KEY)
    nursery.run_shim(KEY)
    shim = json.loads((site.spool.home(KEY) / "started.json").read_text())["shim_pid"]
    os.kill(shim, signal.SIGKILL)
    wait_until(lambda: site.spool.status(KEY).phase is Phase.OVER, "the end of the shim's tree")
    (found,) = [room for room in rooms(site) if room.name.startswith(f"{shim}.")]
    return found


def kept(site: Site) -> list[Document]:
    return [read_document(room) for room in rooms(site)]


def of_an_earlier_boot(room: Path) -> None:
    doc = json.loads(room.read_text())
    room.write_text(json.dumps(doc | {"boot_id": "an earlier boot"}))


@pytest.mark.parametrize("lost", [("started.json", "gate"), ("started.json",), ("gate",), ()])
def test_a_rank_that_may_have_run_is_lost_and_never_runs_again(
    site: Site, nursery: Nursery, lost: tuple[str, ...]
) -> None:
    room = killed(site, nursery)
    of_an_earlier_boot(room)
    for name in lost:
        (site.spool.home(KEY) / name).unlink()
    site.spool.settle()
    end = site.spool.status(KEY)
    assert (end.phase, end.cause) == (Phase.OVER, Cause.LOST)
    assert room not in rooms(site)


def test_it_is_lost_even_if_its_whole_folder_went(site: Site, nursery: Nursery) -> None:
    of_an_earlier_boot(killed(site, nursery))
    shutil.rmtree(site.spool.home(KEY))
    site.spool.settle()
    site.spool.prepare(KEY, HERE)
    assert site.spool.status(KEY).cause is Cause.LOST
    assert site.spool.open_gate(KEY)
    nursery.run_shim(KEY)
    assert site.spool.status(KEY).cause is Cause.LOST
    assert not (site.spool.home(KEY) / "log").exists()


def test_a_key_that_was_given_up_first_stays_so(site: Site, nursery: Nursery) -> None:
    of_an_earlier_boot(killed(site, nursery))
    started = site.spool.home(KEY) / "started.json"
    started.unlink()
    started.write_text(json.dumps({"given_up": True}))
    site.spool.settle()
    assert site.spool.status(KEY).cause is Cause.NEVER_STARTED


def test_what_was_put_away_stays_away(site: Site, nursery: Nursery) -> None:
    of_an_earlier_boot(killed(site, nursery))
    site.spool.home(KEY).rename(site.spool.root / "archive" / KEY)
    site.spool.settle()
    assert not site.spool.home(KEY).exists()
    assert not any(kept(site))


def test_in_the_same_boot_the_rank_keeps_the_state_it_had(site: Site, nursery: Nursery) -> None:
    room = killed(site, nursery)
    before = site.spool.status(KEY)
    site.spool.settle()
    assert room not in rooms(site)
    assert site.spool.status(KEY) == before


def test_only_spares_keep_room_for_a_record(site: Site, nursery: Nursery) -> None:
    nursery.warm_up()
    wait_until(lambda: len(rooms(site)) == SHIMS, "room for each spare")
    site.prepare(KEY, ["/bin/sh", "-c", "exit 0"])
    site.spool.open_gate(KEY)
    nursery.run_shim(KEY)
    site.end(KEY)
    wait_until(lambda: kept(site) == [{}] * SHIMS, "the spares' rooms and no others")
    nursery.close()

    def none_is_left() -> bool:
        site.spool.settle()
        return not rooms(site)

    wait_until(none_is_left, "what the spares left is dropped")


def test_a_start_needs_no_room_made_ahead(site: Site, nursery: Nursery) -> None:
    nursery.close()
    shutil.rmtree(site.spool.rooms)
    site.prepare(KEY, ["/bin/sh", "-c", "exit 3"])
    site.spool.open_gate(KEY)
    nursery.run_shim(KEY)
    assert site.end(KEY).exit_code == 3


def test_a_start_is_recorded_though_the_spool_moved_to_another_disk(
    site: Site, nursery: Nursery
) -> None:
    nursery.warm_up()
    wait_until(lambda: len(rooms(site)) == SHIMS, "room for each spare")
    for room in rooms(site):
        copy = shutil.copy(room, site.root / "copy")
        os.replace(copy, room)
    site.prepare(KEY, ["/bin/sh", "-c", "exit 3"])
    site.spool.open_gate(KEY)
    nursery.run_shim(KEY)
    assert "shim_pid" in json.loads((site.spool.home(KEY) / "started.json").read_text())
    assert site.end(KEY).exit_code == 3


def test_a_room_that_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys; from agent.node.rank_record import room_ahead; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "
        "sys.exit(room_ahead(sys.argv[1]) is not None)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
    assert list(tmp_path.iterdir()) == []
