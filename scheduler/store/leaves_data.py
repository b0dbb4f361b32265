"""Audit leaves of the data catalogue: complete enough to rebuild it."""

from __future__ import annotations

from scheduler.model.dataset import Dataset
from scheduler.store.audit import AuditWriter
from scheduler.store.codec import plain


def declared(audit: AuditWriter, dataset: Dataset, reason: str) -> None:
    """An entry is now as `dataset`, by whoever it names."""
    body = {"by": dataset.declared_by, "reason": reason, "dataset": plain(dataset)}
    audit.append("dataset_declared", dataset.changed_at_ms, body, tenant=dataset.owner())


def removed(audit: AuditWriter, dataset: Dataset, actor: str, reason: str, now_ms: int) -> None:
    """There is no such entry any more."""
    body = {"by": actor, "reason": reason, "dataset": plain(dataset)}
    audit.append("dataset_removed", now_ms, body, tenant=dataset.owner())
