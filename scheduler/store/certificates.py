"""Certificates of jobs that are over, and the histories that they are made from.

A certificate's row, its place in the tenant's sequence and its leaf in the log move together. The
statement is kept as the bytes that the leaf's digest is of, compressed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from json.encoder import encode_basestring as _string

from sqlalchemy import Select, and_, or_, select, tuple_

from scheduler.core.certificates import Account, verdict
from scheduler.core.stays import FactsThen, PolicyThen, Verdicts
from scheduler.model.fleet import Site
from scheduler.model.ids import JobId, SiteId, TenantPath
from scheduler.model.residency import Policy
from scheduler.store.audit import AuditWriter
from scheduler.store.bulk import How, Statement, inserting
from scheduler.store.codec import decode, encode
from scheduler.store.fleet import FleetWriter
from scheduler.store.link import Link
from scheduler.store.node_facts import NodeFacts
from scheduler.store.schema import POLICIES
from scheduler.store.schema_evidence import CERTIFICATES, SITE_FACTS
from scheduler.store.scratch import Scratch
from scheduler.store.statements import packed, statement, unpacked
from scheduler.store.tenancy import TenancyWriter

LEAF_KIND = "certificate_issued"
STATEMENT_BYTES_MAX = 4 << 20
"""A statement that is larger was built wrongly: a gang of 4,096 nodes takes half a megabyte."""
HISTORY_MAX = 1_000
"""Versions of a site's facts that are kept; of the time before them it is not known what was."""

_ADD = inserting(CERTIFICATES)
_KNOW = inserting(SITE_FACTS, How.REPLACE)
_FORGET = Statement(
    SITE_FACTS,
    "DELETE FROM site_facts WHERE site = ? AND at_ms < (SELECT at_ms FROM site_facts"
    " WHERE site = ? ORDER BY at_ms DESC LIMIT 1 OFFSET ?)",
)
_HISTORY = Statement(
    SITE_FACTS, "SELECT at_ms, digest, body FROM site_facts WHERE site = ? ORDER BY at_ms"
)


@dataclass(frozen=True, slots=True)
class CertificateLine:
    """A certificate without its statement. `digest` is the statement's, as `prev` is."""

    job: JobId
    tenant: TenantPath
    seq: int
    leaf_index: int
    outcome: str
    verdict: str
    digest: str
    prev: str
    issued_at_ms: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate; `statement` is what its digest is of, and what is signed."""

    line: CertificateLine
    statement: bytes


_LINE = tuple(c for c in CERTIFICATES.c if c.name != "statement")


class CertificatesReader:
    """Reads certificates."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def of_job(self, job: JobId) -> Certificate | None:
        """A job's certificate; None: it is not over, or was so before there were certificates."""
        row = self._link.execute(select(CERTIFICATES).where(CERTIFICATES.c.job == job)).first()
        if row is None:
            return None
        return Certificate(_line(row), unpacked(bytes(row.statement)))

    def page(
        self, under: TenantPath | None, after: tuple[str, int] | None, limit: int
    ) -> tuple[CertificateLine, ...]:
        """Certificates of a tenant and all below it (None: of all), by tenant and number, from the
        one after `after` on."""
        found: Select[*tuple[object, ...]] = select(*_LINE)
        of = CERTIFICATES.c
        if under is not None:
            below = and_(of.tenant > f"{under}/", of.tenant < f"{under}0")
            found = found.where(or_(of.tenant == under, below))
        if after is not None:
            found = found.where(tuple_(of.tenant, of.seq) > tuple_(*after))
        rows = self._link.execute(found.order_by(of.tenant, of.seq).limit(limit))
        return tuple(_line(row) for row in rows)


class CertificatesWriter(CertificatesReader):
    """Certifies."""

    def __init__(
        self, scratch: Scratch, audit: AuditWriter, tenancy: TenancyWriter, fleet: FleetWriter
    ) -> None:
        super().__init__(scratch.link)
        self._scratch = scratch
        self._audit = audit
        self._tenancy = tenancy
        self._fleet = fleet
        self.of_nodes = NodeFacts(scratch.link, fleet)

    def know(self, site: Site, now_ms: int) -> None:
        """From now on this is what is known of `site`."""
        digest = self._fleet.facts_digest(site)
        history = self.history(site.id)
        if history and history[-1].digest == digest:
            return
        body = encode(replace(site, cordoned=False))
        self._link.do(_KNOW, (site.id, now_ms, digest, body))
        self._link.do(_FORGET, (site.id, site.id, HISTORY_MAX - 1))
        self._forget_history(site.id)
        self._scratch.undo.append(lambda: self._forget_history(site.id))

    def history(self, site: SiteId) -> tuple[FactsThen, ...]:
        """What was known of a site, oldest first."""
        known = self._scratch.memo.histories.get(site)
        if known is None:
            rows = self._link.rows(_HISTORY, (site,))
            known = tuple(FactsThen(at, digest, decode(Site, body)) for at, digest, body in rows)
            self._scratch.memo.histories[site] = known
        return known

    def histories(self, sites: set[SiteId]) -> Mapping[SiteId, tuple[FactsThen, ...]]:
        """As `history`, of several sites."""
        return {site: self.history(site) for site in sorted(sites)}

    def policies(self) -> tuple[PolicyThen, ...]:
        """Every policy that was ever in force, oldest first; before the first, the default."""
        memo, now = self._scratch.memo, self._tenancy.policy()
        if not memo.policies or memo.policies[-1].policy is not now:
            rows = self._link.execute(select(POLICIES).order_by(POLICIES.c.revision)).all()
            found = [PolicyThen(0, _digest(encode(Policy())), Policy())]
            found += [
                PolicyThen(row.applied_at_ms, _digest(row.body), decode(Policy, row.body))
                for row in rows
            ]
            # The very object that others judge by: judges are kept by it.
            found[-1] = replace(found[-1], policy=now)
            memo.policies = tuple(found)
        return memo.policies

    def verdicts(self) -> Verdicts:
        """Those on earlier stays, for `intervals`."""
        return self._scratch.memo.verdicts

    def issue(self, job: JobId, account: Account) -> None:
        """Certifies `account` as the next of its tenant."""
        tenant = TenantPath(account.tenant)
        seq, prev = self._last(tenant)
        text = statement(account, seq + 1, prev, self._scratch.memo.frames)
        told = text.encode()
        assert len(told) <= STATEMENT_BYTES_MAX, f"a statement of {len(told)} bytes"
        digest = _digest(text)
        held = verdict(account).value
        row = (seq + 1, self._audit.next_index(), account.outcome, held, digest, prev)
        self._link.do(_ADD, (job, tenant, *row, account.issued_at_ms, packed(told)))
        at_ms = account.issued_at_ms
        leaf = leaf_text(at_ms, digest, account.job, tenant, seq + 1)
        self._audit.append_text(LEAF_KIND, at_ms, leaf, tenant=tenant, job=job)
        self._remember(tenant, (seq + 1, digest))

    def _last(self, tenant: TenantPath) -> tuple[int, str]:
        known = self._scratch.memo.chains.get(tenant)
        if known is None:
            of = CERTIFICATES.c
            query = select(of.seq, of.digest).where(of.tenant == tenant)
            row = self._link.execute(query.order_by(of.seq.desc()).limit(1)).first()
            known = self._scratch.memo.chains[tenant] = (0, "") if row is None else (row[0], row[1])
        return known

    def _remember(self, tenant: TenantPath, last: tuple[int, str]) -> None:
        chains = self._scratch.memo.chains
        self._scratch.undo.append(lambda: chains.pop(tenant, None))
        chains[tenant] = last

    def _forget_history(self, site: SiteId) -> None:
        self._scratch.memo.histories.pop(site, None)


def _line(row: object) -> CertificateLine:
    found = {column.name: getattr(row, column.name) for column in _LINE}
    return CertificateLine(**found)


def leaf_text(at_ms: int, digest: str, job: str, tenant: TenantPath, tenant_seq: int) -> str:
    """The canonical JSON of a certificate's leaf."""
    return (
        f'{{"at_ms":{at_ms:d},"digest":"{digest}","job":"{job}","kind":"{LEAF_KIND}"'
        f',"tenant":{_string(tenant)},"tenant_seq":{tenant_seq:d}}}'
    )


def _digest(text: str) -> str:
    return "sha256:" + sha256(text.encode()).hexdigest()
