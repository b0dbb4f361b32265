"""Whether the control plane granted what it asks for: the site's own check of every placement.

Written from the wire alone, as the guard is: signature, site, attempt, launch and moment are judged
here again, by the certificates that this agent got when it joined. It remembers, durably, the
newest policy revision and the oldest key that a grant has shown it, and takes nothing older.

A grant is asked for where something is to begin. What runs already runs on without.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.site.state import Verdict
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.grants_pb2 import PlacementGrant
from sovapi.v1.sitelink_pb2 import DesiredAttempt, Launch
from sovshared import grants, pki
from sovshared.grants import GrantInvalid, GrantTrust, Opened

DETAIL_CHARS_MAX = 2_000
REASON = "GRANT_REFUSED"

_log = logging.getLogger(__name__)


class SiteGrants:
    """Judges grants for one site. `trust` is the file with the CAs believed, `seen` the file that
    keeps what must not be forgotten."""

    def __init__(
        self,
        trust: Path,
        *,
        site: str,
        trust_domain: str,
        seen: Path,
        utc_now_ms: Callable[[], int],
    ) -> None:
        self._trust = GrantTrust(trust)
        self._site = site
        self._trust_domain = trust_domain
        self._seen = seen
        self._utc_now_ms = utc_now_ms
        self._revision, self._oldest_key = _remembered(seen)
        self.refusals: Counter[str] = Counter()

    def refuse_row(self, row: DesiredAttempt, held: int) -> Verdict | None:
        """Why a row that is new here, and to run, is refused. `held`: the generation that this
        site has had; a row of it, or of one before, was seen already."""
        try:
            grant = self._judge(row.job_id, row.attempt, row.launch)
            _check_new(grant, row.generation, held)
        except GrantInvalid as refused:
            return self._refused(refused)
        return None

    def refuse_start(self, key: str, launch: Launch) -> Verdict | None:
        """Why an attempt, `<job id>.<attempt>`, may not begin now."""
        job_id, _, attempt = key.rpartition(".")
        try:
            self._judge(job_id, int(attempt), launch)
        except GrantInvalid as refused:
            return self._refused(refused)
        return None

    def _judge(self, job_id: str, attempt: int, launch: Launch) -> PlacementGrant:
        """The grant, if this attempt may begin here and now under it; else raises."""
        opened = self._trust.open(launch.grant)
        grant = opened.grant
        grants.check_time(opened, self._utc_now_ms())
        if opened.key.number < self._oldest_key:
            raise GrantInvalid(grants.STALE, f"its key {opened.key.number} is retired")
        _check_place(grant, job_id, attempt, self._site, self._trust_domain)
        _check_launch(grant, launch)
        if grant.policy_revision < self._revision:
            found = f"policy revision {grant.policy_revision}; this site has seen {self._revision}"
            raise GrantInvalid(grants.STALE, found)
        self._remember(opened)
        return grant

    def _remember(self, opened: Opened) -> None:
        """Durably, before anything is done: what was seen stays seen, whatever crashes."""
        revision = max(self._revision, opened.grant.policy_revision)
        oldest = max(self._oldest_key, opened.key.oldest)
        if (revision, oldest) == (self._revision, self._oldest_key):
            return
        content = json.dumps({"oldest_key": oldest, "policy_revision": revision}, sort_keys=True)
        try:
            pki.write_private(self._seen, content.encode())
        except OSError as error:
            raise GrantInvalid(grants.STALE, f"{self._seen}: {error.strerror}") from error
        self._revision, self._oldest_key = revision, oldest

    def _refused(self, refused: GrantInvalid) -> Verdict:
        self.refusals[refused.kind] += 1
        _log.warning("a placement is refused: %s", refused)
        detail = str(refused)[:DETAIL_CHARS_MAX]
        return Verdict(sitelink.ATTEMPT_PHASE_REFUSED, REASON, detail)


def _check_new(grant: PlacementGrant, generation: int, held: int) -> None:
    if grant.generation != generation:
        detail = f"generation: found {generation}, granted {grant.generation}"
        raise GrantInvalid(grants.MISPLACED, detail)
    if held and generation <= held:
        detail = f"generation {generation} came before: this site has had {held}"
        raise GrantInvalid(grants.REPLAYED, detail)


def _check_place(
    grant: PlacementGrant, job_id: str, attempt: int, site: str, trust_domain: str
) -> None:
    for field, found, allowed in (
        ("issuer", grant.issuer, trust_domain),
        ("site", grant.site, site),
        ("job_id", grant.job_id, job_id),
        ("attempt", grant.attempt, attempt),
    ):
        if found != allowed:
            detail = f"{field}: granted for {str(found)[:80]!r}, found {str(allowed)[:80]!r}"
            raise GrantInvalid(grants.MISPLACED, detail)


def _check_launch(grant: PlacementGrant, launch: Launch) -> None:
    """The launch is the one that was granted, on the nodes and GPUs that were granted."""
    if list(grant.nodes) != list(launch.nodes):
        raise GrantInvalid(grants.MISPLACED, "nodes: found others than were granted")
    if grant.policy_revision != launch.policy_revision:
        found = f"found {launch.policy_revision}, granted {grant.policy_revision}"
        raise GrantInvalid(grants.MISMATCHED, f"policy_revision: {found}")
    for field, found, granted in (
        ("work", _work(launch), grant.work_digest),
        ("requirement", _requirement(launch), grant.requirement_digest),
        ("terms", _terms(launch), grant.terms_digest),
    ):
        if found != granted:
            detail = f"{field}: found {found.hex()[:16]}, granted {granted.hex()[:16]}"
            raise GrantInvalid(grants.MISMATCHED, detail)


def _work(launch: Launch) -> bytes:
    return grants.work_digest(
        command=list(launch.command),
        env=dict(launch.env),
        bundle_digest=launch.bundle_digest,
        image=launch.image,
        secrets=dict(launch.secrets),
        egress=launch.egress,
        inputs=[(i.dataset, i.version, i.mount) for i in launch.inputs],
        outputs=[(o.dataset, getattr(o, "from")) for o in launch.outputs],
    )


def _requirement(launch: Launch) -> bytes:
    need = launch.residency
    return grants.requirement_digest(
        jurisdictions=need.jurisdictions,
        tier=need.tier,
        markings=need.markings,
        tolerate_foreign_compulsion=need.tolerate_foreign_compulsion,
        agreements=need.agreements,
        node_sharing=need.node_sharing,
        min_assurance=need.min_assurance,
        min_isolation=launch.min_isolation,
        controlling_stake_milli_percent=launch.controlling_stake_milli_percent,
        data_sites=need.data_sites.sites if need.HasField("data_sites") else None,
    )


def _terms(launch: Launch) -> bytes:
    warning = launch.signal_before_end
    return grants.terms_digest(
        tasks_per_node=launch.tasks_per_node,
        gpus_per_node=launch.gpus_per_node,
        gpu_share_milli=launch.gpu_share_milli,
        time_limit_ms=launch.time_limit_ms,
        stop_grace_ms=launch.stop_grace_ms,
        signal=warning.signal,
        signal_before_ms=warning.before_ms,
        leased=launch.leased,
        mig_profile=launch.mig_profile,
        ray=launch.ray,
    )


def _remembered(seen: Path) -> tuple[int, int]:
    """The newest policy revision and the oldest key that were seen; nothing yet: zero."""
    try:
        document: dict[str, Any] = json.loads(seen.read_bytes())
        return int(document["policy_revision"]), int(document["oldest_key"])
    except FileNotFoundError:
        return 0, 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.error("%s cannot be read, and counts for nothing: %s", seen, error)
        return 0, 0
