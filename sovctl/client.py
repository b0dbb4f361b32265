"""The synchronous client: the asyncio one, run on a thread of its own.

Every method blocks until its answer is there, and may be called from any thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import grpc

from sovapi.v1 import (
    audit_pb2,
    common_pb2,
    datasets_pb2,
    fleet_pb2,
    identity_pb2,
    jobs_pb2,
    policy_pb2,
    tenants_pb2,
)
from sovctl import config
from sovctl.async_client import AsyncClient
from sovctl.async_jobs import AsyncJob, Forecast, Spec, SubmitOutcome
from sovctl.client_access import AccessCalls
from sovctl.client_agreements import AgreementCalls
from sovctl.client_commands import CommandCalls
from sovctl.client_downloads import DownloadCalls
from sovctl.commands import CommandResult
from sovctl.event_loop import EventLoop
from sovctl.link import CALL_TIMEOUT_MS
from sovctl.logs import LogChunk
from sovctl.results import JobInfo
from sovctl.spec import Residency
from sovctl.witness import Witness

CLOSE_TIMEOUT_S = 10

ValueT = TypeVar("ValueT")


class Job:
    """A job that was submitted or looked up. `info` is what was last heard of it."""

    def __init__(self, loop: EventLoop, job: AsyncJob) -> None:
        self._loop = loop
        self._job = job
        self.id = job.id

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.info.state}>"

    @property
    def info(self) -> JobInfo:
        """What was last heard."""
        return self._job.info

    def refresh(self) -> JobInfo:
        """The job as it is now."""
        return self._loop.run(self._job.refresh())

    def wait(self, timeout_s: float | None = None, *, check: bool = False) -> JobInfo:
        """Waits until the job is over; see `AsyncJob.wait`."""
        return self._loop.run(self._job.wait(timeout_s, check=check))

    def logs(
        self, *, rank: int | None = 0, follow: bool = False, since_ms: int = 0
    ) -> Iterator[LogChunk]:
        """The job's output; `rank` None means all ranks."""
        return self._loop.iterate(
            lambda: self._job.logs(rank=rank, follow=follow, since_ms=since_ms)
        )

    def cancel(self, *, now: bool = False) -> JobInfo:
        """Asks the job to stop; `now` skips the grace."""
        return self._loop.run(self._job.cancel(now=now))

    def exec(self, command: Sequence[str], *, rank: int = 0, stdin: bytes = b"") -> CommandResult:
        """Runs a command inside a rank of the job, to its end; see `AsyncClient.exec`."""
        return self._loop.run(self._job.exec(command, rank=rank, stdin=stdin))

    def explain(self) -> jobs_pb2.ExplainJobResponse:
        """Why the job is where it is."""
        return self._loop.run(self._job.explain())


class Client(AccessCalls, AgreementCalls, CommandCalls, DownloadCalls):
    """A control plane, as one identity sees it. Use it in a `with`, or close it."""

    def __init__(
        self,
        context: str | config.Context = "",
        *,
        timeout_s: float = CALL_TIMEOUT_MS / 1000,
        channel: Callable[[], grpc.aio.Channel] | None = None,
    ) -> None:
        """Reads the configuration; arguments as for `AsyncClient`.

        `channel` makes the connection in place of the context's own; it is called on the client's
        event loop.
        """
        if isinstance(context, str):
            context = config.load().context(context)
        self._loop = EventLoop.shared()
        self._client = self._loop.run(_client(context, timeout_s, channel))

    def submit(self, spec: Spec, *, idempotency_key: str = "") -> Job:
        """Queues a job; see `AsyncClient.submit`."""
        submitted = self._client.submit(spec, idempotency_key=idempotency_key)
        return Job(self._loop, self._loop.run(submitted))

    def forecast(self, spec: Spec) -> Forecast:
        """What `submit` would do now; changes nothing."""
        return self._loop.run(self._client.forecast(spec))

    def submit_many(self, specs: Iterable[Spec]) -> Sequence[SubmitOutcome]:
        """Queues many jobs in one stream; an outcome for each, in order."""
        return self._loop.run(self._client.submit_many(specs))

    def upload(self, working_dir: str | Path, *, project: str = "") -> str:
        """Bundles a directory and stores it; its digest."""
        return self._loop.run(self._client.upload(working_dir, project=project))

    def get(self, job: str) -> Job:
        """The job of an id, or of a name that only one live job has."""
        return Job(self._loop, self._loop.run(self._client.get(job)))

    def list(
        self, *, states: Sequence[str] = (), project: str = "", array: str = ""
    ) -> Iterator[JobInfo]:
        """All jobs the caller may see, or the tasks of `array`; pages are fetched as needed."""
        return self._loop.iterate(
            lambda: self._client.list(states=states, project=project, array=array)
        )

    def watch(self, jobs: Sequence[str] = ()) -> Iterator[JobInfo]:
        """Each job's state, then each change of it."""
        return self._loop.iterate(lambda: self._client.watch(jobs))

    def cancel(self, job: str, *, now: bool = False) -> JobInfo:
        """Asks a job to stop; `now` skips the grace."""
        return self._loop.run(self._client.cancel(job, now=now))

    def scale(self, job: str, replicas: int) -> JobInfo:
        """Sets how many replicas a service has; 0 keeps it and runs nothing of it."""
        return self._loop.run(self._client.scale(job, replicas))

    def explain(self, job: str) -> jobs_pb2.ExplainJobResponse:
        """Every constraint that binds, and the smallest changes that would unblock."""
        return self._loop.run(self._client.explain(job))

    def logs(
        self,
        job: str,
        *,
        rank: int | None = 0,
        follow: bool = False,
        since_ms: int = 0,
        attempt: int = 0,
    ) -> Iterator[LogChunk]:
        """A job's output, streamed from its site."""
        return self._loop.iterate(
            lambda: self._client.logs(
                job, rank=rank, follow=follow, since_ms=since_ms, attempt=attempt
            )
        )

    def quota(self, tenant: str = "") -> Sequence[tenants_pb2.QuotaLine]:
        """Guarantee, limit and use; default: the caller's own tenant."""
        return self._loop.run(self._client.quota(tenant))

    def budgets(self, tenant: str = "") -> Sequence[tenants_pb2.BudgetLine]:
        """Budgets in their present periods; default: the caller's own tenant's."""
        return self._loop.run(self._client.budgets(tenant))

    def usage(self, tenant: str = "", *, since_ms: int = 0) -> tenants_pb2.GetUsageResponse:
        """GPU time of what was placed since then; default: the last thirty days."""
        return self._loop.run(self._client.usage(tenant, since_ms=since_ms))

    def quota_what_if(
        self, tenants: Iterable[tenants_pb2.Tenant], *, allow_unknown_gpu_classes: bool = False
    ) -> tenants_pb2.QuotaWhatIfResponse:
        """What the queue would do under another tree, beside what it does; changes nothing."""
        return self._loop.run(
            self._client.quota_what_if(tenants, allow_unknown_gpu_classes=allow_unknown_gpu_classes)
        )

    def fleet_what_if(
        self,
        sites: Iterable[fleet_pb2.SiteDeclaration] = (),
        *,
        without_sites: Iterable[str] = (),
    ) -> fleet_pb2.FleetWhatIfResponse:
        """What the queue would do with another fleet, or without some sites; changes nothing."""
        return self._loop.run(self._client.fleet_what_if(sites, without_sites=without_sites))

    def sites(self) -> Iterator[fleet_pb2.Site]:
        """All sites."""
        return self._loop.iterate(self._client.sites)

    def nodes(self, site: str = "") -> Iterator[fleet_pb2.Node]:
        """All nodes, or those of one site."""
        return self._loop.iterate(lambda: self._client.nodes(site))

    def overview(self, *, unfit_max: int = 0) -> fleet_pb2.OverviewResponse:
        """The fleet in sum; of the nodes that take no new work, the first `unfit_max`."""
        return self._loop.run(self._client.overview(unfit_max=unfit_max))

    def tenants(self) -> Iterator[tenants_pb2.Tenant]:
        """The tenant tree, parents first."""
        return self._loop.iterate(self._client.tenants)

    def policy(self) -> policy_pb2.Policy:
        """The policy in force."""
        return self._loop.run(self._client.policy())

    def apply_tenants(
        self, tenants: Iterable[tenants_pb2.Tenant], *, dry_run: bool = False, reason: str = ""
    ) -> Sequence[str]:
        """Makes the tenant tree what is given; the changes."""
        return self._loop.run(self._client.apply_tenants(tenants, dry_run=dry_run, reason=reason))

    def apply_fleet(
        self, sites: Iterable[fleet_pb2.SiteDeclaration], *, dry_run: bool = False, reason: str = ""
    ) -> Sequence[str]:
        """Makes the declared fleet what is given; the changes."""
        return self._loop.run(self._client.apply_fleet(sites, dry_run=dry_run, reason=reason))

    def apply_policy(
        self,
        policy: policy_pb2.Policy,
        *,
        dry_run: bool = False,
        reason: str = "",
        override: str = "",
        signature: bytes = b"",
    ) -> policy_pb2.ApplyPolicyResponse:
        """Makes the policy what is given; as `AsyncClient.apply_policy`."""
        return self._loop.run(
            self._client.apply_policy(
                policy, dry_run=dry_run, reason=reason, override=override, signature=signature
            )
        )

    def diff_policy(
        self, policy: policy_pb2.Policy, *, since_ms: int = 0
    ) -> list[policy_pb2.DecisionChange]:
        """Placements since a time that a policy would judge otherwise than the one in force."""
        return self._loop.run(self._client.diff_policy(policy, since_ms=since_ms))

    def prove_policy(self, policy: policy_pb2.Policy) -> policy_pb2.ProvePolicyResponse:
        """What can be proved of a policy against the one in force; nothing is applied."""
        return self._loop.run(self._client.prove_policy(policy))

    def cordon(self, target: str, *, reason: str = "") -> None:
        """Lets no new work onto a site or node."""
        self._loop.run(self._client.cordon(target, reason=reason))

    def uncordon(self, target: str, *, reason: str = "") -> None:
        """Lets work onto a site or node again."""
        self._loop.run(self._client.uncordon(target, reason=reason))

    def drain(self, target: str, *, reason: str = "", deadline_ms: int = 0) -> int:
        """Cordons and moves work away by the deadline; how many attempts that touches."""
        drained = self._client.drain(target, reason=reason, deadline_ms=deadline_ms)
        return self._loop.run(drained)

    def fence(self, node: str, *, reason: str) -> int:
        """States that nothing of a lost node runs any more; attempts that ends."""
        return self._loop.run(self._client.fence(node, reason=reason))

    def add_window(self, window: fleet_pb2.MaintenanceWindow) -> fleet_pb2.MaintenanceWindow:
        """Takes nodes out of the common pool for a time; the window as it was added."""
        return self._loop.run(self._client.add_window(window))

    def windows(
        self, kind: fleet_pb2.WindowKind = fleet_pb2.WINDOW_KIND_UNSPECIFIED
    ) -> Iterator[fleet_pb2.MaintenanceWindow]:
        """Maintenance and reservations, or those of one kind."""
        return self._loop.iterate(lambda: self._client.windows(kind))

    def remove_window(self, name: str, *, reason: str = "") -> None:
        """Calls maintenance or a reservation off, or ends it now."""
        self._loop.run(self._client.remove_window(name, reason=reason))

    def verdicts(
        self, requirements: Sequence[Residency | jobs_pb2.ResidencyRequirement], *, site: str = ""
    ) -> Sequence[fleet_pb2.SiteVerdict]:
        """Which sites meet which of the requirements, with every reason."""
        return self._loop.run(self._client.verdicts(requirements, site=site))

    def external_dependencies(
        self, home: Sequence[str] = ()
    ) -> Sequence[fleet_pb2.ExternalDependency]:
        """What outside the countries of `home` (empty: GB) the running system would contact."""
        return self._loop.run(self._client.external_dependencies(home))

    def audit_leaves(self, *, tenant: str = "", job: str = "") -> Iterator[audit_pb2.AuditLeaf]:
        """The audit log, as far as the caller may read it, oldest first."""
        return self._loop.iterate(lambda: self._client.audit_leaves(tenant=tenant, job=job))

    def checkpoint(self) -> audit_pb2.Checkpoint:
        """Size and root hash of the audit log, signed."""
        return self._loop.run(self._client.checkpoint())

    def trust(self) -> bytes:
        """Whom a verifier is to believe: a C2SP tlog-policy."""
        return self._loop.run(self._client.trust())

    def certificate(self, job: str) -> bytes:
        """The residency certificate of a job that is over or was refused: a file for `verify`."""
        return self._loop.run(self._client.certificate(job))

    def certificates(self, tenant: str = "") -> Iterator[audit_pb2.CertificateLine]:
        """What was certified of a tenant and all below it, by tenant and number."""
        return self._loop.iterate(lambda: self._client.certificates(tenant))

    def witness(self, keeper: Witness) -> audit_pb2.Checkpoint:
        """Looks at the log once and cosigns its head; see `AsyncEvidenceCalls.witness`."""
        return self._loop.run(self._client.witness(keeper))

    def apply_datasets(
        self, datasets: Iterable[datasets_pb2.Dataset], *, dry_run: bool = False, reason: str = ""
    ) -> Sequence[str]:
        """Declares datasets, or changes them; the changes."""
        return self._loop.run(self._client.apply_datasets(datasets, dry_run=dry_run, reason=reason))

    def datasets(self) -> Iterator[datasets_pb2.Dataset]:
        """What of the data catalogue the caller may see, by name."""
        return self._loop.iterate(self._client.datasets)

    def dataset(self, name: str) -> datasets_pb2.Dataset:
        """One dataset: where it lies, its label and, where a job wrote it, its lineage."""
        return self._loop.run(self._client.dataset(name))

    def remove_dataset(self, name: str, *, reason: str = "") -> None:
        """Takes a dataset out of the catalogue; its files stay, and no work may read them."""
        self._loop.run(self._client.remove_dataset(name, reason=reason))

    def whoami(self) -> identity_pb2.WhoamiResponse:
        """Who the control plane takes us for."""
        return self._loop.run(self._client.whoami())

    def create_join_token(
        self,
        name: str,
        *,
        ttl_ms: int = 0,
        country: str = "",
        clearance: common_pb2.Clearance = common_pb2.CLEARANCE_UNSPECIFIED,
    ) -> identity_pb2.CreateJoinTokenResponse:
        """A token that lets `name` join once; of a person, what we vouch for."""
        made = self._client.create_join_token(
            name, ttl_ms=ttl_ms, country=country, clearance=clearance
        )
        return self._loop.run(made)

    def revoke(self, name: str, *, reason: str) -> None:
        """Takes back every certificate of a name."""
        self._loop.run(self._client.revoke(name, reason=reason))

    def renew_if_due(self, now_ms: int) -> bool:
        """Renews the certificate at half its life; whether it did."""
        return self._loop.run(self._client.renew_if_due(now_ms))

    def close(self) -> None:
        """Ends calls under way, the connection and the thread."""
        self._loop.run(asyncio.wait_for(self._client.close(), CLOSE_TIMEOUT_S))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


async def _client(
    context: config.Context,
    timeout_s: float,
    channel: Callable[[], grpc.aio.Channel] | None,
) -> AsyncClient:
    made = channel() if channel is not None else None
    return AsyncClient(context, timeout_s=timeout_s, channel=made)
