"""What sites, nodes and jobs do where only they are made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.country import BEGIN_MS, OPERATOR, START_MS, Country, Run, Work
from scheduler.control.admission import Rejected
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import TenantPath
from scheduler.model.job import JobSpec, Resources
from tests.store.builders import node, site, spec, tenants

ADA = Principal("/tenant/trust-a/user/ada", Role.TENANT, TenantPath("trust-a"))
MINUTE_MS = 60_000
WORK_MS = 30 * MINUTE_MS
FAILS_MS, DARK_MS = 10 * MINUTE_MS, 5 * MINUTE_MS


def whole_node(name: str) -> JobSpec:
    """A job that leaves room for no other."""
    return replace(spec(name), resources=Resources(gpus_per_node=8), time_limit_ms=2 * WORK_MS)


def test_what_ran_on_a_node_that_boots_anew_is_over_before_others_run_there(
    tmp_path: Path,
) -> None:
    country = Country(f"sqlite:///{tmp_path}/store.db")
    told: list[tuple[str, int]] = []
    useful_ms: list[int] = []

    def over(run: Run) -> None:
        told.append(("over", country.now_ms - BEGIN_MS))
        useful_ms.append(run.useful_ms)

    country.placed = lambda run: told.append(("placed", country.now_ms - BEGIN_MS))
    country.over = over
    lone = node("n01")
    country.declare([(site(), (lone,))])
    with country.store.transaction() as txn:
        country.control.apply_tenants(
            txn, OPERATOR, tenants(), reason="declared", dry_run=False, now_ms=BEGIN_MS
        )
        for name in ("first", "second"):
            job = whole_node(name)
            made = country.submit(txn, ADA, job, Work(job, WORK_MS, saves_every_ms=MINUTE_MS))
            assert not isinstance(made, Rejected)
    country.at(BEGIN_MS + FAILS_MS, lambda txn: country.fail(txn, lone, DARK_MS))
    country.run_until(BEGIN_MS + 90 * MINUTE_MS)
    back_ms = FAILS_MS + DARK_MS
    assert [what for what, _ in told] == ["placed", "over"] * 3
    assert told[1:3] == [("over", back_ms), ("placed", back_ms)]
    ran_ms = FAILS_MS - (told[0][1] + START_MS)
    assert useful_ms[0] == ran_ms // MINUTE_MS * MINUTE_MS  # Nothing while it was dark.
    country.store.close()


def test_elastic_work_takes_as_much_longer_as_it_has_fewer_nodes() -> None:
    elastic = replace(spec("wide"), resources=Resources(nodes=2, gpus_per_node=8, max_nodes=8))
    work = Work(elastic, WORK_MS)
    assert (work.takes_ms(8), work.takes_ms(2)) == (WORK_MS, 4 * WORK_MS)
    work.did(2 * WORK_MS, 2)
    assert work.left_ms == WORK_MS // 2
    plain = Work(whole_node("plain"), WORK_MS)
    plain.did(MINUTE_MS, 1)
    assert plain.takes_ms(1) == WORK_MS - MINUTE_MS
