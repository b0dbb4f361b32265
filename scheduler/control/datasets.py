"""The data catalogue: who declares what, and who is shown it.

An entry is its owner's: whoever acts for that node of the tree, or for one above it, may declare,
change and remove it. Who it is shared with sees it. To everybody else it was never there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scheduler.control.declare import difference
from scheduler.core import data_rules
from scheduler.model.dataset import Dataset
from scheduler.model.identity import Principal
from scheduler.model.ids import TenantPath
from scheduler.model.reasons import Denial, Reason, invalid, not_found
from scheduler.model.residency import FactKey
from scheduler.store import leaves_data
from scheduler.store.store import Snapshot, Txn


def apply(
    txn: Txn,
    principal: Principal,
    datasets: Sequence[Dataset],
    *,
    reason: str,
    dry_run: bool,
    now_ms: int,
) -> tuple[str, ...]:
    """Declares entries, or changes them; the difference. Those not named stay.

    Of an entry that a job wrote, its digest and lineage stay while its version does.
    """
    _refuse_faulty(txn, principal, datasets)
    known = txn.tenancy.datasets.named(dataset.name for dataset in datasets)
    before = {name: _declared(dataset) for name, dataset in known.items()}
    after = {dataset.name: _declared(dataset) for dataset in datasets}
    changes = difference(before, after)
    if dry_run:
        return changes
    for name in sorted(after):
        if before.get(name) == after[name]:
            continue
        stamped = replace(after[name], declared_by=principal.path, changed_at_ms=now_ms)
        was = known.get(name)
        if was is not None and was.version == stamped.version:
            stamped = replace(
                stamped,
                digest=was.digest,
                size_bytes=was.size_bytes,
                job=was.job,
                inputs=was.inputs,
            )
        txn.tenancy.datasets.put(stamped)
        leaves_data.declared(txn.audit, stamped, reason)
    return changes


def remove(txn: Txn, principal: Principal, name: str, reason: str, now_ms: int) -> None:
    """Takes an entry out of the catalogue. Its files stay where they are."""
    found = get(txn, principal, name)
    if not principal.may_see(found.owner()):
        raise not_found("dataset of yours", name[:200])
    txn.tenancy.datasets.remove(name)
    leaves_data.removed(txn.audit, found, principal.path, reason, now_ms)


def get(read: Snapshot, principal: Principal, name: str) -> Dataset:
    """An entry that the caller may see."""
    found = read.tenancy.datasets.named((name,)).get(name)
    if found is None or not _may_see(principal, found):
        raise not_found("dataset", name[:200])
    return _as_seen(principal, found)


def listed(read: Snapshot, principal: Principal) -> tuple[Dataset, ...]:
    """Every entry that the caller may see, by name."""
    return tuple(
        _as_seen(principal, dataset)
        for dataset in read.tenancy.datasets.all()
        if _may_see(principal, dataset)
    )


def readable(read: Snapshot, names: Sequence[str], project: TenantPath) -> dict[str, Dataset]:
    """Those of `names` that work of `project` may read."""
    found = read.tenancy.datasets.named(names)
    return {name: each for name, each in found.items() if data_rules.may_read(each, project)}


def _may_see(principal: Principal, dataset: Dataset) -> bool:
    """Who may read it with some project of theirs, or acts for its owner."""
    own = principal.tenant
    if own is None:
        return False
    return data_rules.may_read(dataset, own) or any(map(principal.may_see, dataset.readers()))


def _as_seen(principal: Principal, dataset: Dataset) -> Dataset:
    """Who reads what another shares is not told with whom else, nor which work wrote it."""
    own = principal.tenant
    assert own is not None, "only tenants see datasets"
    of_theirs = principal.may_see(dataset.owner()) or own.startswith(f"{dataset.owner()}/")
    if of_theirs:
        return dataset
    return replace(dataset, shared_with=(), job="", inputs=(), declared_by="")


def _declared(dataset: Dataset) -> Dataset:
    """An entry without what nobody declares."""
    return replace(
        dataset, digest="", size_bytes=0, job="", inputs=(), declared_by="", changed_at_ms=0
    )


def _refuse_faulty(read: Snapshot, principal: Principal, datasets: Sequence[Dataset]) -> None:
    sites = {entry.site.id: entry.site for entry in read.fleet.sites()}
    own = (tenant.path for tenant in read.tenancy.tenants() if principal.may_see(tenant.path))
    faults = [*data_rules.catalogue_faults(datasets, frozenset(sites), frozenset(own))]
    for n, dataset in enumerate(datasets[: data_rules.DATASETS_MAX]):
        for m, name in enumerate(dataset.sites):
            site = sites.get(name)
            facts = () if site is None else site.facts
            countries = {v for f in facts if f.key is FactKey.COUNTRY for v in f.values}
            if abroad := sorted(countries - {*dataset.label.jurisdictions}):
                zone = " ".join(dataset.label.jurisdictions) or "none"
                detail = (
                    f"found {name}, which stands in {' '.join(abroad)}, allowed its zone: {zone}"
                )
                faults.append(Denial(Reason.DATA_ZONE, detail, f"datasets[{n}].sites[{m}]"))
    if faults:
        raise invalid(*faults)
