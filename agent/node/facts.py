"""What a node's executor and its agent must know of it: one file, written when it is set up."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.node.spool import UID_FIRST, UID_LAST

FACTS_VARIABLE = "SOV_NODE_FACTS"  # In the raylet's environment: the path of the facts file.


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What an executor must know of its node; plain values, so that they travel."""

    site: str
    slot: str
    trust: str  # The file with the CA certificates by which grants are believed.
    spool: str
    address: str
    runtime_dir: str  # Its bin/ comes first in a rank's PATH.
    checkpoint_root: str
    data_store: str = ""  # The site's store of datasets, as this node has it mounted; "": none.
    checkpoint_store: str = ""  # The site's store of checkpoints, as it is mounted here; "": none.
    image_store: str = ""  # The site's store of images, as it is mounted here; "": none.
    hide: tuple[str, ...] = ()  # Covered at level `uid`: spool, keys, Ray's directory.
    level: str = "none"  # The highest isolation this node reached.
    uid_first: int = UID_FIRST
    uid_last: int = UID_LAST
    key_services: tuple[str, ...] = ()  # Of tenants, that may be asked for data keys.

    def hidden(self) -> list[str]:
        """What ranks of level `uid` see nothing of but their own."""
        stores = [self.data_store, self.checkpoint_store, self.image_store]
        own = [self.spool, self.checkpoint_root, *(path for path in stores if path)]
        return [*self.hide, *own]


def write_facts(path: Path, facts: NodeFacts) -> None:
    """Put a node's facts where its executor and its node agent read them."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(facts), indent=1))
    part.rename(path)


def read_facts(path: Path) -> NodeFacts:
    """The facts of a node, as `write_facts` put them down."""
    doc: dict[str, Any] = json.loads(path.read_text())
    doc["hide"] = tuple(doc["hide"])
    doc["key_services"] = tuple(doc.get("key_services", ()))
    return NodeFacts(**doc)
