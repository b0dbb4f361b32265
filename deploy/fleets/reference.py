"""Writes the reference fleet: 120,000 GPUs, 15,000 nodes of eight, at 43 sites.

`python -m deploy.fleets.reference -o FILE`. The same arguments make the same file, byte for byte.
The fleet is made up; its size is that of the announced one in the United Kingdom. Sites differ in
who stands behind them, so that requirements differ in where they may go.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sovctl.errors import SpecError
from sovctl.faults import check
from sovctl.fleet_file import Fleet
from sovshared import yamlio

SITES = 43
NODES = 15_000
GPUS_PER_NODE = 8
NODES_PER_LEAF = 25
NODES_PER_POD = 500
OBSERVED = "2026-01-01"
HEADER = "# Made by: python -m deploy.fleets.reference --sites {sites} --nodes {nodes}\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """Who stands behind a site: its country, and whose law reaches whoever owns and runs it."""

    name: str
    country: str
    owner: str
    markings: tuple[str, ...] = ()


KINDS = (
    Kind("exch", "GB", "GB", ("SENSITIVE",)),
    Kind("hall", "GB", "GB"),
    Kind("exch", "GB", "GB", ("SENSITIVE",)),
    Kind("foreign", "GB", "US"),
    Kind("exch", "GB", "GB"),
    Kind("hall", "GB", "GB"),
    Kind("fjord", "NO", "NO"),
)
"""Taken in turn."""


def fleet(sites: int, nodes: int) -> dict[str, Any]:
    """A fleet file's content: `nodes` nodes over `sites` sites, as evenly as can be."""
    least, rest = divmod(nodes, sites)
    counts = [least + (1 if n < rest else 0) for n in range(sites)]
    return {"sites": [_site(n + 1, counts[n]) for n in range(sites)]}


def _site(number: int, nodes: int) -> dict[str, Any]:
    kind = KINDS[(number - 1) % len(KINDS)]
    width = len(str(nodes))
    return {
        "id": f"{kind.name}-{number:02}",
        "status": "active",
        "min_isolation": "uid",
        "facts": _facts(kind),
        "nodes": [
            {
                "slots": f"n[{1:0{width}}-{nodes}]",
                "gpus": GPUS_PER_NODE,
                "gpu": "H100",
                "pod": "pod",
                "leaf": "leaf",
                "nodes_per_leaf": NODES_PER_LEAF,
                "nodes_per_pod": NODES_PER_POD,
                "cpu_arch": "amd64",
                "cpus": 112,
                "memory": "2TiB",
                "interconnects": ["infiniband"],
            }
        ],
    }


def _facts(kind: Kind) -> dict[str, Mapping[str, Any]]:
    graded = {"assurance": "AUDITED", "source": "reference fleet", "observed": OBSERVED}
    return {
        "country": {"value": kind.country, **graded},
        "landlord": {"value": kind.country, **graded},
        "facility_operator": {"value": kind.country, **graded},
        "service_operator": {"value": kind.owner, **graded},
        "support_desk": {"values": [kind.owner], **graded},
        "key_custodian": {"value": kind.country, **graded},
        "sinks": {"values": [kind.country], **graded},
        "accreditation": {"value": "OFFICIAL", **graded},
        "markings": {"values": list(kind.markings), **graded},
        "ultimate_parents": {
            **graded,
            "parties": [{"name": f"Owner ({kind.owner})", "country": kind.owner, "stake": "100%"}],
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the file, once the fleet model has taken it."""
    parser = argparse.ArgumentParser(prog="python -m deploy.fleets.reference", description=__doc__)
    parser.add_argument("--sites", type=int, default=SITES, metavar="N")
    parser.add_argument("--nodes", type=int, default=NODES, metavar="N")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.sites <= arguments.nodes:
        parser.error(f"--sites: found {arguments.sites}, allowed 1 to --nodes, {arguments.nodes}")
    made = fleet(arguments.sites, arguments.nodes)
    try:
        check(Fleet, made, "fleet")
    except SpecError as error:
        faults = "".join(f"{fault.subject}: {fault.detail}\n" for fault in error.details)
        sys.stderr.write(faults or f"{error}\n")
        return 2
    text = yamlio.dumps(made)
    header = HEADER.format(sites=arguments.sites, nodes=arguments.nodes)
    arguments.output.write_text(header + text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
