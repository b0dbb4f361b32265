"""What the planner's process is asked and what it answers, as pickled over its pipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from scheduler.model.ids import JobId
from scheduler.model.plan import Blocked, Explanation, JobClass, Plan, PlanBudget, Underway
from scheduler.model.whatif import Other, WhatIf


@dataclass(frozen=True, slots=True)
class MakePlan:
    """What to place now."""

    now_ms: int
    budget: PlanBudget
    number: int = 0
    """Tells it from every other plan of this leader, so that the planner, asked again, knows what
    was committed of it."""
    underway: Underway | None = None
    """The plan that is being committed meanwhile, and counts as committed."""


@dataclass(frozen=True, slots=True)
class ExplainJob:
    """Why a job waits."""

    now_ms: int
    job: JobId
    job_class: JobClass | None = None
    """Spares a search."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would become of a job of this class, were it queued now."""

    now_ms: int
    job_class: JobClass


@dataclass(frozen=True, slots=True)
class AskWhatIf:
    """What the queue would do under this tree, or with this fleet."""

    now_ms: int
    other: Other


Question: TypeAlias = MakePlan | ExplainJob | Forecast | AskWhatIf


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and its number."""

    number: int
    question: Question


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and what is new of the classes that it leaves blocked, against the plan before it.

    A plan blocks thousands of classes, most of them as before: to tell it whole each time held the
    event loop's process up for longer than everything else that it does.
    """

    plan: Plan
    """Without its blocked classes."""
    blocked: tuple[Blocked, ...]
    """Those that were not, or for another reason, each with its decisive denial alone."""
    freed: tuple[JobClass, ...]
    """Those that no longer are."""
    anew: bool
    """There was no plan before: what is blocked is all here."""


@dataclass(frozen=True, slots=True)
class NotAhead:
    """No plan can be made on what is being committed: ask again when it is."""


Answer: TypeAlias = Planned | NotAhead | Explanation | WhatIf


@dataclass(frozen=True, slots=True)
class RefusedAnswer:
    """A refusal, in parts: exceptions with arguments of their own do not travel well."""

    parts: tuple[Any, ...]
    retry_after_ms: int | None


@dataclass(frozen=True, slots=True)
class Broken:
    """A bug: the traceback, for the log."""

    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to the question of the same number."""

    number: int
    answer: Answer | RefusedAnswer | Broken
