"""Data that work reads and writes: where it lies, and what its label demands."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.model.ids import SiteId, TenantPath
from scheduler.model.residency import Tier

VERSION_DECLARED = "current"
"""Which version of a declared dataset is read where its declaration names none."""


@dataclass(frozen=True, slots=True)
class Label:
    """What work that reads the data must hold to, whatever it asks for itself.

    `jurisdictions` is the zone that the data does not leave; an empty one permits nothing. Whose
    law may reach the data from abroad is in the last, and by default nobody's.
    """

    jurisdictions: tuple[str, ...]
    tier: Tier
    markings: tuple[str, ...] = ()
    data_kinds: tuple[str, ...] = ()
    tolerate_foreign_compulsion: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """An entry of the catalogue. `name` is its owner's path, "/", and a name of its own.

    `job`, `inputs`, `digest` and `size_bytes` are of what a job wrote: its public id, what it read
    as "NAME@VERSION", and SHA-256 over the listing of its files.
    """

    name: str
    sites: tuple[SiteId, ...]
    label: Label
    transfer_basis: str
    shared_with: tuple[TenantPath, ...] = ()
    version: str = VERSION_DECLARED
    digest: str = ""
    size_bytes: int = 0
    job: str = ""
    inputs: tuple[str, ...] = ()
    declared_by: str = ""
    changed_at_ms: int = 0

    def owner(self) -> TenantPath:
        """Whose it is: a node of the tenant tree."""
        return TenantPath(self.name.rpartition("/")[0])

    def readers(self) -> tuple[TenantPath, ...]:
        """The nodes of the tree at and below which work may read it, the owner first."""
        return (self.owner(), *self.shared_with)
