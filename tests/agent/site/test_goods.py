"""What a job left, from a node's folders to the tenant's tunnel."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from agent.node.goods import GoodsShelf
from agent.site import goods
from agent.site.goods import GoodsStream
from agent.site.tunnels import NodeAway, NotServed
from sovapi.v1.jobs_pb2 import DownloadRequest, DownloadResponse, WrittenOutput
from sovapi.v1.nodelink_pb2 import (
    GoodsChunk,
    GoodsPage,
    ListGoods,
    LogChunk,
    ReadGoods,
    ReadLog,
)
from sovapi.v1.sitelink_pb2 import OpenTunnel

JOB, MODEL, VERSION = "job-a", "trust-a/model", "0" * 64


class Nodes:
    """Two nodes with one store; each has checkpoints of its own."""

    def __init__(self, root: Path) -> None:
        self.shelves = {
            slot: GoodsShelf(root / slot, str(root / "store")) for slot in ("n01", "n02")
        }
        self.after_page: Callable[[], object] = lambda: None

    def slots(self) -> tuple[str, ...]:
        return tuple(self.shelves)

    async def read_log(self, slot: str, wanted: ReadLog) -> LogChunk:
        return LogChunk(unknown=(slot, wanted.key) != ("n02", f"{JOB}.1.0"))

    async def list_goods(self, slot: str, asked: ListGoods) -> GoodsPage:
        page = self.shelves[slot].page(asked)
        self.after_page()
        return page

    async def read_goods(self, slot: str, asked: ReadGoods) -> GoodsChunk:
        return self.shelves[slot].chunk(asked)


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    for name, text in (("n01", "elsewhere"), ("n02", "weights")):
        folder = tmp_path / name / JOB / "step"
        folder.mkdir(parents=True)
        (folder / "w").write_text(text)
    version = tmp_path / "store" / "trust-a" / "@model" / VERSION
    (version / "b").mkdir(parents=True)
    (version / "b" / "c").write_text("c" * 100)
    (version / "b.txt").write_text("text")
    return Nodes(tmp_path)


async def fetched(nodes: Nodes, path: str = "", **more: object) -> list[DownloadResponse]:
    asked = DownloadRequest(path=path, **more)  # type: ignore[arg-type]
    opening = OpenTunnel(
        tunnel_id="t",
        job_id=JOB,
        attempt=1,
        download=asked,
        outputs=[WrittenOutput(dataset=MODEL, digest=f"sha256:{VERSION}")],
    )
    messages = await GoodsStream(nodes, lambda _: {}, opening).open()
    ups = [up async for up in messages]
    assert ups[0].tunnel_id == "t"
    return [up.download for up in ups[1:]]


def paths(responses: list[DownloadResponse]) -> list[str]:
    return [response.file.path for response in responses if response.HasField("file")]


async def test_checkpoints_come_from_the_ranks_node_and_outputs_from_the_store(
    nodes: Nodes,
) -> None:
    found = await fetched(nodes)
    assert paths(found) == [
        "checkpoints/step/w",
        f"outputs/{MODEL}/b/c",
        f"outputs/{MODEL}/b.txt",
    ]
    assert found[1].chunk == b"weights", "rank 0 ran on n02, whose checkpoints these are"
    assert found[2].digest == sha256(b"weights").hexdigest()
    assert (found[-1].end.files, found[-1].end.left_out) == (3, 0)


async def test_a_folder_or_a_file_is_asked_for_by_its_path(nodes: Nodes) -> None:
    assert paths(await fetched(nodes, f"outputs/{MODEL}/b")) == [f"outputs/{MODEL}/b/c"]
    assert paths(await fetched(nodes, f"outputs/{MODEL}/b.txt")) == [f"outputs/{MODEL}/b.txt"]
    assert len(paths(await fetched(nodes, "outputs", listing=True))) == 2


@pytest.mark.parametrize("path", ["outputs/other", "checkpoints/none", "checkpoints/../n01", "x"])
async def test_what_is_not_there_is_refused(nodes: Nodes, path: str) -> None:
    with pytest.raises(NotServed) as refused:
        await fetched(nodes, path)
    assert refused.value.reason == "NOT_FOUND"


async def test_what_is_there_already_is_not_sent_again_and_still_in_the_digest(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(goods, "READ_BYTES", 7)
    found = await fetched(nodes, begin_at=f"outputs/{MODEL}/b/c", offset=90)
    assert paths(found) == [f"outputs/{MODEL}/b/c", f"outputs/{MODEL}/b.txt"]
    digest = next(n for n, response in enumerate(found) if response.digest)
    assert b"".join(response.chunk for response in found[:digest]) == b"c" * 10
    assert found[digest].digest == sha256(b"c" * 100).hexdigest()


async def test_many_files_come_in_pages_each_once(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(goods, "PAGE_FILES", 3)
    root = tmp_path / "n02" / JOB
    for n in range(10):
        (root / f"f{n}").mkdir()
        (root / f"f{n}" / "x").write_text(str(n))
        (root / f"f{n}.txt").write_text(str(n))
    os.symlink("/etc/passwd", root / "f4" / "link")
    found = await fetched(nodes, "checkpoints", listing=True)
    names = paths(found)
    assert len(names) == 21
    assert names == sorted(set(names), key=lambda path: path.split("/"))
    assert found[-1].end.left_out == 1


async def test_links_pipes_and_names_that_cannot_travel_are_left_out(
    nodes: Nodes, tmp_path: Path
) -> None:
    folder = tmp_path / "n02" / JOB
    (folder / "to-shadow").symlink_to("/etc/shadow")
    (folder / "to-folder").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"\xff")).write_text("x")
    found = await fetched(nodes, "checkpoints")
    assert paths(found) == ["checkpoints/step/w"]
    assert found[-1].end.left_out == 4
    with pytest.raises(NotServed):
        await fetched(nodes, "checkpoints/to-folder/passwd")


async def test_a_file_that_changes_meanwhile_ends_the_stream(nodes: Nodes, tmp_path: Path) -> None:
    weights = tmp_path / "n02" / JOB / "step" / "w"
    nodes.after_page = lambda: weights.write_text(weights.read_text() + "more")
    with pytest.raises(NodeAway, match="changed meanwhile"):
        await fetched(nodes, "checkpoints")


async def test_while_no_node_can_be_asked_it_may_be_asked_again(nodes: Nodes) -> None:
    nodes.shelves.clear()
    with pytest.raises(NotServed) as refused:
        await fetched(nodes, "checkpoints")
    assert refused.value.reason == "UNAVAILABLE"


def test_a_job_id_is_no_path(nodes: Nodes) -> None:
    asked = ListGoods(max_files=1)
    asked.goods.job_id = "../n01"
    assert "allowed a job's id" in nodes.shelves["n02"].page(asked).refused
