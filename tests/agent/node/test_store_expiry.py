"""What goes out of the site's store of checkpoints, when, and what never does."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.node import store_expiry
from agent.node.checkpoint_store import CheckpointShelf
from agent.node.store_expiry import REMOVED, BoundedStore, StoreExpiry, StoreLimits
from tests.agent.node.test_checkpoint_store import step

DAY_MS = 24 * 3_600_000
ROOMY = 1 << 40


def store_of(root: Path, held: Mapping[str, int]) -> Path:
    """A store that holds so many bytes of each job."""
    for job, size in held.items():
        folder = root / job / "0"
        folder.mkdir(parents=True)
        (folder / "x.tar").write_bytes(b"w" * size)
    return root


def jobs_in(root: Path) -> list[str]:
    """Whose checkpoints are there; nothing else is."""
    return sorted(each.name for each in root.iterdir())


def test_what_is_over_for_long_enough_goes_and_nothing_else(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", {"job-a": 10, "job-b": 10, "job-c": 10})
    expiry = BoundedStore(store, StoreLimits(DAY_MS, ROOMY))
    assert expiry.expire({"job-a": DAY_MS, "job-b": DAY_MS - 1, "job-x": DAY_MS}) == ["job-a"]
    assert jobs_in(store) == ["job-b", "job-c"]
    assert expiry.expire({}) == []
    assert jobs_in(store) == ["job-b", "job-c"]


def test_above_its_bytes_what_is_over_longest_goes_first_and_never_what_may_go_on(
    tmp_path: Path,
) -> None:
    held = {"job-a": 40, "job-b": 40, "job-c": 40, "job-big": 500}
    store = store_of(tmp_path / "s", held)
    over = {"job-a": 5, "job-b": 9, "job-c": 7}
    assert BoundedStore(store, StoreLimits(DAY_MS, 540)).expire(over) == ["job-b", "job-c"]
    assert jobs_in(store) == ["job-a", "job-big"]
    assert BoundedStore(store, StoreLimits(DAY_MS, 10)).expire(over) == ["job-a"]
    assert jobs_in(store) == ["job-big"]


@given(
    held=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 50)),
    over=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 20)),
    keep_ms=st.integers(0, 20),
    bytes_max=st.integers(0, 200),
)
def test_the_limits_hold_wherever_they_can(
    tmp_path_factory: pytest.TempPathFactory,
    held: dict[str, int],
    over: dict[str, int],
    keep_ms: int,
    bytes_max: int,
) -> None:
    store = store_of(tmp_path_factory.mktemp("s"), held)
    removed = BoundedStore(store, StoreLimits(keep_ms, bytes_max)).expire(over)
    left = jobs_in(store)
    assert sorted([*removed, *left]) == sorted(held)
    assert set(removed) <= set(over)
    ended = [job for job in left if job in over]
    assert all(over[job] < keep_ms for job in ended)
    assert not ended or sum(held[job] for job in left) <= bytes_max
    spared = max((over[job] for job in ended), default=0)
    assert all(over[job] >= spared for job in removed)


def test_what_a_node_left_that_went_down_half_way_is_removed(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", {f"{REMOVED}job-a": 10, "job-a": 10, "job-b": 10})
    expiry = BoundedStore(store, StoreLimits(0, ROOMY))
    assert expiry.expire({"job-a": 0}) == ["job-a"]
    assert jobs_in(store) == ["job-b"]


def test_another_nodes_removal_under_way_is_not_disturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path / "s", {f"{REMOVED}job-a": 10, "job-a": 10, "job-b": 10})

    def as_if_it_began_just_now(_: BoundedStore) -> None:
        """It was not there yet to be finished."""

    monkeypatch.setattr(BoundedStore, "_finish", as_if_it_began_just_now)
    assert BoundedStore(store, StoreLimits(0, ROOMY)).expire({"job-a": 0, "job-b": 0}) == ["job-b"]
    assert "job-a" in jobs_in(store)


def test_several_nodes_remove_the_same_at_once(tmp_path: Path) -> None:
    held = {f"job-{n}": 10 for n in range(30)}
    store = store_of(tmp_path / "s", held | {"keep-me": 10})
    with ThreadPoolExecutor(4) as nodes:
        done = [
            nodes.submit(BoundedStore(store, StoreLimits(0, ROOMY)).expire, dict.fromkeys(held, 0))
            for _ in range(4)
        ]
        removed = [job for each in done for job in each.result()]
    assert sorted(removed) == sorted(held)  # Each by one of them.
    BoundedStore(store, StoreLimits(0, ROOMY)).expire({})
    assert jobs_in(store) == ["keep-me"]


def test_of_many_jobs_all_are_asked_about_by_and_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_expiry, "STORED_JOBS_MAX", 2)
    stores = (
        store_of(tmp_path / "s", dict.fromkeys("abd", 1)),
        store_of(tmp_path / "n", dict.fromkeys("bce", 1)),
    )
    expiry = StoreExpiry(*(BoundedStore(store, StoreLimits(0, 0)) for store in stores))
    asked = [expiry.next_jobs() for _ in range(4)]
    assert asked == [["a", "b"], ["c", "d"], ["e"], ["a", "b"]]


def test_what_is_no_jobs_folder_is_not_asked_about_nor_touched(tmp_path: Path) -> None:
    outside = store_of(tmp_path / "outside", {"w": 10})
    store = store_of(tmp_path / "s", {"job-a": 1, "lost+found": 1})
    (store / "job-link").symlink_to(outside)
    (store / "notes").write_text("ours")
    expiry = BoundedStore(store, StoreLimits(0, 0))
    assert expiry.jobs() == ["job-a"]
    told = {"job-a": 5, "job-link": 5, "notes": 5, "../outside": 5, "lost+found": 5}
    assert expiry.expire(told) == ["job-a"]
    assert jobs_in(store) == ["job-link", "lost+found", "notes"]
    assert (outside / "w" / "0" / "x.tar").exists()


def test_a_store_that_is_not_there_yet_has_nothing(tmp_path: Path) -> None:
    expiry = BoundedStore(tmp_path / "none", StoreLimits(0, 0))
    assert (expiry.jobs(), expiry.expire({"job-a": 1})) == ([], [])


def test_what_is_kept_after_its_job_was_removed_goes_the_next_time(tmp_path: Path) -> None:
    store, source = tmp_path / "s", tmp_path / "w"
    step(source, "step-1", "weights", 1_000)
    expiry, shelf = BoundedStore(store, StoreLimits(0, ROOMY)), CheckpointShelf(store, "job-a", 0)
    for _ in range(2):
        assert shelf.keep(source, None) == 1
        assert expiry.expire({"job-a": 0}) == ["job-a"]
        assert jobs_in(store) == []
