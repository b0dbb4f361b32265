"""Agreements, what attempts use under them, and the ledger of that in the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import func, select

from scheduler.core.budgets import BUDGET_DAYS, gpu_ms
from scheduler.model.agreements import Agreement
from scheduler.model.ids import AttemptKey, GpuClass, SiteId, TenantPath
from scheduler.model.plan import AgreementUsed
from scheduler.model.tenancy import Share
from scheduler.store.audit import AuditWriter
from scheduler.store.bulk import How, Statement, inserting
from scheduler.store.codec import canonical, decode, encode
from scheduler.store.link import Link
from scheduler.store.schema_agreements import AGREEMENT_ENTRIES, AGREEMENT_USES, AGREEMENTS
from scheduler.store.scratch import ChangeKind, Scratch

LEAF_KIND = "agreement_use"
OPENED, CLOSED = "opened", "closed"
GIVEN, TAKEN_BACK = "given", "taken_back"
SHARE_DIGITS = 16
"""Of a digest, hexadecimal: they tell the shares of one agreement apart."""
ENTRIES_READ_MAX = 1_000
"""Most entries of a ledger that one question answers."""

_PUT = inserting(AGREEMENTS, How.REPLACE)
_PUT_USE = inserting(AGREEMENT_USES, How.REPLACE)
_ADD_ENTRY = inserting(AGREEMENT_ENTRIES)
_USE = Statement(
    AGREEMENT_USES,
    "SELECT agreement, site, gpu_class, gpu_milli, day, live, gpu_ms FROM agreement_uses"
    " WHERE job = ? AND attempt = ?",
)
_LAST = Statement(
    AGREEMENT_ENTRIES,
    "SELECT number, digest FROM agreement_entries WHERE agreement = ? ORDER BY number DESC LIMIT 1",
)


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """An agreement as it was last applied; `document` is what its parties signed."""

    agreement: Agreement
    document: bytes
    applied_at_ms: int
    revoked_at_ms: int = 0
    revoked_because: str = ""


@dataclass(frozen=True, slots=True)
class AgreementUse:
    """What an attempt uses, or has used, under the agreement that admitted it."""

    key: AttemptKey
    agreement: str
    site: SiteId
    gpu_class: GpuClass
    gpu_milli: int
    day: int
    live: bool
    gpu_ms: int


@dataclass(frozen=True, slots=True)
class EntryPlace:
    """Where an entry of a ledger stands in the audit log."""

    number: int
    leaf_index: int


class AgreementsReader:
    """Reads agreements and their ledgers."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def any(self) -> bool:
        """Whether there is, or was, any agreement: most who ask have none, and ask often."""
        return self._link.execute(select(AGREEMENTS.c.name).limit(1)).first() is not None

    def all(self) -> tuple[AgreementRow, ...]:
        """Every agreement that was ever applied, revoked ones too, by name."""
        return tuple(
            AgreementRow(
                decode(Agreement, row.body),
                row.document,
                row.applied_at_ms,
                row.revoked_at_ms,
                row.revoked_because,
            )
            for row in self._link.execute(select(AGREEMENTS).order_by(AGREEMENTS.c.name))
        )

    def get(self, name: str) -> AgreementRow | None:
        """The agreement of this name."""
        return next((row for row in self.all() if row.agreement.name == name), None)

    def use_of(self, key: AttemptKey) -> AgreementUse | None:
        """What an attempt uses under an agreement; None: none admitted it."""
        for name, site, gpu_class, milli, day, live, used in self._link.rows(
            _USE, (key.job, key.attempt)
        ):
            return AgreementUse(key, name, site, gpu_class, milli, day, bool(live), used)
        return None

    def admitted(self, keys: Sequence[AttemptKey]) -> dict[AttemptKey, str]:
        """By which agreement each of `keys` was admitted, of those that were by one."""
        if not self.any():
            return {}
        return {key: use.agreement for key in keys if (use := self.use_of(key)) is not None}

    def used(self, agreement: Agreement) -> AgreementUsed:
        """What is in use under an agreement, and was in the days that its budget may ask about."""
        of, budget = AGREEMENT_USES.c, agreement.budget
        mine = of.agreement == agreement.name
        days = 0 if budget is None else budget.days or BUDGET_DAYS[budget.period]
        newest = self._link.execute(select(func.max(of.day)).where(mine)).scalar() or 0
        sums = select(of.day, func.sum(of.gpu_ms)).where(mine, of.day > newest - days)
        held = self._link.execute(select(func.sum(of.gpu_milli)).where(mine, of.live)).scalar()
        spent = self._link.execute(sums.group_by(of.day).order_by(of.day)) if days else ()
        rows = tuple((int(day), int(gpu_ms)) for day, gpu_ms in spent)
        return AgreementUsed(agreement.name, int(held or 0), rows)

    def settled_gpu_ms(self, name: str, first_day: int, end_day: int) -> int:
        """What attempts of these days that are over were charged under an agreement."""
        of = AGREEMENT_USES.c
        query = select(func.sum(of.gpu_ms)).where(of.agreement == name, of.live.is_(False))
        query = query.where(of.day >= first_day, of.day < end_day)
        return int(self._link.execute(query).scalar() or 0)

    def last(self, name: str) -> tuple[int, str]:
        """Number and digest of the newest entry of a ledger; 0 and "" where there is none."""
        for number, digest in self._link.rows(_LAST, (name,)):
            return number, digest
        return 0, ""

    def entries(self, name: str, after: int, limit: int) -> tuple[EntryPlace, ...]:
        """At most `limit` entries of a ledger, from the one after number `after` on."""
        of = AGREEMENT_ENTRIES.c
        query = select(of.number, of.leaf_index).where(of.agreement == name, of.number > after)
        rows = self._link.execute(query.order_by(of.number).limit(min(limit, ENTRIES_READ_MAX)))
        return tuple(EntryPlace(row.number, row.leaf_index) for row in rows)


class AgreementsWriter(AgreementsReader):
    """Keeps agreements and writes their ledgers."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)
        self._scratch = scratch

    def put(self, row: AgreementRow) -> None:
        """The agreement is now this."""
        values = (
            row.agreement.name,
            encode(row.agreement),
            row.document,
            row.applied_at_ms,
            row.revoked_at_ms,
            row.revoked_because,
        )
        self._link.do(_PUT, values)
        self._scratch.memo.has_agreements = None
        self._scratch.undo.append(self._forget)
        self._scratch.changed(ChangeKind.AGREEMENT, row.agreement.name)

    def any(self) -> bool:
        """As for a reader; remembered."""
        memo = self._scratch.memo
        if memo.has_agreements is None:
            query = select(AGREEMENTS.c.name).limit(1)
            memo.has_agreements = self._link.execute_around(query).first() is not None
        return memo.has_agreements

    def open(self, audit: AuditWriter, use: AgreementUse, country: str, now_ms: int) -> None:
        """An agreement admitted an attempt to its site: the ledger says so."""
        self._put_use(use)
        self._enter_use(audit, use, {"event": OPENED, "country": country}, now_ms)

    def close(self, audit: AuditWriter, key: AttemptKey, gpu_ms: int, now_ms: int) -> None:
        """An attempt is over, charged `gpu_ms`; nothing happens if no agreement admitted it."""
        use = self.use_of(key) if self.any() else None
        if use is None or not use.live:
            return
        after = AgreementUse(
            key, use.agreement, use.site, use.gpu_class, use.gpu_milli, use.day, False, gpu_ms
        )
        self._put_use(after)
        self._enter_use(audit, after, {"event": CLOSED}, now_ms)

    def give(self, audit: AuditWriter, project: TenantPath, share: Share, now_ms: int) -> None:
        """A share of a joint project is in force from now on: the ledger says so."""
        self._enter_share(audit, GIVEN, project, share, now_ms)

    def take_back(self, audit: AuditWriter, project: TenantPath, share: Share, now_ms: int) -> None:
        """It is not any more: its giver is charged for the time in which it was."""
        self._enter_share(audit, TAKEN_BACK, project, share, now_ms)

    def _forget(self) -> None:
        self._scratch.memo.has_agreements = None

    def _put_use(self, use: AgreementUse) -> None:
        held = (use.agreement, use.site, use.gpu_class, use.gpu_milli, use.day, use.live)
        self._link.do(_PUT_USE, (use.key.job, use.key.attempt, *held, use.gpu_ms))
        self._scratch.changed(ChangeKind.AGREEMENT, use.agreement)

    def _enter_use(
        self, audit: AuditWriter, use: AgreementUse, told: dict[str, object], now_ms: int
    ) -> None:
        """What an attempt uses."""
        body: dict[str, object] = {
            "use": f"{audit.name_of(use.key.job)}.{use.key.attempt}",
            "site": use.site,
            "gpu_class": use.gpu_class,
            "gpu_milli": use.gpu_milli,
            "gpu_ms": use.gpu_ms,
            **told,
        }
        self._enter(audit, use.agreement, body, now_ms)

    def _enter_share(
        self, audit: AuditWriter, event: str, project: TenantPath, share: Share, now_ms: int
    ) -> None:
        """What a tenant gives a joint project, under a name that says nothing of either."""
        between = f"{project} {share.of} {share.gpu_class}"
        body: dict[str, object] = {
            "event": event,
            "use": f"share-{sha256(between.encode()).hexdigest()[:SHARE_DIGITS]}",
            "site": "",
            "gpu_class": share.gpu_class,
            "gpu_milli": share.limit_milli,
            "guarantee_milli": share.guarantee_milli,
            "gpu_ms": gpu_ms(share.limit_milli, now_ms - share.since_ms),
        }
        self._enter(audit, share.agreement, body, now_ms)

    def _enter(
        self, audit: AuditWriter, agreement: str, told: dict[str, object], now_ms: int
    ) -> None:
        """The next entry of a ledger. It names no tenant: both parties read all of it."""
        number, prev = self.last(agreement)
        text = canonical(
            {
                "kind": LEAF_KIND,
                "at_ms": now_ms,
                "agreement": agreement,
                "number": number + 1,
                "prev": prev,
                **told,
            }
        )
        digest = "sha256:" + sha256(text.encode()).hexdigest()
        self._link.do(_ADD_ENTRY, (agreement, number + 1, audit.next_index(), digest))
        audit.append_text(LEAF_KIND, now_ms, text, tenant=None, job=None)
