"""Rows and columns of the fleet in sum, and of verdicts on several requirements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from sovapi.v1 import common_pb2, fleet_pb2
from sovctl.cli.documents import Document, message_document
from sovctl.cli.output import Column, Listing
from sovctl.cli.tables import (
    SENTENCE_WIDTH_MIN,
    denial_rows,
    is_active,
    power,
    power_of_cap,
    site_state,
)
from sovctl.spec_values import format_duration_ms, format_milli

BAR_CELLS = 10

_RIGHT = "right"
_ALL = "all"


@dataclass(slots=True)
class Sums:
    """What is added up, of one GPU class in one country or of everything."""

    sites: int = 0
    nodes: int = 0
    nodes_ready: int = 0
    gpus: int = 0
    gpus_ready: int = 0
    gpus_used_milli: int = 0

    def add(self, use: fleet_pb2.GpuUse) -> None:
        """Adds a site's line."""
        self.sites += 1
        self.nodes += use.nodes
        self.nodes_ready += use.nodes_ready
        self.gpus += use.gpus
        self.gpus_ready += use.gpus_ready
        self.gpus_used_milli += use.used_milli


def percent(gpus_used_milli: int, gpus: int) -> str:
    """How much of `gpus` is used, in whole percent."""
    return f"{gpus_used_milli // (gpus * 10)}%" if gpus else "-"


def bar(gpus_used_milli: int, gpus: int) -> str:
    """The same, drawn."""
    if not gpus:
        return "-"
    full = min(gpus_used_milli * BAR_CELLS // (gpus * 1000), BAR_CELLS)
    return "█" * full + "░" * (BAR_CELLS - full)


def sums(found: fleet_pb2.OverviewResponse) -> tuple[Sums, Mapping[tuple[str, str], Sums]]:
    """The whole fleet, and each GPU class in each country."""
    parts: defaultdict[tuple[str, str], Sums] = defaultdict(Sums)
    whole = Sums()
    for each in found.sites:
        for use in each.gpus:
            parts[each.site.country or "-", use.gpu_class or "-"].add(use)
            whole.add(use)
    whole.sites = len(found.sites)
    return whole, {key: parts[key] for key in sorted(parts)}


def head(found: fleet_pb2.OverviewResponse) -> Sequence[str]:
    """The fleet in a few lines."""
    whole, _ = sums(found)
    active = [each.site for each in found.sites if is_active(each.site)]
    up = sum(1 for site in active if site.connected)
    rest = len(found.sites) - len(active)
    running = sum(each.attempts_running for each in found.sites)
    moving = sum(each.attempts_moving for each in found.sites)
    used = f"{format_milli(whole.gpus_used_milli)} used of {whole.gpus_ready} ready"
    return (
        f"sites  {up} of {len(active)} up" + (f", {rest} planned or on hold" if rest else ""),
        f"nodes  {whole.nodes_ready} of {whole.nodes} ready, {found.unfit_total} unfit",
        f"GPUs   {used} ({percent(whole.gpus_used_milli, whole.gpus_ready)})",
        f"power  {_power_sum(active)}",
        f"jobs   {running} running, {moving} moving, {found.jobs_queued} queued"
        f" for {format_milli(found.gpus_queued_milli)} GPUs",
    )


def _power_sum(active: Sequence[fleet_pb2.Site]) -> str:
    """What the GPUs of active sites draw, and what those sites may that say both."""
    saying = [site for site in active if site.HasField("gpu_power_w")]
    if not saying:
        return "not known"
    whole = all(site.gpu_power_nodes == site.nodes_total for site in active)
    drawn = power(sum(site.gpu_power_w for site in saying))
    capped = [site for site in saying if site.HasField("power_cap_w")]
    cap = sum(site.power_cap_w for site in capped)
    share = sum(site.gpu_power_w for site in capped) * 100 // cap if cap else 0
    said = f"{'' if whole else '≥'}{drawn} drawn by GPUs"
    return f"{said}, {share}% of {power(cap)} allowed there" if cap else said


def summary(found: fleet_pb2.OverviewResponse) -> Listing:
    """GPUs by country and class, and in all."""
    whole, parts = sums(found)
    rows = [_summary_row(*key, parts[key]) for key in parts]
    if len(rows) > 1:
        rows.append(_summary_row(_ALL, _ALL, whole))
    return Listing(
        columns=[
            Column("COUNTRY"),
            Column("GPU"),
            Column("SITES", justify=_RIGHT),
            Column("NODES READY", justify=_RIGHT),
            Column("GPUS", justify=_RIGHT),
            Column("READY", justify=_RIGHT),
            Column("USED", justify=_RIGHT),
            Column("USE", justify=_RIGHT),
        ],
        rows=rows,
        documents=[],
        names=[each.site.id for each in found.sites],
        empty="no nodes: an operator declares them with `sovctl fleet apply FILE`",
    )


def _summary_row(country: str, gpu: str, part: Sums) -> list[str]:
    return [
        country,
        gpu,
        str(part.sites),
        f"{part.nodes_ready}/{part.nodes}",
        str(part.gpus),
        str(part.gpus_ready),
        format_milli(part.gpus_used_milli),
        percent(part.gpus_used_milli, part.gpus_ready),
    ]


def summary_document(found: fleet_pb2.OverviewResponse) -> Document:
    """The same as plain data."""
    whole, parts = sums(found)
    active = [each.site for each in found.sites if is_active(each.site)]
    return {
        **asdict(whole),
        "sites_active": len(active),
        "sites_connected": sum(1 for site in active if site.connected),
        "nodes_unfit": found.unfit_total,
        "attempts_running": sum(each.attempts_running for each in found.sites),
        "attempts_moving": sum(each.attempts_moving for each in found.sites),
        "gpu_power_w": sum(site.gpu_power_w for site in active),
        "gpu_power_nodes": sum(site.gpu_power_nodes for site in active),
        "power_cap_w": sum(site.power_cap_w for site in active),
        "jobs_queued": found.jobs_queued,
        "gpus_queued_milli": found.gpus_queued_milli,
        "by_country_and_class": [
            {"country": country, "gpu_class": gpu, **asdict(part)}
            for (country, gpu), part in parts.items()
        ],
    }


def busy_sites(found: fleet_pb2.OverviewResponse) -> Listing:
    """Active sites with what is going on there: those that are connected, then the others."""
    active = [each for each in found.sites if is_active(each.site)]
    active.sort(key=lambda each: (not each.site.connected, each.site.id))
    return Listing(
        columns=[
            Column("SITE"),
            Column("IN"),
            Column("STATE"),
            Column("NODES", justify=_RIGHT),
            Column("GPUS", justify=_RIGHT),
            Column("USE", justify=_RIGHT),
            Column("", wide=True),
            Column("RUN", justify=_RIGHT),
            Column("MOVE", justify=_RIGHT),
            Column("POWER", spare=1, justify=_RIGHT),
            Column("RUN BY", wide=True),
        ],
        rows=[_busy_row(each) for each in active],
        documents=[],
        names=[],
        empty="no active sites",
    )


def _busy_row(each: fleet_pb2.SiteOverview) -> list[str]:
    site = each.site
    ready = sum(use.gpus_ready for use in each.gpus)
    return [
        site.id,
        site.country or "-",
        site_state(site),
        f"{site.nodes_ready}/{site.nodes_total}",
        f"{format_milli(site.gpus_used_milli)}/{ready}",
        percent(site.gpus_used_milli, ready),
        bar(site.gpus_used_milli, ready),
        str(each.attempts_running),
        str(each.attempts_moving),
        power_of_cap(site),
        site.operator or "-",
    ]


def unfit_nodes(found: Iterable[fleet_pb2.Node]) -> Listing:
    """Nodes that take no new work, and why."""
    listed = list(found)
    return Listing(
        columns=[
            Column("UNFIT NODE"),
            Column("HEALTH"),
            Column("HEARD OF", spare=1, justify=_RIGHT),
            Column("DETAIL", whole=False, width_min=SENTENCE_WIDTH_MIN),
        ],
        rows=[_unfit_row(node) for node in listed],
        documents=[],
        names=[],
    )


def _unfit_row(node: fleet_pb2.Node) -> list[str]:
    words = [common_pb2.Health.Name(node.health).removeprefix("HEALTH_")]
    words += ["cordoned"] if node.cordoned else []
    age_ms = node.last_report_age_ms
    heard = f"{format_duration_ms(age_ms // 1000 * 1000)} ago" if age_ms else "never"
    return [node.id, " ".join(words), heard, node.health_detail or "-"]


def verdict_matrix(names: Sequence[str], found: Iterable[fleet_pb2.SiteVerdict]) -> Listing:
    """A row for each site, a column for each requirement: yes, or no."""
    listed = list(found)
    by_site: defaultdict[str, dict[int, bool]] = defaultdict(dict)
    for verdict in listed:
        by_site[verdict.site][verdict.requirement] = verdict.permitted
    return Listing(
        columns=[Column("SITE"), *(Column(name) for name in names)],
        rows=[
            [site, *("yes" if verdicts[n] else "no" for n in range(len(names)))]
            for site, verdicts in by_site.items()
        ],
        documents=verdict_documents(names, listed),
        names=[f"{v.site} {names[v.requirement]}" for v in listed if v.permitted],
        empty="no sites",
    )


def verdict_reasons(names: Sequence[str], found: Iterable[fleet_pb2.SiteVerdict]) -> Listing:
    """Every reason of every site against every requirement."""
    listed = list(found)
    rows: list[list[str]] = []
    for verdict in listed:
        first = [verdict.site, names[verdict.requirement]]
        if verdict.permitted:
            rows.append([*first, "yes", "-", "-"])
        rows += denial_rows([*first, "no"], verdict.denials)
    return Listing(
        columns=[
            Column("SITE"),
            Column("REQUIREMENT"),
            Column("PERMITTED"),
            Column("REASON"),
            Column("DETAIL", whole=False),
        ],
        rows=rows,
        documents=[],
        names=[],
        empty="no sites",
    )


def verdict_documents(
    names: Sequence[str], found: Iterable[fleet_pb2.SiteVerdict]
) -> list[Document]:
    """Verdicts as plain data, each with its requirement's name."""
    return [
        {**message_document(verdict), "requirement_name": names[verdict.requirement]}
        for verdict in found
    ]


def dependencies(found: Iterable[fleet_pb2.ExternalDependency], *, wide: bool) -> Listing:
    """What outside the home zone would be contacted; `wide` with everything that is known of it."""
    listed = list(found)
    columns = [
        Column("NAME"),
        Column("STATE"),
        Column("NEEDED", spare=1),
        Column("HOST", whole=False, width_min=SENTENCE_WIDTH_MIN),
        Column("KEPT FROM IT BY", whole=False, width_min=SENTENCE_WIDTH_MIN),
    ]
    if wide:
        columns += [Column("PROGRAM"), Column("WHEN"), Column("DETAIL")]
    return Listing(
        columns=columns,
        rows=[_dependency_row(each, wide=wide) for each in listed],
        documents=[message_document(each) for each in listed],
        names=[each.name for each in listed],
        empty="nothing outside the home zone",
    )


def _dependency_row(each: fleet_pb2.ExternalDependency, *, wide: bool) -> list[str]:
    word = fleet_pb2.ContactState.Name(each.state).removeprefix("CONTACT_STATE_")
    state = word.replace("_", " ").lower()
    settings = [f"{s.name}={s.value}" if s.value else s.name for s in each.settings]
    row = [
        each.name,
        f"{state} by {each.site}" if each.site else state,
        "yes" if each.needed else "no",
        ", ".join([*each.hosts, *each.countries]) or "-",
        ", ".join(settings) or "-",
    ]
    return [*row, each.program, each.when, each.detail] if wide else row
