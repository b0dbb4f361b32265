"""Writes docs/verdicts.md: which announced site may hold which work, why, and what would change it.

`python -m deploy.fleets.verdicts -o docs/verdicts.md`. Judged by the code that judges work.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scheduler.core.residency import permits
from scheduler.model.fleet import Node, Site
from scheduler.model.reasons import Denial
from scheduler.model.residency import Assurance, Deny, Fact, FactKey, Policy, Requirement
from scheduler.wire.fleet import site_from_proto
from scheduler.wire.policy import policy_from_proto
from scheduler.wire.spec import requirement_from_proto
from sovctl.cli.session import read_file
from sovctl.fleet_file import Fleet
from sovctl.policy_file import Policy as PolicyFile
from sovctl.spec import Residency
from sovctl.spec_proto import residency_to_proto

DEPLOY = Path(__file__).parents[1]
FLEET_FILE = DEPLOY / "fleets" / "uk-announced.yaml"
POLICY_FILE = DEPLOY / "policies" / "gb-and-no.yaml"
INTRODUCTION_FILE = DEPLOY / "fleets" / "verdicts-introduction.md"
REQUIREMENTS = ("gb", "gb-sensitive", "gb-us-law", "gb-no")
JUDGED_AT_MS = 1_800_000_000_000
"""Some moment after every observation: no fact here expires, so that no later one differs."""

_WHO = (
    FactKey.LANDLORD,
    FactKey.FACILITY_OPERATOR,
    FactKey.SERVICE_OPERATOR,
)
_SUPPOSED: Mapping[FactKey, tuple[str, ...]] = {
    FactKey.ULTIMATE_PARENTS: (),
    FactKey.ACCREDITATION: ("OFFICIAL",),
}
"""Of facts whose values are no countries."""


@dataclass(frozen=True, slots=True)
class World:
    """What is judged."""

    sites: Sequence[tuple[Site, tuple[Node, ...]]]
    policy: Policy
    requirements: Mapping[str, Requirement]


def load() -> World:
    """The announced fleet, the policy and the requirements that this page is about."""
    fleet = read_file(Fleet, FLEET_FILE)
    named = {name: DEPLOY / "requirements" / f"{name}.yaml" for name in REQUIREMENTS}
    return World(
        sites=[site_from_proto(site) for site in fleet.to_proto()],
        policy=policy_from_proto(read_file(PolicyFile, POLICY_FILE).to_proto()),
        requirements={
            name: requirement_from_proto(residency_to_proto(read_file(Residency, path)))
            for name, path in named.items()
        },
    )


def denials(world: World, site: Site, name: str) -> tuple[Denial, ...]:
    """Everything against `site` for the requirement `name`."""
    verdict = permits(world.requirements[name], site, world.policy, JUDGED_AT_MS)
    return verdict.denials if isinstance(verdict, Deny) else ()


def page(world: World) -> str:
    """The whole page."""
    lines = [INTRODUCTION_FILE.read_text(encoding="utf-8"), *_asked(world), *_matrix(world)]
    for site, nodes in world.sites:
        lines += _site(world, site, nodes)
    return "\n".join(lines).rstrip("\n") + "\n"


def _asked(world: World) -> Iterator[str]:
    yield "## The requirements\n"
    yield "| name | where | markings | other law tolerated |"
    yield "|---|---|---|---|"
    for name, need in world.requirements.items():
        bearable = ", ".join(need.tolerate_foreign_compulsion) or "none"
        marks = ", ".join(need.markings) or "none"
        yield f"| `{name}` | {', '.join(need.jurisdictions)} | {marks} | {bearable} |"
    stake = world.policy.controlling_stake_milli_percent // 1000
    allowed = ", ".join(world.policy.allowed_jurisdictions)
    yield f"\nAll are for OFFICIAL. The policy allows {allowed}; more than {stake} % is control.\n"


def _matrix(world: World) -> Iterator[str]:
    yield "## All sites\n"
    yield "| site | country | status | GPUs | " + " | ".join(world.requirements) + " |"
    yield "|---|---|---|---:|" + "---|" * len(world.requirements)
    for site, nodes in world.sites:
        cells = [
            f"[{site.id}](#{site.id})",
            _countries(site, FactKey.COUNTRY),
            site.status.name.lower().replace("_", " "),
            f"{sum(node.gpus for node in nodes):,}" if nodes else "-",
            *("no" if denials(world, site, name) else "**yes**" for name in world.requirements),
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""


def _site(world: World, site: Site, nodes: Sequence[Node]) -> Iterator[str]:
    yield f"## {site.id}\n"
    yield f"{site.display_name}. {_sentence(site.profile.note)}\n"
    yield from _standing(site)
    if nodes:
        yield f"- **Nodes**: {_hardware(nodes)}."
    yield f"- **Assumed**: {_assumed(site)}."
    yield from _verdicts(world, site)
    changes = [*_stakes(world, site), *_facts_stated(world, site)]
    yield f"- **What would change it**:{'' if changes else ' no stake alone, and no fact alone.'}"
    yield from (f"  - {change}" for change in changes)
    yield ""


def _standing(site: Site) -> Iterator[str]:
    profile = site.profile
    names = {
        FactKey.LANDLORD: profile.landlord,
        FactKey.FACILITY_OPERATOR: profile.facility_operator,
        FactKey.SERVICE_OPERATOR: profile.service_operator,
    }
    parts = [
        f"{key.replace('_', ' ')} {names[key] or 'not announced'} ({_countries(site, key)})"
        for key in _WHO
    ]
    offtaker = f"; bought by {profile.offtaker}" if profile.offtaker else ""
    yield f"- **Who**: {'; '.join(parts)}{offtaker}."
    held = sorted(site.parents, key=lambda p: (-p.stake_milli_percent, p.name))
    above = [f"{p.name} ({p.country}) {_stake(p.stake_milli_percent, p.at_most)}" for p in held]
    yield f"- **Above them**: {', '.join(above) or 'not announced'}."


def _hardware(nodes: Sequence[Node]) -> str:
    kinds = sorted({(node.gpu_class, node.gpus, node.cpu_arch.name.lower()) for node in nodes})
    parts: list[str] = []
    for gpu, gpus, arch in kinds:
        alike = [n for n in nodes if (n.gpu_class, n.gpus) == (gpu, gpus)]
        domains = len({(n.pod, n.nvlink_domain) for n in alike})
        parts.append(f"{len(alike):,} of {gpus} {gpu} ({arch}) in {domains:,} NVLink domains")
    return "; ".join(parts)


def _assumed(site: Site) -> str:
    return ", ".join(f"`{name}`" for name in site.profile.assumed) or "nothing"


def _verdicts(world: World, site: Site) -> Iterator[str]:
    """A line for each reason, with the requirements that it stands against."""
    against: dict[str, list[str]] = {}
    denied: list[str] = []
    for name in world.requirements:
        found = denials(world, site, name)
        denied += [name] if found else []
        for denial in found:
            # What is needed differs between requirements; what is found does not.
            said = denial.detail.partition(", needed")[0]
            against.setdefault(f"`{denial.reason}` {said}", []).append(name)
    if met := [f"`{name}`" for name in world.requirements if name not in denied]:
        yield f"- **Meets** {', '.join(met)}."
    if denied:
        yield f"- **Does not meet** {', '.join(f'`{name}`' for name in denied)}:"
    for reason, names in against.items():
        only = "" if names == denied else f" ({', '.join(f'`{name}`' for name in names)} only)"
        yield f"  - {reason}{only}"


def _stakes(world: World, site: Site) -> Iterator[str]:
    """What one stake changes that is no control now, and would be a thousandth above the line."""
    above = world.policy.controlling_stake_milli_percent + 1
    outcomes: dict[str, list[str]] = {}
    for party in sorted(site.parents):
        if party.stake_milli_percent >= above:
            continue
        raised = replace(party, stake_milli_percent=above, at_most=False)
        others = tuple(p for p in site.parents if p != party)
        changed = _differences(world, site, replace(site, parents=(*others, raised)))
        if changed:
            outcomes.setdefault(changed, []).append(f"{party.name} ({party.country})")
    line = world.policy.controlling_stake_milli_percent // 1000
    for changed, names in outcomes.items():
        yield f"Were {' or '.join(names)} above {line} %: {changed}."


def _facts_stated(world: World, site: Site) -> Iterator[str]:
    """What the facts change that nobody stated, were all of them stated as of the site's own
    country: its landlord, its operators, its owners."""
    stated = {fact.key for fact in site.facts}
    country = _countries(site, FactKey.COUNTRY)
    absent = [key for key in FactKey if key not in stated and key is not FactKey.MARKINGS]
    if not absent:
        return
    more = tuple(
        Fact(
            key=key,
            values=_SUPPOSED.get(key, (country,)),
            assurance=Assurance.DECLARED,
            asserted_by="supposed",
            observed_at_ms=JUDGED_AT_MS,
        )
        for key in absent
    )
    supposed = replace(site, facts=(*site.facts, *more))
    names = ", ".join(key.replace("_", " ") for key in absent)
    changed = _differences(world, site, supposed) or "it stays as it is"
    yield f"Were what is missing ({names}) stated, and as of {country}: {changed}."


def _differences(world: World, before: Site, after: Site) -> str:
    opened: list[str] = []
    closed: list[str] = []
    for name in world.requirements:
        was, now = denials(world, before, name), denials(world, after, name)
        if was and not now:
            opened.append(f"`{name}`")
        if now and not was:
            closed.append(f"`{name}`")
    parts = [f"{', '.join(opened)} **yes**"] if opened else []
    parts += [f"{', '.join(closed)} no"] if closed else []
    return "; ".join(parts)


def _countries(site: Site, key: FactKey) -> str:
    return next((", ".join(f.values) for f in site.facts if f.key is key), "-")


def _stake(milli_percent: int, at_most: bool) -> str:
    whole, part = divmod(milli_percent, 1000)
    number = f"{whole}.{part:03}".rstrip("0").rstrip(".")
    return f"{'at most ' if at_most else ''}{number} %"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(prog="python -m deploy.fleets.verdicts", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args(argv)
    arguments.output.write_text(page(load()), encoding="utf-8")


if __name__ == "__main__":
    main()
