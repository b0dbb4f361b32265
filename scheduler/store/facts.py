"""What is judged about a site, as audit leaves tell it and name it."""

from __future__ import annotations

from hashlib import sha256

from scheduler.model.fleet import Site
from scheduler.store.codec import canonical


def site_facts(site: Site) -> dict[str, object]:
    """All that is judged about a site, in the form that its digest is of."""
    facts = [
        {
            "key": fact.key.value,
            "values": list(fact.values),
            "assurance": fact.assurance.name,
            "asserted_by": fact.asserted_by,
            "observed_at_ms": fact.observed_at_ms,
            "expires_at_ms": fact.expires_at_ms,
            "evidence_digest": fact.evidence_digest,
        }
        for fact in sorted(site.facts, key=lambda fact: (fact.key.value, fact.values))
    ]
    parents = [
        [p.name, p.country, p.stake_milli_percent, *(["at most"] if p.at_most else [])]
        for p in sorted(site.parents)
    ]
    return {"site": site.id, "facts": facts, "parents": parents}


def facts_digest(site: Site) -> str:
    """Names the facts of a site: SHA-256 of their canonical JSON."""
    return "sha256:" + sha256(canonical(site_facts(site)).encode()).hexdigest()
