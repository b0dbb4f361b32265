"""Taking anything from an agreement only ever closes: of any world, and under any shipped pack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from scheduler.model.agreements import Agreement, Instrument
from scheduler.model.ids import TenantPath
from scheduler.model.residency import Policy
from scheduler.proof.worlds import NOW_MS, World
from scheduler.wire.policy import policy_from_proto
from sovctl.policy_file import Policy as Pack
from sovshared import yamlio
from tests.core.test_agreements import PACT, TORONTO, WORK
from tests.proof import drawn

PACKS = Path(__file__).parents[2] / "deploy" / "policies"


def _weaker(of: Agreement) -> Iterator[Agreement | None]:
    """The agreement with one thing taken from it; and gone."""
    yield None
    yield replace(of, valid_until_ms=of.valid_from_ms)
    yield replace(of, valid_from_ms=of.valid_until_ms)
    yield replace(of, sites=("nowhere",))
    for n in range(len(of.jurisdictions)):
        yield replace(of, jurisdictions=of.jurisdictions[:n] + of.jurisdictions[n + 1 :])
    scope = of.scope
    for narrower in (
        replace(scope, tier_max=scope.tier_max - 1),
        replace(scope, kinds=()),
        replace(scope, tenants=(TenantPath("nobody"),)),
        replace(scope, markings=scope.markings[1:]),
        replace(scope, data_kinds=scope.data_kinds[1:]),
    ):
        yield replace(of, scope=narrower)


def _closes(policy: Policy, world: World) -> int:
    """Checks that nothing weaker permits what is denied; how many permits it took away."""
    assert world.agreement is not None
    before, closed = world.permitted(policy), 0
    for weaker in _weaker(world.agreement):
        after = replace(world, agreement=weaker).permitted(policy)
        assert before or not after, (world, weaker)
        closed += before and not after
    return closed


def test_deleting_expiring_or_weakening_an_agreement_only_ever_closes() -> None:
    draw, closed = Random(41), 0
    for _ in range(1_500):
        policy, world = drawn.policy(draw), drawn.world(draw)
        if world.agreement is not None:
            closed += _closes(policy, world)
    assert closed > 10


@pytest.mark.parametrize("pack", ["uk-canada", "nhs-england", "gb-only", "uk-or-adequate"])
def test_under_every_shipped_pack_too(pack: str) -> None:
    document = yamlio.load(PACKS / f"{pack}.yaml", bytes_max=1 << 20)
    message = Pack.model_validate(document.value).to_proto()
    policy = replace(policy_from_proto(message), min_isolation=0)
    for instrument in Instrument:
        pact = replace(
            PACT, instrument=instrument, valid_from_ms=NOW_MS - 1,
            valid_until_ms=NOW_MS + 1, name="uk-ca",
        )  # fmt: skip
        now = replace(
            TORONTO, facts=tuple(replace(f, observed_at_ms=NOW_MS) for f in TORONTO.facts)
        )
        world = World(WORK, now, agreement=pact)
        closed = _closes(policy, world)
        assert (closed > 0) is (instrument in policy.instruments), (pack, instrument)
