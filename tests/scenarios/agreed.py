"""What a story says of agreements: with whom, on what, and which work relies on them."""

from __future__ import annotations

from scheduler.core.budgets import GPU_HOUR_MS
from scheduler.model.agreements import Agreement, Instrument, Scope, Signatory
from scheduler.model.residency import Requirement, Tier
from scheduler.model.tenancy import Budget, BudgetPeriod
from tests.scenarios.declared import Line


def requirement(line: Line) -> Requirement:
    """Where work may be; under an agreement it bears the law of every country that it names."""
    countries, agreement = line.take("country", "GB").split(","), line.take("agreement")
    return Requirement(
        jurisdictions=tuple(countries),
        tolerate_foreign_compulsion=tuple(countries) if agreement else (),
        agreements=(agreement,) if agreement else (),
    )


def pact(line: Line, now_ms: int) -> Agreement:
    """A treaty between the United Kingdom and the country that it opens."""
    name, opens = line.word("the agreement"), line.take("opens", "CA")
    gpus, hours = line.take("gpus"), line.number("hours")
    return Agreement(
        name=name,
        instrument=Instrument.TREATY,
        text="compute is shared",
        cites="a story",
        jurisdictions=(opens,),
        scope=Scope(tier_max=int(Tier.OFFICIAL), kinds=("batch",)),
        valid_from_ms=now_ms,
        valid_until_ms=now_ms + line.time_ms("lasts", "365d"),
        gpu_milli_max=int(gpus) * 1000 if gpus else None,
        budget=_monthly("*", hours) if hours else None,
        signatories=(Signatory("abroad", opens, "key-1"), Signatory("uk", "GB", "key-2")),
        digest=f"{now_ms:064x}",
    )


def _monthly(gpu_class: str, hours: int) -> Budget:
    return Budget(gpu_class, hours * GPU_HOUR_MS, BudgetPeriod.MONTH)  # type: ignore[arg-type]
