"""Rows and columns for each kind of answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sovapi.v1 import audit_pb2, common_pb2, fleet_pb2
from sovctl.cli.documents import job_document, message_document
from sovctl.cli.output import Column, Listing
from sovctl.results import AttemptInfo, JobInfo, RankInfo
from sovctl.spec_values import format_bytes, format_duration_ms, format_milli

LEAF_CHARS = 12
SENTENCE_WIDTH_MIN = 24
NODES_SHOWN = 4

WATTS = ((1_000_000_000, "GW"), (1_000_000, "MW"), (1_000, "kW"))

_NUMBER = "right"


def age(at_ms: int | None, now_ms: int) -> str:
    """How long ago, in one unit or two."""
    if at_ms is None:
        return "-"
    seconds = max(now_ms - at_ms, 0) // 1000
    return format_duration_ms(seconds * 1000) if seconds else "0s"


def between(start_ms: int | None, end_ms: int | None, now_ms: int) -> str:
    """How long something took, or has been going on."""
    return "-" if start_ms is None else age(start_ms, end_ms or now_ms)


def short_nodes(nodes: Sequence[str]) -> str:
    """The slots of nodes that are all at one site; a long list is cut."""
    slots = [node.rpartition("/")[2] for node in nodes]
    more = f" +{len(slots) - NODES_SHOWN}" if len(slots) > NODES_SHOWN else ""
    return ",".join(slots[:NODES_SHOWN]) + more if slots else "-"


def estimate(start_ms: int, p90_ms: int, now_ms: int) -> str:
    """When something is thought to start, and how sure that is."""
    expected = format_duration_ms(max(start_ms - now_ms, 0) // 1000 * 1000)
    late = format_duration_ms(max(p90_ms - now_ms, 0) // 1000 * 1000)
    return f"in {expected}; in nine cases of ten within {late}"


def ending(rank: RankInfo) -> str:
    """How a process ended: "exit 1", "signal 9", or "-" while it has not."""
    if rank.signal is not None:
        return f"signal {rank.signal}"
    return "-" if rank.exit_code is None else f"exit {rank.exit_code}"


def jobs(found: Iterable[JobInfo], now_ms: int) -> Listing:
    """Jobs, as `list` shows them."""
    listed = list(found)
    arrays = any(job.tasks is not None for job in listed)
    return Listing(
        columns=[
            Column("JOB"),
            Column("NAME", whole=False, cut=True),
            Column("STATE"),
            *([Column("TASKS", justify=_NUMBER)] if arrays else []),
            Column("REASON"),
            Column("SITE", spare=1),
            Column("NODES", wide=True),
            Column("GPUS", spare=3, justify=_NUMBER),
            Column("AGE", spare=2, justify=_NUMBER),
            Column("PROJECT", wide=True),
            Column("TRY", wide=True, justify=_NUMBER),
            Column("EXIT", wide=True, justify=_NUMBER),
            Column("MESSAGE", wide=True, whole=False),
        ],
        rows=[_job_row(job, now_ms, arrays=arrays) for job in listed],
        documents=[job_document(job) for job in listed],
        names=[job.id or "" for job in listed],
        empty="no jobs",
    )


def tasks_of(job: JobInfo) -> str:
    """How far an array is, or a service: "12/100 over", "ready 2/3"."""
    tasks = job.tasks
    if tasks is None:
        return "-"
    if tasks.ready is not None:
        return f"ready {tasks.ready}/{tasks.total}"
    return f"{tasks.over}/{tasks.total} over"


def _job_row(job: JobInfo, now_ms: int, *, arrays: bool) -> list[str]:
    attempt = job.attempt
    return [
        job.label,
        job.name,
        job.state,
        *([tasks_of(job)] if arrays else []),
        job.reason or "-",
        attempt.site if attempt else "-",
        short_nodes(attempt.nodes) if attempt else "-",
        str(job.gpus),
        age(job.submitted_at_ms, now_ms),
        job.tenant,
        str(len(job.attempts)),
        "-" if job.exit_code is None else str(job.exit_code),
        job.message or "-",
    ]


def attempts(found: Sequence[AttemptInfo], now_ms: int) -> Listing:
    """A job's attempts."""
    return Listing(
        columns=[
            Column("TRY", justify=_NUMBER),
            Column("STATE"),
            Column("SITE"),
            Column("COUNTRY"),
            Column("NODES"),
            Column("TOOK", justify=_NUMBER),
            Column("REASON", whole=False),
        ],
        rows=[
            [
                str(a.number),
                a.state,
                a.site,
                a.country or "-",
                short_nodes(a.nodes),
                between(a.started_at_ms, a.ended_at_ms, now_ms),
                a.reason or "-",
            ]
            for a in found
        ],
        documents=[],
        names=[],
    )


def ranks(attempt: AttemptInfo, now_ms: int) -> Listing:
    """The processes of an attempt. Tries to reach what the job does not list have a column where
    there were any; ranks of a node share its count."""
    denied = any(rank.denied for rank in attempt.ranks)
    return Listing(
        columns=[
            Column("RANK", justify=_NUMBER),
            Column("NODE"),
            Column("PHASE"),
            Column("END"),
            Column("CAUSE"),
            Column("TOOK", justify=_NUMBER),
            Column("LOG", justify=_NUMBER),
            *([Column("DENIED", justify=_NUMBER)] if denied else []),
            Column("DETAIL", whole=False),
        ],
        rows=[
            [
                str(r.rank),
                r.node,
                r.phase,
                ending(r),
                r.cause or "-",
                between(r.started_at_ms, r.ended_at_ms, now_ms),
                format_bytes(r.log_bytes),
                *(["-" if r.denied is None else str(r.denied)] if denied else []),
                r.detail or "-",
            ]
            for r in attempt.ranks
        ],
        documents=[],
        names=[],
    )


def sites(found: Iterable[fleet_pb2.Site]) -> Listing:
    """Sites, as operators see them."""
    listed = list(found)
    return Listing(
        columns=[
            Column("SITE"),
            Column("IN"),
            Column("STATE"),
            Column("NODES", justify=_NUMBER),
            Column("GPUS", justify=_NUMBER),
            Column("STANDS ABOVE IT", whole=False, width_min=SENTENCE_WIDTH_MIN),
            Column("POWER", wide=True, justify=_NUMBER),
            Column("ENERGY", wide=True),
            Column("LAST CONTACT", wide=True, justify=_NUMBER),
            Column("AGENT", wide=True),
            Column("GEN", wide=True, justify=_NUMBER),
        ],
        rows=[_site_row(site) for site in listed],
        documents=[message_document(site) for site in listed],
        names=[site.id for site in listed],
        empty="no sites: an operator declares them with `sovctl fleet apply FILE`",
    )


def _stake(party: fleet_pb2.Party) -> str:
    return f"{'≤' if party.at_most else ''}{format_milli(party.stake_milli_percent)}%"


def is_active(site: fleet_pb2.Site) -> bool:
    """Whether a site may hold work at all."""
    return site.status == fleet_pb2.SITE_STATUS_ACTIVE


def site_state(site: fleet_pb2.Site) -> str:
    """A site in a word or two: planned, on hold, down, cordoned or up."""
    if not is_active(site):
        return str(message_document(site)["status"] or "-").lower().replace("_", " ")
    if not site.connected:
        return "down cordoned" if site.cordoned else "down"
    return "cordoned" if site.cordoned else "up"


def power(watts: int) -> str:
    """Power in the largest unit that leaves a whole number before the point."""
    for size, unit in WATTS:
        if watts >= size:
            return f"{format_milli(watts * 10 // size * 100)} {unit}"
    return f"{watts} W"


def power_of_cap(site: fleet_pb2.Site) -> str:
    """What the site's GPUs draw, of what it may; `≥` where not all of its nodes say."""
    drawn = power(site.gpu_power_w) if site.HasField("gpu_power_w") else "-"
    if site.HasField("gpu_power_w") and site.gpu_power_nodes < site.nodes_total:
        drawn = f"≥{drawn}"
    return f"{drawn} of {power(site.power_cap_w)}" if site.HasField("power_cap_w") else drawn


def _energy(site: fleet_pb2.Site) -> str:
    """What it costs there, what is emitted for it, and who says so."""
    if not site.HasField("energy"):
        return "-"
    told = site.energy
    day = datetime.fromtimestamp(told.observed_at_ms // 1000, UTC).date()
    pounds = f"{told.price_pence_per_mwh // 100}.{told.price_pence_per_mwh % 100:02d}"
    return f"£{pounds}/MWh, {told.carbon_g_per_kwh} g CO2e/kWh ({told.source}, {day})"


def _site_row(site: fleet_pb2.Site) -> list[str]:
    parents = sorted(site.ultimate_parents, key=lambda p: (-p.stake_milli_percent, p.name))
    above = [f"{p.country} {_stake(p)} {p.name}" for p in parents]
    contact_ms = site.last_contact_age_ms
    return [
        site.id,
        site.country or "-",
        site_state(site),
        f"{site.nodes_ready}/{site.nodes_total}",
        f"{format_milli(site.gpus_used_milli)}/{site.gpus_total}",
        ", ".join(above) or "-",
        power_of_cap(site),
        _energy(site),
        format_duration_ms(contact_ms) if contact_ms else "-",
        site.agent_version or "-",
        f"{site.acked_generation}/{site.generation}",
    ]


def nodes(found: Iterable[fleet_pb2.Node]) -> Listing:
    """Nodes, as operators see them."""
    listed = list(found)
    return Listing(
        columns=[
            Column("NODE"),
            Column("GPU", spare=1),
            Column("USED", spare=2, justify=_NUMBER),
            Column("HEALTH"),
            Column("ISOLATION", spare=3),
            Column("TELEMETRY", spare=4),
            Column("DETAIL", whole=False, width_min=SENTENCE_WIDTH_MIN),
            Column("LEAF", wide=True),
            Column("POD", wide=True),
            Column("ARCH", wide=True),
            Column("BOOT", wide=True),
            Column("LOCATION", wide=True),
            Column("MIG", wide=True),
        ],
        rows=[_node_row(node) for node in listed],
        documents=[message_document(node) for node in listed],
        names=[node.id for node in listed],
        empty="no nodes",
    )


def _node_row(node: fleet_pb2.Node) -> list[str]:
    said = message_document(node)
    return [
        node.id,
        f"{node.gpus}x {node.gpu_class}" if node.gpus else "-",
        f"{format_milli(node.gpus_used_milli)}/{node.gpus_reported}",
        str(said["health"] or "UNKNOWN") + (" cordoned" if node.cordoned else ""),
        str(said["isolation"] or "-").lower(),
        node.telemetry or "-",
        node.health_detail or "-",
        node.leaf,
        node.pod,
        str(said["cpu_arch"] or "-").lower(),
        node.boot_id[:8] or "-",
        f"{node.location.verdict} {node.location.detail}" if node.location.verdict else "-",
        _cuts(node),
    ]


def _cuts(node: fleet_pb2.Node) -> str:
    """How its GPUs are cut, and whether it says the same."""
    counts = Counter((one.gpu, one.profile) for one in node.mig)
    told = ", ".join(f"GPU {gpu}: {n}x {name}" for (gpu, name), n in sorted(counts.items()))
    if not node.boot_id or list(node.mig) == list(node.mig_reported):
        return told or "-"
    return f"{told or 'none'} declared, cut otherwise"


def verdicts(found: Iterable[fleet_pb2.SiteVerdict]) -> Listing:
    """Which sites permit, and every reason of those that do not."""
    listed = list(found)
    rows: list[list[str]] = []
    for verdict in listed:
        if verdict.permitted:
            rows.append([verdict.site, "yes", "-", "-"])
        rows += denial_rows([verdict.site, "no"], verdict.denials)
    return Listing(
        columns=[
            Column("SITE"),
            Column("PERMITTED"),
            Column("REASON"),
            Column("DETAIL", whole=False),
        ],
        rows=rows,
        documents=[message_document(verdict) for verdict in listed],
        names=[verdict.site for verdict in listed if verdict.permitted],
        empty="no sites",
    )


def denial_rows(first: list[str], denials: Iterable[common_pb2.Denial]) -> list[list[str]]:
    """A row for each denial; the leading cells stand in the first one only."""
    rows: list[list[str]] = []
    for denial in denials:
        lead = first if not rows else [""] * len(first)
        rows.append([*lead, denial.reason, denial.detail])
    return rows


def leaves(found: Iterable[audit_pb2.AuditLeaf], when: Sequence[str]) -> Listing:
    """The audit log; `when` has each leaf's time as text."""
    listed = list(found)
    return Listing(
        columns=[
            Column("LEAF"),
            Column("AT"),
            Column("KIND"),
            Column("TENANT"),
            Column("CONTENT", whole=False),
            Column("INDEX", justify=_NUMBER, wide=True),
            Column("HASH", wide=True),
        ],
        rows=[
            [
                leaf.leaf_hash.hex()[:LEAF_CHARS],
                at,
                leaf.kind,
                leaf.tenant or "-",
                leaf.canonical_json.decode("utf-8", "replace") or "(not shown without a grant)",
                str(leaf.index),
                leaf.leaf_hash.hex(),
            ]
            for leaf, at in zip(listed, when, strict=True)
        ],
        documents=[message_document(leaf) for leaf in listed],
        names=[leaf.leaf_hash.hex() for leaf in listed],
        empty="the log is empty",
    )
