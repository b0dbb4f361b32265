"""Agreements: signed statements of two or more parties that open jurisdictions to some work.

An agreement widens where work may be, and nothing else: tier, markings, whose law reaches the work
and every rule of the policy are judged as they would be without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scheduler.model.ids import TenantPath
from scheduler.model.tenancy import Budget


class Instrument(StrEnum):
    """What sort of statement it is; a policy says which of them it honours."""

    APPROVAL = "approval"
    """Of those who bear a risk, such as a senior information risk owner."""
    CONTRACT = "contract"
    MEMORANDUM = "memorandum"
    TREATY = "treaty"


@dataclass(frozen=True, slots=True, order=True)
class Signatory:
    """A party whose key has signed the agreement."""

    party: str
    country: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Scope:
    """The work that an agreement is about. Work that is outside in one respect is outside."""

    tier_max: int
    """The highest `residency.Tier`."""
    kinds: tuple[str, ...]
    """Kinds of jobs, such as batch."""
    tenants: tuple[TenantPath, ...] = ()
    """These and everything below them; empty: every tenant."""
    markings: tuple[str, ...] = ()
    """Work may bear these, and no others."""
    data_kinds: tuple[str, ...] = ()
    """Work may touch data of these kinds, and of no others."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What is agreed. In force from `valid_from_ms` up to, and without, `valid_until_ms`."""

    name: str
    instrument: Instrument
    text: str
    """What it is, in a sentence, for people."""
    cites: str
    """Where it can be read."""
    jurisdictions: tuple[str, ...]
    """The countries that it opens."""
    scope: Scope
    valid_from_ms: int
    valid_until_ms: int
    sites: tuple[str, ...] = ()
    """Only these sites of those countries; empty: all of them."""
    gpu_milli_max: int | None = None
    """The most that may be in use under it at once; None: no cap."""
    budget: Budget | None = None
    """GPU time that may be used under it in each period, on GPUs of all classes."""
    signatories: tuple[Signatory, ...] = ()
    digest: str = ""
    """SHA-256 of the document that was signed, in hex."""
