"""The log as a whole, asked of a real control plane: signed heads, proofs, witnesses."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from scheduler.api import state as state_module
from scheduler.api.proofs import WITNESSES_FILE, keys_of
from sovapi.v1 import audit_pb2
from sovctl import verify, witness
from sovctl.async_client import AsyncClient
from sovctl.config import Context
from sovctl.errors import InvalidArgumentError
from sovctl.log_check import check_log
from sovctl.verify import NotVerified
from sovctl.witness import LogForked
from sovshared import spiffe
from tests.api.control_plane import TRUST_DOMAIN, ControlPlane
from tests.api.world import ADA, spec, submit

AUDITOR = spiffe.parse_path("/auditor/ann")


@pytest.fixture
async def auditor(control_plane: ControlPlane, ada: grpc.aio.Channel) -> AsyncIterator[AsyncClient]:
    """An auditor's client, of a log in which something has happened."""
    await submit(ada, spec("proved"))
    async with client_of(control_plane, AUDITOR) as client:
        yield client


def client_of(control_plane: ControlPlane, name: spiffe.Name) -> AsyncClient:
    credentials = str(control_plane.credentials(name))
    return AsyncClient(Context(endpoint=control_plane.endpoint, credentials=credentials))


async def test_the_head_is_signed_and_holds_every_leaf(auditor: AsyncClient) -> None:
    trust = verify.parse_trust(await auditor.trust())
    note = (await auditor.checkpoint()).signed_note
    checked = await check_log(note, trust, auditor.audit_leaves)
    assert checked.leaves == checked.head.size > 0


async def test_every_leaf_is_proved_and_the_log_only_grew(
    auditor: AsyncClient, ada: grpc.aio.Channel
) -> None:
    before = await auditor.checkpoint()
    await submit(ada, spec("more"))
    after = await auditor.checkpoint()
    assert before.tree_size < after.tree_size
    path = await auditor.consistency_proof(before.tree_size, after.tree_size)
    heads = (before.tree_size, before.root_hash, after.tree_size, after.root_hash)
    assert verify.is_consistent(*heads, path)
    async for leaf in auditor.audit_leaves():
        if leaf.index < before.tree_size:
            size, path = await auditor.inclusion_proof(leaf.index, before.tree_size)
            found = verify.root_of(leaf.leaf_hash, leaf.index, size, path)
            assert found == before.root_hash
        if leaf.index > 20:
            break


async def test_sizes_beyond_the_log_are_refused(auditor: AsyncClient) -> None:
    size = (await auditor.checkpoint()).tree_size + 1_000_000
    for proof in (
        auditor.consistency_proof(1, size),
        auditor.consistency_proof(2, 1),
        auditor.inclusion_proof(0, size),
        auditor.inclusion_proof(size),
    ):
        with pytest.raises(InvalidArgumentError, match=r"found \d+, allowed"):
            await proof


async def test_a_tenant_cosigns_once_an_operator_has_named_its_witness(
    control_plane: ControlPlane, auditor: AsyncClient, tmp_path: Path
) -> None:
    named = control_plane.directory / "state" / WITNESSES_FILE
    keeper = witness.keep(tmp_path / "w", "trust-a.example/w1")
    async with client_of(control_plane, ADA) as tenant:
        with pytest.raises(InvalidArgumentError, match="none is configured"):
            await tenant.witness(keeper)
        try:
            named.write_text(f"witness ours {keeper.key}\nquorum ours\n")
            head = await tenant.witness(keeper)
            trust = verify.parse_trust(await auditor.trust())
            kept = await auditor.checkpoint()
            if kept.tree_size == head.tree_size:
                found = verify.open_checkpoint(kept.signed_note, trust)
                assert found.witnesses == ("ours",)
                assert trust.is_met(trust.quorum, set(found.witnesses))
        finally:
            named.unlink()


async def test_a_witness_refuses_a_log_with_another_past(
    control_plane: ControlPlane, auditor: AsyncClient, tmp_path: Path
) -> None:
    """The control plane shows a head that does not continue what this witness saw."""
    keeper = witness.keep(tmp_path / "w", "trust-a.example/w2")
    keeper.watch(witness.log_of(await auditor.trust()))
    head = await auditor.checkpoint()
    other = signed_by_the_log(control_plane, head.tree_size, bytes(32))
    keeper.cosign(keeper.open(other), [], 1)
    with pytest.raises(LogForked, match="FORK"):
        await auditor.witness(keeper)


async def test_a_log_with_a_changed_leaf_does_not_verify(auditor: AsyncClient) -> None:
    trust = verify.parse_trust(await auditor.trust())
    note = (await auditor.checkpoint()).signed_note

    async def changed() -> AsyncIterator[audit_pb2.AuditLeaf]:
        async for leaf in auditor.audit_leaves():
            if leaf.index == 1:
                leaf.canonical_json = leaf.canonical_json.replace(b"a", b"b")
            yield leaf

    with pytest.raises(NotVerified, match="leaf 1"):
        await check_log(note, trust, changed)


def signed_by_the_log(control_plane: ControlPlane, size: int, root: bytes) -> bytes:
    """A head that the operator signs although it is not true."""
    log = keys_of(state_module.load(control_plane.directory / "state", TRUST_DOMAIN)).log
    return log.note(size, root)
