"""What stands against a class that found no place, as the planner met it."""

from __future__ import annotations

from scheduler.core.agreement_caps import AgreementCaps
from scheduler.core.answers import Answer
from scheduler.core.budgets import Book
from scheduler.core.waiting import Waiting
from scheduler.model.reasons import Denial, Reason

_KEPT = {
    reason: Denial(reason, detail)
    for reason, detail in (
        (Reason.BEHIND_OTHERS, "there is room, but it is kept for a job that waited longer for it"),
        (Reason.WINDOW, "there is room, but maintenance or a reservation begins there too soon"),
    )
}


def kept_for_others(how: Reason, answer: Answer) -> tuple[Denial, ...]:
    """That what room there is at the sites of `answer` is kept, and what rules out the others."""
    return (_KEPT[how], *answer.denials)


class NoPlace:
    """What stands against a class that found no place. Every search begins with one: what it
    meets nothing of stays as it is here."""

    quota: tuple[Denial, ...] = ()
    power: tuple[Denial, ...] = ()
    agreed: tuple[Denial, ...] = ()
    """What agreements' caps say of sites where there is room."""
    searched = False
    """A GPU class was searched that its quota would have let it use; or is known to be full."""
    held: Reason | None = None
    """There would be room, were nothing kept for others: how it is kept."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def until_ms(
        self, waiting: Waiting, book: Book, agreements: AgreementCaps, now_ms: int
    ) -> int | None:
        """When time alone may change what was found."""
        if not self.quota:
            return self.answer.until_ms
        moments = [self.answer.until_ms]
        if any(denial.reason is Reason.BUDGET_EXHAUSTED for denial in self.quota):
            moments.append(book.next_period_ms(waiting.job_class.tenant, now_ms))
        for denial in self.agreed:
            moments.append(agreements.next_period_ms(denial.subject, now_ms))
        return min((moment for moment in moments if moment is not None), default=None)

    def denials(self, waiting: Waiting) -> tuple[Denial, ...]:
        """The decisive reason first, then everything that rules out sites."""
        others = self.answer.denials
        if not self.answer.classes:
            return others
        if self.power:
            return (*self.power, *others)
        if self.agreed:
            return (*self.agreed, *others)
        if self.quota:
            return (*self.quota, *others)
        if self.held is not None:
            return kept_for_others(self.held, self.answer)
        return waiting.signature.full(self.answer)
