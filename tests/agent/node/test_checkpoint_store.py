"""The site's store of checkpoints: what a job wrote on one node is there on the next, sealed where
its tenant holds a key."""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.node.asked import RankSpec
from agent.node.checkpoint_store import CheckpointShelf, CheckpointUnreadable
from agent.node.checkpoints import HELD_MS_MAX, Checkpoints
from agent.node.executor import Executor, ExecutorError, KeyRefused
from agent.node.facts import NodeFacts
from agent.node.goods import GoodsShelf
from sovapi.v1.nodelink_pb2 import Goods, ListGoods
from sovshared import key_service, sealing
from sovshared.checkpoint_keys import CheckpointOpener, CheckpointSealer
from sovshared.key_service import FileKeys
from sovshared.sealing import SealInvalid
from tests.agent.node.executing import GRANTING, KEY, facts_at, granted, spec
from tests.agent.node.rig import Site

OPENER = CheckpointOpener(bytes(range(32)))
SEALER = CheckpointSealer(OPENER.public)
WEIGHTS = "canary-weights"
AGAIN = "job-a.2.0"
WRITE = f"""
mkdir "$SOV_CHECKPOINT_DIR/.tmp"; printf {WEIGHTS} > "$SOV_CHECKPOINT_DIR/.tmp/w"
ln -s /etc/shadow "$SOV_CHECKPOINT_DIR/.tmp/link"
mv "$SOV_CHECKPOINT_DIR/.tmp" "$SOV_CHECKPOINT_DIR/step-1"
"""
READ = 'cat "$SOV_CHECKPOINT_DIR/step-1/w" && echo more >> "$SOV_CHECKPOINT_DIR/step-1/w"'


def step(folder: Path, name: str, text: str, at_s: int) -> Path:
    """A checkpoint that is a directory."""
    made = folder / name
    made.mkdir(parents=True)
    (made / "w").write_text(text)
    os.utime(made, (at_s, at_s))
    return made


@pytest.fixture
def shelf(tmp_path: Path) -> CheckpointShelf:
    return CheckpointShelf(tmp_path / "store", "job-a", 0)


@pytest.mark.parametrize("sealed", [False, True])
def test_what_was_kept_is_put_back_as_it_was(
    shelf: CheckpointShelf, tmp_path: Path, sealed: bool
) -> None:
    source, target = tmp_path / "a" / "job-a", tmp_path / "b" / "job-a"
    step(source, "step-1", WEIGHTS, 1_000)
    target.mkdir(parents=True)
    assert shelf.keep(source, SEALER if sealed else None) == 1
    assert shelf.keep(source, SEALER if sealed else None) == 0, "it is there already"
    (stored,) = (path for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert (WEIGHTS.encode() in stored.read_bytes()) is not sealed
    assert b"step-1" not in stored.name.encode()
    assert shelf.restore(target, None, OPENER if sealed else None) == 1
    assert (target / "step-1" / "w").read_text() == WEIGHTS
    assert (target / "step-1").stat().st_mtime == 1_000
    assert shelf.restore(target, None, OPENER if sealed else None) == 0
    assert [path.name for path in target.parent.iterdir()] == ["job-a"]


def test_the_newest_are_kept_and_the_others_go(shelf: CheckpointShelf, tmp_path: Path) -> None:
    source = tmp_path / "a" / "job-a"
    for n in range(1, 5):
        step(source, f"step-{n}", str(n), 1_000 * n)
        shelf.keep(source, None)
    target = tmp_path / "b" / "job-a"
    target.mkdir(parents=True)
    assert shelf.restore(target, None, None) == 2
    assert sorted(path.name for path in target.iterdir()) == ["step-3", "step-4"]


def test_what_is_newer_on_the_node_stays(shelf: CheckpointShelf, tmp_path: Path) -> None:
    source = tmp_path / "a" / "job-a"
    made = step(source, "latest", "old", 1_000)
    shelf.keep(source, None)
    (made / "w").write_text("new")
    os.utime(made, (2_000, 2_000))
    assert shelf.restore(source, None, None) == 0
    assert (made / "w").read_text() == "new"


def test_a_store_that_was_meddled_with_is_not_believed(
    shelf: CheckpointShelf, tmp_path: Path
) -> None:
    source, target = tmp_path / "a" / "job-a", tmp_path / "b" / "job-a"
    step(source, "step-1", WEIGHTS, 1_000)
    target.mkdir(parents=True)
    shelf.keep(source, SEALER)
    (stored,) = (path for path in (tmp_path / "store").rglob("*") if path.is_file())
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointUnreadable, match="not what was sealed"):
        shelf.restore(target, None, OPENER)
    stored.write_bytes(whole)
    with pytest.raises(CheckpointUnreadable, match="should be and is not"):
        shelf.restore(target, None, None)
    other = tmp_path / "store" / "job-a" / "1"
    other.mkdir()
    (other / stored.name).write_bytes(whole)
    with pytest.raises(CheckpointUnreadable, match="another"):
        CheckpointShelf(tmp_path / "store", "job-a", 1).restore(target, None, OPENER)
    with pytest.raises(CheckpointUnreadable, match="not sealed for this job"):
        shelf.restore(target, None, CheckpointOpener(bytes(32)))
    assert list(target.iterdir()) == []


def test_a_secret_is_one_jobs_and_one_works() -> None:
    key = sealing.TenantKey("k1", bytes(32))
    secrets = {
        key.checkpoint_secret(b"w" * 32, "job-a"),
        key.checkpoint_secret(b"w" * 32, "job-b"),
        key.checkpoint_secret(b"v" * 32, "job-a"),
    }
    assert len(secrets) == 3
    header = SEALER.wrap(sealing.CHECKPOINT, "job-a/0", b"k" * 32, b"n" * 12)
    with pytest.raises(SealInvalid):
        CheckpointOpener(secrets.pop()).unwrap(header)


# On nodes, with shims.


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    return key_service.found(tmp_path / "keys", GRANTING.ca.trust_pem, "k1", bytes(range(32)))


def node(site: Site, tmp_path: Path, number: int) -> NodeFacts:
    """One of two nodes with a store in common; they have one spool, for there is one of them."""
    return replace(
        facts_at(site),
        checkpoint_root=str(site.root / f"checkpoints-{number}"),
        checkpoint_store=str(site.root / "checkpoint-store"),
        key_services=(f"file:{tmp_path / 'keys'}",),
    )


def run(site: Site, facts: NodeFacts, key: str, text: str, keys: FileKeys | None) -> str:
    """A rank from its start to its end, and its last checkpoints kept; its log."""
    executor = Executor(facts)
    what: RankSpec = spec(text, attempt=int(key.split(".")[1]))
    if keys is not None:
        work = sealing.work_of(command=what["argv"], env={}, bundle_digest="", image="", secrets={})
        what["keys"]["ticket"] = base64.b64encode(keys.key().ticket(work, None)).decode()
    executor.prepare(key)
    executor.start(key, granted(facts, key, what))
    assert site.end(key).exit_code == 0, site.log(key)
    checkpoints = Checkpoints(site.spool.root)
    for held in ([key], []):
        assert sorted(checkpoints.held([key], 1_000)) == held, "until its last one is kept"
        assert checkpoints.keep_last() is bool(held)
    return site.log(key)


BOTH = f'if [ "$SOV_ATTEMPT" = 1 ]; then {WRITE}\nelse {READ}; fi'


@pytest.mark.parametrize("with_key", [False, True])
def test_a_job_goes_on_with_its_checkpoint_on_another_node(
    site: Site, tmp_path: Path, keys: FileKeys, with_key: bool
) -> None:
    held = keys if with_key else None
    run(site, node(site, tmp_path, 1), KEY, BOTH, held)
    store = site.root / "checkpoint-store"
    kept = [path for path in store.rglob("*") if path.is_file()]
    assert len(kept) == 1
    assert (WEIGHTS.encode() in kept[0].read_bytes()) is not with_key
    assert WEIGHTS in run(site, node(site, tmp_path, 2), AGAIN, BOTH, held)
    restored = site.root / "checkpoints-2" / "job-a" / "step-1"
    assert (restored / "w").read_text() == f"{WEIGHTS}more\n", "it is the job's own to write"
    assert not (restored / "link").exists()


def test_an_end_is_held_back_for_its_checkpoint_and_not_for_ever(
    site: Site, tmp_path: Path
) -> None:
    facts = node(site, tmp_path, 1)
    executor = Executor(facts)
    executor.prepare(KEY)
    executor.start(KEY, granted(facts, KEY, spec(WRITE)))
    site.end(KEY)
    checkpoints = Checkpoints(site.spool.root)
    assert checkpoints.held([KEY], 1_000) == {KEY}
    assert checkpoints.held([KEY], 1_000 + HELD_MS_MAX - 1) == {KEY}
    assert checkpoints.held([KEY], 1_000 + HELD_MS_MAX) == frozenset()
    assert checkpoints.held([KEY], 2_000 + HELD_MS_MAX) == frozenset()


def test_without_the_key_a_job_does_not_go_on(site: Site, tmp_path: Path, keys: FileKeys) -> None:
    run(site, node(site, tmp_path, 1), KEY, BOTH, keys)
    (tmp_path / "keys" / key_service.WITHHELD_FILE).touch()
    with pytest.raises(KeyRefused, match="withholds the key"):
        run(site, node(site, tmp_path, 2), AGAIN, BOTH, keys)
    assert list((site.root / "checkpoints-2" / "job-a").iterdir()) == []


def test_a_job_that_shows_no_ticket_has_nothing_sealed_put_back(
    site: Site, tmp_path: Path, keys: FileKeys
) -> None:
    run(site, node(site, tmp_path, 1), KEY, BOTH, keys)
    with pytest.raises(ExecutorError, match="sealed"):
        run(site, node(site, tmp_path, 2), AGAIN, BOTH, None)


def test_what_is_sealed_is_downloaded_sealed(site: Site, tmp_path: Path, keys: FileKeys) -> None:
    facts = node(site, tmp_path, 1)
    run(site, facts, KEY, BOTH, keys)
    goods = GoodsShelf(Path(facts.checkpoint_root), "", facts.checkpoint_store)
    page = goods.page(ListGoods(goods=Goods(job_id="job-a"), max_files=10))
    (file,) = page.files
    assert file.path.startswith("0/")
    assert file.path.endswith(".sealed")
