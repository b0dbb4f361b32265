"""Who is on each node, and what each class asks for, remembered by the one writer.

The simple equivalent is to read the occupants of every node of a plan with each plan. Nothing but
transactions of this writer changes them: what a transaction changes, it forgets or changes here
too, and what it undoes is forgotten and read again. Tests hold it against the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scheduler.core.asks import ask_of
from scheduler.core.occupancy import Occupant
from scheduler.core.power import Cap, cap_of
from scheduler.model.fleet import Site
from scheduler.model.ids import JobId, NodeId
from scheduler.store.attempts import AttemptsReader
from scheduler.store.fleet import FleetReader
from scheduler.store.jobs import CLASSES_CACHED_MAX, JobsReader
from scheduler.store.known import Group, KnownNode, Taken
from scheduler.store.scratch import Scratch

LEARNED_MAX = 500
"""Nodes that are learned at once: some tens of milliseconds of a transaction."""


class Mirror:
    """The writer's own picture of who is where, in one transaction."""

    def __init__(
        self, jobs: JobsReader, attempts: AttemptsReader, fleet: FleetReader, scratch: Scratch
    ) -> None:
        self._jobs = jobs
        self._attempts = attempts
        self._fleet = fleet
        self._scratch = scratch
        self._memo = scratch.memo

    def learn(self) -> int:
        """Remembers the next of all declared nodes; how many they were, 0 once all were learned.

        A leader that began a moment ago learns its fleet little by little: a node that a plan needs
        and that nobody asked about yet costs as much as three placements.
        """
        known = self._memo.known
        if known.learned_to is None:
            return 0
        found = self._fleet.ids_after(known.learned_to, LEARNED_MAX)
        self.records(found)
        known.learned_to = found[-1] if len(found) == LEARNED_MAX else None
        return len(found)

    def groups(self, class_ids: Iterable[int]) -> dict[int, Group]:
        """As `group`, of many."""
        wanted = set(class_ids)
        self._jobs.job_classes(class_id for class_id in wanted if class_id not in self._memo.groups)
        return {class_id: self.group(class_id) for class_id in wanted}

    def group(self, class_id: int) -> Group:
        """A class as placements are checked by it."""
        groups = self._memo.groups
        known = groups.get(class_id)
        if known is None:
            if len(groups) >= CLASSES_CACHED_MAX:
                groups.clear()
                self._memo.known.steps.clear()
            job_class = self._jobs.job_class(class_id)
            numbers, requirement = self._memo.requirements, job_class.residency
            number = numbers.setdefault(requirement, len(numbers))
            limit_ms = job_class.time_limit_bucket_ms
            ask = ask_of(job_class)
            steps = self._memo.known.steps_of(ask.shape)
            known = Group(job_class.tenant, limit_ms, ask, requirement, number, steps)
            groups[class_id] = known
        return known

    def cap(self, site: Site) -> Cap | None:
        """What `site`, as it is declared, may draw; None where it is not bounded."""
        caps = self._memo.caps
        if site.id not in caps:
            nodes = () if site.power_cap_w is None else self._fleet.nodes(site.id)
            found = cap_of(site, (entry.node for entry in nodes))
            if self._scratch.declared_changed:
                return found  # That may yet be undone.
            caps[site.id] = found
        return caps[site.id]

    def records(self, nodes: Iterable[NodeId]) -> Mapping[NodeId, KnownNode]:
        """Those of `nodes` that are declared, and perhaps others, with who is on them."""
        known = self._memo.known
        records = known.records
        known.bound()
        missing = sorted({node for node in nodes if node not in records})
        if missing:
            held = self._attempts.occupants(missing)
            for node, entry in self._fleet.nodes_by_id(missing).items():
                occupants = {
                    o.key.job: _occupant(o.key.job, self.group(o.class_id), o.placed.gpu_mask)
                    for o in held.get(node, ())
                }
                known.add(entry.node, entry.report, occupants)
        return records

    def take(self, job: JobId, group: Group, taken: Iterable[Taken]) -> None:
        """A job is on these nodes from now on: its attempt is about to be added."""
        for record, gpu_mask, after in taken:
            record.show(_occupant(job, group, gpu_mask))
            record.take(after, group.alone)

    def undo_with_transaction(self, nodes: Iterable[NodeId]) -> None:
        """What is about to be taken of `nodes` is forgotten when that is undone."""
        records, touched = self._memo.known.records, tuple(nodes)

        def forget() -> None:
            for node in touched:
                records.pop(node, None)

        self._scratch.undo.append(forget)


def _occupant(job: JobId, group: Group, gpu_mask: int) -> Occupant:
    """A job's part of a node."""
    ask = group.ask
    return Occupant(job, gpu_mask, ask.shape, ask.sharing, ask.organisation, 0)
