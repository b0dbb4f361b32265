"""The effective requirement of work, by the catalogue as it is."""

from __future__ import annotations

from scheduler.control.datasets import readable
from scheduler.core import data_rules
from scheduler.core.residency import asked_of
from scheduler.model.job import JobSpec
from scheduler.model.residency import Requirement
from scheduler.model.sitelink import LaunchInput
from scheduler.store.store import Snapshot


def effective(read: Snapshot, spec: JobSpec) -> Requirement:
    """What must hold of a site before this work may be there."""
    asked = asked_of(spec)
    if not spec.inputs:
        return asked
    names = [mount.dataset for mount in spec.inputs]
    known = readable(read, names, spec.project)
    return data_rules.raised(asked, [known.get(name) for name in names])


def launch_inputs(read: Snapshot, spec: JobSpec) -> tuple[LaunchInput, ...]:
    """What the ranks are to see of the site's store. What is not there any more is left out: then
    the effective requirement names no site."""
    known = readable(read, [mount.dataset for mount in spec.inputs], spec.project)
    return tuple(
        LaunchInput(mount.dataset, known[mount.dataset].version, mount.mount)
        for mount in spec.inputs
        if mount.dataset in known
    )
