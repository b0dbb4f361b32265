"""What stands between an ask and a site: ordered, named checks, each with its own reason.

Every check is a set of nodes that pass it. A site is feasible on a GPU class when enough nodes pass
all of them, inside one domain of the required level. Two things are said about one that is not:

* every check that fails by itself, with the count that passes; and
* a minimal set: lift these checks and the site is feasible, lift any proper part of them and it is
  not. Of several such sets the one is found that leaves the harder things in place: waiting for
  nodes to become free is said before changing the GPU model.

The same code answers at admission, over the declared fleet, and in explanations, over what is true
now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from scheduler.core.agreement_caps import AgreementCaps
from scheduler.core.answers import Verdicts
from scheduler.core.asks import Ask, ask_of
from scheduler.core.budgets import gpu_ms, never_affordable
from scheduler.core.layout import Layout
from scheduler.core.quota import QuotaTree, Usage, fits
from scheduler.core.topology import enough
from scheduler.model.fleet import CpuArch, Interconnect, Node, Site, SiteStatus
from scheduler.model.ids import GpuClass, SiteId, TenantPath, site_of
from scheduler.model.job import TopologyLevel
from scheduler.model.plan import JobClass, SiteReasons
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Deny, NodeSharing, Permit, Policy

Check = tuple[Reason, int]
"""A named check and the nodes of the site that pass it."""

KEPT_FIRST = (
    Reason.GPU_CLASS,
    Reason.CPU_ARCH,
    Reason.INTERCONNECT,
    Reason.ISOLATION,
    Reason.NODE_REFUTED,
    Reason.NODE_FACTS,
    Reason.NODE_SHAPE,
    Reason.NODES_TOO_FEW,
    Reason.TOPOLOGY,
    Reason.NODES_UNHEALTHY,
    Reason.NODE_SHARING,
    Reason.SPREAD,
    Reason.WINDOW,
    Reason.POWER_CAP,
    Reason.BEHIND_OTHERS,
    Reason.NODES_BUSY,
    Reason.SPARE_NODES,
)
"""The order of the checks, and the order in which a minimal set tries to keep them in place."""


@dataclass(frozen=True, slots=True)
class Option:
    """One GPU class at one site: all that stands against it there, and a minimal set of that."""

    gpu_class: GpuClass
    denials: tuple[Denial, ...]
    minimal: tuple[Denial, ...]
    stand: Stand | None
    """None where nothing is declared."""


def options_at(
    site: SiteId, layout: Layout, ask: Ask, extra: Sequence[Check] = ()
) -> tuple[Option, ...]:
    """One option for each GPU class that stands at `site`. `extra` are checks beyond shape."""
    if not layout.nodes:
        denial = Denial(Reason.NODES_TOO_FEW, "no node is declared there", site)
        return (Option(GpuClass(""), (denial,), (denial,), None),)
    arch, interconnect, size = layout.suits(ask.shape)
    shared: list[Check] = [
        (Reason.CPU_ARCH, arch),
        (Reason.INTERCONNECT, interconnect),
        (Reason.NODE_SHAPE, size),
        *extra,
    ]
    return tuple(_option(site, layout, ask, name, shared) for name in layout.classes)


def _option(
    site: SiteId, layout: Layout, ask: Ask, gpu_class: GpuClass, shared: Sequence[Check]
) -> Option:
    stand = Stand(layout, ask, gpu_class, shared)
    minimal = stand.minimal()
    named = sorted({*minimal, *stand.failing_alone()}, key=KEPT_FIRST.index)
    denials = {reason: Denial(reason, stand.detail(reason), site) for reason in named}
    lifted = tuple(denials[reason] for reason in minimal)
    return Option(gpu_class, tuple(denials.values()), lifted, stand)


class Stand:
    """One GPU class at one site, and what may be lifted there."""

    def __init__(
        self, layout: Layout, ask: Ask, gpu_class: GpuClass, checks: Sequence[Check]
    ) -> None:
        self.ask = ask
        self.gpu_class = gpu_class
        self.all = layout.of_class[gpu_class]
        self.domains = layout.required_domains(ask)
        self.topology = ask.nodes > 1 and ask.within is not TopologyLevel.SITE
        self.checks = {reason: nodes & self.all for reason, nodes in checks}
        if not ask.accepts(gpu_class):
            self.checks[Reason.GPU_CLASS] = 0
        self.too_few = self.all.bit_count() < ask.nodes

    def feasible(self, lifted: frozenset[Reason]) -> bool:
        """Whether the ask could be met were the checks `lifted` not there.

        Where there are too few nodes and that is lifted, there may be any number of nodes like
        those that pass.
        """
        nodes = self.all
        for reason, passing in self.checks.items():
            if reason not in lifted:
                nodes &= passing
        return self._suffice(nodes, lifted)

    def _suffice(self, nodes: int, lifted: Collection[Reason]) -> bool:
        """Whether the ask could be met on nodes that pass all checks that are not lifted."""
        if self.too_few and Reason.NODES_TOO_FEW in lifted:
            return nodes != 0
        if self.topology and Reason.TOPOLOGY not in lifted:
            return enough(nodes, self.ask.nodes, self.domains)
        return nodes.bit_count() >= self.ask.nodes

    def minimal(self) -> tuple[Reason, ...]:
        """A smallest-by-inclusion set of checks to lift; empty: it is feasible."""
        if self.feasible(frozenset()):
            return ()
        lifted = [
            reason
            for reason in KEPT_FIRST
            if reason in self.checks
            or (reason is Reason.NODES_TOO_FEW and self.too_few)
            or (reason is Reason.TOPOLOGY and self.topology)
        ]
        # One after another is in force again, on top of those before it, where that leaves enough.
        nodes = self.all
        for reason in tuple(lifted):
            fewer, fewer_nodes = [each for each in lifted if each is not reason], nodes
            fewer_nodes &= self.checks.get(reason, nodes)
            if self._suffice(fewer_nodes, fewer):
                lifted, nodes = fewer, fewer_nodes
        return tuple(lifted)

    def failing_alone(self) -> list[Reason]:
        """The checks that would stand in the way were they the only ones."""
        needed = 1 if self.too_few else self.ask.nodes
        found = [
            reason
            for reason, passing in self.checks.items()
            if passing.bit_count() < min(needed, self.all.bit_count())
        ]
        if self.too_few:
            found.append(Reason.NODES_TOO_FEW)
        elif self.topology and not enough(self.all, self.ask.nodes, self.domains):
            found.append(Reason.TOPOLOGY)
        return found

    def detail(self, reason: Reason) -> str:
        """What the check found and what it needed."""
        ask, total = self.ask, self.all.bit_count()
        name = self.gpu_class or "CPU"
        passing = self.checks.get(reason, self.all).bit_count()
        counted = f"{passing} of {total} {name} nodes"
        needed = f"needed {ask.nodes}"
        match reason:
            case Reason.GPU_CLASS:
                return f"its nodes are {name}, needed {', '.join(ask.gpu_classes)}"
            case Reason.NODES_TOO_FEW:
                return f"it has {total} {name} nodes, {needed}"
            case Reason.TOPOLOGY:
                return f"no one {ask.within.name} has {ask.nodes} {name} nodes that pass"
            case _:
                return f"{counted} {_passing(reason, ask)}, {needed}"


def _passing(reason: Reason, ask: Ask) -> str:
    """What nodes that pass the check do or are."""
    match reason:
        case Reason.CPU_ARCH:
            return f"are {CpuArch(ask.shape.cpu_arch).name}"
        case Reason.INTERCONNECT:
            return f"have {Interconnect(ask.shape.interconnect).name}"
        case Reason.NODE_SHAPE:
            return f"are as large as {_size(ask)}"
        case Reason.NODES_BUSY:
            return f"have room for {_size(ask)}"
        case _:
            return _ALIKE[reason]


_ALIKE = {
    Reason.ISOLATION: "isolate jobs as site and policy demand",
    Reason.NODE_REFUTED: "are not refuted by what was measured or attested",
    Reason.NODE_FACTS: "are known as surely and as freshly as work and policy ask",
    Reason.SPARE_NODES: "are not kept free for others of their NVLink domain that break",
    Reason.NODES_UNHEALTHY: "are healthy and open to new work",
    Reason.NODE_SHARING: "hold nobody whom the job may not meet",
    Reason.WINDOW: "are not set aside before it would end",
    Reason.POWER_CAP: "may draw what it would draw on their like",
    Reason.BEHIND_OTHERS: "are kept for no other job",
    Reason.SPREAD: "are in a domain that no other of its service is in",
}
"""The same where it is the same for whatever is asked."""


def _size(ask: Ask) -> str:
    shape = ask.shape
    parts = [shape.units()]
    if shape.cpu_milli:
        parts.append(f"{shape.cpu_milli} milli-CPU")
    if shape.memory_bytes:
        parts.append(f"{shape.memory_bytes} bytes of memory")
    return ", ".join(parts)


def least_milli(layout: Layout, ask: Ask, gpu_class: GpuClass) -> int:
    """The least that `ask` is charged on `gpu_class` here: where it does not share, whole nodes."""
    if ask.sharing is not NodeSharing.NONE:
        return ask.nodes * ask.shape.gpu_milli()
    sizes = [gpus for name, gpus in layout.of_kind if name == gpu_class and gpus >= ask.shape.gpus]
    return ask.nodes * min(sizes, default=ask.shape.gpus) * 1000


class DeclaredFleet:
    """The fleet as declared, for admission: whoever is on it and however it is today.

    Immutable; build another when sites, nodes, tenants or the policy change.
    """

    def __init__(
        self, sites: Iterable[Site], nodes: Iterable[Node], policy: Policy, tree: QuotaTree
    ) -> None:
        at: dict[SiteId, list[Node]] = {}
        for node in nodes:
            at.setdefault(site_of(node.id), []).append(node)
        self.policy = policy
        self.tree = tree
        self.sites = tuple(sorted(sites, key=lambda site: site.id))
        self.layouts = {site.id: Layout(at.get(site.id, ())) for site in self.sites}
        self.verdicts = Verdicts(policy)
        self._options: dict[tuple[SiteId, Ask], tuple[Option, ...]] = {}

    def options(self, site: Site, ask: Ask) -> tuple[Option, ...]:
        """By shape alone, remembered: the same for every job of a class."""
        if len(self._options) > OPTIONS_MAX:
            self._options.clear()
        key = (site.id, ask)
        if key not in self._options:
            layout = self.layouts[site.id]
            spared = (
                [(Reason.SPARE_NODES, layout.all & ~layout.kept_free())] if layout.racks else []
            )
            self._options[key] = options_at(site.id, layout, ask, spared)
        return self._options[key]


OPTIONS_MAX = 200_000
"""Answers about shapes that are remembered for one declared fleet."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """Whether work could ever run: every site's reasons, and quota that stands in the way."""

    sites: tuple[SiteReasons, ...]
    quota: tuple[Denial, ...]

    def possible(self) -> bool:
        """Whether it could run somewhere, some day, in the fleet as declared."""
        return not self.quota and any(not site.denials for site in self.sites)

    def denials(self) -> tuple[Denial, ...]:
        """Everything that stands against it."""
        return (*self.quota, *(denial for site in self.sites for denial in site.denials))


def could_ever_run(declared: DeclaredFleet, job_class: JobClass, now_ms: int) -> Prospect:
    """Whether the class could ever run in the declared fleet, were it empty and healthy."""
    ask = ask_of(job_class)
    found: list[SiteReasons] = []
    quota: list[Denial] = []
    fundable = False
    for site in declared.sites:
        verdict, _ = declared.verdicts.of(job_class.residency, site, now_ms)
        denials: list[Denial] = list(verdict.denials) if isinstance(verdict, Deny) else []
        if isinstance(verdict, Permit) and verdict.agreement:
            denials += never_agreed(declared, job_class, ask, site.id, verdict.agreements, now_ms)
        if site.status is not SiteStatus.ACTIVE:
            detail = f"the site is {site.status.name}, needed ACTIVE"
            denials.append(Denial(Reason.SITE_NOT_ACTIVE, detail, site.id))
        options = declared.options(site, ask)
        denials += best(options, ask).denials
        if not denials and not fundable:  # Who can pay at one site is asked at no other.
            layout = declared.layouts[site.id]
            for option in options:
                if option.minimal:
                    continue
                against = never_fits(declared.tree, job_class.tenant, ask, layout, option)
                against += never_paid(declared.tree, job_class, ask, layout, option, now_ms)
                fundable = fundable or not against
                quota += [denial for denial in against if denial not in quota]
        found.append(
            SiteReasons(site.id, permitted=not isinstance(verdict, Deny), denials=tuple(denials))
        )
    return Prospect(tuple(found), () if fundable else tuple(quota))


def never_agreed(
    declared: DeclaredFleet,
    job_class: JobClass,
    ask: Ask,
    site: SiteId,
    agreements: Sequence[str],
    now_ms: int,
) -> tuple[Denial, ...]:
    """The caps of every agreement that the work breaks although nothing else is under it; nothing
    where one bears it."""
    layout = declared.layouts[site]
    charged = [least_milli(layout, ask, name) for name in layout.classes if ask.accepts(name)]
    milli = min(charged, default=0)
    cost_gpu_ms = gpu_ms(milli, job_class.time_limit_bucket_ms)
    nobody = AgreementCaps(declared.policy.agreements)
    return nobody.over(agreements, milli, cost_gpu_ms, now_ms)


def never_fits(
    tree: QuotaTree, tenant: TenantPath, ask: Ask, layout: Layout, option: Option
) -> tuple[Denial, ...]:
    """The limits that the ask breaks although nothing else is in use."""
    nobody: Usage = {}
    milli = least_milli(layout, ask, option.gpu_class)
    return fits(tree, nobody, tenant, option.gpu_class, milli)


def never_paid(
    tree: QuotaTree, job_class: JobClass, ask: Ask, layout: Layout, option: Option, now_ms: int
) -> tuple[Denial, ...]:
    """The budgets that a whole period of would not bear the work."""
    milli = least_milli(layout, ask, option.gpu_class)
    cost_gpu_ms = gpu_ms(milli, job_class.time_limit_bucket_ms)
    return never_affordable(tree, job_class.tenant, option.gpu_class, cost_gpu_ms, now_ms)


def best(options: Sequence[Option], ask: Ask) -> Option:
    """The option with least against it; models that the job accepts before others."""
    return min(
        options,
        key=lambda option: (
            not ask.accepts(option.gpu_class),
            len(option.minimal),
            option.gpu_class,
        ),
    )
