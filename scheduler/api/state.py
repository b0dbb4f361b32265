"""The state directory: made once, when a control plane is founded, and opened at each start.

ca/            the root key and certificate of the embedded CA
server/        the control plane's own identity, renewed by itself
job-ids.key    the key of the permutation that makes public job ids
policy-signers/  public keys of those who may sign policy packs (`pack_keys`)
agreement-parties/  public keys of those who may sign agreements, NAME.pub of the party NAME
keys/          keys that sign statements, one for each purpose, made when first asked for
witnesses      who cosigns the log, if anybody does: written by an operator (C2SP tlog-policy)
store.db       the store; bundles.db, the bundles
locations.yaml landmarks and the nodes they measure; made by the operator, may be absent
login.yaml     which identity providers vouch for whom; made by the operator, may be absent
incoming/      bundles being received, as files without a name
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from scheduler.api import ca as ca_module
from scheduler.api.ca import AltNames, Ca, check_alt_names
from scheduler.api.grant_keys import GrantKeys
from scheduler.core.job_ids import JobIdCodec
from scheduler.model.identity import NO_CLAIMS, Claims
from scheduler.wire.grants import Granter
from sovshared import pki, signing, spiffe
from sovshared.signing import Signer

SERVER_DIRECTORY = "server"
INCOMING_DIRECTORY = "incoming"
KEYS_DIRECTORY = "keys"
JOB_ID_KEY_FILE = "job-ids.key"
JOB_ID_KEY_BYTES = 32
STORE_FILE = "store.db"
LOCATIONS_FILE = "locations.yaml"
LOGIN_FILE = "login.yaml"
BUNDLES_FILE = "bundles.db"


@dataclass(frozen=True, slots=True)
class State:
    """What a founded control plane has."""

    directory: Path
    ca: Ca
    codec: JobIdCodec

    @property
    def server(self) -> Path:
        """Where the control plane's own identity is."""
        return self.directory / SERVER_DIRECTORY

    @property
    def incoming(self) -> Path:
        """Where bundles are received."""
        return self.directory / INCOMING_DIRECTORY

    @property
    def locations_file(self) -> Path:
        """Where the operator declares landmarks and the nodes that they measure."""
        return self.directory / LOCATIONS_FILE

    @property
    def login_file(self) -> Path:
        """Where the operator declares which identity providers vouch for whom."""
        return self.directory / LOGIN_FILE

    def granter(self) -> Granter:
        """Who signs placement grants."""
        return Granter(self.ca.trust_domain, self.grant_keys().at)

    def grant_keys(self) -> GrantKeys:
        """The keys that they are signed with."""
        return GrantKeys(self.directory / KEYS_DIRECTORY, self.ca)

    def signer(self, purpose: str) -> Signer:
        """Who signs for `purpose`: nobody else's key is that of `keys/PURPOSE.pem`."""
        return signing.kept_in(self.directory / KEYS_DIRECTORY / f"{purpose}.pem")


def found(directory: Path, trust_domain: str, now_ms: int) -> State:
    """Makes a new control plane's directory; there must be none yet."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_module.create(directory, trust_domain, now_ms)
    pki.write_private(directory / JOB_ID_KEY_FILE, os.urandom(JOB_ID_KEY_BYTES))
    return load(directory, trust_domain)


def load(directory: Path, trust_domain: str) -> State:
    """What `found` made."""
    if not (directory / ca_module.ROOT_DIRECTORY / pki.IDENTITY_FILE).exists():
        raise pki.PkiInvalid(
            f"state_dir: found no control plane in {directory}; make one with sov-scheduler init"
        )
    ca = ca_module.load(directory, trust_domain)
    try:
        key = (directory / JOB_ID_KEY_FILE).read_bytes()
    except OSError as error:
        raise pki.PkiInvalid(f"{directory / JOB_ID_KEY_FILE}: {error.strerror}") from error
    if len(key) != JOB_ID_KEY_BYTES:
        raise pki.PkiInvalid(
            f"{JOB_ID_KEY_FILE}: found {len(key)} bytes, allowed {JOB_ID_KEY_BYTES}"
        )
    (directory / INCOMING_DIRECTORY).mkdir(mode=0o700, exist_ok=True)
    return State(directory, ca, JobIdCodec(key))


def issue_identity(
    ca: Ca,
    name: spiffe.Name,
    directory: Path,
    names: AltNames,
    now_ms: int,
    claims: Claims = NO_CLAIMS,
) -> pki.Identity:
    """Makes an identity with the CA at hand and keeps it in `directory`."""
    check_alt_names(name, names, ca.trust_domain)
    key = pki.new_key()
    issued = ca.issue(name, key.public_key(), names, now_ms, claims)
    identity = pki.Identity(pki.key_to_pem(key), issued.chain_pem, issued.trust_pem)
    pki.save(directory, identity)
    return identity
