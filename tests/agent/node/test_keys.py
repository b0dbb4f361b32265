"""A rank starts with what its tenant sealed, opened; without the key it does not start."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from agent.node.asked import RankSpec
from agent.node.executor import Executor, KeyRefused
from agent.node.spool import Phase
from sovshared import key_service, sealing
from sovshared.key_service import FileKeys
from sovshared.sealing import Header
from tests.agent.node.executing import GRANTING, KEY, facts_at, granted, spec
from tests.agent.node.image_layout import Layout, shell_layer
from tests.agent.node.rig import Site, needs_root

NAME = sealing.opaque("trust-a/hf")
VALUE = "xylophone"
SHOW = 'echo "token $TOKEN"; cat inside'


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    """The tenant's key service, which believes the control plane of `granted`."""
    return key_service.found(tmp_path / "keys", GRANTING.ca.trust_pem, "k1", bytes(range(32)))


@pytest.fixture
def executor(site: Site, tmp_path: Path) -> Executor:
    return Executor(replace(facts_at(site), key_services=(f"file:{tmp_path / 'keys'}",)))


def sealed(keys: FileKeys, content: bytes, purpose: str, name: str = "") -> tuple[bytes, Header]:
    target = io.BytesIO()
    header = sealing.seal(io.BytesIO(content), target, keys.key(), purpose, name)
    return target.getvalue(), header


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        inside = tarfile.TarInfo("inside")
        inside.size = len(VALUE)
        archive.addfile(inside, io.BytesIO(VALUE.encode()))
    return stream.getvalue()


def asked(
    executor: Executor, keys: FileKeys, *, ticket: bytes | None = None, image: str = ""
) -> RankSpec:
    """A rank with a secret and a sealed bundle, which the tenant asked for."""
    bundle, header = sealed(keys, tar(), sealing.BUNDLE)
    digest = hashlib.sha256(bundle).hexdigest()
    executor.put_bundle(digest, 0, bundle)
    executor.seal_bundle(digest)
    secret, _ = sealed(keys, VALUE.encode(), sealing.SECRET, NAME)
    what = spec(SHOW, bundle_digest=digest, image=image)
    work = sealing.work_of(
        command=what["argv"], env={}, bundle_digest=digest, image=image, secrets={"TOKEN": NAME}
    )
    told = keys.key().ticket(work, header) if ticket is None else ticket
    what["keys"] = {
        "secrets": {"TOKEN": NAME},
        "sealed": {"TOKEN": base64.b64encode(secret).decode()},
        "ticket": base64.b64encode(told).decode(),
    }
    return what


def test_a_rank_has_its_secret_and_its_bundle_and_the_node_keeps_neither(
    site: Site, executor: Executor, keys: FileKeys, tmp_path: Path
) -> None:
    executor.prepare(KEY)
    executor.start(KEY, granted(executor.node, KEY, asked(executor, keys)))
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY).splitlines() == [f"token {VALUE}", VALUE]
    home = executor.spool.home(KEY)
    kept = [path for path in home.rglob("*") if path.is_file() and path.name not in ("log",)]
    assert [path.name for path in kept if VALUE in path.read_text(errors="replace")] == ["inside"]
    executor.spool.archive(KEY)
    assert not home.exists()
    receipts = (tmp_path / "keys" / key_service.RECEIPTS_FILE).read_text().splitlines()
    assert len(receipts) == 2


@needs_root
def test_what_is_sealed_for_an_image_is_opened_in_that_image_alone(
    site: Site, executor: Executor, keys: FileKeys
) -> None:
    layout = Layout(site.root / "images")
    image, other = layout.image(shell_layer()), layout.image(shell_layer(), env=["A=b"])
    made = Executor(replace(executor.node, image_store=str(layout.root)))
    what = asked(made, keys, image=image)
    made.prepare(KEY)
    wrong = what.copy()
    wrong["image"] = other  # Granted even so: the tenant's own ticket does not say it.
    with pytest.raises(KeyRefused):
        made.start(KEY, granted(made.node, KEY, wrong))
    made.start(KEY, granted(made.node, KEY, what))
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY).splitlines() == [f"token {VALUE}", VALUE]


def withheld(directory: Path) -> None:
    (directory / key_service.WITHHELD_FILE).touch()


def another_key(directory: Path) -> None:
    document = (directory / key_service.KEY_FILE).read_text()
    (directory / key_service.KEY_FILE).write_text(document.replace("k1", "k2"))


@pytest.mark.parametrize("change", [withheld, another_key])
def test_without_the_key_nothing_starts(
    executor: Executor, keys: FileKeys, tmp_path: Path, change: object
) -> None:
    executor.prepare(KEY)
    what = granted(executor.node, KEY, asked(executor, keys))
    assert callable(change)
    change(tmp_path / "keys")
    with pytest.raises(KeyRefused):
        executor.start(KEY, what)
    assert executor.spool.status(KEY).phase is Phase.PREPARED
    assert list(executor.spool.home(KEY).glob("secrets*")) == []


def test_work_that_the_tenant_did_not_ask_for_gets_no_key_whoever_granted_it(
    executor: Executor, keys: FileKeys
) -> None:
    executor.prepare(KEY)
    what = asked(executor, keys, ticket=b"t" * 32)
    with pytest.raises(KeyRefused, match="did not ask"):
        executor.start(KEY, granted(executor.node, KEY, what))


def test_a_secret_that_was_removed_keeps_the_rank_from_starting(
    executor: Executor, keys: FileKeys
) -> None:
    executor.prepare(KEY)
    what = asked(executor, keys)
    what["keys"]["sealed"] = {}
    with pytest.raises(KeyRefused, match="TOKEN"):
        executor.start(KEY, granted(executor.node, KEY, what))
