"""The catalogue's entries between wire and domain."""

from __future__ import annotations

from scheduler.model.dataset import VERSION_DECLARED, Dataset, Label
from scheduler.model.ids import SiteId, TenantPath
from scheduler.model.residency import Tier
from scheduler.wire.enums import known, number
from sovapi.v1 import common_pb2, datasets_pb2


def dataset_to_proto(dataset: Dataset) -> datasets_pb2.Dataset:
    """An entry of the catalogue."""
    return datasets_pb2.Dataset(
        name=dataset.name,
        sites=dataset.sites,
        label=_label_to_proto(dataset.label),
        transfer_basis=dataset.transfer_basis,
        shared_with=dataset.shared_with,
        version=dataset.version,
        digest=dataset.digest,
        size_bytes=dataset.size_bytes,
        job=dataset.job,
        inputs=dataset.inputs,
        declared_by=dataset.declared_by,
        changed_at_ms=dataset.changed_at_ms,
    )


def dataset_from_proto(message: datasets_pb2.Dataset) -> Dataset:
    """An entry of the catalogue. A label that is left out permits nothing."""
    return Dataset(
        name=message.name,
        sites=tuple(SiteId(site) for site in message.sites),
        label=_label_from_proto(message.label),
        transfer_basis=message.transfer_basis,
        shared_with=tuple(TenantPath(path) for path in message.shared_with),
        version=message.version or VERSION_DECLARED,
        digest=message.digest,
        size_bytes=message.size_bytes,
        job=message.job,
        inputs=tuple(message.inputs),
        declared_by=message.declared_by,
        changed_at_ms=message.changed_at_ms,
    )


def _label_to_proto(label: Label) -> datasets_pb2.DatasetLabel:
    return datasets_pb2.DatasetLabel(
        jurisdictions=label.jurisdictions,
        tier=number(common_pb2.Tier, label.tier),
        markings=label.markings,
        data_kinds=label.data_kinds,
        tolerate_foreign_compulsion=label.tolerate_foreign_compulsion,
    )


def _label_from_proto(message: datasets_pb2.DatasetLabel) -> Label:
    return Label(
        jurisdictions=tuple(message.jurisdictions),
        tier=known(Tier, message.tier),
        markings=tuple(message.markings),
        data_kinds=tuple(message.data_kinds),
        tolerate_foreign_compulsion=tuple(message.tolerate_foreign_compulsion),
    )
