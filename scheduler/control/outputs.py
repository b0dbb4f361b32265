"""What a job left in its site's store, taken into the catalogue when the job has succeeded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from scheduler.control.datasets import readable
from scheduler.control.requirements import effective
from scheduler.core import data_rules
from scheduler.core.data_told import DataTouched
from scheduler.model.dataset import Dataset
from scheduler.model.ids import AttemptKey, SiteId
from scheduler.model.job import Attempt, JobSpec, WrittenOutput
from scheduler.store import leaves_data
from scheduler.store.records import JobRow
from scheduler.store.store import Snapshot, Txn

SIZE_BYTES_MAX = 1 << 53
"""More than this is no size that a site can mean."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def read_by(read: Snapshot, spec: JobSpec) -> tuple[DataTouched, ...]:
    """What work reads, as the catalogue has it now; what it has no more has no version."""
    known = readable(read, [mount.dataset for mount in spec.inputs], spec.project)
    found = ((mount.dataset, known.get(mount.dataset)) for mount in spec.inputs)
    return tuple(
        DataTouched(name, "" if it is None else it.version, "" if it is None else it.digest)
        for name, it in found
    )


def register(
    txn: Txn, row: JobRow, spec: JobSpec, attempt: Attempt, now_ms: int
) -> tuple[DataTouched, ...]:
    """Puts what the last attempt left into the catalogue; what that was.

    Its label is as strict as all that the job was placed by, as its inputs' labels are now, and as
    the entry of that name was before: a label of what exists is never loosened by writing it.
    """
    read = read_by(txn, spec)
    placed_by = txn.jobs.job_class(row.class_id).residency
    label = data_rules.strictest(
        data_rules.inherited(placed_by), data_rules.inherited(effective(txn, spec))
    )
    job = txn.audit.name_of(row.id)
    left = {output.dataset: output for output in _left(txn, spec, attempt.key)}
    before = txn.tenancy.datasets.named(left)
    for name in sorted(left):
        was = before.get(name)
        entry = Dataset(
            name=name,
            sites=(SiteId(attempt.site),),
            label=label if was is None else data_rules.strictest(label, was.label),
            transfer_basis=f"written there by job {job}" if was is None else was.transfer_basis,
            shared_with=() if was is None else was.shared_with,
            version=left[name].digest.removeprefix("sha256:"),
            digest=left[name].digest,
            size_bytes=left[name].size_bytes,
            job=job,
            inputs=tuple(f"{each.dataset}@{each.version}" for each in read),
            declared_by=row.owner,
            changed_at_ms=now_ms,
        )
        txn.tenancy.datasets.put(entry)
        leaves_data.declared(txn.audit, entry, f"job {job}")
    return _touched([left[name] for name in sorted(left)])


def _left(txn: Txn, spec: JobSpec, key: AttemptKey) -> Iterator[WrittenOutput]:
    """What the ranks say that they left, and were to leave: a site's word goes no further."""
    wanted = {output.dataset for output in spec.outputs}
    for rank in txn.attempts.ranks(key):
        for output in rank.outputs:
            sound = _DIGEST.fullmatch(output.digest) and 0 <= output.size_bytes <= SIZE_BYTES_MAX
            if sound and output.dataset in wanted:
                yield output


def _touched(outputs: Sequence[WrittenOutput]) -> tuple[DataTouched, ...]:
    return tuple(
        DataTouched(each.dataset, each.digest.removeprefix("sha256:"), each.digest)
        for each in outputs
    )
