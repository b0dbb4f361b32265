"""The announced fleet says what was announced and marks the rest; its page of verdicts is current;
the reference fleet is what it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from deploy.fleets import reference, verdicts
from scheduler.control.declaration_rules import fleet_faults
from scheduler.model.fleet import CpuArch, Node, Site, SiteStatus
from scheduler.model.residency import FactKey
from scheduler.wire.fleet import site_from_proto
from sovapi.v1 import fleet_pb2
from sovctl.cli.session import read_file
from sovctl.fleet_file import Fleet
from sovshared import limits

ROOT = Path(__file__).parents[2]
BT = ("bt-exchange-1", "bt-exchange-2", "bt-exchange-3")
TRAYS_PER_RACK, GPUS_PER_TRAY = 18, 4
NOW_MS = 1_798_761_600_000
"""New Year's Day of 2027: what files say was observed, was."""


@cache
def world() -> verdicts.World:
    return verdicts.load()


def sites() -> dict[str, Site]:
    return {site.id: site for site, _ in world().sites}


def nodes_of(site: str) -> Sequence[Node]:
    return next(nodes for each, nodes in world().sites if each.id == site)


def meeting(requirement: str) -> set[str]:
    """The sites that meet a requirement."""
    return {s for s, site in sites().items() if not verdicts.denials(world(), site, requirement)}


def test_every_announced_site_is_there_and_none_is_said_to_run() -> None:
    assert set(sites()) == {
        *BT,
        *("loughton-1", "stargate-uk", "dgx-cloud-uk", "nscale-uk-1", "nebius-uk-1"),
        *("coreweave-scotland", "google-waltham-cross", "stargate-norway", "narvik-microsoft"),
        *("mistral-fr", "industrial-de", "domyn-colosseum", "telefonica-edge", "orange-fr"),
        *("swisscom-ch", "telenor-no", "canada-partner"),
    }
    held = {site.id for site in sites().values() if site.status is SiteStatus.ON_HOLD}
    assert held == {"stargate-uk"}
    assert not [site.id for site in sites().values() if site.status is SiteStatus.ACTIVE]


@pytest.mark.parametrize(
    ("names", "gpus"),
    [
        (("loughton-1",), 23_040),
        (("stargate-uk",), 8_000),
        (("dgx-cloud-uk",), 4_600),
        (("nscale-uk-1", "nebius-uk-1"), 14_000),
        (("stargate-norway", "narvik-microsoft"), 100_000),
        (("narvik-microsoft",), 52_000),
        (("mistral-fr",), 18_000),
        (("industrial-de",), 10_000),
    ],
)
def test_announced_numbers_of_gpus_are_met(names: Sequence[str], gpus: int) -> None:
    assert sum(node.gpus for name in names for node in nodes_of(name)) == gpus


def test_grace_blackwell_is_arm64_in_racks_of_eighteen_trays_of_four() -> None:
    trays = [(s.id, n) for s, nodes in world().sites for n in nodes if n.gpu_class == "GB300"]
    assert trays
    assert {(n.gpus, n.cpu_arch) for _, n in trays} == {(GPUS_PER_TRAY, CpuArch.ARM64)}
    racks: dict[tuple[str, str], int] = {}
    for site, node in trays:
        racks[site, node.nvlink_domain] = racks.get((site, node.nvlink_domain), 0) + 1
    assert max(racks.values()) == TRAYS_PER_RACK
    # All are full but the last of a site whose number of GPUs is no multiple of a rack's.
    partial = [site for (site, _), count in racks.items() if count < TRAYS_PER_RACK]
    assert len(partial) == len(set(partial))


def test_other_servers_are_amd64_with_eight_gpus_and_an_nvlink_domain_of_their_own() -> None:
    others = [n for _, nodes in world().sites for n in nodes if n.gpu_class != "GB300"]
    assert {(n.gpus, n.cpu_arch) for n in others} == {(8, CpuArch.AMD64)}
    assert len({(n.id.partition("/")[0], n.nvlink_domain) for n in others}) == len(others)


def test_how_a_site_would_be_run_is_marked_as_assumed_everywhere() -> None:
    """Nobody announced a support desk, a key custodian or an accreditation."""
    keys = (FactKey.SUPPORT_DESK, FactKey.KEY_CUSTODIAN, FactKey.SINKS, FactKey.ACCREDITATION)
    for site in sites().values():
        stated = {fact.key for fact in site.facts}
        assumed = set(site.profile.assumed)
        assert {f"facts.{key}" for key in keys if key in stated} <= assumed, site.id


def test_a_stake_that_is_not_public_is_an_upper_bound_and_marked() -> None:
    for site in sites().values():
        bounded = [party for party in site.parents if party.at_most]
        assert all(party.stake_milli_percent == 25_000 for party in bounded), site.id
        if bounded:
            assert "facts.ultimate_parents" in site.profile.assumed, site.id


def test_nobody_is_guessed_a_landlord_or_operator_without_a_name_has_no_fact() -> None:
    for site in sites().values():
        stated = {fact.key for fact in site.facts}
        roles = {
            FactKey.LANDLORD: site.profile.landlord,
            FactKey.FACILITY_OPERATOR: site.profile.facility_operator,
            FactKey.SERVICE_OPERATOR: site.profile.service_operator,
        }
        assert {key for key, name in roles.items() if name} == stated & set(roles), site.id


def test_a_uk_only_requirement_finds_the_sites_that_one_expects() -> None:
    assert meeting("gb") == set(BT)
    assert meeting("gb-sensitive") == set(BT)
    assert meeting("gb-us-law") == {*BT, "loughton-1", "google-waltham-cross"}
    norway = {"stargate-norway", "narvik-microsoft", "telenor-no"}
    assert meeting("gb-no") == meeting("gb-us-law") | norway


@pytest.mark.parametrize("holder", ["Aker", "NVIDIA", "Bharti Global"])
def test_one_foreign_stake_above_the_line_takes_the_exchanges_away(holder: str) -> None:
    site = sites()["bt-exchange-1"]
    parents = tuple(
        replace(p, stake_milli_percent=25_001) if p.name == holder else p for p in site.parents
    )
    assert parents != site.parents
    [denial] = verdicts.denials(world(), replace(site, parents=parents), "gb")
    assert holder in denial.detail


def test_the_page_of_verdicts_is_what_the_fleet_file_gives() -> None:
    page = (ROOT / "docs/verdicts.md").read_text(encoding="utf-8")
    assert page == verdicts.page(world()), (
        "run: python -m deploy.fleets.verdicts -o docs/verdicts.md"
    )
    assert all(f"\n## {site}\n" in page for site in sites())


def test_a_control_plane_takes_the_announced_fleet_in_one_request() -> None:
    declared = read_file(Fleet, verdicts.FLEET_FILE).to_proto()
    assert fleet_faults([site_from_proto(site) for site in declared], NOW_MS) == ()
    request = fleet_pb2.ApplyFleetRequest(sites=declared)
    assert request.ByteSize() < limits.REQUEST_BYTES_MAX


def test_the_reference_fleet_has_120_000_gpus_at_43_sites_and_is_always_the_same(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    for file in (first, second):
        assert reference.main(["--sites", "43", "-o", str(file)]) == 0
    assert first.read_bytes() == second.read_bytes()
    declared = read_file(Fleet, first).to_proto()
    counts = [len(site.nodes) for site in declared]
    assert (len(counts), sum(counts)) == (43, 15_000)
    assert max(counts) - min(counts) == 1
    assert sum(node.gpus for site in declared for node in site.nodes) == 120_000
    assert fleet_faults([site_from_proto(site) for site in declared], NOW_MS) == ()


def test_a_reference_fleet_beyond_the_fleet_models_bounds_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fleet.yaml"
    assert reference.main(["--nodes", "200000", "-o", str(file)]) == 2
    assert "at most 100000" in capsys.readouterr().err
    assert not file.exists()
