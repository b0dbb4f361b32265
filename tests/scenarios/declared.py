"""The words of a story: how lines are read, and what is declared before it begins."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bench.country import BEGIN_MS
from scheduler.model.fleet import CpuArch, Interconnect, Node, Site, SiteEnergy, SiteStatus
from scheduler.model.ids import GpuClass, NodeId, SiteId, TenantPath, node_id
from scheduler.model.mig import MigInstance
from scheduler.model.residency import Assurance, Fact, FactKey, Party
from scheduler.model.tenancy import Budget, BudgetPeriod, GpuQuota, QueueOrder, Tenant

UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
H100 = "H100"
EVERY_GPU = GpuClass("*")


class BadStory(Exception):
    """A line of a story cannot be read: what was found, and what is allowed."""


def duration_ms(text: str) -> int:
    """So many seconds, minutes, hours or days: 90s, 15m, 2h, 1d."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None:
        raise BadStory(f"found {text!r}, a duration such as 90s, 15m, 2h or 1d is expected")
    return int(found[1]) * UNITS_MS[found[2]]


def clock(ms: int) -> str:
    """Hours and minutes since the beginning, and seconds unless there are none."""
    minutes, seconds = divmod(ms // 1000, 60)
    shown = f"{minutes // 60:02}:{minutes % 60:02}"
    return f"{shown}:{seconds:02}" if seconds else shown


@dataclass
class Line:
    """A command and what goes with it: words, then pairs. What is left over is a mistake."""

    words: list[str]
    pairs: dict[str, str]

    @classmethod
    def of(cls, text: str) -> Line:
        """Reads one line."""
        parts = text.split()
        words = [part for part in parts if "=" not in part]
        return cls(words, dict(part.split("=", 1) for part in parts if "=" in part))

    def word(self, what: str) -> str:
        """The next word, which is `what`."""
        if not self.words:
            raise BadStory(f"{what} is missing")
        return self.words.pop(0)

    def take(self, name: str, default: str = "") -> str:
        """What is said of `name`."""
        return self.pairs.pop(name, default)

    def number(self, name: str, default: int = 0) -> int:
        """A number that is said of `name`."""
        return int(self.take(name, str(default)))

    def time_ms(self, name: str, default: str) -> int:
        """A duration that is said of `name`."""
        return duration_ms(self.take(name, default))

    def done(self) -> None:
        """Nothing may be left."""
        left = [*self.words, *(f"{name}={value}" for name, value in self.pairs.items())]
        if left:
            raise BadStory(f"not understood: {' '.join(left)}")


@dataclass
class Declared:
    """What a story declares before it begins, and may declare anew."""

    sites: dict[SiteId, Site] = field(default_factory=lambda: {})
    nodes: dict[NodeId, Node] = field(default_factory=lambda: {})
    tenants: dict[TenantPath, Tenant] = field(default_factory=lambda: {})

    def site(self, line: Line) -> None:
        """A site, all of whose facts say its country; who operates it may be of another."""
        name, country = SiteId(line.word("the site")), line.take("country", "GB")
        cap_kw, carbon, price = (line.take(each) for each in ("cap_kw", "carbon", "price"))
        energy = SiteEnergy(int(carbon), int(price), "grid", BEGIN_MS) if carbon else None
        of = {FactKey.SERVICE_OPERATOR: line.take("operator", country)}
        facts = tuple(_fact(key, of.get(key, country)) for key in FactKey)
        self.sites[name] = Site(
            name,
            SiteStatus.ACTIVE,
            facts,
            (Party("Exchange plc", country, 100_000),),
            power_cap_w=round(float(cap_kw) * 1000) if cap_kw else None,
            energy=energy,
        )

    def some_nodes(self, line: Line) -> None:
        """Nodes that are alike, numbered."""
        found = re.fullmatch(r"([^/]+)/n(\d+)(?:\.\.n(\d+))?", line.word("the nodes"))
        if found is None:
            raise BadStory("nodes are named as in london/n1..n4")
        model, gpus = GpuClass(line.take("model", H100)), line.number("gpus", 8)
        leaf, nvlink = line.take("leaf", "l0"), line.take("nvlink")
        mig, spares = cuts(line.take("mig")), line.number("spares")
        for number in range(int(found[2]), int(found[3] or found[2]) + 1):
            name = node_id(SiteId(found[1]), f"n{number}")
            self.nodes[name] = Node(
                name, "p0", leaf, nvlink, model, gpus, CpuArch.AMD64, 16_000 * gpus, gpus << 37,
                (Interconnect.ETHERNET, Interconnect.INFINIBAND), mig=mig,
                nvlink_spares=spares,
            )  # fmt: skip

    def tenant(self, line: Line) -> None:
        """A node of the tenant tree."""
        path = TenantPath(line.word("the tenant"))
        limit, borrow, lend = (line.take(name) for name in ("limit", "borrow", "lend"))
        quota = GpuQuota(
            EVERY_GPU,
            guarantee_milli=line.number("guarantee") * 1000,
            limit_milli=int(limit) * 1000 if limit else None,
            borrow_limit_milli=int(borrow) * 1000 if borrow else None,
            lend_limit_milli=int(lend) * 1000 if lend else None,
        )
        budget = line.take("budget")
        budgets = (
            (Budget(EVERY_GPU, int(budget) * UNITS_MS["h"], BudgetPeriod.MONTH),) if budget else ()
        )
        order = QueueOrder[line.take("order", "age").upper()]
        self.tenants[path] = Tenant(
            path, line.number("weight", 1), (quota,), order, budgets=budgets
        )

    def at(self, site: SiteId) -> tuple[Node, ...]:
        """The nodes of a site."""
        return tuple(node for name, node in self.nodes.items() if name.startswith(f"{site}/"))


def cuts(text: str) -> tuple[MigInstance, ...]:
    """How GPUs are cut: `0:7x1g.10gb,1:2x3g.40gb`."""
    found: list[MigInstance] = []
    for part in filter(None, text.split(",")):
        gpu, _, what = part.partition(":")
        count, _, profile = what.partition("x")
        found += [MigInstance(int(gpu), profile)] * int(count)
    return tuple(sorted(found))


def _fact(key: FactKey, country: str) -> Fact:
    said = {FactKey.ULTIMATE_PARENTS: (), FactKey.ACCREDITATION: ("SECRET",)}
    said[FactKey.MARKINGS] = ("SENSITIVE",)
    return Fact(
        key,
        said.get(key, (country,)),
        Assurance.AUDITED,
        "auditor",
        observed_at_ms=BEGIN_MS - UNITS_MS["d"],
    )
