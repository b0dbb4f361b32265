"""Fleet, tenants, policy and identity, as coroutines. Answers are the wire's own messages.

What changes something is sent once unless the control plane takes it the same way twice: applying
a file, cordoning and fencing all state what shall be.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from sovapi.v1 import (
    common_pb2,
    fleet_pb2,
    identity_pb2,
    jobs_pb2,
    policy_pb2,
    tenants_pb2,
)
from sovctl.errors import ConfigError
from sovctl.link import DECLARE_TIMEOUT_MS, WHAT_IF_TIMEOUT_MS, Connected, Repeat
from sovctl.spec import Residency
from sovctl.spec_proto import residency_to_proto
from sovshared import pki

PAGE_SIZE = 500


@dataclass(frozen=True, slots=True)
class Joined:
    """What a join token, or an identity provider's word, was exchanged for."""

    identity: pki.Identity
    spiffe_id: str
    not_after_ms: int


def _page(token: str) -> common_pb2.PageRequest:
    return common_pb2.PageRequest(page_size=PAGE_SIZE, page_token=token)


class AsyncOperationCalls(Connected):
    """Calls of every service but JobService and AuditService."""

    async def quota(self, tenant: str = "") -> Sequence[tenants_pb2.QuotaLine]:
        """Guarantee, limit and use of a tenant and everything below it; default: the caller's."""
        return tuple((await self._quota(tenant)).lines)

    async def budgets(self, tenant: str = "") -> Sequence[tenants_pb2.BudgetLine]:
        """Budgets of a tenant and everything below it, in their present periods."""
        return tuple((await self._quota(tenant)).budgets)

    async def _quota(self, tenant: str) -> tenants_pb2.GetQuotaResponse:
        request = tenants_pb2.GetQuotaRequest(tenant=tenant)
        return await self.link.call(self.link.tenants.GetQuota, request)

    async def usage(self, tenant: str = "", *, since_ms: int = 0) -> tenants_pb2.GetUsageResponse:
        """GPU time of what was placed since then; default: the last thirty days."""
        request = tenants_pb2.GetUsageRequest(tenant=tenant, since_ms=since_ms)
        return await self.link.call(self.link.tenants.GetUsage, request)

    async def quota_what_if(
        self, tenants: Iterable[tenants_pb2.Tenant], *, allow_unknown_gpu_classes: bool = False
    ) -> tenants_pb2.QuotaWhatIfResponse:
        """What the queue would do under another tree, beside what it does; changes nothing."""
        request = tenants_pb2.QuotaWhatIfRequest(
            tenants=tenants, allow_unknown_gpu_classes=allow_unknown_gpu_classes
        )
        return await self.link.call(
            self.link.tenants.WhatIf, request, timeout_ms_min=WHAT_IF_TIMEOUT_MS
        )

    async def fleet_what_if(
        self,
        sites: Iterable[fleet_pb2.SiteDeclaration] = (),
        *,
        without_sites: Iterable[str] = (),
    ) -> fleet_pb2.FleetWhatIfResponse:
        """What the queue would do with the whole fleet `sites`, or with the one in force but for
        `without_sites`, beside what it does; changes nothing."""
        request = fleet_pb2.FleetWhatIfRequest(sites=sites, without_sites=without_sites)
        return await self.link.call(
            self.link.fleet.WhatIf, request, timeout_ms_min=WHAT_IF_TIMEOUT_MS
        )

    async def sites(self) -> AsyncIterator[fleet_pb2.Site]:
        """All sites; pages are fetched as needed."""
        token = ""
        while True:
            request = fleet_pb2.ListSitesRequest(page=_page(token))
            response = await self.link.call(self.link.fleet.ListSites, request)
            for site in response.sites:
                yield site
            token = response.next_page_token
            if not token:
                return

    async def nodes(self, site: str = "") -> AsyncIterator[fleet_pb2.Node]:
        """All nodes, or those of one site."""
        token = ""
        while True:
            request = fleet_pb2.ListNodesRequest(page=_page(token), site=site)
            response = await self.link.call(self.link.fleet.ListNodes, request)
            for node in response.nodes:
                yield node
            token = response.next_page_token
            if not token:
                return

    async def overview(self, *, unfit_max: int = 0) -> fleet_pb2.OverviewResponse:
        """The fleet in sum; of the nodes that take no new work, the first `unfit_max`."""
        request = fleet_pb2.OverviewRequest(unfit_max=unfit_max)
        return await self.link.call(self.link.fleet.Overview, request)

    async def tenants(self) -> AsyncIterator[tenants_pb2.Tenant]:
        """The tenant tree, parents first."""
        token = ""
        while True:
            request = tenants_pb2.ListTenantsRequest(page=_page(token))
            response = await self.link.call(self.link.tenants.List, request)
            for tenant in response.tenants:
                yield tenant
            token = response.next_page_token
            if not token:
                return

    async def policy(self) -> policy_pb2.Policy:
        """The policy in force."""
        return await self.link.call(self.link.policy.Get, policy_pb2.GetPolicyRequest())

    async def apply_tenants(
        self, tenants: Iterable[tenants_pb2.Tenant], *, dry_run: bool = False, reason: str = ""
    ) -> Sequence[str]:
        """Makes the tenant tree what is given; the changes."""
        return tuple((await self.apply_tree(tenants, dry_run=dry_run, reason=reason)).changes)

    async def apply_tree(
        self,
        tenants: Iterable[tenants_pb2.Tenant],
        *,
        dry_run: bool = False,
        reason: str = "",
        allow_unknown_gpu_classes: bool = False,
    ) -> tenants_pb2.ApplyTenantsResponse:
        """Makes the tenant tree what is given; the changes, and what looks wrong."""
        request = tenants_pb2.ApplyTenantsRequest(
            tenants=tenants,
            dry_run=dry_run,
            reason=reason,
            allow_unknown_gpu_classes=allow_unknown_gpu_classes,
        )
        return await self.link.call(self.link.tenants.Apply, request)

    async def apply_fleet(
        self, sites: Iterable[fleet_pb2.SiteDeclaration], *, dry_run: bool = False, reason: str = ""
    ) -> Sequence[str]:
        """Makes the declared fleet what is given; the changes."""
        request = fleet_pb2.ApplyFleetRequest(sites=sites, dry_run=dry_run, reason=reason)
        response = await self.link.call(
            self.link.fleet.Apply, request, timeout_ms_min=DECLARE_TIMEOUT_MS
        )
        return tuple(response.changes)

    async def apply_policy(
        self,
        policy: policy_pb2.Policy,
        *,
        dry_run: bool = False,
        reason: str = "",
        override: str = "",
        signature: bytes = b"",
    ) -> policy_pb2.ApplyPolicyResponse:
        """Makes the policy what is given; the changes, the new revision, and what was proved.

        One that is looser than the one in force, or not proved, is refused with a world that it
        would let through; unless `override` says why it shall come into force. `signature` is of
        the policy as a pack (`sovctl.policy_file`).
        """
        request = policy_pb2.ApplyPolicyRequest(
            pack=policy.SerializeToString(deterministic=True),
            dry_run=dry_run,
            reason=reason,
            override=override,
            signature=signature,
        )
        return await self.link.call(self.link.policy.Apply, request)

    async def diff_policy(
        self, policy: policy_pb2.Policy, *, since_ms: int = 0
    ) -> list[policy_pb2.DecisionChange]:
        """Placements since a time that a policy would judge otherwise than the one in force."""
        request = policy_pb2.DiffPolicyRequest(policy=policy, since_ms=since_ms)
        return list((await self.link.call(self.link.policy.Diff, request)).changes)

    async def prove_policy(self, policy: policy_pb2.Policy) -> policy_pb2.ProvePolicyResponse:
        """What can be proved of a policy against the one in force; nothing is applied."""
        request = policy_pb2.ProvePolicyRequest(policy=policy)
        return await self.link.call(self.link.policy.Prove, request)

    async def cordon(self, target: str, *, reason: str = "") -> None:
        """Lets no new work onto a site or node."""
        request = fleet_pb2.CordonRequest(target=target, reason=reason)
        await self.link.call(self.link.fleet.Cordon, request)

    async def uncordon(self, target: str, *, reason: str = "") -> None:
        """Lets work onto a site or node again."""
        request = fleet_pb2.UncordonRequest(target=target, reason=reason)
        await self.link.call(self.link.fleet.Uncordon, request)

    async def drain(self, target: str, *, reason: str = "", deadline_ms: int = 0) -> int:
        """Cordons and, by the deadline, moves work away; how many attempts that touches.

        Without a deadline what runs may finish.
        """
        request = fleet_pb2.DrainRequest(target=target, reason=reason, deadline_ms=deadline_ms)
        response = await self.link.call(self.link.fleet.Drain, request, Repeat.NEVER)
        return response.attempts_affected

    async def fence(self, node: str, *, reason: str) -> int:
        """States, audited, that nothing of a lost node runs any more; attempts that ends."""
        request = fleet_pb2.FenceRequest(node=node, reason=reason)
        response = await self.link.call(self.link.fleet.Fence, request, Repeat.NEVER)
        return response.attempts_fenced

    async def add_window(self, window: fleet_pb2.MaintenanceWindow) -> fleet_pb2.MaintenanceWindow:
        """Takes nodes out of the common pool for a time; the window as it was added."""
        request = fleet_pb2.AddMaintenanceRequest(window=window)
        method = self.link.fleet.AddMaintenance
        return (await self.link.call(method, request, Repeat.NEVER)).window

    async def windows(
        self, kind: fleet_pb2.WindowKind = fleet_pb2.WINDOW_KIND_UNSPECIFIED
    ) -> AsyncIterator[fleet_pb2.MaintenanceWindow]:
        """Maintenance and reservations, or those of one kind; pages are fetched as needed."""
        token = ""
        while True:
            request = fleet_pb2.ListMaintenanceRequest(page=_page(token), kind=kind)
            response = await self.link.call(self.link.fleet.ListMaintenance, request)
            for window in response.windows:
                yield window
            token = response.next_page_token
            if not token:
                return

    async def remove_window(self, name: str, *, reason: str = "") -> None:
        """Calls maintenance or a reservation off, or ends it now."""
        request = fleet_pb2.RemoveMaintenanceRequest(id=name, reason=reason)
        await self.link.call(self.link.fleet.RemoveMaintenance, request, Repeat.NEVER)

    async def verdicts(
        self, requirements: Sequence[Residency | jobs_pb2.ResidencyRequirement], *, site: str = ""
    ) -> Sequence[fleet_pb2.SiteVerdict]:
        """Which sites meet which of the requirements, with every reason."""
        messages = [
            residency_to_proto(each) if isinstance(each, Residency) else each
            for each in requirements
        ]
        request = fleet_pb2.VerdictsRequest(requirements=messages, site=site)
        return tuple((await self.link.call(self.link.fleet.Verdicts, request)).verdicts)

    async def external_dependencies(
        self, home: Sequence[str] = ()
    ) -> Sequence[fleet_pb2.ExternalDependency]:
        """What outside the countries of `home` (empty: GB) the running system would contact."""
        request = fleet_pb2.ListDependenciesRequest(home=home)
        return tuple((await self.link.call(self.link.fleet.ListDependencies, request)).dependencies)

    async def whoami(self) -> identity_pb2.WhoamiResponse:
        """Who the control plane takes us for."""
        return await self.link.call(self.link.identity.Whoami, identity_pb2.WhoamiRequest())

    async def create_join_token(
        self,
        name: str,
        *,
        ttl_ms: int = 0,
        country: str = "",
        clearance: common_pb2.Clearance = common_pb2.CLEARANCE_UNSPECIFIED,
    ) -> identity_pb2.CreateJoinTokenResponse:
        """A token that lets `name` ("/site/exch-a/agent") join once; `country` and `clearance` of
        a person are what we vouch for, and stand in its certificates."""
        request = identity_pb2.CreateJoinTokenRequest(
            name=name, ttl_ms=ttl_ms, country=country, clearance=clearance
        )
        method = self.link.identity.CreateJoinToken
        return await self.link.call(method, request, Repeat.NEVER)

    async def revoke(self, name: str, *, reason: str) -> None:
        """Takes back every certificate of a name."""
        request = identity_pb2.RevokeRequest(name=name, reason=reason)
        await self.link.call(self.link.identity.Revoke, request)

    async def renew(self, identity: pki.Identity) -> Joined:
        """A fresh key and certificate for the caller's own name."""
        key = pki.new_key()
        csr = pki.make_csr(key, identity.facts().spiffe_id)
        request = identity_pb2.RenewRequest(csr_der=csr)
        response = await self.link.call(self.link.identity.Renew, request, Repeat.NEVER)
        renewed = pki.Identity(
            pki.key_to_pem(key), response.certificate_pem, response.trust_bundle_pem
        )
        return Joined(renewed, renewed.facts().spiffe_id, response.not_after_ms)

    async def join_as(self, name: str, token: str) -> Joined:
        """Makes a key and exchanges the single-use token for a certificate of `name`."""
        key = pki.new_key()
        request = identity_pb2.JoinRequest(token=token, name=name, csr_der=pki.make_csr(key, name))
        response = await self.link.call(self.link.identity.Join, request, Repeat.NEVER)
        return _joined(key, response)

    async def log_in_as(self, name: str, token: str, key: ec.EllipticCurvePrivateKey) -> Joined:
        """Exchanges an ID token, made for `key`, for a certificate of `name`, or of the only name
        that it gives."""
        csr = pki.make_csr(key, name or "/")
        request = identity_pb2.LoginRequest(oidc_token=token, name=name, csr_der=csr)
        response = await self.link.call(self.link.identity.Login, request, Repeat.NEVER)
        return _joined(key, response)


def _joined(
    key: ec.EllipticCurvePrivateKey,
    response: identity_pb2.JoinResponse | identity_pb2.LoginResponse,
) -> Joined:
    identity = pki.Identity(
        pki.key_to_pem(key), response.certificate_pem, response.trust_bundle_pem
    )
    try:
        facts = identity.facts()
    except pki.PkiInvalid as error:
        raise ConfigError(f"the control plane's certificate cannot be read: {error}") from None
    return Joined(identity, facts.spiffe_id, facts.not_after_ms)
