"""The two boards: the fleet, for operators, and one tenant's share of it."""

from __future__ import annotations

from deploy.grafana.model import Board, Panel, Query, Row, Variable

SITE = 'site=~"$site"'
TENANT = 'tenant=~"$tenant"'
ALL = 'gpu_class="*"'

FLEET = Board(
    uid="sov-fleet",
    title="Fleet",
    variables=(Variable("site", "Site", "label_values(sov_site_nodes_expected, site)"),),
    rows=(
        Row(
            height=5,
            panels=(
                Panel(
                    "GPUs installed",
                    "As declared, at active sites.",
                    (Query(f"sum(sov_site_gpus_installed{{{SITE}}})"),),
                    kind="stat",
                ),
                Panel(
                    "GPUs schedulable",
                    "At healthy nodes that nobody closed, of sites that are connected.",
                    (Query(f"sum(sov_site_gpus_schedulable{{{SITE}}})"),),
                    kind="stat",
                ),
                Panel(
                    "GPUs allocated",
                    "Held by work that was placed and is not over.",
                    (Query(f"sum(sov_site_gpus_allocated{{{SITE}}})"),),
                    kind="stat",
                ),
                Panel(
                    "Jobs queued",
                    "Of all tenants.",
                    (Query('sov_jobs{state="queued"}'),),
                    kind="stat",
                ),
                Panel(
                    "Sites away",
                    "Active sites without a session. Their work goes on; nothing new starts.",
                    (Query(f"count(sov_site_connected{{{SITE}}} == 0) or vector(0)"),),
                    kind="stat",
                    red_above=1,
                ),
                Panel(
                    "Alerts firing",
                    "Of every severity.",
                    (Query('count(ALERTS{alertstate="firing"}) or vector(0)'),),
                    kind="stat",
                    red_above=1,
                ),
            ),
        ),
        Row(
            (
                Panel(
                    "Sites",
                    "Nodes declared, nodes that take work, agents scraped, generations behind.",
                    (
                        Query(f"sov_site_nodes_expected{{{SITE}}}", "declared"),
                        Query(f"sov_site_nodes_schedulable{{{SITE}}}", "schedulable"),
                        Query(f"site:agents_up:sum{{{SITE}}}", "agents up"),
                        Query(f"sov:generations_behind:max{{{SITE}}}", "behind"),
                    ),
                    kind="table",
                ),
                Panel(
                    "Nodes by health",
                    "As they report it. Unknown takes no work, and neither does degraded.",
                    (Query(f"sum by (health) (sov_site_nodes{{{SITE}}})", "{{health}}"),),
                    stacked=True,
                ),
            )
        ),
        Row(
            (
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
                Panel(
                    "Silence of sites",
                    "Time since each was heard. Heartbeats come every 5 seconds.",
                    (Query(f"sov_site_silence_seconds{{{SITE}}}", "{{site}}"),),
                    unit="s",
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Power by site",
                    "Of GPUs, and what the site may draw where that is declared.",
                    (
                        Query(f"site:gpu_power_watts:sum{{{SITE}}}", "{{site}}"),
                        Query(f"sov_site_power_limit_watts{{{SITE}}}", "{{site}} limit"),
                    ),
                    unit="watt",
                ),
                Panel(
                    "Hottest GPU by site",
                    "Memory throttles before it fails.",
                    (Query(f"site:gpu_temperature_celsius:max{{{SITE}}}", "{{site}}"),),
                    unit="celsius",
                ),
                Panel(
                    "Node failures per 1000 node-days",
                    "Fatal findings of 7 days. Others report 2.3 to 6.5.",
                    (Query(f"site:node_failures_per_1000_node_days:7d{{{SITE}}}", "{{site}}"),),
                ),
            )
        ),
        Row(
            (
                Panel(
                    "What is wrong with nodes",
                    "Findings of the nodes themselves, by code.",
                    (
                        Query(
                            f"sum by (code, severity) (sov_node_finding{{{SITE}}})"
                            ' or label_replace(vector(0), "code", "none", "", "")',
                            "{{code}} {{severity}}",
                        ),
                    ),
                ),
                Panel(
                    "XID errors",
                    "Over 10 minutes, by code and what it asks for.",
                    (
                        Query(
                            "sum by (xid, action)"
                            f" (increase(sov_gpu_xid_errors_total{{{SITE}}}[10m])) or vector(0)",
                            "{{xid}} {{action}}",
                        ),
                    ),
                ),
                Panel(
                    "Age of readings",
                    "The oldest of each site. A driver that hangs shows here first.",
                    (
                        Query(
                            "max by (site) (time() -"
                            f" sov_agent_last_collection_timestamp_seconds{{{SITE}}})",
                            "{{site}}",
                        ),
                    ),
                    unit="s",
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Jobs by state",
                    "All that are not over.",
                    (Query("sov_jobs", "{{state}}"),),
                    stacked=True,
                ),
                Panel(
                    "Why jobs wait",
                    "Queued jobs by the decisive reason of the newest plan.",
                    (Query("sov_jobs_waiting or vector(0)", "{{reason}}"),),
                    stacked=True,
                ),
                Panel(
                    "Refusals",
                    "Calls refused, by reason.",
                    (
                        Query(
                            "sum by (reason) (rate(sov_api_refusals_total[5m])) or vector(0)",
                            "{{reason}}",
                        ),
                    ),
                    unit="ops",
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Placements",
                    "Kept, and those that no longer held when they were to be written.",
                    (
                        Query(
                            "sum by (outcome) (rate(sov_planner_placements_total[5m]))",
                            "{{outcome}}",
                        ),
                    ),
                    unit="ops",
                ),
                Panel(
                    "Time to plan and to write",
                    "The slowest of a hundred, and how old the newest plan is.",
                    (
                        Query("sov:plan_seconds:p99", "plan p99"),
                        Query("sov:write_seconds:p99", "write p99"),
                        Query(
                            "time() - max(sov_scheduler_last_cycle_timestamp_seconds)", "plan age"
                        ),
                    ),
                    unit="s",
                ),
                Panel(
                    "Requests",
                    "RPCs answered, and requests that wait for the writer.",
                    (
                        Query("sum by (code) (rate(sov_api_requests_total[5m]))", "{{code}}"),
                        Query("sov_writer_waiting_requests", "waiting to be written"),
                    ),
                ),
                Panel(
                    "Audit log",
                    "Entries. It only grows.",
                    (Query("sov_audit_leaves"),),
                ),
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
            )
        ),
    ),
)

TENANTS = Board(
    uid="sov-tenant",
    title="Tenant",
    variables=(Variable("tenant", "Tenant", "label_values(sov_tenant_gpus_allocated, tenant)"),),
    rows=(
        Row(
            height=5,
            panels=(
                Panel(
                    "In use",
                    "GPUs of all classes; a tenant's number holds those of its projects.",
                    (Query(f"sov_tenant_gpus_allocated{{{TENANT}, {ALL}}}", "{{tenant}}"),),
                    kind="stat",
                ),
                Panel(
                    "Guaranteed",
                    "Below it the tenant goes first.",
                    (
                        Query(
                            f"sum by (tenant) (sov_tenant_gpus_guaranteed{{{TENANT}}})",
                            "{{tenant}}",
                        ),
                    ),
                    kind="stat",
                ),
                Panel(
                    "Asked for by queued jobs",
                    "GPUs of all classes.",
                    (Query(f"sov_tenant_pending_gpus{{{TENANT}, {ALL}}}", "{{tenant}}"),),
                    kind="stat",
                ),
            ),
        ),
        Row(
            (
                Panel(
                    "In use, by class",
                    "With guarantee and limit.",
                    (
                        Query(
                            f'sov_tenant_gpus_allocated{{{TENANT}, gpu_class!="*"}}',
                            "{{tenant}} {{gpu_class}}",
                        ),
                        Query(
                            f"sov_tenant_gpus_guaranteed{{{TENANT}}} > 0",
                            "{{tenant}} {{gpu_class}} guaranteed",
                        ),
                        Query(
                            f"sov_tenant_gpus_limit{{{TENANT}}}",
                            "{{tenant}} {{gpu_class}} limit",
                        ),
                    ),
                ),
                Panel(
                    "Share of the limit in use",
                    "At 1 nothing more starts, however much is free.",
                    (
                        Query(
                            f"sov_tenant_gpus_allocated{{{TENANT}}}"
                            f" / on (tenant, gpu_class) (sov_tenant_gpus_limit{{{TENANT}}} > 0)",
                            "{{tenant}} {{gpu_class}}",
                        ),
                    ),
                    unit="percentunit",
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Borrowed",
                    "In use beyond the guarantee: it lasts until the lender wants it back.",
                    (
                        Query(
                            f"clamp_min(sov_tenant_gpus_allocated{{{TENANT}}}"
                            " - on (tenant, gpu_class)"
                            f" sov_tenant_gpus_guaranteed{{{TENANT}}}, 0)",
                            "{{tenant}} {{gpu_class}}",
                        ),
                    ),
                ),
                Panel(
                    "Waiting",
                    "GPUs that queued jobs ask for, under a class what accepts no other.",
                    (Query(f"sov_tenant_pending_gpus{{{TENANT}}}", "{{tenant}} {{gpu_class}}"),),
                ),
                Panel(
                    "Share of the fleet",
                    "Of all GPUs that take work.",
                    (
                        Query(
                            f"sov_tenant_gpus_allocated{{{TENANT}, {ALL}}}"
                            " / on () group_left () (sum(sov_site_gpus_schedulable) > 0)",
                            "{{tenant}}",
                        ),
                    ),
                    unit="percentunit",
                ),
            )
        ),
    ),
)

BOARDS = {"fleet.json": FLEET, "tenant.json": TENANTS}
