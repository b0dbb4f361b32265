"""The tenant tree, the policy in force, agreements, and the tenants' data catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select

from scheduler.core.quota import QuotaTree
from scheduler.model.residency import Policy
from scheduler.model.tenancy import Tenant
from scheduler.store.agreements import AgreementsReader, AgreementsWriter
from scheduler.store.codec import decode, encode
from scheduler.store.datasets import DatasetsReader, DatasetsWriter
from scheduler.store.fleet import FleetReader
from scheduler.store.link import Link
from scheduler.store.schema import POLICIES, TENANTS
from scheduler.store.scratch import ChangeKind, Memo, Scratch


class TenancyReader:
    """Reads the tree and the policy."""

    def __init__(self, link: Link, memo: Memo) -> None:
        self._link = link
        self._memo = memo
        self._datasets = DatasetsReader(link)
        self._agreements = AgreementsReader(link)

    @property
    def datasets(self) -> DatasetsReader:
        """The data catalogue."""
        return self._datasets

    @property
    def agreements(self) -> AgreementsReader:
        """Agreements and what is used under them."""
        return self._agreements

    def tenants(self) -> tuple[Tenant, ...]:
        """The whole tree, ordered by path: parents before their children."""
        if self._memo.tenants is None:
            rows = self._link.execute(select(TENANTS.c.body).order_by(TENANTS.c.path))
            self._memo.tenants = tuple(decode(Tenant, row.body) for row in rows)
        return self._memo.tenants

    def tree(self) -> QuotaTree:
        """The tree over the capacity of the declared fleet."""
        if self._memo.tree is None:
            fleet = FleetReader(self._link, self._memo)
            self._memo.tree = QuotaTree(self.tenants(), fleet.capacity_milli())
        return self._memo.tree

    def policy(self) -> Policy:
        """The newest revision. Before any was applied: the default, which permits GB alone."""
        if self._memo.policy is None:
            query = select(POLICIES.c.body).order_by(POLICIES.c.revision.desc()).limit(1)
            body = self._link.execute(query).scalar()
            self._memo.policy = Policy() if body is None else decode(Policy, body)
        return self._memo.policy

    def has_policy(self) -> bool:
        """Whether any policy was ever put in force."""
        return self._link.execute(select(POLICIES.c.revision).limit(1)).first() is not None


class TenancyWriter(TenancyReader):
    """Replaces the tree or the policy as a whole."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link, scratch.memo)
        self._scratch = scratch
        self._datasets = DatasetsWriter(scratch)
        self._agreements = AgreementsWriter(scratch)

    @property
    def datasets(self) -> DatasetsWriter:
        """The data catalogue."""
        return self._datasets

    @property
    def agreements(self) -> AgreementsWriter:
        """Agreements and what is used under them."""
        return self._agreements

    def replace_tenants(self, tenants: Sequence[Tenant]) -> None:
        """The tree is now this."""
        self._link.execute(delete(TENANTS))
        if tenants:
            rows = [{"path": t.path, "body": encode(t)} for t in tenants]
            self._link.execute(insert(TENANTS), rows)
        self._forget()
        self._scratch.declared()
        self._scratch.changed(ChangeKind.TENANTS)

    def add_policy(self, policy: Policy, now_ms: int) -> None:
        """This revision is now in force."""
        row = {"revision": policy.revision, "body": encode(policy), "applied_at_ms": now_ms}
        self._link.execute(insert(POLICIES), row)
        self._forget()
        self._scratch.declared()
        self._scratch.changed(ChangeKind.POLICY)

    def _forget(self) -> None:
        memo = self._memo

        def forget() -> None:
            memo.tenants = None
            memo.policy = None

        forget()
        self._scratch.undo.append(forget)
