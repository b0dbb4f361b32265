"""What may still be used under each agreement: GPUs at once, and GPU time in a period.

Hard limits, as a quota's are. What live attempts have reserved counts like what was used, as it
does in budgets (`budgets`), so what is charged never passes a cap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scheduler.core.budgets import day_named, day_of, hours, window
from scheduler.core.quota import gpus
from scheduler.model.agreements import Agreement
from scheduler.model.plan import AgreementUsed
from scheduler.model.reasons import Denial, Reason

_DAY_MS = 24 * 3600 * 1000


class AgreementCaps:
    """The agreements in force, and what is used under each."""

    def __init__(
        self, agreements: Iterable[Agreement] = (), used: Iterable[AgreementUsed] = ()
    ) -> None:
        self._agreements = {agreement.name: agreement for agreement in agreements}
        self._milli: dict[str, int] = {}
        self._spent: dict[str, dict[int, int]] = {}
        for each in used:
            self.put(each)

    def __bool__(self) -> bool:
        return bool(self._agreements)

    def under(self, agreements: Iterable[Agreement]) -> None:
        """These are in force now; what is used under them stays as it is."""
        self._agreements = {agreement.name: agreement for agreement in agreements}

    def put(self, used: AgreementUsed) -> None:
        """What is used under one agreement is now this: absolute."""
        self._milli[used.name] = used.gpu_milli
        self._spent[used.name] = dict(used.spent_gpu_ms)

    def hold(self, name: str, milli: int, cost_gpu_ms: int, now_ms: int) -> None:
        """A placement made now holds so much under `name`; negative amounts take it back."""
        self._milli[name] = self._milli.get(name, 0) + milli
        days = self._spent.setdefault(name, {})
        days[day_of(now_ms)] = days.get(day_of(now_ms), 0) + cost_gpu_ms

    def denials(self, name: str, milli: int, cost_gpu_ms: int, now_ms: int) -> tuple[Denial, ...]:
        """Every cap of an agreement that so much more would break."""
        agreement = self._agreements.get(name)
        if agreement is None:
            return ()
        found: list[Denial] = []
        most, used = agreement.gpu_milli_max, self._milli.get(name, 0)
        if most is not None and used + milli > most:
            detail = f"cap {gpus(most)} GPUs at once, in use {gpus(used)}, asked {gpus(milli)}"
            found.append(Denial(Reason.AGREEMENT_GPUS, detail, name))
        if (denial := self._over_budget(agreement, cost_gpu_ms, now_ms)) is not None:
            found.append(denial)
        return tuple(found)

    def over(
        self, names: Sequence[str], milli: int, cost_gpu_ms: int, now_ms: int
    ) -> tuple[Denial, ...]:
        """Every cap that so much more would break, where each of `names` has one; nothing where
        any of them has room, or none is needed."""
        found: list[Denial] = []
        for name in names:
            denials = self.denials(name, milli, cost_gpu_ms, now_ms)
            if not denials:
                return ()
            found += denials
        return tuple(found)

    def admitting(self, names: Sequence[str], milli: int, cost_gpu_ms: int, now_ms: int) -> str:
        """The first of `names` that has room for so much more; empty: none has, or is needed."""
        for name in names:
            if not self.denials(name, milli, cost_gpu_ms, now_ms):
                return name
        return ""

    def next_period_ms(self, name: str, now_ms: int) -> int | None:
        """When the present period of an agreement's GPU time ends; None: it has none."""
        agreement = self._agreements.get(name)
        if agreement is None or agreement.budget is None:
            return None
        period = window(agreement.budget, day_of(now_ms))
        return None if period is None else period.end * _DAY_MS

    def spent_gpu_ms(self, agreement: Agreement, now_ms: int) -> int:
        """What is reserved and charged in the present period."""
        period = None if agreement.budget is None else window(agreement.budget, day_of(now_ms))
        days = self._spent.get(agreement.name, {})
        return sum(ms for day, ms in days.items() if period is not None and period.has(day))

    def _over_budget(self, agreement: Agreement, cost_gpu_ms: int, now_ms: int) -> Denial | None:
        budget = agreement.budget
        period = None if budget is None else window(budget, day_of(now_ms))
        if budget is None or period is None:
            return None
        left = budget.amount_gpu_ms - self.spent_gpu_ms(agreement, now_ms)
        if cost_gpu_ms <= left:
            return None
        detail = (
            f"{hours(max(0, left))} of {hours(budget.amount_gpu_ms)} GPU-hours are left until"
            f" {day_named(period.end)}, it would reserve {hours(cost_gpu_ms)}"
        )
        return Denial(Reason.AGREEMENT_GPU_HOURS, detail, agreement.name)
