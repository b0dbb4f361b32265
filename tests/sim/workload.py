"""What tenants ask for: jobs of every shape and need, drawn from the seed, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.job import (
    JobSpec,
    OnPartition,
    Preemption,
    Priority,
    Resources,
    Retries,
    Topology,
    TopologyLevel,
    TopologyMode,
)
from scheduler.model.residency import Assurance, NodeSharing, Requirement, Tier
from tests.sim.scripts import Script
from tests.sim.seeds import Dice
from tests.sim.services import Wish, draw_replica, draw_run_ms, draw_wish
from tests.sim.truth import Need

USERS = {
    "trust-a/genomics": "/tenant/trust-a/user/ada",
    "trust-a/radiology": "/tenant/trust-a/user/ada",
    "uni-b/physics": "/tenant/uni-b/user/bob",
}
SHARING = {"tenant": NodeSharing.TENANT, "any": NodeSharing.ANY, "none": NodeSharing.NONE}
SERVICES_PER_MILLE = 120
"""Of what could run, so many are services."""
NEEDS = (
    Need(),
    Need(),
    Need(),
    Need(tolerates=("US",)),
    Need(countries=("GB", "NO")),
    Need(countries=("NO",)),
    Need(countries=("GB",), tolerates=("NO",)),
    Need(markings=("SENSITIVE",)),
    Need(tolerates=("NO", "US"), assurance="AUDITED"),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of what a job takes."""

    nodes: int = 1
    gpus: int = 1
    tasks: int = 1
    gpu_class: str = ""
    sharing: str = "tenant"

    @property
    def ranks(self) -> int:
        """How many processes it has."""
        return self.nodes * self.tasks


@dataclass(slots=True)
class Ask:
    """One submission, and what is known of it at the tenant's side."""

    number: int
    tenant: str
    at_ms: int
    shape: Shape
    need: Need
    script: Script
    spec: JobSpec
    canaries: tuple[str, ...]
    impossible: str = ""
    """Why it must be refused, if it must."""
    leased: bool = False
    key: str = ""
    wish: Wish | None = None
    """Of a service: what its tenant wants of it."""
    wanted: int = 0
    """How many replicas it is to have, as the last answer said."""
    changing: bool = False
    """Whether its tenant still has changes to ask for."""
    cancel_after_ms: int | None = None
    job: str | None = None
    refused: str | None = None
    cancel_asked: bool = False
    answers: list[str] = field(default_factory=list[str])

    @property
    def user(self) -> str:
        """Who submits it."""
        return USERS.get(self.tenant, "/tenant/trust-a/user/ada")

    @property
    def settled(self) -> bool:
        """Whether it was accepted or refused."""
        return self.job is not None or self.refused is not None


def draw_asks(dice: Dice, count: int, span_ms: int) -> list[Ask]:
    """`count` submissions within `span_ms`, by time."""
    moments = sorted(dice.between(0, span_ms) for _ in range(count))
    asks = [_draw(dice.fork(f"job{n}"), n, at_ms) for n, at_ms in enumerate(moments)]
    for ask in asks:
        own = dice.fork(f"job{ask.number}", "service")
        if not ask.impossible and own.chance(SERVICES_PER_MILLE):
            _become_service(own, ask)
    return asks


def _become_service(dice: Dice, ask: Ask) -> None:
    """The submission is for a service instead, of small replicas, so that others find room."""
    gang = dice.chance(150)
    ask.shape = replace(ask.shape, nodes=2 if gang else 1, gpus=dice.pick((1, 1, 2)), tasks=1)
    ask.wish, ask.script = draw_wish(dice), draw_replica(dice)
    ask.wanted = ask.wish.replicas
    resources = replace(ask.spec.resources, nodes=ask.shape.nodes, gpus_per_node=ask.shape.gpus)
    spec = replace(
        ask.spec,
        command=ask.script.command(ask.canaries[2]),
        resources=replace(resources, tasks_per_node=1),
        topology=Topology(TopologyLevel.SITE, TopologyMode.REQUIRED),
    )
    ask.spec = ask.wish.made_of(spec, draw_run_ms(dice))
    ask.cancel_after_ms = dice.between(0, 300_000) if dice.chance(400) else None


def _draw(dice: Dice, number: int, at_ms: int) -> Ask:
    need, tenant = dice.pick(NEEDS), dice.pick(sorted(USERS))
    shape = _shape(dice, dice.pick(("", "", _usual_class(need))))
    script, impossible = _script(dice), ""
    extra: dict[str, object] = {}
    if dice.chance(80):
        shape, need, tenant, impossible, extra = _impossible(dice, shape, need, tenant)
    canaries = tuple(f"canary-{number}-{kind}-{dice.name()}" for kind in ("name", "env", "arg"))
    leased = dice.chance(300)
    limit_ms = dice.between(2_000, 20_000) if dice.chance(60) else 3_600_000
    spec = JobSpec(
        name=canaries[0],
        project=TenantPath(tenant),
        command=script.command(canaries[2]),
        residency=requirement_of(need, shape),
        env=(("CANARY", canaries[1]),),
        resources=Resources(
            nodes=shape.nodes,
            gpus_per_node=shape.gpus,
            gpu_classes=(GpuClass(shape.gpu_class),) if shape.gpu_class else (),
            tasks_per_node=shape.tasks,
        ),
        topology=Topology(
            TopologyLevel.LEAF if shape.nodes == 2 and dice.chance(300) else TopologyLevel.SITE,
            TopologyMode.REQUIRED if dice.chance(500) else TopologyMode.PREFERRED,
        ),
        priority=dice.pick((Priority.NORMAL, Priority.NORMAL, Priority.HIGH)),
        time_limit_ms=limit_ms,
        preemption=Preemption(grace_ms=dice.pick((0, 2_000, 30_000, 90_000))),
        retries=Retries(hardware=dice.between(1, 6), application=dice.between(0, 2)),
        on_partition=OnPartition.REQUEUE if leased else OnPartition.KEEP,
        image="sha256:0" if "image" in extra else "",
    )
    return Ask(
        number, tenant, at_ms, shape, need, script, spec, canaries, impossible, leased,
        key=f"key-{number}",
        cancel_after_ms=dice.between(0, 90_000) if dice.chance(180) else None,
    )  # fmt: skip


def requirement_of(need: Need, shape: Shape) -> Requirement:
    """The need in the control plane's words."""
    return Requirement(
        jurisdictions=need.countries,
        tier=Tier[need.tier],
        markings=need.markings,
        tolerate_foreign_compulsion=need.tolerates,
        node_sharing=SHARING[shape.sharing],
        min_assurance=Assurance[need.assurance],
    )


def _usual_class(need: Need) -> str:
    """What most sites have that such work may be at."""
    return "A100" if need.countries == ("NO",) else "H100"


def _shape(dice: Dice, gpu_class: str) -> Shape:
    sharing = dice.pick(("tenant", "tenant", "tenant", "any", "any", "none"))
    match dice.between(0, 9):
        case 0 | 1 | 2 | 3:
            return Shape(1, 1, 1, gpu_class, sharing)
        case 4 | 5:
            return Shape(1, 2, dice.pick((1, 2)), gpu_class, sharing)
        case 6:
            return Shape(1, dice.pick((2, 2, 4)), 1, gpu_class, sharing)
        case 7 | 8:
            return Shape(2, dice.pick((1, 2)), 1, gpu_class, sharing)
        case _:
            return Shape(dice.pick((2, 3)), dice.pick((1, 2)), 1, gpu_class, sharing)


def _script(dice: Dice) -> Script:
    runs_ms = dice.between(500, 60_000)
    if dice.chance(120):
        runs_ms = dice.between(60_000, 300_000)
    term_ms = dice.pick((-1, 0, 200, 4_000))
    match dice.between(0, 9):
        case 0:
            bad = dice.pick((-1, 0, 1))
            return Script(runs_ms, code=dice.between(1, 120), bad_rank=bad, term_ms=term_ms)
        case 1:
            return Script(runs_ms, signal=dice.pick((6, 9, 11)), term_ms=term_ms)
        case 2:
            return Script(runs_ms, code=3, bad_attempts=1, term_ms=term_ms)
        case _:
            return Script(runs_ms, term_ms=term_ms, term_code=dice.pick((0, 15)))


def _impossible(
    dice: Dice, shape: Shape, need: Need, tenant: str
) -> tuple[Shape, Need, str, str, dict[str, object]]:
    """A submission that no fleet of ours can ever hold, and why."""
    match dice.between(0, 6):
        case 0:
            return Shape(1, 16), need, tenant, "no node has 16 GPUs", {}
        case 1:
            return shape, Need(countries=("FR",)), tenant, "policy does not allow FR", {}
        case 2:
            return shape, Need(markings=("ATOMIC",)), tenant, "no site handles ATOMIC", {}
        case 3:
            return shape, Need(tier="TOP_SECRET"), tenant, "above the control plane's tier", {}
        case 4:
            return Shape(7, 1), need, tenant, "no site has seven nodes", {}
        case 5:
            return shape, need, "trust-a/nobody", "no such project", {}
        case _:
            return shape, need, tenant, "an image is named by a whole digest", {"image": True}
