"""The data catalogue, and which open jobs read what of it."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import delete, select, update

from scheduler.model.dataset import Dataset
from scheduler.model.ids import JobId
from scheduler.store.codec import decode, encode
from scheduler.store.dialect import chunks
from scheduler.store.link import Link
from scheduler.store.schema_data import DATASETS, JOB_INPUTS
from scheduler.store.scratch import Scratch


class DatasetsReader:
    """Reads the catalogue."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def all(self) -> tuple[Dataset, ...]:
        """Every entry, by name."""
        bodies = self._link.execute(select(DATASETS.c.body).order_by(DATASETS.c.name)).scalars()
        return tuple(decode(Dataset, body) for body in bodies)

    def named(self, names: Iterable[str]) -> dict[str, Dataset]:
        """Those of `names` that are in the catalogue."""
        found: dict[str, Dataset] = {}
        for chunk in chunks(sorted(set(names))):
            query = select(DATASETS).where(DATASETS.c.name.in_(chunk))
            for row in self._link.execute(query):
                found[row.name] = decode(Dataset, row.body)
        return found

    def reading(self, jobs: Iterable[JobId]) -> frozenset[JobId]:
        """Those of `jobs` that read anything of the catalogue."""
        found: set[JobId] = set()
        for chunk in chunks(sorted(set(jobs))):
            query = select(JOB_INPUTS.c.job).where(JOB_INPUTS.c.job.in_(chunk)).distinct()
            found.update(JobId(job) for job in self._link.execute(query).scalars())
        return frozenset(found)

    def to_judge_again(self, limit: int) -> tuple[JobId, ...]:
        """Jobs that read what has changed since they were last judged; the first `limit`."""
        query = select(JOB_INPUTS.c.job).where(JOB_INPUTS.c.stale).distinct()
        query = query.order_by(JOB_INPUTS.c.job).limit(limit)
        return tuple(JobId(job) for job in self._link.execute(query).scalars())


class DatasetsWriter(DatasetsReader):
    """Changes the catalogue."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)

    def put(self, dataset: Dataset) -> None:
        """Adds an entry, or changes it; who reads it is to be judged again."""
        self._link.upsert(DATASETS, [{"name": dataset.name, "body": encode(dataset)}])
        self._changed(dataset.name)

    def remove(self, name: str) -> None:
        """There is no such entry any more; who reads it is to be judged again."""
        self._link.execute(delete(DATASETS).where(DATASETS.c.name == name))
        self._changed(name)

    def _changed(self, name: str) -> None:
        readers = update(JOB_INPUTS).where(JOB_INPUTS.c.dataset == name)
        self._link.execute(readers.values(stale=True))

    def read_by(self, job: JobId, names: Iterable[str]) -> None:
        """`job` reads these, from now until it is over."""
        rows = [{"job": job, "dataset": name, "stale": False} for name in sorted(set(names))]
        if rows:
            self._link.upsert(JOB_INPUTS, rows)

    def judged(self, jobs: Iterable[JobId]) -> None:
        """`jobs` were judged by the catalogue as it is."""
        for chunk in chunks(sorted(set(jobs))):
            query = update(JOB_INPUTS).where(JOB_INPUTS.c.job.in_(chunk))
            self._link.execute(query.values(stale=False))

    def over(self, job: JobId) -> None:
        """`job` reads nothing any more."""
        self._link.execute(delete(JOB_INPUTS).where(JOB_INPUTS.c.job == job))
