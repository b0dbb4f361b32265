"""What a search for victims finds: whom to end, for whom, and by which rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.core.answers import ClassAnswer
from scheduler.core.clearing import Price
from scheduler.core.outlook import Claim
from scheduler.model.ids import AttemptKey, JobId
from scheduler.model.plan import JobClass, LiveAttempt


@dataclass(frozen=True, slots=True)
class Victims:
    """Whom to end for a job, and where it starts once they are over."""

    keys: tuple[AttemptKey, ...]
    claim: Claim
    detail: str


@dataclass(frozen=True, slots=True)
class Option:
    """Nodes of one site, by their bits, and who has to leave them."""

    price: Price
    where: ClassAnswer
    number: int
    nodes: int
    leave: tuple[JobId, ...]


def why(job_class: JobClass, victims: Sequence[LiveAttempt]) -> str:
    """By which rule `victims` leave for a job of the class."""
    if any(victim.tenant != job_class.tenant for victim in victims):
        return f"to give {job_class.tenant} back what it is guaranteed"
    if any(victim.job_class.priority == job_class.priority for victim in victims):
        return "to make room for a shorter job of the same project"
    return "to make room for a job of higher priority in the same project"
