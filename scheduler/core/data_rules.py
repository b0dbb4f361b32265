"""What data demands of the work that touches it.

Work that reads datasets is judged by its *effective requirement*: its own, narrowed by the label of
each input. Every part only ever narrows, so adding an input, strengthening a label or losing an
entry of the catalogue never lets work be anywhere it might not have been.

* Where it may be, and what may reach it from abroad: what the work AND every label name.
* Tier, markings, kinds of data: the most that the work or any label says.
* Sites: those where all inputs lie, for data is read where it is and not brought elsewhere.

What such work writes has the effective requirement as its label.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from scheduler.core.admission_rules import requirement_faults
from scheduler.model.dataset import Dataset, Label
from scheduler.model.ids import NAME_PATTERN, TENANT_DEPTH_MAX, SiteId, TenantPath
from scheduler.model.job import JobSpec
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Requirement

DATASETS_MAX = 1_000
"""Entries that one declaration has."""
SITES_MAX = 100
SHARED_WITH_MAX = 100
BASIS_CHARACTERS_MAX = 500
INPUTS_MAX = 32
"""Datasets that one job reads, and as many that it writes."""
MOUNT_BYTES_MAX = 512

_VERSION = re.compile(r"[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?")
_MOUNT = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9._-]*)+")
_FROM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*/?")
_SYSTEM = (
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "proc",
    "run",
    "sbin",
    "sys",
    "usr",
)
"""Folders of the root under which nothing is mounted: programs are found by what lies there."""

Faults = Iterator[Denial]


def is_name(name: str) -> bool:
    """Whether `name` is a tenant's path and a name: "trust-a/scans-2026"."""
    parts = name.split("/")
    return 2 <= len(parts) <= TENANT_DEPTH_MAX + 1 and all(map(NAME_PATTERN.fullmatch, parts))


def may_read(dataset: Dataset, project: TenantPath) -> bool:
    """Whether work of `project` may read `dataset`."""
    return any(project == path or project.startswith(f"{path}/") for path in dataset.readers())


def raised(asked: Requirement, inputs: Sequence[Dataset | None]) -> Requirement:
    """The effective requirement of work that asks for `asked` and reads `inputs`.

    None stands for what the catalogue does not have, or not for this work: then there is no site.
    """
    for dataset in inputs:
        asked = _narrowed(asked, dataset)
    return asked


def _narrowed(asked: Requirement, dataset: Dataset | None) -> Requirement:
    if dataset is None:
        return replace(asked, data_sites=())
    label, sites = strictest(inherited(asked), dataset.label), asked.data_sites
    return replace(
        asked,
        jurisdictions=label.jurisdictions,
        tier=label.tier,
        markings=label.markings,
        data_kinds=label.data_kinds,
        tolerate_foreign_compulsion=label.tolerate_foreign_compulsion,
        data_sites=tuple(sorted(dataset.sites if sites is None else {*sites} & {*dataset.sites})),
    )


def _both(asked: tuple[str, ...], label: tuple[str, ...]) -> tuple[str, ...]:
    """In the order of the work, which is its author's."""
    return tuple(word for word in asked if word in label)


def _either(asked: tuple[str, ...], label: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*asked, *label}))


def inherited(effective: Requirement) -> Label:
    """The label of what work with this effective requirement writes."""
    return Label(
        jurisdictions=effective.jurisdictions,
        tier=effective.tier,
        markings=effective.markings,
        data_kinds=effective.data_kinds,
        tolerate_foreign_compulsion=effective.tolerate_foreign_compulsion,
    )


def strictest(one: Label, other: Label) -> Label:
    """The label that holds to both."""
    return Label(
        jurisdictions=_both(one.jurisdictions, other.jurisdictions),
        tier=max(one.tier, other.tier),
        markings=_either(one.markings, other.markings),
        data_kinds=_either(one.data_kinds, other.data_kinds),
        tolerate_foreign_compulsion=_both(
            one.tolerate_foreign_compulsion, other.tolerate_foreign_compulsion
        ),
    )


def input_denials(spec: JobSpec, known: Mapping[str, Dataset]) -> tuple[Denial, ...]:
    """What stands against reading what `spec` names: unlabelled data, or labels that contradict.

    `known`: of the catalogue, what work of its project may read.
    """
    inputs = [known.get(mount.dataset) for mount in spec.inputs]
    missing = [
        Denial(
            Reason.DATA_UNLABELLED,
            f"{mount.dataset} is not in your catalogue, and what has no label is not read",
            f"inputs[{n}].dataset",
        )
        for n, mount in enumerate(spec.inputs)
        if inputs[n] is None
    ]
    effective = raised(spec.residency, inputs)
    if missing or effective.data_sites is None:
        return tuple(missing)
    denials: list[Denial] = []
    if spec.residency.jurisdictions and not effective.jurisdictions:
        zones = "; ".join(f"{d.name} {' '.join(d.label.jurisdictions)}" for d in inputs if d)
        asked = " ".join(spec.residency.jurisdictions)
        detail = f"the work may be in {asked}, and its data does not leave its zone: {zones}"
        denials.append(Denial(Reason.DATA_ZONE, detail, "residency.jurisdictions"))
    if not effective.data_sites:
        lie = "; ".join(f"{d.name} at {' '.join(d.sites) or 'no site'}" for d in inputs if d)
        denials.append(Denial(Reason.DATA_APART, f"no site has all of it: {lie}", "inputs"))
    return tuple(denials)


def spec_faults(spec: JobSpec) -> Faults:
    """Everything malformed in what a job reads and writes."""
    if spec.residency.data_sites is not None:
        yield _fault("residency.data_sites", "a list", "none: it follows from the inputs")
    for field, count in (("inputs", len(spec.inputs)), ("outputs", len(spec.outputs))):
        if count > INPUTS_MAX:
            yield _fault(field, f"{count} datasets", f"at most {INPUTS_MAX}")
    for n, mount in enumerate(spec.inputs[:INPUTS_MAX]):
        at = f"inputs[{n}]"
        yield from _named(f"{at}.dataset", mount.dataset)
        if not _is_mount(mount.mount):
            allowed = f"an absolute path of plain names outside {' '.join(_SYSTEM)}"
            yield _fault(f"{at}.mount", mount.mount, allowed)
    for n, output in enumerate(spec.outputs[:INPUTS_MAX]):
        at, owner = f"outputs[{n}]", output.dataset.rpartition("/")[0]
        yield from _named(f"{at}.dataset", output.dataset)
        if spec.project != owner and not spec.project.startswith(f"{owner}/"):
            allowed = f"a dataset of {spec.project} or of a tenant above it"
            yield _fault(f"{at}.dataset", output.dataset, allowed)
        if not _FROM.fullmatch(output.from_path) or len(output.from_path) > MOUNT_BYTES_MAX:
            yield _fault(f"{at}.from", output.from_path, "a path inside the working directory")
    yield from _apart("inputs", "mount", [mount.mount for mount in spec.inputs])
    yield from _apart("outputs", "from", [each.from_path.rstrip("/") for each in spec.outputs])
    yield from _twice("outputs", "dataset", [output.dataset for output in spec.outputs])
    if spec.outputs and spec.array is not None:
        yield _fault("outputs", "outputs of an array", "none: its tasks would overwrite each other")


def catalogue_faults(
    datasets: Sequence[Dataset], sites: frozenset[SiteId], own: frozenset[TenantPath]
) -> tuple[Denial, ...]:
    """Everything wrong with a declaration; `own` are the tenants that its author acts for."""
    if len(datasets) > DATASETS_MAX:
        return (_fault("datasets", f"{len(datasets)}", f"at most {DATASETS_MAX}"),)
    faults: list[Denial] = []
    for n, dataset in enumerate(datasets):
        faults += _dataset_faults(f"datasets[{n}]", dataset, sites, own)
    faults += _twice("datasets", "name", [dataset.name for dataset in datasets])
    return tuple(faults)


def _dataset_faults(
    at: str, dataset: Dataset, sites: frozenset[SiteId], own: frozenset[TenantPath]
) -> Faults:
    if not is_name(dataset.name) or dataset.owner() not in own:
        allowed = "the path of a tenant of yours, '/', and a name"
        yield _fault(f"{at}.name", dataset.name, allowed)
    yield from _label_faults(f"{at}.label", dataset.label)
    yield from _place_faults(at, dataset, sites)
    if len(dataset.shared_with) > SHARED_WITH_MAX:
        found = f"{len(dataset.shared_with)} tenants"
        yield _fault(f"{at}.shared_with", found, f"at most {SHARED_WITH_MAX}")
    for m, path in enumerate(dataset.shared_with[:SHARED_WITH_MAX]):
        if not all(map(NAME_PATTERN.fullmatch, path.split("/"))):
            yield _fault(f"{at}.shared_with[{m}]", path, "a tenant's path")


def _label_faults(at: str, label: Label) -> Faults:
    as_asked = Requirement(
        jurisdictions=label.jurisdictions,
        tier=label.tier,
        markings=label.markings,
        data_kinds=label.data_kinds,
        tolerate_foreign_compulsion=label.tolerate_foreign_compulsion,
    )
    yield from requirement_faults(as_asked, at)
    if not label.jurisdictions:
        yield _fault(f"{at}.jurisdictions", "none", "the countries it does not leave")


def _place_faults(at: str, dataset: Dataset, sites: frozenset[SiteId]) -> Faults:
    if not 1 <= len(dataset.sites) <= SITES_MAX:
        yield _fault(f"{at}.sites", f"{len(dataset.sites)} sites", f"1 to {SITES_MAX}")
    for m, site in enumerate(dataset.sites[:SITES_MAX]):
        if site not in sites:
            yield _fault(f"{at}.sites[{m}]", site, "a site of the fleet")
    if not 0 < len(dataset.transfer_basis.strip()) <= BASIS_CHARACTERS_MAX:
        allowed = f"1 to {BASIS_CHARACTERS_MAX} characters: why it may be where it is"
        yield _fault(f"{at}.transfer_basis", dataset.transfer_basis, allowed)
    if not _VERSION.fullmatch(dataset.version):
        allowed = "1 to 128 small letters, digits, '.', '_' and '-'"
        yield _fault(f"{at}.version", dataset.version, allowed)


def _is_mount(path: str) -> bool:
    top = path.split("/")[1] if path.startswith("/") else ""
    return (
        _MOUNT.fullmatch(path) is not None and top not in _SYSTEM and len(path) <= MOUNT_BYTES_MAX
    )


def _named(field: str, name: str) -> Faults:
    if not is_name(name):
        yield _fault(field, name, "a tenant's path, '/', and a name, such as trust-a/scans-2026")


def _apart(field: str, of: str, paths: Sequence[str]) -> Faults:
    """No path is, or is within, another one."""
    for n, path in enumerate(paths):
        if any(f"{path}/".startswith(f"{other}/") for m, other in enumerate(paths) if m != n):
            yield _fault(f"{field}[{n}].{of}", path, "a path outside those of the others")
            return


def _twice(field: str, of: str, names: Sequence[str]) -> Faults:
    for n, name in enumerate(names):
        if name in names[:n]:
            yield _fault(f"{field}[{n}].{of}", f"{name} twice", "each once")


def _fault(field: str, found: str, allowed: str) -> Denial:
    shown = ascii(found[:80])[1:-1] or "nothing"
    return Denial(Reason.INVALID_ARGUMENT, f"found {shown}, allowed {allowed}", field)
