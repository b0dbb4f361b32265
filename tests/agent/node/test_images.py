"""Images of a site's store: what is taken from it, what is refused, and what a rank in one sees."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.node import image_view, images
from agent.node.executor import Executor, ImageMissing, NotGranted
from agent.node.images import ImageCache, ImageUnavailable, architecture
from agent.node.spool import Cause
from tests.agent.node.executing import KEY, facts_at, granted, spec, start
from tests.agent.node.image_layout import TAR, Layout, file_in, layer_of, link_in, shell_layer
from tests.agent.node.rig import Site, needs_root

LAYER = layer_of(file_in("a", b"a"))


@pytest.fixture
def layout(site: Site) -> Layout:
    return Layout(site.root / "images")


@pytest.fixture
def cache(site: Site, layout: Layout) -> ImageCache:
    return ImageCache(site.root / "cache", str(layout.root))


@pytest.fixture
def executor(site: Site, layout: Layout) -> Executor:
    return Executor(replace(facts_at(site), image_store=str(layout.root)))


def test_an_image_is_unpacked_once_and_kept_by_its_digest(
    layout: Layout, cache: ImageCache
) -> None:
    env = ["PATH=/opt/bin", "A=b=c", "SOV_JOB_ID=forged", "RANK=9"]
    digest = layout.image(LAYER, layer_of(file_in("b", b"b")), env=env)
    image = cache.have(f"registry.example/team/tool@{digest}")
    assert image.place.name == digest.removeprefix("sha256:")
    assert (image.place / "root" / "b").read_bytes() == b"b"
    assert image.env == {"A": "b=c", "PATH": "/opt/bin"}
    (image.place / "root" / "mark").touch()
    assert (cache.have(digest).place / "root" / "mark").exists()


def test_of_an_index_this_machines_image_is_taken(layout: Layout, cache: ImageCache) -> None:
    digest = layout.image(LAYER, kind=TAR)
    other = layout.image(LAYER, arch="s390x")
    image = cache.have(layout.index({"s390x": other, architecture(): digest}))
    assert (image.place / "root" / "a").exists()
    with pytest.raises(ImageUnavailable, match="names no image for linux/"):
        cache.have(layout.index({"s390x": other}))


def _spoilt_layer(layout: Layout) -> str:
    digest = layout.image(LAYER)
    manifest = json.loads(layout.blob(digest).read_bytes())
    layout.blob(manifest["layers"][0]["digest"]).write_bytes(b"else")
    return digest


def _altered_layer(layout: Layout) -> str:
    digest = layout.image(LAYER)
    manifest = json.loads(layout.blob(digest).read_bytes())
    blob = layout.blob(manifest["layers"][0]["digest"])
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    return digest


def _spoilt_manifest(layout: Layout) -> str:
    digest = layout.image(LAYER)
    layout.blob(digest).write_bytes(layout.blob(layout.image(layer_of())).read_bytes())
    return digest


def _linked(layout: Layout) -> str:
    digest = layout.image(LAYER)
    body = layout.blob(digest).read_bytes()
    layout.blob(digest).unlink()
    (layout.root.parent / "elsewhere").write_bytes(body)
    layout.blob(digest).symlink_to(layout.root.parent / "elsewhere")
    return digest


REFUSED: dict[str, tuple[Callable[[Layout], str], str]] = {
    "absent": (lambda _: "sha256:" + "0" * 64, "is not in this site's store"),
    "no digest": (lambda _: "sha256:../../etc/passwd", "and 64 digits"),
    "a tag": (lambda _: "debian:12", "and 64 digits"),
    "another layer": (_spoilt_layer, "found 4 bytes, allowed"),
    "an altered layer": (_altered_layer, "not gzip|what the store has"),
    "another manifest": (_spoilt_manifest, "what the store has is sha256"),
    "a link out of the store": (_linked, "is not in this site's store"),
    "another content": (
        lambda one: one.image(LAYER, diff_ids=["sha256:" + "1" * 64]),
        "sha256:1111.*what the store has",
    ),
    "no contents": (lambda one: one.image(LAYER, diff_ids=[]), "1 layers, 0 diff_ids"),
    "no layers": (lambda one: one.image(), "0 layers"),
    "another machine": (lambda one: one.image(LAYER, arch="s390x"), "linux/s390x"),
    "zstd": (lambda one: one.image(LAYER, kind=f"{TAR}+zstd"), r"found '.*\+zstd'"),
    "no json": (lambda one: one.put(b"no json"), "found no JSON"),
    "a list": (lambda one: one.put(b"[]"), "found no object"),
    "no manifest": (lambda one: one.document({}), "no OCI manifest"),
    "no config": (lambda one: one.document({"schemaVersion": 2, "config": 5}), "config"),
    "hostile": (lambda one: one.image(layer_of(file_in("../x"))), "allowed no '..'"),
}


@pytest.mark.parametrize(("make", "why"), list(REFUSED.values()), ids=list(REFUSED))
def test_what_is_not_the_image_that_was_named_is_refused_and_leaves_nothing(
    layout: Layout, cache: ImageCache, make: Callable[[Layout], str], why: str
) -> None:
    with pytest.raises(ImageUnavailable, match=why):
        cache.have(make(layout))
    left = [path.name for path in (layout.root.parent / "cache").iterdir()]
    assert left in ([], ["lock"])


def test_what_was_taken_out_of_the_store_starts_no_more(layout: Layout, cache: ImageCache) -> None:
    digest = layout.image(LAYER)
    cache.have(digest)
    layout.blob(digest).unlink()
    with pytest.raises(ImageUnavailable, match="is not in this site's store"):
        cache.have(digest)


def test_a_try_that_was_cut_off_is_begun_anew(
    site: Site, layout: Layout, cache: ImageCache
) -> None:
    digest = layout.image(LAYER)
    half = site.root / "cache" / f".part-{digest.removeprefix('sha256:')}" / "root"
    half.mkdir(parents=True)
    (half / "half").touch()
    assert [path.name for path in (cache.have(digest).place / "root").iterdir()] == ["a"]


def test_the_oldest_image_that_nobody_uses_makes_room(
    layout: Layout, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "KEPT_MAX", 2)
    digests = [layout.image(layer_of(file_in("n", str(n).encode()))) for n in range(4)]
    used = cache.have(digests[0]).place
    os.utime(used, (1, 1))
    (held,) = image_view.hold({"image": str(used)})
    unused = cache.have(digests[1]).place
    os.utime(unused, (2, 2))
    cache.have(digests[2])
    assert (used / "root" / "n").exists(), "the oldest, and in use"
    os.close(held)
    cache.have(digests[3])
    assert not used.exists()
    assert image_view.hold({}) == []
    with pytest.raises(FileNotFoundError):
        image_view.hold({"image": str(used)})


def test_a_site_without_a_store_of_images_starts_none(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ImageUnavailable, match="has no store of images"):
        ImageCache(tmp_path / "cache", "").have("sha256:" + "0" * 64)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageUnavailable, match="not an OCI image layout"):
        ImageCache(tmp_path / "cache", str(tmp_path / "empty")).have("sha256:" + "0" * 64)


SEEN = """
cat /etc/marker; id -u; pwd; echo "$FROM_IMAGE $PATH $SOV_ATTEMPT"
echo written > here && cat here
ls / ; ls "$SPOOL" ; ls "$STORE" || echo no store
echo x > /bin/mine || echo read-only
echo scratch > /tmp/scratch && cat /tmp/scratch
echo null > /dev/null && echo device
ls /proc/1/root || echo no way back
echo "checkpoint" > "$SOV_CHECKPOINT_DIR/c1"
cat /etc/hosts
"""


@needs_root
def test_a_rank_runs_in_its_image_and_sees_nothing_of_the_node(
    site: Site, executor: Executor, layout: Layout
) -> None:
    layer = shell_layer(etc__marker="of the image\n")
    digest = layout.image(layer, env=["FROM_IMAGE=yes", "PATH=/bin"])
    seen = {"SPOOL": str(site.spool.root), "STORE": str(layout.root)}
    executor.prepare(KEY)
    start(executor, KEY, spec(SEEN, isolation="uid", image=digest, env=seen, num_nodes=1))
    end, log = site.end(KEY), site.log(KEY)
    assert (end.exit_code, end.detail) == (0, ""), log
    work = site.spool.home(KEY) / "work"
    lines = log.splitlines()
    assert lines[0] == "of the image"
    assert int(lines[1]) >= 100_000
    assert lines[2:5] == [str(work), "yes /bin 1", "written"]
    for line in ("no store", "read-only", "scratch", "device", "no way back", KEY):
        assert line in lines, line
    assert "127.0.0.1 localhost" in log
    assert (work / "here").read_text() == "written\n"
    assert (site.root / "checkpoints" / "job-a" / "c1").exists()
    place = site.spool.root / "image" / digest.removeprefix("sha256:")
    assert not (place / "root" / "tmp" / "scratch").exists()
    assert not (place / "root" / "proc").exists(), "nothing is ever written to what is kept"


@needs_root
def test_an_image_that_leads_elsewhere_by_links_changes_nothing_there(
    site: Site, executor: Executor, layout: Layout
) -> None:
    outside = site.root / "outside"
    outside.mkdir()
    from_image = shell_layer()
    links = {"etc": "/proc/1/root" + str(outside), "data": str(outside), "sys": "/proc/1/root"}
    digest = layout.image(from_image, _links(links))
    inputs = site.root / "store" / "trust-a" / "@scans" / "v1"
    inputs.mkdir(parents=True)
    (inputs / "one").write_text("one")
    node = replace(executor.node, data_store=str(site.root / "store"))
    more: dict[str, object] = {"inputs": [["trust-a/scans", "v1", "/data/scans"]], "num_nodes": 1}
    made = Executor(node)
    made.prepare(KEY)
    start(made, KEY, spec("echo ran", isolation="uid", image=digest, **more))
    end = site.end(KEY)
    assert list(outside.iterdir()) == []
    assert end.cause is Cause.INFRASTRUCTURE or site.log(KEY) == "ran\n"


def _links(links: dict[str, str]) -> bytes:
    members = [file_in(f".wh.{name}") for name in links]
    return layer_of(*members, *(link_in(name, to) for name, to in links.items()))


@needs_root
def test_what_a_job_may_reach_has_its_name_in_an_image_too(
    site: Site, executor: Executor, layout: Layout
) -> None:
    more: dict[str, object] = {"num_nodes": 1, "world_size": 1, "egress": ["data.example:443"]}
    executor.prepare(KEY)
    what = spec("cat /etc/hosts", isolation="uid", image=layout.image(shell_layer()), **more)
    start(executor, KEY, what)
    assert site.end(KEY).exit_code == 0
    assert "127.64.0.1 data.example\n" in site.log(KEY)


@needs_root
def test_an_image_stays_as_long_as_a_rank_runs_in_it(
    site: Site, executor: Executor, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "KEPT_MAX", 1)
    digest = layout.image(shell_layer(etc__marker="still here\n"))
    others = [layout.image(layer_of(file_in("n", str(n).encode()))) for n in range(2)]
    executor.prepare(KEY)
    text = "echo in; until [ -e go ]; do sleep 0.05; done; cat /etc/marker"
    start(executor, KEY, spec(text, isolation="uid", image=digest, num_nodes=1))
    site.wait_log(KEY, "in\n")
    place = executor.images.have(digest).place
    executor.images.have(others[0])
    assert place.is_dir()
    (site.spool.home(KEY) / "work" / "go").touch()
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY) == "in\nstill here\n"
    executor.images.have(others[1])
    assert not place.exists()


@needs_root
def test_inputs_are_seen_in_an_image_and_cannot_be_changed(
    site: Site, executor: Executor, layout: Layout
) -> None:
    scans = site.root / "store" / "trust-a" / "@scans" / "v1"
    scans.mkdir(parents=True)
    (scans / "one").write_text("a scan\n")
    (scans / "one").chmod(0o666)
    for folder in (scans, scans.parent, scans.parent.parent):
        folder.chmod(0o755)
    made = Executor(replace(executor.node, data_store=str(site.root / "store")))
    made.prepare(KEY)
    text = "cat /data/scans/one; echo x > /data/scans/one || echo kept"
    more: dict[str, object] = {"inputs": [["trust-a/scans", "v1", "/data/scans"]], "num_nodes": 1}
    what = spec(text, isolation="uid", image=layout.image(shell_layer()), **more)
    start(made, KEY, what)
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY).startswith("a scan\n")
    assert site.log(KEY).endswith("kept\n")
    assert (scans / "one").read_text() == "a scan\n"


@needs_root
def test_an_image_starts_nothing_that_was_not_granted_in_it(
    site: Site, executor: Executor, layout: Layout
) -> None:
    image, other = layout.image(shell_layer()), layout.image(LAYER)
    executor.prepare(KEY)
    what = granted(executor.node, KEY, spec("true", isolation="uid", image=image))
    for wrong in (other, "", f"elsewhere@{image}"):
        with pytest.raises(NotGranted, match="work: found"):
            executor.start(KEY, {**what, "image": wrong})
    assert site.spool.status(KEY).phase == "prepared"


@pytest.mark.parametrize("level", ["none", "pidns"])
def test_without_a_user_of_its_own_a_rank_does_not_run_in_an_image_nor_outside(
    site: Site, layout: Layout, level: str
) -> None:
    made = Executor(replace(facts_at(site), image_store=str(layout.root), level="uid"))
    made.prepare(KEY)
    with pytest.raises(ImageMissing, match=f"needs isolation uid, found {level}"):
        start(made, KEY, spec("true", isolation=level, image=layout.image(LAYER)))
    assert site.spool.status(KEY).phase == "prepared"


@needs_root
def test_a_shim_that_is_told_of_an_image_runs_nothing_outside_of_one(site: Site) -> None:
    (site.root / "place").mkdir()
    site.start(KEY, ["/bin/echo", "ran"], "pidns", image=str(site.root / "place"))
    end = site.end(KEY)
    assert (end.cause, site.log(KEY)) == (Cause.INFRASTRUCTURE, "")
    assert "of isolation uid alone" in end.detail


@needs_root
def test_a_missing_image_starts_nothing_and_says_so(site: Site, executor: Executor) -> None:
    executor.prepare(KEY)
    absent = "registry.example/x@sha256:" + "0" * 64
    with pytest.raises(ImageMissing, match="is not in this site's store of images"):
        start(executor, KEY, spec("true", isolation="uid", image=absent))
    assert site.spool.status(KEY).phase == "prepared"
