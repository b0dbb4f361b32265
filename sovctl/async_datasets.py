"""The data catalogue, as coroutines. Answers are the wire's own messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from sovapi.v1 import common_pb2, datasets_pb2
from sovctl.link import Connected

PAGE_SIZE = 500


class AsyncDatasetCalls(Connected):
    """Calls of DatasetService."""

    async def apply_datasets(
        self, datasets: Iterable[datasets_pb2.Dataset], *, dry_run: bool = False, reason: str = ""
    ) -> Sequence[str]:
        """Declares datasets, or changes them; the changes. Those not named stay."""
        request = datasets_pb2.ApplyDatasetsRequest(
            datasets=datasets, dry_run=dry_run, reason=reason
        )
        return tuple((await self.link.call(self.link.datasets.Apply, request)).changes)

    async def datasets(self) -> AsyncIterator[datasets_pb2.Dataset]:
        """What of the catalogue the caller may see, by name; pages are fetched as needed."""
        token = ""
        while True:
            page = common_pb2.PageRequest(page_size=PAGE_SIZE, page_token=token)
            request = datasets_pb2.ListDatasetsRequest(page=page)
            response = await self.link.call(self.link.datasets.List, request)
            for dataset in response.datasets:
                yield dataset
            token = response.next_page_token
            if not token:
                return

    async def dataset(self, name: str) -> datasets_pb2.Dataset:
        """One dataset: where it lies, its label and, where a job wrote it, its lineage."""
        request = datasets_pb2.GetDatasetRequest(name=name)
        return await self.link.call(self.link.datasets.Get, request)

    async def remove_dataset(self, name: str, *, reason: str = "") -> None:
        """Takes a dataset out of the catalogue; its files stay, and no work may read them."""
        request = datasets_pb2.RemoveDatasetRequest(name=name, reason=reason)
        await self.link.call(self.link.datasets.Remove, request)
