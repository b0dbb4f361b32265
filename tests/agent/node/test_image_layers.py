"""Layers of images: what they may do to the tree, and what hostile ones cannot."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from agent.node import data_store
from agent.node.image_layers import LayerInvalid, Room, Tree
from tests.agent.node.image_layout import file_in, folder_in, layer_of, link_in


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def lay(root: Path, *layers: bytes, entries: int = 1000, size_bytes: int = 1 << 20) -> None:
    """Lays layers over one another."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        room = Room(folder, entries, size_bytes)
        for layer in layers:
            Tree(folder, room).lay(io.BytesIO(layer))
    finally:
        os.close(folder)


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_later_layer_replaces_and_takes_away(root: Path) -> None:
    lower = layer_of(
        folder_in("a"), file_in("a/one", b"1"), file_in("a/two", b"2"), file_in("b/x", b"x"),
        file_in("c", b"file"), link_in("d", "a"),
    )  # fmt: skip
    upper = layer_of(
        file_in("a/one", b"new"), file_in("a/.wh.two"), file_in(".wh.b"), folder_in("c"),
        folder_in("d"),
    )  # fmt: skip
    lay(root, lower, upper)
    assert names(root) == ["a", "a/one", "c", "d"]
    assert (root / "a/one").read_bytes() == b"new"
    assert (root / "d").is_dir()
    assert not (root / "d").is_symlink()


@pytest.mark.parametrize("opaque_last", [False, True])
def test_an_opaque_folder_loses_what_was_below_and_keeps_what_it_brings(
    root: Path, opaque_last: bool
) -> None:
    hides, brings = file_in("a/.wh..wh..opq"), file_in("a/mine", b"m")
    upper = [folder_in("a"), *((brings, hides) if opaque_last else (hides, brings))]
    lay(root, layer_of(file_in("a/deep/old", b"o"), file_in("z", b"z")), layer_of(*upper))
    assert names(root) == ["a", "a/mine", "z"]


def test_a_layer_takes_away_what_is_below_and_not_what_it_brings(root: Path) -> None:
    upper = layer_of(file_in("a", b"new"), file_in(".wh.a"), file_in(".wh.absent"))
    lay(root, layer_of(file_in("a", b"old")), upper)
    assert (root / "a").read_bytes() == b"new"


def test_names_are_looked_up_within_the_tree_whatever_links_say(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    lower = layer_of(
        link_in("abs", str(outside)), link_in("up", "../../outside"), link_in("usr", "real"),
        folder_in("real"), folder_in(str(outside)),
    )  # fmt: skip
    upper = layer_of(
        file_in("abs/x", b"x"), file_in("usr/y", b"y"), file_in("/etc/passwd", b"p"),
        file_in("abs/.wh..wh..opq"),
    )  # fmt: skip
    lay(root, lower, upper)
    assert list(outside.iterdir()) == []
    assert (root / str(outside).lstrip("/") / "x").read_bytes() == b"x"
    assert (root / "real/y").read_bytes() == b"y"
    assert (root / "etc/passwd").read_bytes() == b"p"
    with pytest.raises(LayerInvalid):  # Within the tree there is no such folder.
        lay(root, layer_of(file_in("up/x", b"x")))
    assert list(outside.iterdir()) == []


def test_a_link_is_replaced_and_never_written_through(root: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"kept")
    lay(root, layer_of(link_in("f", str(kept))), layer_of(file_in("f", b"new")))
    assert kept.read_bytes() == b"kept"
    assert (root / "f").read_bytes() == b"new"


def test_a_hard_link_is_to_a_file_of_the_tree(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    first = layer_of(file_in("a", b"a"), link_in("b", "/a", tarfile.LNKTYPE))
    lay(root, first, layer_of(file_in("a", b"other")))
    assert ((root / "a").read_bytes(), (root / "b").read_bytes()) == (b"other", b"a")
    lay(root, layer_of(link_in("out", str(tmp_path / "secret"))))
    lay(root, layer_of(link_in("hard", "out", tarfile.LNKTYPE)))
    assert (root / "hard").is_symlink(), "of the link, not of what it leads to"
    for target in (str(tmp_path / "secret"), "../secret", "absent", "/"):
        with pytest.raises(LayerInvalid):
            lay(root, layer_of(link_in("c", target, tarfile.LNKTYPE)))


def test_devices_and_rights_of_others_are_dropped(root: Path) -> None:
    lay(root, layer_of(
        file_in("dev/sda", type=tarfile.BLKTYPE, devmajor=8, devminor=0),
        file_in("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        file_in("pipe", type=tarfile.FIFOTYPE),
        file_in("su", b"x", mode=0o6755, uid=1000, gid=1000),
        file_in("own", b"x", mode=0o600), folder_in("home", 0o2700), folder_in("tmp", 0o1777),
    ))  # fmt: skip
    assert names(root) == ["dev", "home", "own", "su", "tmp"]
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in names(root)}
    assert modes == {"dev": 0o755, "home": 0o755, "own": 0o644, "su": 0o755, "tmp": 0o1777}
    assert (root / "su").stat().st_uid == os.geteuid()


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(file_in("../x", b"x"), id="up"),
        pytest.param(file_in("a/../../x", b"x"), id="up from below"),
        pytest.param(file_in("a/.wh..."), id="a whiteout of the folder above"),
        pytest.param(file_in("a/.wh."), id="a whiteout of nothing"),
        pytest.param(file_in("/".join("a" * 200), b"x"), id="deep"),
        pytest.param(file_in("n" * 300, b"x"), id="a long name"),
        pytest.param(file_in("x", b"x", pax_headers={"path": "a" * (2 << 20)}), id="a header"),
    ],
)
def test_what_a_layer_may_not_hold_is_refused(
    root: Path, member: tuple[tarfile.TarInfo, bytes]
) -> None:
    with pytest.raises(LayerInvalid):
        lay(root, layer_of(member))
    assert sorted(root.parent.iterdir()) == [root]


def test_folders_get_no_deeper_through_links(root: Path) -> None:
    deep = "/".join("d" * 100)
    with pytest.raises(LayerInvalid, match="folders within one another"):
        lay(root, layer_of(folder_in(deep), link_in("s", deep), folder_in("s/" + deep)))


def test_what_is_no_archive_is_refused(root: Path) -> None:
    whole = layer_of(file_in("a", b"a" * 5000))
    for bad in (b"", b"no tar" * 200, whole[:2000]):
        with pytest.raises(LayerInvalid):
            lay(root, bad)


def test_an_image_has_no_more_than_its_room(root: Path) -> None:
    many = layer_of(*(file_in(f"f{n}", b"12345") for n in range(10)))
    with pytest.raises(LayerInvalid, match="files, folders and links"):
        lay(root, many, entries=5)
    with pytest.raises(LayerInvalid, match="files, folders and links"):
        lay(root, layer_of(file_in("a/b/c/d/e/f", b"")), entries=3)
    with pytest.raises(LayerInvalid, match="unpacks to more"):
        lay(root, many, size_bytes=20)


def test_the_nodes_disk_is_not_filled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_store, "FREE_BYTES_MIN", 1 << 62)
    with pytest.raises(OSError, match="no room is left"):
        lay(root, layer_of(file_in("a", b"a")))
