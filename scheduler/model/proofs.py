"""What was proved of a policy, and what could not be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scheduler.model.residency import Policy

NO_LOOSER = "no-looser"
"""The claim that a policy permits nothing which the one in force does not."""


class Standing(StrEnum):
    """What became of a claim."""

    PROVED = "proved"
    BROKEN = "broken"
    """There is a counterexample."""
    UNKNOWN = "unknown"
    """Neither: the solver gave up. Treated as not proved."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim about a policy."""

    claim: str
    """`NO_LOOSER`, or the id of an invariant."""
    text: str
    standing: Standing
    counterexample: tuple[str, ...] = ()
    """Work and site that would be permitted against the claim, a line each."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Everything that was asked of one change of policy."""

    findings: tuple[Finding, ...]

    def holds(self) -> bool:
        """Whether all of it is proved."""
        return all(finding.standing is Standing.PROVED for finding in self.findings)


@dataclass(frozen=True, slots=True)
class ToProve:
    """A change of policy: from what is in force to what is proposed."""

    before: Policy
    after: Policy
    milliseconds_max: int
    """For each claim; beyond it the claim counts as not proved."""
