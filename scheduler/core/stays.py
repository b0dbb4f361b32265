"""Where work was, attempt by attempt, judged again by what was known at each moment.

A stay is cut where facts, what was known of its nodes, or the policy changed while it lasted, or
time alone changed what a fact is worth; each piece is judged again, and pieces that come out alike
are one interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeVar

from scheduler.core import residency
from scheduler.core.node_facts import node_needs
from scheduler.core.node_history import Against, Asked, Histories, against
from scheduler.model.agreements import Agreement
from scheduler.model.fleet import Site
from scheduler.model.ids import NodeId, SiteId
from scheduler.model.reasons import Denial
from scheduler.model.residency import Deny, Policy, Requirement

VERDICTS_MAX = 5_000
"""Verdicts that are remembered; past it they are all dropped and found again."""
PIECES_MAX = 1_000
"""Pieces of one stay; beyond it the rest of the stay counts as not known."""

_Then = TypeVar("_Then", "FactsThen", "PolicyThen")


class Bounds(StrEnum):
    """Whether work was where it asked to be."""

    IN_BOUNDS = "IN_BOUNDS"
    OUT_OF_BOUNDS = "OUT_OF_BOUNDS"
    INDETERMINATE = "INDETERMINATE"
    NOT_PLACED = "NOT_PLACED"
    PER_TASK = "PER_TASK"


@dataclass(frozen=True, slots=True)
class Stay:
    """An attempt at its site, from its placement until nothing of it was there any more."""

    attempt: int
    site: SiteId
    nodes: tuple[NodeId, ...]
    placed_at_ms: int
    started_at_ms: int
    ended_at_ms: int
    agreement: str = ""
    """The one that admitted it there; empty: it needed none."""


@dataclass(frozen=True, slots=True)
class FactsThen:
    """What was known of a site from `at_ms` on."""

    at_ms: int
    digest: str
    site: Site


@dataclass(frozen=True, slots=True)
class PolicyThen:
    """The policy in force from `at_ms` on; `digest` is of the whole policy as it is stored."""

    at_ms: int
    digest: str
    policy: Policy


class Interval(NamedTuple):
    """A time at a site during which one verdict held. Times are UTC milliseconds."""

    stay: Stay
    from_ms: int
    to_ms: int
    bounds: Bounds
    country: str
    facts_digests: tuple[str, ...]
    policy_revision: int
    denials: tuple[Denial, ...]


class Verdict(NamedTuple):
    """What was found of an uncut stay: it holds for others from `from_ms` until `until_ms` (None:
    for good) where neither facts nor policy are others."""

    known: FactsThen
    policy: PolicyThen
    from_ms: int
    until_ms: int | None
    judged: Interval

    def holds(self, known: FactsThen, policy: PolicyThen, from_ms: int) -> bool:
        """Whether it is that on a stay which begins then."""
        if self.known is not known or self.policy is not policy or from_ms < self.from_ms:
            return False
        return self.until_ms is None or from_ms < self.until_ms


Verdicts = dict[tuple[Requirement, SiteId, str], Verdict]
"""By what work asks, site, and the agreement that admitted it there."""


def intervals(
    requirement: Requirement,
    stays: Sequence[Stay],
    facts: Mapping[SiteId, Sequence[FactsThen]],
    policies: Sequence[PolicyThen],
    nodes: Histories,
    remembered: Verdicts | None = None,
) -> tuple[Interval, ...]:
    """Where work with `requirement` was, piece by piece, judged; histories are oldest first.

    `remembered`: verdicts of earlier calls, which may grow by this one's. They change how fast the
    answer comes, and not what it is.
    """
    found: list[Interval] = []
    verdicts = {} if remembered is None else remembered
    for stay in stays:
        history = facts.get(stay.site, ())
        uncut = _uncut(requirement, stay, history, policies, nodes, verdicts)
        if uncut is not None:
            found.append(uncut)
            continue
        before: Interval | None = None
        for piece in _pieces(requirement, stay, history, policies, nodes):
            joined = None if before is None else _joined(before, piece)
            if joined is None:
                found.append(piece)
            else:
                found[-1] = joined
            before = found[-1]
    return tuple(found)


def _changes(facts: Sequence[FactsThen], policies: Sequence[PolicyThen]) -> set[int]:
    """The moments at which either changed."""
    return {known.at_ms for known in facts} | {known.at_ms for known in policies}


def _pieces(
    requirement: Requirement,
    stay: Stay,
    facts: Sequence[FactsThen],
    policies: Sequence[PolicyThen],
    nodes: Histories,
) -> Iterator[Interval]:
    """A stay, cut at every moment after which it may be judged otherwise."""
    moments = {stay.placed_at_ms, *_changes(facts, policies)}
    at_ms, end_ms = stay.placed_at_ms, max(stay.ended_at_ms, stay.placed_at_ms)
    unfit = _unfit(requirement, stay, facts, policies, nodes)
    moments |= {moment for time in unfit for moment in (time.from_ms, time.to_ms)}
    for _ in range(PIECES_MAX):
        known, policy = _as_of(facts, at_ms), _as_of(policies, at_ms)
        changes = [moment for moment in moments if moment > at_ms]
        if known is not None and policy is not None:
            change = residency.next_change_ms(known.site, policy.policy, at_ms, requirement.facts)
            changes += [] if change is None else [change]
        to_ms = min([*changes, end_ms])
        then = [
            denial
            for time in unfit
            if time.from_ms <= at_ms < time.to_ms or time.from_ms == at_ms
            for denial in time.denials
        ]
        yield _judged(requirement, stay, (at_ms, to_ms), known, policy, then)
        if to_ms >= end_ms:
            return
        at_ms = to_ms
    yield _judged(requirement, stay, (at_ms, end_ms), None, None, ())


def _uncut(
    requirement: Requirement,
    stay: Stay,
    facts: Sequence[FactsThen],
    policies: Sequence[PolicyThen],
    nodes: Histories,
    verdicts: Verdicts,
) -> Interval | None:
    """A stay during which nothing changed, and nodes do not count, as one piece: most are such, and
    that is soon seen. None: it has to be looked at."""
    if nodes or not (facts and policies):
        return None
    known, policy = facts[-1], policies[-1]
    if max(known.at_ms, policy.at_ms) > stay.placed_at_ms:
        return None
    if requirement.node_facts or policy.policy.node_facts:
        return None
    from_ms, to_ms = stay.placed_at_ms, max(stay.ended_at_ms, stay.placed_at_ms)
    like = requirement, stay.site, stay.agreement
    found = verdicts.get(like)
    if found is None or not found.holds(known, policy, from_ms):
        until_ms = residency.next_change_ms(known.site, policy.policy, from_ms, requirement.facts)
        judged = _judged(requirement, stay, (from_ms, to_ms), known, policy, ())
        found = Verdict(known, policy, from_ms, until_ms, judged)
        if len(verdicts) >= VERDICTS_MAX:
            verdicts.clear()
        if not judged.denials:  # They tell how long ago something was, at the beginning of a stay.
            verdicts[like] = found
    if found.until_ms is not None and found.until_ms < to_ms:
        return None
    return found.judged._replace(stay=stay, from_ms=from_ms, to_ms=to_ms)


def _unfit(
    requirement: Requirement,
    stay: Stay,
    facts: Sequence[FactsThen],
    policies: Sequence[PolicyThen],
    nodes: Histories,
) -> list[Against]:
    """When something was known, or not known, against one of the nodes."""
    end_ms = max(stay.ended_at_ms, stay.placed_at_ms)
    during = {at_ms for at_ms in _changes(facts, policies) if stay.placed_at_ms < at_ms <= end_ms}
    asked: list[Asked] = []
    for at_ms in sorted({stay.placed_at_ms, *during}):
        known, policy = _as_of(facts, at_ms), _as_of(policies, at_ms)
        if known is not None and policy is not None:
            needs = node_needs(requirement, policy.policy)
            asked.append(Asked(at_ms, needs, residency.country_of(known.site)))
    if not asked:
        return []
    each = (against(node, nodes.get(node, ()), asked, end_ms) for node in stay.nodes)
    return [time for times in each for time in times]


def _judged(
    requirement: Requirement,
    stay: Stay,
    span: tuple[int, int],
    known: FactsThen | None,
    policy: PolicyThen | None,
    of_nodes: Sequence[Denial],
) -> Interval:
    if known is None or policy is None:
        return Interval(stay, *span, Bounds.INDETERMINATE, "", (), 0, ())
    asked = residency.under(requirement, stay.agreement)
    found = residency.permits(asked, known.site, policy.policy, span[0])
    denials = (*(found.denials if isinstance(found, Deny) else ()), *of_nodes)
    bounds = Bounds.OUT_OF_BOUNDS if denials else Bounds.IN_BOUNDS
    country, revision = residency.country_of(known.site), policy.policy.revision
    return Interval(stay, *span, bounds, country, (known.digest,), revision, denials)


def _joined(before: Interval, after: Interval) -> Interval | None:
    """Two neighbours as one, if they say the same."""
    said = before.stay, before.bounds, before.country, before.denials
    if said != (after.stay, after.bounds, after.country, after.denials):
        return None
    digests = tuple(dict.fromkeys((*before.facts_digests, *after.facts_digests)))
    return before._replace(to_ms=after.to_ms, facts_digests=digests)


def agreements_of(stays: Sequence[Stay], policies: Sequence[PolicyThen]) -> tuple[Agreement, ...]:
    """The agreements that admitted work to its sites, as they stood when it was placed there."""
    found: dict[str, Agreement] = {}
    for stay in stays:
        policy = _as_of(policies, stay.placed_at_ms) if stay.agreement else None
        for agreement in policy.policy.agreements if policy is not None else ():
            if agreement.name == stay.agreement:
                found[f"{agreement.name} {agreement.digest}"] = agreement
    return tuple(found[key] for key in sorted(found))


def _as_of(history: Sequence[_Then], at_ms: int) -> _Then | None:
    return next((then for then in reversed(history) if then.at_ms <= at_ms), None)
