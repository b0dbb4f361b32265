"""A small declared world for tests against a real control plane, and a site agent of few words."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from sovapi.v1 import (
    common_pb2,
    fleet_pb2,
    fleet_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    sitelink_pb2,
    sitelink_pb2_grpc,
    tenants_pb2,
    tenants_pb2_grpc,
)
from sovshared import spiffe
from tests.api.control_plane import ControlPlane

WAIT_S = 60
LONDON, NARVIK = "exch-london-1", "narvik-1"
RADIOLOGY, FORECAST = "trust-a/radiology", "met-lab/forecast"
ADA = spiffe.tenant_user("trust-a", "ada")
MAX = spiffe.tenant_user("met-lab", "max")
OLGA = spiffe.operator("olga")
OBSERVED_AT_MS = 1_760_000_000_000
FACTS = (
    *("country", "landlord", "facility_operator", "service_operator"),
    *("support_desk", "key_custodian", "sinks"),
)


def fact(key: str, *values: str) -> fleet_pb2.Fact:
    return fleet_pb2.Fact(
        key=key,
        values=values,
        assurance=common_pb2.ASSURANCE_AUDITED,
        asserted_by="tests",
        observed_at_ms=OBSERVED_AT_MS,
    )


def site(name: str, country: str, nodes: int, gpus: int) -> fleet_pb2.SiteDeclaration:
    """A site whose whole chain is in `country`."""
    return fleet_pb2.SiteDeclaration(
        id=name,
        status=fleet_pb2.SITE_STATUS_ACTIVE,
        min_isolation=common_pb2.ISOLATION_NONE,
        facts=[
            *(fact(key, country) for key in FACTS),
            fact("accreditation", "OFFICIAL"),
            fact("markings"),
            fact("ultimate_parents"),
        ],
        nodes=[
            fleet_pb2.NodeDeclaration(
                slot=f"n{n + 1:02}",
                pod="p1",
                leaf="l1",
                gpu_class="H100",
                gpus=gpus,
                cpu_arch=common_pb2.CPU_ARCH_AMD64,
                cpu_milli=64_000,
                memory_bytes=512 << 30,
                interconnects=[common_pb2.INTERCONNECT_ETHERNET],
            )
            for n in range(nodes)
        ],
    )


async def declare(connection: grpc.aio.Channel) -> None:
    """Two sites and two organisations; doing it again changes nothing."""
    fleet = fleet_pb2_grpc.FleetServiceStub(connection)
    await fleet.Apply(
        fleet_pb2.ApplyFleetRequest(
            sites=[site(LONDON, "GB", 2, 4), site(NARVIK, "NO", 2, 8)], reason="tests"
        ),
        timeout=WAIT_S,
    )
    tenants = tenants_pb2_grpc.TenantServiceStub(connection)
    tree = [
        tenants_pb2.Tenant(
            path=path,
            weight=1,
            queue_order=tenants_pb2.QUEUE_ORDER_AGE,
            max_queued_jobs=1000,
            quotas=[tenants_pb2.GpuQuota(gpu_class="H100", limit_milli=8000)],
        )
        for path in ("met-lab", FORECAST, "trust-a", RADIOLOGY)
    ]
    await tenants.Apply(
        tenants_pb2.ApplyTenantsRequest(tenants=tree, reason="tests"), timeout=WAIT_S
    )


def spec(name: str = "train", *, project: str = RADIOLOGY, **resources: int) -> jobs_pb2.JobSpec:
    """A job of one GPU, GB only, unless said."""
    shape: dict[str, Any] = {"nodes": 1, "gpus_per_node": 1, **resources}
    return jobs_pb2.JobSpec(
        name=name,
        kind=jobs_pb2.JOB_KIND_BATCH,
        project=project,
        command=["true"],
        resources=jobs_pb2.Resources(
            gpu_share_milli=1000,
            cpu_arch=common_pb2.CPU_ARCH_ANY,
            tasks_per_node=1,
            interconnect=common_pb2.INTERCONNECT_ANY,
            **shape,
        ),
        topology=jobs_pb2.Topology(
            within=jobs_pb2.TOPOLOGY_LEVEL_SITE, mode=jobs_pb2.TOPOLOGY_MODE_REQUIRED
        ),
        residency=jobs_pb2.ResidencyRequirement(
            jurisdictions=["GB"],
            tier=common_pb2.TIER_OFFICIAL,
            node_sharing=jobs_pb2.NODE_SHARING_TENANT,
            min_assurance=common_pb2.ASSURANCE_DECLARED,
        ),
        priority=jobs_pb2.PRIORITY_NORMAL,
        time_limit_ms=3_600_000,
        preemption=jobs_pb2.Preemption(allowed=True, grace_ms=1000),
        retries=jobs_pb2.Retries(hardware=3),
        on_partition=jobs_pb2.ON_PARTITION_KEEP,
    )


def stub(connection: grpc.aio.Channel) -> "jobs_pb2_grpc.JobServiceAsyncStub":
    """The service of jobs, over a connection."""
    return jobs_pb2_grpc.JobServiceStub(connection)


async def submit(connection: grpc.aio.Channel, what: jobs_pb2.JobSpec, **more: Any) -> jobs_pb2.Job:
    """Submits and answers the job."""
    answer = await stub(connection).Submit(
        jobs_pb2.SubmitRequest(spec=what, **more), timeout=WAIT_S
    )
    return answer.job


async def until(
    connection: grpc.aio.Channel, job_id: str, state: "jobs_pb2.JobState"
) -> jobs_pb2.Job:
    """Watches a job until it is in `state`."""
    watch = stub(connection).Watch(jobs_pb2.WatchJobsRequest(ids=[job_id]), timeout=WAIT_S)
    async for told in watch:
        if told.job.state == state:
            watch.cancel()
            return told.job
    raise AssertionError(f"{job_id} was over before it was {state}")


class FakeSite:
    """A site agent that remembers what it is told, and says what a test has it say."""

    def __init__(self, control_plane: ControlPlane, name: str = LONDON) -> None:
        self.name = name
        self.channel = control_plane.channel_as(spiffe.site_agent(name))
        self.stub = sitelink_pb2_grpc.SiteLinkStub(self.channel)
        self.generation = 0
        self.epoch = 0
        self.desired: dict[tuple[str, int], sitelink_pb2.DesiredAttempt] = {}
        self.received: list[sitelink_pb2.ControlMessage] = []
        self._changed = asyncio.Condition()
        self._say: asyncio.Queue[sitelink_pb2.SiteMessage | None] = asyncio.Queue()
        self._call: Any = None
        self._reading: asyncio.Task[None] | None = None

    async def connect(self, **hello: Any) -> None:
        """Opens the session and waits for the welcome."""
        first: dict[str, Any] = {
            "protocol_version": 1,
            "site": self.name,
            "incarnation": "i1",
            **hello,
        }
        first.setdefault("generation", self.generation)
        self.say(hello=sitelink_pb2.SiteHello(**first))
        self._call = self.stub.Session(self._messages())
        welcome = await self._call.read()
        if welcome is grpc.aio.EOF:
            await self._call  # Raises what ended it.
        assert isinstance(welcome, sitelink_pb2.ControlMessage)
        self.epoch = welcome.hello.epoch
        self._reading = asyncio.create_task(self._read())

    async def _messages(self) -> AsyncIterator[sitelink_pb2.SiteMessage]:
        while (message := await self._say.get()) is not None:
            yield message

    async def _read(self) -> None:
        while isinstance(message := await self._call.read(), sitelink_pb2.ControlMessage):
            async with self._changed:
                self.received.append(message)
                if message.HasField("desired"):
                    self._accept(message.desired)
                self._changed.notify_all()

    def _accept(self, desired: sitelink_pb2.Desired) -> None:
        if not desired.from_generation <= self.generation < desired.to_generation:
            return
        if desired.from_generation == 0:
            self.desired.clear()
        for attempt in desired.attempts:
            self.desired[attempt.job_id, attempt.attempt] = attempt
        self.generation = desired.to_generation

    def say(self, **message: Any) -> None:
        """Queues a message to the control plane."""
        self._say.put_nowait(sitelink_pb2.SiteMessage(**message))

    def report(self, *attempts: sitelink_pb2.AttemptReport, nodes: int = 0, gpus: int = 4) -> None:
        """Reports attempts, and so many healthy nodes."""
        self.say(
            report=sitelink_pb2.SiteReport(
                epoch=self.epoch,
                generation=self.generation,
                attempts=attempts,
                nodes=[
                    sitelink_pb2.NodeReport(
                        slot=f"n{n + 1:02}",
                        boot_id=f"boot-{n}",
                        gpu_uuids=[f"GPU-{n}-{g}" for g in range(gpus)],
                        health=common_pb2.HEALTH_OK,
                        isolation=common_pb2.ISOLATION_UID,
                        telemetry="simulated",
                        cpu_arch=common_pb2.CPU_ARCH_AMD64,
                        cpu_milli=64_000,
                        memory_bytes=512 << 30,
                        runtime_alive=True,
                        agent_connected=True,
                    )
                    for n in range(nodes)
                ],
            )
        )

    async def wait(self, holds: Callable[["FakeSite"], bool]) -> None:
        """Until something it was told makes `holds` true."""
        async with self._changed, asyncio.timeout(WAIT_S):
            await self._changed.wait_for(lambda: holds(self))

    async def desires(self, job_id: str, action: "sitelink_pb2.DesiredAction") -> Any:
        """The row of a job once its newest action is this."""

        def rows(_: object) -> list[sitelink_pb2.DesiredAttempt]:
            return [r for (j, _), r in self.desired.items() if j == job_id and r.action == action]

        await self.wait(lambda site: bool(rows(site)))
        return rows(self)[-1]

    async def close(self) -> None:
        """Ends the session, without a word."""
        if self._call is not None:
            self._call.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self.channel.close()


def ended(row: sitelink_pb2.DesiredAttempt, exit_code: int = 0) -> sitelink_pb2.AttemptReport:
    """Every rank of an attempt ended by itself."""
    ranks = [
        jobs_pb2.RankStatus(
            rank=n,
            node=node.slot,
            phase=jobs_pb2.RANK_PHASE_OVER,
            exit_code=exit_code,
            cause=jobs_pb2.RANK_CAUSE_EXIT,
            started_at_ms=1,
            ended_at_ms=2,
        )
        for n, node in enumerate(row.launch.nodes)
    ]
    return sitelink_pb2.AttemptReport(
        job_id=row.job_id,
        attempt=row.attempt,
        phase=sitelink_pb2.ATTEMPT_PHASE_ENDED,
        ranks=ranks,
    )


def started(row: sitelink_pb2.DesiredAttempt) -> sitelink_pb2.AttemptReport:
    """Every rank of an attempt runs."""
    ranks = [
        jobs_pb2.RankStatus(
            rank=n, node=node.slot, phase=jobs_pb2.RANK_PHASE_RUNNING, started_at_ms=1
        )
        for n, node in enumerate(row.launch.nodes)
    ]
    return sitelink_pb2.AttemptReport(
        job_id=row.job_id,
        attempt=row.attempt,
        phase=sitelink_pb2.ATTEMPT_PHASE_RUNNING,
        ranks=ranks,
    )
