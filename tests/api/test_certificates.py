"""Residency certificates of a real control plane, checked by four that share no code: ours that
stands alone, the same run as a script, openssl, and securesystemslib."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey  # pyright: ignore[reportPrivateImportUsage]

from sovapi.v1 import audit_pb2, jobs_pb2, sitelink_pb2
from sovctl import verify
from sovctl.async_client import AsyncClient
from sovctl.certificates import gaps
from sovctl.cli.main import run as sovctl
from sovctl.config import Context
from sovctl.errors import NotFoundError, RefusedError
from sovctl.verify import NotVerified
from tests.api import world
from tests.api.control_plane import ControlPlane
from tests.api.world import ADA, LONDON, MAX, RADIOLOGY, FakeSite, spec, submit, until

VERIFIER = Path(verify.__file__)


@dataclass(frozen=True)
class Kept:
    """A genuine certificate and the trust file."""

    certificate: bytes
    trust: bytes


_kept: list[Kept] = []


@pytest.fixture
async def tenant(control_plane: ControlPlane, ada: grpc.aio.Channel) -> AsyncIterator[AsyncClient]:
    credentials = str(control_plane.credentials(ADA))
    context = Context(endpoint=control_plane.endpoint, credentials=credentials)
    async with AsyncClient(context) as client:
        yield client


async def finish(ada: grpc.aio.Channel, london: FakeSite, name: str) -> str:
    """A job that runs and succeeds; its id."""
    job = await submit(ada, spec(name))
    row = await london.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
    london.report(world.started(row))
    await until(ada, job.id, jobs_pb2.JOB_STATE_RUNNING)
    over = world.ended(row)
    over.ranks[0].egress.denied = 2
    london.report(over)
    await until(ada, job.id, jobs_pb2.JOB_STATE_SUCCEEDED)
    return job.id


@pytest.fixture
async def kept(ada: grpc.aio.Channel, london: FakeSite, tenant: AsyncClient) -> Kept:
    """The certificate of a job that ran; made once."""
    if not _kept:
        job = await finish(ada, london, "certified")
        _kept.append(Kept(await tenant.certificate(job), await tenant.trust()))
    return _kept[0]


def test_a_job_that_ran_is_certified_to_have_been_where_it_may(kept: Kept) -> None:
    found = verify.verify(kept.certificate, verify.parse_trust(kept.trust))
    told = found.predicate
    assert (told["outcome"], told["verdict"], told["tenant"]) == (
        "SUCCEEDED",
        "IN_BOUNDS",
        RADIOLOGY,
    )
    (interval,) = told["intervals"]
    assert (interval["site"], interval["country"], interval["nodes"]) == (
        LONDON,
        "GB",
        [f"{LONDON}/n01"],
    )
    assert interval["from"] <= interval["started"] <= interval["to"]
    (facts,) = told["decision"]["facts"]
    assert interval["facts"] == [facts["digest"]]
    assert {"key": "country", "values": ["GB"], "assurance": "AUDITED"}.items() <= facts[
        "relied_on"
    ][0].items()
    assert "base/jurisdiction" in told["decision"]["rules"]
    assert told["attestation"] == "NONE"
    way_out = told["data"]["egress"]
    assert (way_out["control"], way_out["allowed"]) == ("CONTROLLED", [])
    assert [(each["attempt"], each["denied"]) for each in way_out["attempts"]] == [(1, 2)]
    assert told["limits"]
    assert "certified" not in found.payload.decode().replace("certificates", "")
    assert found.statement["subject"][0]["name"] == "spec"


def test_no_byte_of_it_may_change(kept: Kept) -> None:
    """Every byte of envelope, payload, proof and checkpoint, each with one bit flipped."""
    trust = verify.parse_trust(kept.trust)
    verify.verify(kept.certificate, trust)
    for at in range(len(kept.certificate)):
        flipped = bytearray(kept.certificate)
        flipped[at] ^= 1 << at % 8
        with pytest.raises(NotVerified):
            verify.verify(bytes(flipped), trust)


def test_nothing_may_be_put_in_or_left_out(kept: Kept) -> None:
    trust = verify.parse_trust(kept.trust)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.integers(0, len(kept.certificate)),
        st.integers(0, 3),
        st.binary(max_size=3) | st.sampled_from([b" ", b"\n", b"\\u0041", b"=", b"0"]),
    )
    def changed(at: int, cut: int, put: bytes) -> None:
        other = kept.certificate[:at] + put + kept.certificate[at + cut :]
        if other != kept.certificate:
            with pytest.raises(NotVerified):
                verify.verify(other, trust)

    changed()


def test_a_certificate_of_other_keys_is_none(kept: Kept) -> None:
    lines = kept.trust.decode().splitlines(keepends=True)
    stranger = Ed25519PublicKey.from_public_bytes(bytes(31) + b"\x01").public_bytes_raw()
    for word in ("# certificates", "log"):
        name = f"sov.example/{'log' if word == 'log' else 'certificates'}"
        vkey = _vkey(name, stranger)
        other = [f"{word} {vkey}\n" if line.startswith(word) else line for line in lines]
        with pytest.raises(NotVerified, match="the trust file"):
            verify.verify(kept.certificate, verify.parse_trust("".join(other).encode()))
    witness = _vkey("w.example", stranger, 4)
    asked = kept.trust.decode().replace("quorum none", f"witness w {witness}\nquorum w")
    with pytest.raises(NotVerified, match="quorum: w is not met"):
        verify.verify(kept.certificate, verify.parse_trust(asked.encode()))


def _vkey(name: str, public: bytes, kind: int = 1) -> str:
    raw = bytes([kind]) + public
    identity = verify.sha256(name.encode() + b"\n" + raw).hexdigest()[:8]
    return f"{name}+{identity}+{base64.b64encode(raw).decode()}"


def test_the_verifier_is_one_file_that_needs_nothing_of_ours(kept: Kept, tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere" / "verify.py"
    alone.parent.mkdir()
    alone.write_bytes(VERIFIER.read_bytes())
    certificate, trust = tmp_path / "job.residency.json", tmp_path / "trust"
    certificate.write_bytes(kept.certificate)
    trust.write_bytes(kept.trust)
    command = [sys.executable, "-I", str(alone), str(certificate), "--trust", str(trust)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=alone.parent, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "IN_BOUNDS"
    certificate.write_bytes(kept.certificate.replace(b"a", b"b", 1))
    done = subprocess.run(command, capture_output=True, text=True, cwd=alone.parent, check=False)
    assert done.returncode == verify.EXIT_NOT_VERIFIED
    assert "NOT VERIFIED" in done.stderr
    assert done.stdout == ""


def test_openssl_verifies_the_signature(kept: Kept, tmp_path: Path) -> None:
    envelope, key = json.loads(kept.certificate), certificates_key(kept)
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    encoded = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    for name, content in (("pae", encoded), ("sig", signature), ("other", encoded + b" ")):
        (tmp_path / name).write_bytes(content)
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "key").write_bytes(key.public_bytes(*pem))
    for name, status in (("pae", 0), ("other", 1)):
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(tmp_path / "key")]
        command += ["-rawin", "-in", str(tmp_path / name), "-sigfile", str(tmp_path / "sig")]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == status, done.stderr


def test_securesystemslib_verifies_the_same_envelope(kept: Kept) -> None:
    document = json.loads(kept.certificate)
    key_id = document["signatures"][0]["keyid"]
    public = {"public": certificates_key(kept).public_bytes_raw().hex()}
    key = SSlibKey(key_id, "ed25519", "ed25519", public)
    envelope = Envelope.from_dict(document)  # pyright: ignore[reportUnknownMemberType]
    assert set(envelope.verify([key], 1)) == {key_id}


def certificates_key(kept: Kept) -> Ed25519PublicKey:
    (key,) = verify.parse_trust(kept.trust).certificates.values()
    return Ed25519PublicKey.from_public_bytes(key.public)


async def test_refused_and_cancelled_work_is_certified_too(
    ada: grpc.aio.Channel, tenant: AsyncClient
) -> None:
    trust = verify.parse_trust(await tenant.trust())
    abroad = spec("abroad")
    abroad.residency.jurisdictions[:] = ["FR"]
    with pytest.raises(RefusedError) as caught:
        await tenant.link.call(tenant.link.jobs.Submit, jobs_pb2.SubmitRequest(spec=abroad))
    refused = verify.verify(await tenant.certificate(caught.value.message.split()[0]), trust)
    assert refused.predicate["verdict"] == "NOT_PLACED"
    assert refused.predicate["outcome"] == "REFUSED"
    assert refused.predicate["decision"]["denials"]
    waits = await submit(ada, spec("waits", gpus_per_node=4, nodes=2))
    with pytest.raises(NotFoundError, match="one is made when a job is over"):
        await tenant.certificate(waits.id)
    await world.stub(ada).Cancel(jobs_pb2.CancelJobRequest(id=waits.id), timeout=world.WAIT_S)
    cancelled = verify.verify(await tenant.certificate(waits.id), trust)
    assert (cancelled.predicate["outcome"], cancelled.predicate["intervals"]) == ("CANCELLED", [])


async def test_another_tenants_certificates_are_not_there(
    control_plane: ControlPlane, kept: Kept
) -> None:
    job = verify.verify(kept.certificate, verify.parse_trust(kept.trust)).predicate["job"]
    credentials = str(control_plane.credentials(MAX))
    context = Context(endpoint=control_plane.endpoint, credentials=credentials)
    async with AsyncClient(context) as other:
        with pytest.raises(NotFoundError, match="not found"):
            await other.certificate(job)
        with pytest.raises(NotFoundError):
            assert [line async for line in other.certificates("trust-a")]
        assert RADIOLOGY not in {line.tenant async for line in other.certificates()}


async def test_a_withheld_certificate_shows(
    ada: grpc.aio.Channel, london: FakeSite, tenant: AsyncClient
) -> None:
    for n in range(3):
        await finish(ada, london, f"row-{n}")
    lines = [line async for line in tenant.certificates()]
    assert [line.tenant_seq for line in lines] == list(range(1, len(lines) + 1))
    assert gaps(lines) == []
    without = [*lines[:-2], lines[-1]]
    (gap,) = gaps(without)
    assert (gap.tenant_seq, gap.detail) == (
        len(lines) - 1,
        f"certificate {len(lines) - 1} is missing",
    )
    other = audit_pb2.CertificateLine()
    other.CopyFrom(lines[-2])
    other.digest = "sha256:another"
    (gap,) = gaps([*lines[:-2], other, lines[-1]])
    assert gap.tenant_seq == len(lines)
    trust = verify.parse_trust(await tenant.trust())
    certificates = [await tenant.certificate(line.job_id) for line in lines[-2:]]
    before, after = (verify.verify(each, trust) for each in certificates)
    assert after.predicate["prev"] == before.digest == lines[-2].digest


def test_the_command_line_fetches_and_verifies(
    control_plane: ControlPlane,
    kept: Kept,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = verify.verify(kept.certificate, verify.parse_trust(kept.trust)).predicate["job"]
    (tmp_path / "config.yaml").write_text(
        f"current: ada\ncontexts:\n  ada:\n    endpoint: {control_plane.endpoint}\n"
        f"    credentials: {control_plane.credentials(ADA)}\n"
    )
    commands = [
        ["audit", "trust", "-o", "trust"],
        ["certificate", job, "-o", "it.json"],
        ["verify", "it.json", "--trust", "trust"],
        ["certificates", "list"],
    ]
    environment = {**os.environ, "SOVCTL_CONFIG": str(tmp_path / "config.yaml")}
    answers: list[str] = []
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "sovctl", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        answers.append(done.stdout)
    assert job in answers[-1]
    monkeypatch.chdir(tmp_path)
    broken = (tmp_path / "it.json").read_bytes().replace(b"IN_", b"in_").replace(b"ey", b"ez", 1)
    (tmp_path / "it.json").write_bytes(broken)
    assert sovctl(["verify", "it.json", "--trust", "trust", "-o", "json"]) == 1
    assert "not verified" in capsys.readouterr().err
