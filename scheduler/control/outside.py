"""What outside the home zone the running system would ever contact, and what keeps it from that.

Of the programs it is a table, held by a test against what the code sets and against every address
that the sources name. Of the sites it is what their facts say.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from urllib.parse import urlsplit

from scheduler.model.fleet import Site
from scheduler.model.login import Providers
from scheduler.model.outside import Contact, Dependency, Setting
from scheduler.model.residency import FactKey
from scheduler.store.store import Snapshot

HOME = frozenset({"GB"})
"""The home zone where a caller names none."""

_RAY = "deploy/local/ray_cell.py"
_GRAFANA = "deploy/grafana/grafana.ini"

PROGRAMS: tuple[Dependency, ...] = (
    Dependency(
        name="ray-usage-statistics",
        hosts=("usage-stats.ray.io",),
        program="ray: the head's dashboard process",
        when="each hour while the head runs",
        needed=False,
        state=Contact.BLOCKED,
        detail="a site that starts Ray in its own way sets the same: docs/operations.md, step 4",
        settings=(
            Setting("RAY_USAGE_STATS_ENABLED", "0", _RAY),
            Setting("--disable-usage-stats", "", _RAY),
        ),
    ),
    Dependency(
        name="ray-cloud-detection",
        hosts=("169.254.169.254", "metadata.google.internal"),
        program="ray: the head's dashboard process",
        when="before it sends usage statistics, to name the cloud",
        needed=False,
        state=Contact.BLOCKED,
        detail="part of the usage statistics, and off with them",
        settings=(Setting("RAY_USAGE_STATS_ENABLED", "0", _RAY),),
    ),
    Dependency(
        name="ray-own-address",
        hosts=("8.8.8.8",),
        program="ray: every node",
        when="when it starts: a route to this address is looked up, no packet is sent",
        needed=False,
        state=Contact.NOT_USED,
        detail="nothing is sent; and each node is told its own address",
        settings=(Setting("--node-ip-address", "", _RAY),),
    ),
    Dependency(
        name="ray-tpu-metadata",
        hosts=("metadata.google.internal",),
        program="ray: nodes with a TPU",
        when="when such a node starts",
        needed=False,
        state=Contact.NOT_USED,
        detail="sites have GPUs",
    ),
    Dependency(
        name="nvidia-attestation",
        hosts=(
            "rim.attestation.nvidia.com",
            "ocsp.ndis.nvidia.com",
            "nras.attestation.nvidia.com",
        ),
        program="nvattest, if a node agent called it",
        when="to check a GPU's evidence: reference values and revocation",
        needed=False,
        state=Contact.NOT_USED,
        detail="only where a node's settings name it: `attest_program`; mirrors can be named too",
    ),
    Dependency(
        name="container-registries",
        hosts=(),
        program="none: a node takes images from its site's store, a directory",
        when="when a job with an image starts",
        needed=False,
        state=Contact.NOT_USED,
        detail="nothing is pulled: an image that is not in the site's store starts nothing",
    ),
    Dependency(
        name="python-packages",
        hosts=(),
        program="pip and uv",
        when="make setup, make requirements",
        needed=False,
        state=Contact.NOT_USED,
        detail="at build alone, from the index that pip is set to; what it gives is held to hashes",
        settings=(Setting("--require-hashes", "", "Makefile"),),
    ),
    Dependency(
        name="grafana-services",
        hosts=("stats.grafana.org", "grafana.com", "secure.gravatar.com"),
        program="grafana, where an operator runs one",
        when="daily statistics and looks for updates; news and pictures when a page is opened",
        needed=False,
        state=Contact.BLOCKED,
        detail="where it is started with our configuration",
        settings=(
            Setting("analytics.reporting_enabled", "false", _GRAFANA),
            Setting("analytics.check_for_updates", "false", _GRAFANA),
            Setting("analytics.check_for_plugin_updates", "false", _GRAFANA),
            Setting("news.news_feed_enabled", "false", _GRAFANA),
            Setting("security.disable_gravatar", "true", _GRAFANA),
        ),
    ),
    Dependency(
        name="time-servers",
        hosts=(),
        program="each machine's own time service",
        when="always: clocks may differ by two minutes at most",
        needed=True,
        state=Contact.NOT_CONTROLLED,
        detail="no program of ours asks one; whoever runs the machine sets one in the home zone",
    ),
    Dependency(
        name="name-servers",
        hosts=(),
        program="each machine's resolver",
        when="where a setting names a host and not an address",
        needed=False,
        state=Contact.NOT_CONTROLLED,
        detail="whoever runs the machine sets it; where settings have addresses none is asked",
    ),
    Dependency(
        name="jobs-own-traffic",
        hosts=(),
        program="processes of jobs",
        when="whenever a job does",
        needed=False,
        state=Contact.NOT_CONTROLLED,
        detail="a network of its own holds a rank to its job's list; elsewhere the node's decides",
    ),
)
"""What programs would contact, whoever declares what."""

_OF_FACTS = (
    (FactKey.COUNTRY, "site", "sov-agent: the site's own", "while the site is connected"),
    (FactKey.SINKS, "sinks", "whatever ships the site's logs, metrics, backups", "while it runs"),
    (FactKey.SUPPORT_DESK, "support-desk", "the site's operator", "when the site is administered"),
    (FactKey.KEY_CUSTODIAN, "key-custodian", "the site's key service", "when a key is used"),
)


def listed(read: Snapshot, providers: Providers, home: Set[str]) -> tuple[Dependency, ...]:
    """The table, then the identity providers that vouch for people, and what each declared site has
    outside the countries of `home`."""
    sites = sorted((entry.site for entry in read.fleet.sites()), key=lambda site: site.id)
    declared = (each for site in sites for each in _declared(site, home))
    return (*PROGRAMS, *_vouching(providers, home), *declared)


def _vouching(providers: Providers, home: Set[str]) -> Iterator[Dependency]:
    """Identity providers abroad, or that there are none."""
    abroad = [providers[name] for name in sorted(providers) if providers[name].country not in home]
    for provider in abroad:
        host = urlsplit(provider.issuer).netloc
        yield Dependency(
            name=f"identity-provider-{host}",
            hosts=(host,),
            program="sov-scheduler, and sovctl where people log in",
            when="at a login: the provider's keys, and its word for who somebody is",
            needed=False,
            state=Contact.DECLARED,
            detail=f"declared in login.yaml, under the law of {provider.country}",
            countries=(provider.country,),
        )
    if not abroad:
        said = f"found {len(providers)} in login.yaml, all of the home zone" if providers else ""
        yield Dependency(
            name="identity-provider",
            hosts=(),
            program="sov-scheduler, where it lets people log in",
            when="at a login",
            needed=False,
            state=Contact.NOT_USED,
            detail=said or "login.yaml declares none: nobody logs in",
        )


def _declared(site: Site, home: Set[str]) -> Iterator[Dependency]:
    for key, word, program, when in _OF_FACTS:
        facts = [fact for fact in site.facts if fact.key is key]
        abroad = sorted({value for fact in facts for value in fact.values} - home)
        if facts and not abroad:
            continue
        said = f"the fact `{key}`, {facts[0].assurance.name}" if facts else f"no fact `{key}`"
        yield Dependency(
            name=f"{word}-of-{site.id}",
            hosts=(),
            program=program,
            when=when,
            needed=key is FactKey.COUNTRY,
            state=Contact.DECLARED if abroad else Contact.NOT_CONTROLLED,
            detail=f"{said}: work goes there only where its residency allows it",
            site=site.id,
            countries=tuple(abroad),
        )
