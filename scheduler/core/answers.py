"""Where a class of jobs may go by law and by shape: the same for all its jobs, so asked once.

An answer leaves out all that changes from minute to minute (who is on a node, whether it is
healthy). It holds until the fleet's facts, its declaration or the policy change, and no longer
than the facts that its verdicts rest on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from scheduler.core.asks import Ask, Shape
from scheduler.core.index import SiteIndex
from scheduler.core.layout import Layout, bits
from scheduler.core.node_facts import node_needs
from scheduler.core.residency import country_of, next_change_ms, permits
from scheduler.core.topology import enough
from scheduler.model.fleet import Isolation, Site, SiteStatus
from scheduler.model.ids import GpuClass, SiteId
from scheduler.model.job import TopologyLevel
from scheduler.model.plan import SitePress
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Deny, Permit, Policy, Requirement, Verdict

ANSWERS_MAX = 10_000
"""Answers that are remembered."""
REQUIREMENTS_MAX = 10_000
"""Requirements whose verdicts are remembered; beyond it they are all forgotten."""

Tier: TypeAlias = tuple[int, int]
"""How sought after sites are (`press`), in millionths, and which, as bits."""
Press: TypeAlias = Mapping[tuple[SiteId, GpuClass], int]
"""The same by site and GPU class; who is not in it is at 0."""

Question: TypeAlias = tuple[Shape, int, tuple[GpuClass, ...], TopologyLevel, Requirement]
"""All of an ask and a requirement that an answer rests on."""


@dataclass(frozen=True, slots=True)
class ClassAnswer:
    """The sites (as bits) and nodes of one GPU class that suit."""

    gpu_class: GpuClass
    sites: int
    nodes: Mapping[int, int]
    """Nodes that suit, by the site's bit number."""
    tiers: tuple[Tier, ...] = ()
    """The sites by how sought after they are, the least first; empty: they are all alike."""

    def by_press(self) -> tuple[Tier, ...]:
        """The sites, those first that others are least likely to need."""
        if not self.tiers:
            return ((0, self.sites),)
        return tuple((ppm, here) for ppm, sites in self.tiers if (here := sites & self.sites))

    def press_at(self, number: int) -> int:
        """How sought after a site is, in millionths."""
        return next((ppm for ppm, sites in self.tiers if sites >> number & 1), 0)

    def numbers(self, in_turn: Sequence[int] = ()) -> Iterable[int]:
        """The sites' bit numbers in that order, and where it tells none apart in that of `in_turn`,
        which has the bits of them all; else ascending."""
        for _, sites in self.by_press():
            if in_turn:
                yield from (bit.bit_length() - 1 for bit in in_turn if sites & bit)
            else:
                yield from bits(sites)

    def without(self, numbers: Iterable[int]) -> ClassAnswer:
        """The same without some sites."""
        closed = frozenset(numbers)
        mask = sum(1 << number for number in closed)
        left = {number: nodes for number, nodes in self.nodes.items() if number not in closed}
        return replace(self, sites=self.sites & ~mask, nodes=left)


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a class may go, the preferred GPU class first, and why not elsewhere."""

    version: int
    until_ms: int | None
    classes: tuple[ClassAnswer, ...]
    denials: tuple[Denial, ...]
    agreed: Mapping[int, tuple[str, ...]] = field(default_factory=lambda: {})
    """The agreements each of which opens a site, by the site's bit number; most need none."""

    def holds(self, version: int, now_ms: int) -> bool:
        """Whether the answer may still be used."""
        return self.version == version and (self.until_ms is None or now_ms < self.until_ms)


class Verdicts:
    """Residency verdicts, remembered per requirement and site while they last.

    Whoever owns this forgets a site when its facts change, and everything when the policy does.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._by_requirement: dict[
            Requirement, dict[SiteId, tuple[Verdict, int | None]]
        ] = {}  # fmt: skip

    def of(self, requirement: Requirement, site: Site, now_ms: int) -> tuple[Verdict, int | None]:
        """The verdict on `site`, and the moment until which it holds (None: for good)."""
        by_site = self._by_requirement.get(requirement)
        if by_site is None:
            if len(self._by_requirement) >= REQUIREMENTS_MAX:
                self._by_requirement.clear()
            by_site = self._by_requirement[requirement] = {}
        known = by_site.get(site.id)
        if known is not None and (known[1] is None or now_ms < known[1]):
            return known
        verdict = permits(requirement, site, self.policy, now_ms)
        until_ms = next_change_ms(site, self.policy, now_ms, requirement.facts)
        by_site[site.id] = verdict, until_ms
        return by_site[site.id]

    def forget(self, site: SiteId) -> None:
        """The facts of `site` changed."""
        for by_site in self._by_requirement.values():
            by_site.pop(site, None)


class Answers:
    """Answers that hold, remembered: who asks and how it shares its nodes makes no difference, so
    the classes of all organisations share a few."""

    def __init__(self) -> None:
        self._known: dict[Question, Answer] = {}
        self._press: Press = {}

    def learn(self, press: Iterable[SitePress]) -> None:
        """From the next version on sites are this sought after."""
        self._press = {(each.site, each.gpu_class): each.ppm for each in press}

    def to(
        self,
        ask: Ask,
        requirement: Requirement,
        sites: Sequence[tuple[Site, SiteIndex, bool]],
        verdicts: Verdicts,
        now_ms: int,
        version: int,
    ) -> Answer:
        """What `answer` says."""
        question = ask.shape, ask.nodes, ask.gpu_classes, ask.within, requirement
        known = self._known.get(question)
        if known is None or not known.holds(version, now_ms):
            if len(self._known) >= ANSWERS_MAX:
                self._known.clear()
            known = answer(ask, requirement, sites, verdicts, now_ms, version, self._press)
            self._known[question] = known
        return known


def site_denials(site: Site, *, connected: bool) -> tuple[Denial, ...]:
    """What stands against any new work at `site`, whatever it is."""
    denials: list[Denial] = []
    if site.status is not SiteStatus.ACTIVE:
        detail = f"the site is {site.status.name}, needed ACTIVE"
        denials.append(Denial(Reason.SITE_NOT_ACTIVE, detail, site.id))
    if not connected:
        detail = "the site is not connected; it takes no new work"
        denials.append(Denial(Reason.SITE_DISCONNECTED, detail, site.id))
    if site.cordoned:
        denials.append(Denial(Reason.SITE_CORDONED, "the site is cordoned", site.id))
    return tuple(denials)


def least_isolation(site: Site, policy: Policy) -> Isolation:
    """The isolation that a node of `site` must reach: the stricter of site's and policy's."""
    return Isolation(max(site.min_isolation, policy.min_isolation))


def suited(layout: Layout, ask: Ask, gpu_class: GpuClass) -> int:
    """The nodes of `gpu_class` that suit `ask` as declared."""
    arch, interconnect, size = layout.suits(ask.shape)
    return layout.of_class.get(gpu_class, 0) & arch & interconnect & size


def answer(
    ask: Ask,
    requirement: Requirement,
    sites: Sequence[tuple[Site, SiteIndex, bool]],
    verdicts: Verdicts,
    now_ms: int,
    version: int,
    press: Press,
) -> Answer:
    """Asks every site. `sites` come in the order of their bits, each with whether connected."""
    denials: list[Denial] = []
    until_ms: int | None = None
    found: dict[GpuClass, dict[int, int]] = {}
    needs = node_needs(requirement, verdicts.policy)
    agreed: dict[int, tuple[str, ...]] = {}
    for number, (site, index, connected) in enumerate(sites):
        verdict, holds_until_ms = verdicts.of(requirement, site, now_ms)
        until_ms = _sooner(until_ms, holds_until_ms)
        against = site_denials(site, connected=connected)
        if isinstance(verdict, Deny):
            against = verdict.denials + against
        if against:
            denials += against
            continue
        if isinstance(verdict, Permit) and verdict.agreement:
            agreed[number] = verdict.agreements
        known, known_until_ms = index.known(needs, country_of(site), now_ms)
        until_ms = _sooner(until_ms, known_until_ms)
        isolated = index.isolated(least_isolation(site, verdicts.policy))
        fitting = _fitting_classes(ask, index, isolated & known)
        if not fitting:
            detail = "no nodes there are of the shape, and known as well, as is asked for"
            denials.append(Denial(Reason.NODE_SHAPE, detail, site.id))
        for gpu_class, nodes in fitting:
            found.setdefault(gpu_class, {})[number] = nodes
    classes = tuple(
        ClassAnswer(
            name,
            sum(1 << number for number in found[name]),
            found[name],
            _tiers([(press.get((sites[n][0].id, name), 0), n) for n in found[name]]),
        )
        for name in (ask.gpu_classes or sorted(found))
        if name in found
    )
    if not sites:
        denials.append(Denial(Reason.NODES_TOO_FEW, "no site is declared"))
    return Answer(version, until_ms, classes, tuple(denials), agreed)


def _tiers(pressed: Sequence[tuple[int, int]]) -> tuple[Tier, ...]:
    """Sites by number, each with how sought after it is; nothing, where they are all as usual."""
    by_press: dict[int, int] = {}
    for ppm, number in pressed:
        by_press[ppm] = by_press.get(ppm, 0) | 1 << number
    return tuple(sorted(by_press.items())) if any(by_press) else ()


def _sooner(one_ms: int | None, other_ms: int | None) -> int | None:
    """The earlier of two moments, None being never."""
    return min((ms for ms in (one_ms, other_ms) if ms is not None), default=None)


def _fitting_classes(ask: Ask, index: SiteIndex, among: int) -> list[tuple[GpuClass, int]]:
    fitting: list[tuple[GpuClass, int]] = []
    for gpu_class in index.layout.classes:
        if not ask.accepts(gpu_class):
            continue
        nodes = suited(index.layout, ask, gpu_class) & among
        if enough(nodes, ask.nodes, index.layout.required_domains(ask)):
            fitting.append((gpu_class, nodes))
    return fitting
