"""Fleet, tenants and policy files; and that the demo's say what the demo shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scheduler.control.declaration_rules import tenant_faults
from scheduler.core.residency import permits
from scheduler.core.tree_rules import tree_faults
from scheduler.model.residency import NodeSharing, Permit, Requirement
from scheduler.wire.fleet import site_from_proto
from scheduler.wire.policy import policy_from_proto
from scheduler.wire.tenants import tenant_from_proto
from sovctl import SpecError, clock
from sovctl.cli.session import read_file
from sovctl.faults import check
from sovctl.fleet_file import Fleet
from sovctl.fleet_values import expand_slots, parse_moment
from sovctl.policy_file import Policy
from sovctl.tenants_file import Tenants
from tests.sovctl.test_spec import empty_fields

DEPLOY = Path(__file__).parents[2] / "deploy"

SITE: dict[str, Any] = {
    "id": "exch-a",
    "name": "A",
    "status": "active",
    "power_cap_w": 1000,
    "energy": {
        "carbon_g_per_kwh": 124,
        "price_pence_per_mwh": 8500,
        "source": "the grid's operator",
        "observed": "2026-10-01",
    },
    "roles": {
        "landlord": "L",
        "facility_operator": "F",
        "service_operator": "S",
        "offtaker": "O",
    },
    "cooling": "liquid",
    "pue": "1.25",
    "note": "announced",
    "assumed": ["pue", "roles.offtaker", "nodes.cpus"],
    "facts": {
        "country": {
            "value": "GB",
            "assurance": "AUDITED",
            "source": "register",
            "observed": "2026-10-01",
            "expires": "2027-10-01T00:00:00+01:00",
            "digest": "sha256:00",
        },
        "ultimate_parents": {
            "parties": [{"name": "P", "country": "US", "stake": "at most 24.5%"}],
            "assurance": "DECLARED",
            "observed": "2026-10-01",
        },
    },
    "nodes": [
        {
            "slots": "n[01-02]",
            "spare_per_nvlink_domain": 1,
            "mig": [{"gpus": [1], "instances": {"1g.10gb": 1, "3g.40gb": 1}}],
            "gpus": 8,
            "gpu": "H100",
            "cpus": 96,
            "memory": "1TiB",
            "nvlink_domain": "rack-1",
            "base_w": 4600,
            "gpu_w": 700,
        }
    ],
}


def test_every_field_of_the_wire_is_reached_by_a_fleet_file() -> None:
    [site] = check(Fleet, {"sites": [SITE]}, "fleet").to_proto()
    # Parents are graded by a fact whose own values stay empty, and which need not say all.
    allowed = {"facts.values", "facts.asserted_by", "facts.evidence_digest", "facts.expires_at_ms"}
    assert set(empty_fields(site)) <= allowed
    cut = [(one.gpu, one.profile) for one in site.nodes[0].mig]
    assert cut == [(1, "1g.10gb"), (1, "3g.40gb")]
    assert [node.slot for node in site.nodes] == ["n01", "n02"]
    assert site.ultimate_parents[0].stake_milli_percent == 24_500
    assert site.profile.pue_milli == 1_250
    assert site.facts[0].expires_at_ms == parse_moment("2027-09-30T23:00Z")


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        pytest.param({"id": "A!"}, "sites[0].id", "lower-case", id="an id"),
        pytest.param({"status": "live"}, "sites[0].status", "active", id="a status"),
        pytest.param({"facts": {"colour": {}}}, "sites[0].facts.colour", "country", id="a fact"),
        pytest.param(
            {"facts": {"country": {"value": "GB", "assurance": "SURE", "observed": "2026-01-01"}}},
            "sites[0].facts.country.assurance",
            "AUDITED",
            id="a fact's grade",
        ),
        pytest.param(
            {"facts": {"country": {"assurance": "AUDITED", "observed": "2026-01-01"}}},
            "sites[0].facts.country",
            "exactly one",
            id="a fact that says nothing",
        ),
        pytest.param(
            {"facts": {"sinks": {**SITE["facts"]["country"], "value": "gb"}}},
            "sites[0]",
            "two capital letters",
            id="a country in small letters",
        ),
        pytest.param(
            {"nodes": [{**SITE["nodes"][0], "slots": "n[3-1]"}]},
            "sites[0].nodes[0].slots",
            "ascending",
            id="a range that runs backwards",
        ),
        pytest.param(
            {"nodes": [{**SITE["nodes"][0], "slots": "n[1-999999999]"}]},
            "sites[0].nodes[0].slots",
            "at most 100000",
            id="a range without end",
        ),
        pytest.param({"nodes": SITE["nodes"] * 2}, "sites[0]", "each slot once", id="a slot twice"),
        pytest.param({"pue": "0.9"}, "sites[0].pue", "from 1 to 5", id="a PUE below 1"),
        pytest.param({"assumed": ["min_isolation"]}, "sites[0]", "states", id="nothing assumed"),
        pytest.param(
            {"nodes": [{**SITE["nodes"][0], "nvlink_domain": "", "nodes_per_nvlink_domain": 2}]},
            "sites[0].nodes[0]",
            "both",
            id="domains without a name",
        ),
        pytest.param(
            {"nodes": [{**SITE["nodes"][0], "mig": [{"gpus": [8], "instances": {"1g.5gb": 1}}]}]},
            "sites[0].nodes[0]",
            "below gpus, 8",
            id="a GPU that is not there is cut",
        ),
        pytest.param(
            {"nodes": [{**SITE["nodes"][0], "mig": [{"gpus": [0], "instances": {"half": 2}}]}]},
            "sites[0].nodes[0].mig[0].instances.half",
            "1g.10gb",
            id="a MIG profile",
        ),
        pytest.param(
            {"nodes": [{**SITE["nodes"][0], "nodes_per_leaf": 4, "nodes_per_pod": 6}]},
            "sites[0].nodes[0]",
            "a multiple of nodes_per_leaf, 4",
            id="a pod that cuts a leaf",
        ),
    ],
)  # fmt: skip
def test_faults_of_a_fleet_file_are_told(change: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        check(Fleet, {"sites": [{**SITE, **change}]}, "fleet.yaml")
    assert told in next(d.detail for d in caught.value.details if d.subject == field)


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("n1", ("n1",)),
        ("n[08-10]", ("n08", "n09", "n10")),
        ("r1-[1,3]-a", ("r1-1-a", "r1-3-a")),
    ],
)
def test_slots_expand(text: str, slots: tuple[str, ...]) -> None:
    assert expand_slots(text) == slots


def test_a_group_is_cut_into_domains_leaves_and_pods_in_the_order_of_its_slots() -> None:
    racks = {
        **SITE["nodes"][0],
        **{"slots": "t[08-12]", "pod": "pod", "leaf": "leaf", "nvlink_domain": "rack"},
        **{"nodes_per_nvlink_domain": 2, "nodes_per_leaf": 2, "nodes_per_pod": 4},
    }
    [site] = check(Fleet, {"sites": [{**SITE, "nodes": [racks]}]}, "fleet").to_proto()
    assert [(n.slot, n.nvlink_domain, n.leaf, n.pod) for n in site.nodes] == [
        ("t08", "rack-1", "leaf-1", "pod-1"),
        ("t09", "rack-1", "leaf-1", "pod-1"),
        ("t10", "rack-2", "leaf-2", "pod-1"),
        ("t11", "rack-2", "leaf-2", "pod-1"),
        ("t12", "rack-3", "leaf-3", "pod-2"),
    ]


def test_what_nobody_stated_is_marked_by_name_or_by_its_source() -> None:
    facts = {**SITE["facts"], "sinks": {**SITE["facts"]["country"], "source": "assumed: unknown"}}
    [site] = check(Fleet, {"sites": [{**SITE, "facts": facts}]}, "fleet").to_proto()
    assert site.profile.assumed == ["facts.sinks", "nodes.cpus", "pue", "roles.offtaker"]


def test_the_demos_sites_differ_in_who_stands_behind_them() -> None:
    fleet = read_file(Fleet, DEPLOY / "fleets" / "demo.yaml")
    policy = policy_from_proto(read_file(Policy, DEPLOY / "policies" / "demo.yaml").to_proto())
    declared = [site_from_proto(site) for site in fleet.to_proto()]
    sites = {site.id: site for site, _ in declared}
    nodes = {site.id: [node.gpus for node in nodes] for site, nodes in declared}
    assert nodes == {"exch-london-1": [4, 4], "hall-slough-1": [8], "narvik-1": [8, 8]}

    def permitting(*jurisdictions: str, tolerate: tuple[str, ...] = ()) -> list[str]:
        need = Requirement(
            jurisdictions=jurisdictions,
            tolerate_foreign_compulsion=tolerate,
            node_sharing=NodeSharing.TENANT,
        )
        verdicts = {i: permits(need, site, policy, clock.now_ms()) for i, site in sites.items()}
        return [i for i in sorted(verdicts) if isinstance(verdicts[i], Permit)]

    assert permitting("GB") == ["exch-london-1"]
    assert permitting("GB", tolerate=("US",)) == ["exch-london-1", "hall-slough-1"]
    assert "narvik-1" in permitting("GB", "NO")


def test_the_demos_second_tenant_holds_one_job_at_a_time() -> None:
    tree = read_file(Tenants, DEPLOY / "tenants" / "demo.yaml").to_proto()
    limits = {t.path: {q.gpu_class: q.limit_milli for q in t.quotas} for t in tree}
    assert limits["met-lab/forecast"] == {"H100": 2000}
    assert limits["trust-a/radiology"]["H100"] > 8000  # The gang of two nodes and more.


@pytest.mark.parametrize(
    ("tenants", "told"),
    [
        pytest.param([{"path": "a/b"}], "a parent", id="an orphan"),
        pytest.param([{"path": "a"}, {"path": "a"}], "each path once", id="a path twice"),
        pytest.param([{"path": "A"}], "a path", id="capital letters"),
        pytest.param([{"path": "a", "weight": 0}], "at least 1", id="no weight"),
        pytest.param(
            [{"path": "a", "quotas": {"H100": {"guarantee": 4, "limit": 2}}}],
            "at most the limit",
            id="a guarantee above the limit",
        ),
        pytest.param(
            [{"path": "a", "quotas": {"H100": {"guarantee": 4, "lend": 5}}}],
            "at most the guarantee",
            id="more to lend than is guaranteed",
        ),
        pytest.param(
            [{"path": "a", "budgets": [{"gpu_hours": 1, "period": "30d"}]}],
            "`from`, a date",
            id="a period of days without a first one",
        ),
        pytest.param(
            [{"path": "a", "budgets": [{"gpu_hours": -1, "period": "month"}]}],
            "0",
            id="a budget below nothing",
        ),
        pytest.param(
            [{"path": "a", "budgets": [{"gpu_hours": 1, "period": "year"}]}],
            "month, quarter",
            id="another period",
        ),
        pytest.param(
            [{"path": "a", "budgets": [{"gpu_hours": 1, "period": "month", "until": "soon"}]}],
            "a date",
            id="no date",
        ),
    ],
)
def test_faults_of_a_tenants_file_are_told(tenants: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(SpecError) as caught:
        check(Tenants, {"tenants": tenants}, "tenants.yaml")
    assert told in str([d.detail for d in caught.value.details])


def test_every_field_of_the_wire_is_reached_by_a_tenants_file() -> None:
    budget = {"gpu": "H100", "gpu_hours": 2, "period": "30d", "from": "2026-04-01",
              "until": "2026-07-01"}  # fmt: skip
    quota = {"guarantee": 4, "limit": 8, "weight": 3, "borrow": "1.5", "lend": 2}
    node = {"path": "a", "name": "A", "weight": 2, "max_queued_jobs": 9,
            "quotas": {"H100": quota}, "budgets": [budget],
            "shares": [{"of": "b/c", "agreement": "uk-ca", "gpu": "H100", "guarantee": 1,
                        "limit": "2.5"}]}  # fmt: skip
    [tenant] = check(Tenants, {"tenants": [node]}, "tenants").to_proto()
    assert set(empty_fields(tenant)) == {"shares.since_ms"}, "that is the control plane's to say"
    assert tenant.shares[0].limit_milli == 2500
    assert tenant.quotas[0].borrow_limit_milli == 1500
    found = tenant.budgets[0]
    assert (found.amount_gpu_ms, found.days) == (2 * 3_600_000, 30)
    assert found.until_day - found.from_day == 91


@pytest.mark.parametrize("name", ["demo.yaml", "shared.yaml"])
def test_the_trees_that_are_shipped_have_no_fault(name: str) -> None:
    tree = read_file(Tenants, DEPLOY / "tenants" / name).to_proto()
    tenants = [tenant_from_proto(tenant) for tenant in tree]
    assert (*tenant_faults(tenants), *tree_faults(tenants)) == ()


def test_the_default_policy_is_gb_only() -> None:
    policy = read_file(Policy, DEPLOY / "policies" / "gb-only.yaml").to_proto()
    assert list(policy.allowed_jurisdictions) == ["GB"]
    assert not policy.HasField("fact_max_age_ms")
