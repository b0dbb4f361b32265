"""Agreements: applied, revoked and listed.

Each change is a revision of the policy in force, so whatever judges by the policy judges by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from scheduler.control import evidence
from scheduler.control.declaration_rules import COUNTRY
from scheduler.control.declare import difference
from scheduler.core.agreement_caps import AgreementCaps
from scheduler.core.budgets import day_of, window
from scheduler.core.policy.agreed import in_force
from scheduler.core.policy.form import MARKING, WORD
from scheduler.model.agreements import Agreement, Instrument
from scheduler.model.identity import Principal
from scheduler.model.ids import NAME_PATTERN
from scheduler.model.job import JobKind
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid, not_found
from scheduler.model.residency import Policy, Tier
from scheduler.model.tenancy import BudgetPeriod
from scheduler.store.agreements import AgreementRow
from scheduler.store.store import Snapshot, Txn

AGREEMENTS_MAX = 100
"""In force at once."""
LIST_MAX = 300
TEXT_CHARACTERS_MAX = 500
PARTIES_MIN, PARTIES_MAX = 2, 10
GPU_MILLI_MAX = 1_000_000_000
VALID_MS_MAX = 50 * 366 * 24 * 3600 * 1000
KINDS = tuple(kind.name.lower() for kind in JobKind if kind)


@dataclass(frozen=True, slots=True)
class Standing:
    """An agreement as it stands now."""

    row: AgreementRow
    in_force: bool
    gpu_milli_used: int
    reserved_gpu_ms: int
    settled_gpu_ms: int
    """Of the present period of its budget, as is `reserved_gpu_ms`."""


def apply(
    txn: Txn,
    principal: Principal,
    agreement: Agreement,
    document: bytes,
    *,
    reason: str,
    dry_run: bool,
    now_ms: int,
) -> tuple[tuple[str, ...], int]:
    """Puts an agreement in force, or another version of it in its place; what differs, and the
    revision of the policy in force then."""
    if faults := tuple(_faults(agreement)):
        raise invalid(*faults)
    policy, known = txn.tenancy.policy(), txn.tenancy.agreements.get(agreement.name)
    if known is not None and known.revoked_at_ms and known.agreement.digest == agreement.digest:
        detail = f"agreement {agreement.name!r} was revoked: found the same document again"
        allowed = "one that its parties have signed anew"
        raise Refused(
            Code.FAILED_PRECONDITION, Reason.AGREEMENT_UNKNOWN, f"{detail}, allowed {allowed}"
        )
    if now_ms >= agreement.valid_until_ms:
        found = f"found {agreement.valid_until_ms}, allowed a moment after {now_ms}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "agreement.valid_until_ms"))
    others = tuple(each for each in policy.agreements if each.name != agreement.name)
    if len(others) >= AGREEMENTS_MAX:
        found = f"found {len(others) + 1} agreements, allowed {AGREEMENTS_MAX}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "agreement.name"))
    after = _sorted(policy, (*others, agreement))
    changes = _changes(policy, after)
    if not changes or dry_run:
        return changes, policy.revision
    txn.tenancy.agreements.put(AgreementRow(agreement, document, now_ms))
    evidence.applied(txn.audit, "agreement", principal, reason, changes, now_ms)
    return changes, _put_in_force(txn, after, now_ms)


def revoke(
    txn: Txn, principal: Principal, name: str, *, reason: str, dry_run: bool, now_ms: int
) -> tuple[tuple[str, ...], int]:
    """Ends an agreement now: nothing starts under it any more, and what runs under it leaves."""
    policy, known = txn.tenancy.policy(), txn.tenancy.agreements.get(name)
    if known is None:
        raise not_found("agreement", name[:100])
    if not reason.strip() or len(reason) > TEXT_CHARACTERS_MAX:
        found = f"found {len(reason)} characters, allowed 1 to {TEXT_CHARACTERS_MAX}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "reason"))
    after = _sorted(policy, tuple(each for each in policy.agreements if each.name != name))
    changes = _changes(policy, after)
    if known.revoked_at_ms or dry_run:
        return changes, policy.revision
    txn.tenancy.agreements.put(replace(known, revoked_at_ms=now_ms, revoked_because=reason.strip()))
    evidence.applied(txn.audit, "agreement_revocation", principal, reason, changes, now_ms)
    return changes, _put_in_force(txn, after, now_ms)


def listed(read: Snapshot, name: str, now_ms: int) -> tuple[Standing, ...]:
    """Every agreement that was ever applied, or the one of this name."""
    rows = [row for row in read.tenancy.agreements.all() if not name or row.agreement.name == name]
    if name and not rows:
        raise not_found("agreement", name[:100])
    return tuple(_standing(read, row, now_ms) for row in rows)


def _standing(read: Snapshot, row: AgreementRow, now_ms: int) -> Standing:
    agreement, agreements = row.agreement, read.tenancy.agreements
    used = agreements.used(agreement)
    spent = AgreementCaps((agreement,), (used,)).spent_gpu_ms(agreement, now_ms)
    period = None if agreement.budget is None else window(agreement.budget, day_of(now_ms))
    settled = 0
    if period is not None:
        settled = agreements.settled_gpu_ms(agreement.name, period.first, period.end)
    return Standing(
        row,
        in_force=not row.revoked_at_ms and in_force(agreement, now_ms),
        gpu_milli_used=used.gpu_milli,
        reserved_gpu_ms=spent - settled,
        settled_gpu_ms=settled,
    )


def _sorted(policy: Policy, agreements: tuple[Agreement, ...]) -> Policy:
    in_order = tuple(sorted(agreements, key=lambda each: each.name))
    return replace(policy, agreements=in_order)


def _changes(before: Policy, after: Policy) -> tuple[str, ...]:
    return difference(
        {f"agreement {each.name}": each for each in before.agreements},
        {f"agreement {each.name}": each for each in after.agreements},
    )


def _put_in_force(txn: Txn, policy: Policy, now_ms: int) -> int:
    """The policy with other agreements, as the next revision. Nothing has to be proved: a policy's
    invariants are proved over every agreement that there could be."""
    after = replace(policy, revision=policy.revision + 1)
    txn.tenancy.add_policy(after, now_ms)
    evidence.policy_in_force(txn.audit, after, (), "", now_ms)
    return after.revision


def _faults(it: Agreement) -> Iterator[Denial]:
    """Everything that is wrong with what an agreement says."""
    if not NAME_PATTERN.fullmatch(it.name):
        yield _fault("name", repr(it.name[:80]), "small letters, digits and '-'")
    if it.instrument not in tuple(Instrument):
        yield _fault("instrument", repr(it.instrument[:80]), ", ".join(sorted(Instrument)))
    for field, text in (("text", it.text), ("cites", it.cites)):
        if not 1 <= len(text.strip()) <= TEXT_CHARACTERS_MAX:
            yield _fault(field, f"{len(text)} characters", f"1 to {TEXT_CHARACTERS_MAX}")
    names = [each.party for each in it.signatories]
    if not PARTIES_MIN <= len(names) <= PARTIES_MAX or len(set(names)) != len(names):
        allowed = f"{PARTIES_MIN} to {PARTIES_MAX}, each once"
        yield _fault("parties", ", ".join(names)[:200] or "none", allowed)
    if not it.jurisdictions:
        yield _fault("jurisdictions", "none", "one at least")
    yield from _words("jurisdictions", it.jurisdictions, COUNTRY, "two capital letters each")
    yield from _words("sites", it.sites, NAME_PATTERN, "a site's name")
    yield from _scope(it)
    yield from _caps(it)
    if not 0 < it.valid_until_ms - it.valid_from_ms <= VALID_MS_MAX or it.valid_from_ms < 0:
        found = f"from {it.valid_from_ms} to {it.valid_until_ms}"
        yield _fault("valid_until_ms", found, "a time that ends after it begins, in 50 years")


def _scope(it: Agreement) -> Iterator[Denial]:
    scope = it.scope
    if not int(Tier.OFFICIAL) <= scope.tier_max <= max(Tier):
        yield _fault("scope.tier_max", str(scope.tier_max), "OFFICIAL, SECRET or TOP_SECRET")
    if not scope.kinds or not frozenset(scope.kinds) <= frozenset(KINDS):
        yield _fault("scope.kinds", ", ".join(scope.kinds)[:200] or "none", ", ".join(KINDS))
    for path in scope.tenants:
        if not all(map(NAME_PATTERN.fullmatch, path.split("/"))):
            yield _fault("scope.tenants", repr(path[:80]), "a tenant's path")
    yield from _words("scope.markings", scope.markings, MARKING, "markings, in capital letters")
    yield from _words("scope.data_kinds", scope.data_kinds, WORD, "kinds of data")


def _caps(it: Agreement) -> Iterator[Denial]:
    if it.gpu_milli_max is not None and not 0 <= it.gpu_milli_max <= GPU_MILLI_MAX:
        yield _fault("gpu_milli_max", str(it.gpu_milli_max), f"0 to {GPU_MILLI_MAX}")
    budget = it.budget
    if budget is not None and (budget.gpu_class != "*" or budget.amount_gpu_ms < 0):
        found = f"{budget.amount_gpu_ms} on {budget.gpu_class}"
        yield _fault("budget", found, "an amount on GPUs of all classes, *")
    if budget is not None and not budget.period:
        yield _fault("budget.period", "none", "month, quarter or days")
    if budget is not None and (budget.period is BudgetPeriod.DAYS) != (budget.days > 0):
        yield _fault("budget.days", str(budget.days), "from 1, with a period of days alone")


def _words(
    field: str, values: tuple[str, ...], pattern: re.Pattern[str], allowed: str
) -> Iterator[Denial]:
    if len(values) > LIST_MAX:
        yield _fault(field, f"{len(values)}", f"at most {LIST_MAX}")
    for value in values[:LIST_MAX]:
        if not pattern.fullmatch(value):
            yield _fault(field, repr(value[:80]), allowed)


def _fault(field: str, found: str, allowed: str) -> Denial:
    return Denial(
        Reason.INVALID_ARGUMENT, f"found {found}, allowed {allowed}", f"agreement.{field}"
    )
