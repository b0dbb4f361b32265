"""Values that travel as their fields arrive as they were, with defaults and all."""

import pickle
from dataclasses import replace

from scheduler.model.ids import TenantPath
from scheduler.model.job import Priority, Resources, Topology
from scheduler.model.plan import Blocked, JobClass
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Requirement, Tier

PLAIN = JobClass(
    TenantPath("a/b"), Resources(), Topology(), Requirement(("GB",)), Priority.NORMAL, 1, True
)
ODD = replace(
    PLAIN,
    resources=Resources(nodes=4, mig_profile="1g.10gb", cpu_milli_per_node=7),
    residency=Requirement((), Tier.SECRET, data_sites=(), kind="gang"),
    had_gpu_ms=9,
)


def test_what_a_class_waits_for_arrives_as_it_was_told() -> None:
    full, abroad = Denial(Reason.QUOTA_LIMIT, "full"), Denial(Reason.JURISDICTION, "no", "s", "r")
    for told in (Blocked(PLAIN, (full, abroad)), Blocked(ODD, ())):
        found = pickle.loads(pickle.dumps(told))
        assert found == told
        assert hash(found) == hash(told)
        assert type(found.job_class.residency.tier) is Tier
