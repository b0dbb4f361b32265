"""The board of the fleet, for operators: what there is, what is wrong, what waits, and on whom."""

from __future__ import annotations

from deploy.grafana.model import Board, Panel, Query, Row, Variable

SITE = 'site=~"$site"'
READ = "sov_agent_last_collection_timestamp_seconds"
CYCLE = "sov_scheduler_last_cycle_timestamp_seconds"
UP_OR_DOWN = ((1, "up"), (0, "down"))


def _else_none(expression: str, label: str) -> str:
    """`expression`, or one series of 0 that says `none` where there is nothing to show."""
    return f'{expression} or on () label_replace(vector(0), "{label}", "none", "", "")'


def _stat(title: str, why: str, expression: str, *, red_above: float | None = None) -> Panel:
    """One number."""
    query = (Query(expression),)
    return Panel(title, why, query, kind="stat", unit="locale", red_above=red_above)


_NUMBERS = Row(
    height=4,
    panels=(
        _stat(
            "GPUs installed",
            "As declared, at active sites.",
            f"sum(sov_site_gpus_installed{{{SITE}}})",
        ),
        _stat(
            "GPUs schedulable",
            "At healthy nodes that nobody closed, of sites that are connected.",
            f"sum(sov_site_gpus_schedulable{{{SITE}}})",
        ),
        _stat(
            "GPUs allocated",
            "Held by work that was placed and is not over.",
            f"sum(sov_site_gpus_allocated{{{SITE}}})",
        ),
        _stat("Jobs running", "Of all tenants.", 'sov_jobs{state="running"}'),
        _stat("Jobs queued", "Of all tenants.", 'sov_jobs{state="queued"}'),
        _stat(
            "Sites away",
            "Active sites without a session. Their work goes on; nothing new starts.",
            f"count(sov_site_connected{{{SITE}}} == 0) or vector(0)",
            red_above=1,
        ),
        _stat(
            "Breakers open",
            "Sites where so many nodes say FAILED that their work is left to operators.",
            f"sum(sov_site_breaker_open{{{SITE}}})",
            red_above=1,
        ),
        _stat(
            "Alerts firing",
            "Of every severity.",
            'count(ALERTS{alertstate="firing"}) or vector(0)',
            red_above=1,
        ),
    ),
)

_SITES = Row(
    height=9,
    panels=(
        Panel(
            "Sites",
            "Link, agents that can be scraped, nodes, GPUs, power drawn of what may be, faults of a"
            " day, and generations of desired state that the site has not taken up.",
            (
                Query(f"max by (site) (sov_site_connected{{{SITE}}})", "link", words=UP_OR_DOWN),
                Query(f"site:agents_up:sum{{{SITE}}}", "agents up"),
                Query(f"max by (site) (sov_site_nodes_expected{{{SITE}}})", "nodes"),
                Query(f"max by (site) (sov_site_nodes_schedulable{{{SITE}}})", "schedulable"),
                Query(f"sum by (site) (sov_site_gpus_schedulable{{{SITE}}})", "GPUs"),
                Query(f"sum by (site) (sov_site_gpus_allocated{{{SITE}}})", "allocated"),
                Query(
                    f"max by (site) (sov_site_power_watts{{{SITE}}})"
                    f" / max by (site) (sov_site_power_limit_watts{{{SITE}}})",
                    "power of cap",
                    unit="percentunit",
                ),
                Query(
                    f"round(sum by (site) (increase(sov_node_faults_total{{{SITE}}}[1d])))",
                    "faults 24 h",
                ),
                Query(f"sov:generations_behind:max{{{SITE}}}", "behind"),
            ),
            kind="table",
            labels=(("site", "site"),),
        ),
    ),
)

_USE = Row(
    (
        Panel(
            "Nodes by health",
            "As they report it. Unknown takes no work, and neither does degraded.",
            (Query(f"sum by (health) (sov_site_nodes{{{SITE}}})", "{{health}}"),),
            unit="locale",
            stacked=True,
            colours=(
                ("ok", "green"),
                ("degraded", "yellow"),
                ("failed", "red"),
                ("unknown", "gray"),
            ),
        ),
        Panel(
            "Allocation by site",
            "Share of the GPUs that could be used.",
            (
                Query(
                    f"sum by (site) (sov_site_gpus_allocated{{{SITE}}})"
                    f" / (sum by (site) (sov_site_gpus_schedulable{{{SITE}}}) > 0)",
                    "{{site}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "GPU utilisation by site",
            "Mean over GPUs, as the nodes measure it; simulated where they say so.",
            (Query(f"site:gpu_utilization_ratio:avg{{{SITE}}}", "{{site}}"),),
            unit="percentunit",
        ),
    )
)

_HEAT = Row(
    (
        Panel(
            "Power by site",
            "What its nodes say that their GPUs draw: cooling and hosts come on top.",
            (Query(f"max by (site) (sov_site_power_watts{{{SITE}}})", "{{site}}"),),
            unit="watt",
        ),
        Panel(
            "Power of cap by site",
            "Power of GPUs as a share of what the site may draw, where that is declared.",
            (
                Query(
                    f"max by (site) (sov_site_power_watts{{{SITE}}})"
                    f" / max by (site) (sov_site_power_limit_watts{{{SITE}}})",
                    "{{site}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Hottest GPU by site",
            "Memory throttles before it fails.",
            (Query(f"site:gpu_temperature_celsius:max{{{SITE}}}", "{{site}}"),),
            unit="celsius",
        ),
        Panel(
            "Silence of sites",
            "Longest in a minute. Heartbeats come every 5 seconds.",
            (
                Query(
                    f"max by (site) (max_over_time(sov_site_silence_seconds{{{SITE}}}[1m]))",
                    "{{site}}",
                ),
            ),
            unit="s",
        ),
    )
)

_FAULTS = Row(
    (
        Panel(
            "What is wrong with nodes",
            "Findings of the nodes themselves, by code.",
            (
                Query(
                    _else_none(
                        f"sum by (code, severity) (sov_node_finding{{{SITE}}})",
                        "code",
                    ),
                    "{{code}} {{severity}}",
                ),
            ),
            unit="locale",
        ),
        Panel(
            "XID errors",
            "Over 10 minutes, by code and what it asks for.",
            (
                Query(
                    _else_none(
                        f"sum by (xid, action) (increase(sov_gpu_xid_errors_total{{{SITE}}}[10m]))",
                        "xid",
                    ),
                    "{{xid}} {{action}}",
                ),
            ),
            unit="locale",
        ),
        Panel(
            "Failures per 1000 node-days",
            "Fatal findings of 7 days. Others report 2.3 to 6.5.",
            (Query(f"site:node_failures_per_1000_node_days:7d{{{SITE}}}", "{{site}}"),),
        ),
        Panel(
            "Age of readings",
            "The oldest of each site. A driver that hangs shows here first.",
            (
                Query(
                    f"max by (site) (timestamp({READ}{{{SITE}}}) - {READ}{{{SITE}}})",
                    "{{site}}",
                ),
            ),
            unit="s",
        ),
    )
)

_JOBS = Row(
    (
        Panel(
            "Jobs by state",
            "All that are not over.",
            (Query("sum by (state) (sov_jobs)", "{{state}}"),),
            unit="locale",
            stacked=True,
            colours=(
                ("running", "green"),
                ("starting", "blue"),
                ("placed", "purple"),
                ("queued", "yellow"),
                ("preempting", "orange"),
                ("lost", "red"),
                ("cancelling", "gray"),
            ),
        ),
        Panel(
            "Why jobs wait",
            "Queued jobs by the decisive reason of the newest plan.",
            (
                Query(
                    _else_none("sum by (reason) (sov_jobs_waiting)", "reason"),
                    "{{reason}}",
                ),
            ),
            unit="locale",
            stacked=True,
        ),
        Panel(
            "Refusals",
            "Calls refused, by reason.",
            (
                Query(
                    _else_none("60 * sum by (reason) (rate(sov_api_refusals_total[5m]))", "reason"),
                    "{{reason}}",
                ),
            ),
            unit="opm",
        ),
        Panel(
            "Placements",
            "Kept, and those that no longer held when they were to be written.",
            (
                Query(
                    "60 * sum by (outcome) (rate(sov_planner_placements_total[5m]))",
                    "{{outcome}}",
                ),
            ),
            unit="opm",
        ),
    )
)

_CONTROL_PLANE = Row(
    (
        Panel(
            "Time to plan and to write",
            "The slowest of a hundred, and how old the newest plan is.",
            (
                Query("sov:plan_seconds:p99", "plan p99"),
                Query("sov:write_seconds:p99", "write p99"),
                Query(f"clamp_min(min(timestamp({CYCLE}) - {CYCLE}), 0)", "plan age"),
            ),
            unit="s",
        ),
        Panel(
            "Requests",
            "Calls answered, by status.",
            (Query("sum by (code) (rate(sov_api_requests_total[5m]))", "{{code}}"),),
            unit="ops",
        ),
        Panel(
            "Waiting to be written",
            "Requests in the writer's queue.",
            (Query("max(sov_writer_waiting_requests)", "requests"),),
            unit="locale",
        ),
    )
)

_KEPT = Row(
    (
        Panel(
            "Certificates",
            "What is left of the shortest of each job; renewal is at half of its life.",
            (
                Query(
                    "min by (job) ((sov_certificate_not_after_timestamp_seconds - time())"
                    " / sov_certificate_lifetime_seconds)",
                    "{{job}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Audit log",
            "Entries. It only grows.",
            (Query("max(sov_audit_leaves)", "entries"),),
            unit="locale",
        ),
        Panel(
            "Memory of the control plane",
            "Resident, without the planner's own process.",
            (Query('max(process_resident_memory_bytes{job="sov-scheduler"})', "resident"),),
            unit="bytes",
        ),
    )
)

FLEET = Board(
    uid="sov-fleet",
    title="Fleet",
    variables=(Variable("site", "Site", "label_values(sov_site_nodes_expected, site)"),),
    rows=(_NUMBERS, _SITES, _USE, _HEAT, _FAULTS, _JOBS, _CONTROL_PLANE, _KEPT),
)
