"""DatasetService: the tenants' data catalogue."""

from __future__ import annotations

from scheduler.api import calls, pages
from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.control import datasets
from scheduler.wire.datasets import dataset_from_proto, dataset_to_proto
from sovapi.v1 import datasets_pb2

PAGE_KIND = "datasets"


class DatasetService:
    """Serves tenants; what is another's is not found."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "DatasetService/Apply": self.apply,
            "DatasetService/Get": self.get,
            "DatasetService/List": self.list,
            "DatasetService/Remove": self.remove,
        }

    async def apply(
        self, request: datasets_pb2.ApplyDatasetsRequest
    ) -> datasets_pb2.ApplyDatasetsResponse:
        """Declares entries, or changes them."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        declared = tuple(dataset_from_proto(dataset) for dataset in request.datasets)
        changes = await desk.writer.write(
            lambda txn: datasets.apply(
                txn,
                principal,
                declared,
                reason=request.reason,
                dry_run=request.dry_run,
                now_ms=now_ms,
            )
        )
        return datasets_pb2.ApplyDatasetsResponse(changes=changes)

    async def get(self, request: datasets_pb2.GetDatasetRequest) -> datasets_pb2.Dataset:
        """One entry."""
        principal = calls.principal()
        found = await self._desk.reader.read(
            lambda snapshot: datasets.get(snapshot, principal, request.name)
        )
        return dataset_to_proto(found)

    async def list(
        self, request: datasets_pb2.ListDatasetsRequest
    ) -> datasets_pb2.ListDatasetsResponse:
        """What the caller may see, by name."""
        principal = calls.principal()
        found = await self._desk.reader.read(lambda snapshot: datasets.listed(snapshot, principal))
        names = [dataset.name for dataset in found]
        page, token = pages.page_by_name([*found], names, PAGE_KIND, request.page)
        return datasets_pb2.ListDatasetsResponse(
            datasets=[dataset_to_proto(dataset) for dataset in page], next_page_token=token
        )

    async def remove(
        self, request: datasets_pb2.RemoveDatasetRequest
    ) -> datasets_pb2.RemoveDatasetResponse:
        """Takes an entry out of the catalogue."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        await desk.writer.write(
            lambda txn: datasets.remove(txn, principal, request.name, request.reason, now_ms)
        )
        return datasets_pb2.RemoveDatasetResponse()
