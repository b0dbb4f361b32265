"""Identities for agents under test, from a real CA."""

from pathlib import Path

from scheduler.api import ca
from sovshared import pki, spiffe

TRUST_DOMAIN = "sov.example"


class Identities:
    """A CA, and a credentials directory for whoever is asked for."""

    def __init__(self, root: Path, now_ms: int) -> None:
        self._root = root
        self._now_ms = now_ms
        self._ca = ca.create(root / "state", TRUST_DOMAIN, now_ms)

    def of(self, path: str) -> Path:
        """The credentials directory of the party with this name."""
        name = spiffe.parse_path(path)
        key = pki.new_key()
        issued = self._ca.issue(name, key.public_key(), ca.AltNames(), self._now_ms)
        directory = self._root / path.strip("/").replace("/", "-")
        pki.save(directory, pki.Identity(pki.key_to_pem(key), issued.chain_pem, issued.trust_pem))
        return directory
