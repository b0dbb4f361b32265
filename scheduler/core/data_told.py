"""What a certificate says of data: what a job read and left, and what it let out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.core.egress import AttemptEgress, overall


@dataclass(frozen=True, slots=True)
class Egress:
    """What a job was allowed to reach, and what each attempt did."""

    allowed: tuple[str, ...] = ()
    attempts: tuple[AttemptEgress, ...] = ()


@dataclass(frozen=True, slots=True)
class DataTouched:
    """A version of a dataset that work read or wrote. `digest` where a job wrote it."""

    dataset: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Data:
    """All of it."""

    inputs: tuple[DataTouched, ...] = ()
    outputs: tuple[DataTouched, ...] = ()
    egress: Egress = Egress()


def data_told(data: Data) -> dict[str, object]:
    """As plain values."""
    return {
        "inputs": _touched(data.inputs),
        "outputs": _touched(data.outputs),
        "egress": _egress(data.egress),
    }


def _touched(touched: Sequence[DataTouched]) -> list[dict[str, str]]:
    return [
        {"dataset": each.dataset, "version": each.version, "digest": each.digest}
        for each in touched
    ]


def _egress(egress: Egress) -> dict[str, object]:
    return {
        "control": overall(egress.attempts).value,
        "allowed": list(egress.allowed),
        "attempts": [
            {
                "attempt": each.attempt,
                "control": each.control.value,
                "denied": each.denied,
                "destinations": [
                    {
                        "destination": destination,
                        "connections": use.connections,
                        "sent_bytes": use.sent_bytes,
                        "received_bytes": use.received_bytes,
                    }
                    for destination, use in zip(egress.allowed, each.uses, strict=True)
                ],
            }
            for each in egress.attempts
        ],
    }
