"""Loaders of prepared workloads. The files stay where they are; none is part of the project.

A directory holds one folder a data set, each with the columns that its loader names; other traces
of the same columns load in the same way. What is missing or malformed is said all at once, with
the file, the field, what was found and what is allowed.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

ENVIRONMENT = "SOV_BENCH_DATA"
BESIDE_CHECKOUT = Path("../shared/data/traces")
ROWS_MAX = 2_000_000
FAULTS_SHOWN_MAX = 20
GPU_MILLI = 1000
MIB = 1024**2

Ints = NDArray[np.int64]
T = TypeVar("T")


class BadTrace(Exception):
    """A data set cannot be read: every fault, a line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        shown = list(faults[:FAULTS_SHOWN_MAX])
        if len(faults) > FAULTS_SHOWN_MAX:
            shown.append(f"and {len(faults) - FAULTS_SHOWN_MAX} more")
        super().__init__("\n".join(shown))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class GpuJob:
    """A job of a queueing trace. Times are seconds since the trace's own start."""

    id: int
    gpus: int
    submit_s: float
    duration_s: float
    tenant: str
    restart_s: float


@dataclass(frozen=True, slots=True)
class PackNode:
    """A node to be packed."""

    name: str
    cpu_milli: int
    memory_bytes: int
    gpus: int
    model: str


@dataclass(frozen=True, slots=True)
class PackRequest:
    """What a pod asks for: some whole GPUs, or one share of one. No model: any will do."""

    cpu_milli: int
    memory_bytes: int
    gpus: int
    gpu_milli: int
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PackTrace:
    """Nodes by name, requests by kind, each pod's kind, and the orders in which pods arrive."""

    nodes: tuple[PackNode, ...]
    kinds: tuple[PackRequest, ...]
    pods: tuple[int, ...]
    orders: Mapping[str, Ints]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of equal nodes."""

    nodes: int
    gpus_per_node: int


def directory(given: Path | None) -> Path:
    """Where the data sets are: as given, as the environment says, or beside the checkout."""
    root = Path(__file__).resolve().parents[1]
    stated = os.environ.get(ENVIRONMENT)
    found = given or (Path(stated) if stated else (root / BESIDE_CHECKOUT).resolve())
    if not found.is_dir():
        how = f"pass --data DIR or set {ENVIRONMENT}"
        raise BadTrace([f"data: {found} is not a directory; {how}"])
    return found


def folder(given: Path | None, name: str) -> Path:
    """The data set `name` in the directory, or the directory itself where it holds no folders."""
    found = directory(given)
    return found / name if (found / name).is_dir() else found


def only(where: Path, pattern: str) -> Path:
    """The one file there whose name is as `pattern` says."""
    found = sorted(where.glob(pattern))
    if len(found) != 1:
        raise BadTrace([f"{where}: {len(found)} files are named {pattern}, one expected"])
    return found[0]


def job_trace(path: Path) -> tuple[GpuJob, ...]:
    """Jobs with a restart overhead of their own (`muri_64gpu`), in submission order."""
    columns = ("job_id", "gpus", "submit_s", "duration_s", "restart_overhead_s")
    jobs = rows(path, columns, lambda row: _job(row, "", float(row["restart_overhead_s"])))
    return tuple(sorted(jobs, key=lambda job: (job.submit_s, job.id)))


def tenant_trace(path: Path) -> tuple[GpuJob, ...]:
    """Jobs of virtual clusters (`philly_multitenant`), in submission order."""
    columns = ("job_id", "submit_s", "duration_s", "gpus", "vc")
    jobs = rows(path, columns, lambda row: _job(row, row["vc"], restart_of(int(row["gpus"]))))
    return tuple(sorted(jobs, key=lambda job: (job.submit_s, job.id)))


def restart_of(gpus: int) -> float:
    """Seconds of work that a restart costs a job: more nodes take longer to be ready again."""
    return 7.0 if gpus <= 1 else 30.0 if gpus <= 8 else 60.0


def quotas(path: Path) -> Mapping[str, int]:
    """Guaranteed GPUs by virtual cluster."""
    return dict(rows(path, ("vc", "quota_gpus"), lambda row: (row["vc"], int(row["quota_gpus"]))))


def cluster(path: Path) -> Cluster:
    """The size of a cluster of equal nodes."""
    if not path.is_file():
        raise BadTrace([f"{path}: no such file"])
    try:
        stated = cast(object, json.loads(path.read_text()))
    except ValueError as error:
        raise BadTrace([f"{path}: {error}, JSON expected"]) from error
    faults: list[str] = []
    sizes: dict[str, int] = {}
    table: Mapping[str, object] = {}
    if isinstance(stated, dict):
        table = cast("Mapping[str, object]", stated)
    for field in ("nodes", "gpus_per_node"):
        value = table.get(field)
        if isinstance(value, int) and value > 0:
            sizes[field] = value
        else:
            faults.append(f"{path}: {field}: found {value!r}, allowed from 1")
    if faults:
        raise BadTrace(faults)
    return Cluster(sizes["nodes"], sizes["gpus_per_node"])


def pack_trace(folder: Path, name: str) -> PackTrace:
    """One trace of a packing data set (`openb_fgd`), with its fleet and its orders."""
    node_columns = ("node", "cpu_milli", "memory_mib", "gpu", "model")
    nodes = rows(folder / "nodes.csv.gz", node_columns, _pack_node)
    columns = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec")
    asked = rows(folder / f"pods_{name}.csv.gz", columns, _pack_request)
    kinds = tuple(sorted(set(asked), key=_request_key))
    number = {kind: at for at, kind in enumerate(kinds)}
    return PackTrace(
        tuple(sorted(nodes, key=lambda node: node.name)),
        kinds,
        tuple(number[kind] for kind in asked),
        _orders(folder / f"orders_{name}.npz", len(asked)),
    )


def pack_names(folder: Path) -> tuple[str, ...]:
    """The traces of a packing data set."""
    found = sorted(folder.glob("pods_*.csv.gz")) if folder.is_dir() else []
    if not found:
        raise BadTrace([f"{folder}: no pods_NAME.csv.gz there"])
    return tuple(path.name.removeprefix("pods_").removesuffix(".csv.gz") for path in found)


def published(path: Path, columns: tuple[str, ...], figure: str) -> Mapping[tuple[str, ...], float]:
    """Published figures, by the values of `columns`; none where no such file is."""
    if not path.is_file():
        return {}
    return dict(
        rows(
            path,
            (*columns, figure),
            lambda row: (tuple(row[column] for column in columns), float(row[figure] or "nan")),
        )
    )


def rows(path: Path, columns: Sequence[str], make: Callable[[dict[str, str]], T]) -> list[T]:
    """Every row of a CSV file, plain or compressed, made into something; all faults at once."""
    if not path.is_file():
        raise BadTrace([f"{path}: no such file; columns {', '.join(columns)} expected"])
    made: list[T] = []
    faults: list[str] = []
    with _lines(path) as lines:
        reader = csv.DictReader(lines)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            found = ", ".join(reader.fieldnames or ())
            raise BadTrace([f"{path}: column {name} is missing, found {found}" for name in missing])
        for number, row in enumerate(reader, start=2):
            if number > ROWS_MAX:
                raise BadTrace([f"{path}: more than {ROWS_MAX} rows"])
            try:
                made.append(make(row))
            except (ValueError, TypeError) as error:
                faults.append(f"{path}:{number}: {error}")
    if faults:
        raise BadTrace(faults)
    return made


def _lines(path: Path) -> TextIO:
    return io.TextIOWrapper(gzip.open(path) if path.suffix == ".gz" else path.open("rb"))


def _job(row: dict[str, str], tenant: str, restart_s: float) -> GpuJob:
    return GpuJob(
        int(row["job_id"]),
        _at_least(row, "gpus", 1),
        _no_less(row, "submit_s"),
        _no_less(row, "duration_s"),
        tenant,
        restart_s,
    )


def _pack_node(row: dict[str, str]) -> PackNode:
    memory_bytes = _at_least(row, "memory_mib", 0) * MIB
    cpu_milli, gpus = _at_least(row, "cpu_milli", 0), _at_least(row, "gpu", 0)
    return PackNode(row["node"], cpu_milli, memory_bytes, gpus, row["model"])


def _pack_request(row: dict[str, str]) -> PackRequest:
    gpus, gpu_milli = _at_least(row, "num_gpu", 0), _at_least(row, "gpu_milli", 0)
    if gpu_milli > GPU_MILLI:
        raise ValueError(f"gpu_milli: found {gpu_milli}, allowed up to {GPU_MILLI}")
    if gpus > 1 and gpu_milli != GPU_MILLI:
        raise ValueError(f"gpu_milli: found {gpu_milli} on {gpus} GPUs, allowed {GPU_MILLI}")
    return PackRequest(
        _at_least(row, "cpu_milli", 0),
        _at_least(row, "memory_mib", 0) * MIB,
        gpus,
        gpu_milli if gpus else 0,
        tuple(sorted(model for model in row["gpu_spec"].split("|") if model)),
    )


def _orders(path: Path, pods: int) -> Mapping[str, Ints]:
    if not path.is_file():
        raise BadTrace([f"{path}: no such file; arrays of row numbers expected"])
    with np.load(path) as stored:
        found = {name: np.asarray(stored[name], dtype=np.int64) for name in sorted(stored.files)}
    faults = [
        f"{path}: {name}: rows {order.min()}..{order.max()}, allowed 0..{pods - 1}"
        for name, order in found.items()
        if len(order) == 0 or order.min() < 0 or order.max() >= pods
    ]
    if faults:
        raise BadTrace(faults)
    return found


def _request_key(kind: PackRequest) -> tuple[int, int, int, int, tuple[str, ...]]:
    return kind.gpus, kind.gpu_milli, kind.cpu_milli, kind.memory_bytes, kind.models


def _at_least(row: dict[str, str], field: str, least: int) -> int:
    try:
        value = int(row[field])
    except ValueError:
        value = least - 1
    if value < least:
        raise ValueError(f"{field}: found {row[field]!r}, allowed from {least}")
    return value


def _no_less(row: dict[str, str], field: str) -> float:
    try:
        value = float(row[field])
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"{field}: found {row[field]!r}, allowed from 0")
    return value
