"""What NVIDIA's verifier says of GPUs, from a program that prints what it would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.node.attestation import OUTPUT_BYTES_MAX, Attester, Verifier, ask, judge

NOW_MS = 1_800_000_000_000
GPU = {"x-nvidia-device-type": "gpu", "measres": "Success", "secboot": True}
BAD_GPU = {**GPU, "measres": "Failure"}


def printed(*claims: object, code: int = 0, message: str = "Ok") -> bytes:
    told = {"result_code": code, "result_message": message, "claims": list(claims)}
    return json.dumps(told).encode()


@pytest.mark.parametrize(
    ("status", "output", "verdict"),
    [
        pytest.param(0, printed(GPU, GPU), "PASSED", id="every device has its measurements"),
        pytest.param(1, printed(GPU, BAD_GPU, code=7), "FAILED", id="one has others"),
        pytest.param(0, printed(GPU, BAD_GPU), "FAILED", id="one has others, whatever the code"),
        pytest.param(1, printed(code=9, message="OCSP"), "NONE", id="it could not be checked"),
        pytest.param(1, printed(GPU), "NONE", id="another exit status"),
        pytest.param(0, printed(GPU, code=3), "NONE", id="another result"),
        pytest.param(0, printed(), "NONE", id="no device"),
        pytest.param(0, printed({}), "NONE", id="a claim that says nothing"),
        pytest.param(0, printed(GPU, "device"), "NONE", id="a claim that is none"),
        pytest.param(0, b"[]", "NONE", id="no object"),
        pytest.param(0, b"Segmentation fault", "NONE", id="no JSON"),
    ],
)
def test_only_success_of_every_device_passes(status: int, output: bytes, verdict: str) -> None:
    assert judge(status, output)[0] == verdict


def program(at: Path, body: str) -> str:
    file = at / "nvattest"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return str(file)


async def test_the_program_is_called_with_the_file_of_evidence_and_the_mirrors(
    tmp_path: Path,
) -> None:
    evidence = tmp_path / "evidence.json"
    evidence.write_bytes(printed(GPU))
    called = tmp_path / "called"
    verifier = Verifier(
        program(tmp_path, f'echo "$@" > {called}; cat "$7"'),
        str(evidence),
        "https://rim.example",
        "https://ocsp.example",
    )
    said = await ask(verifier, "ab" * 32, lambda: NOW_MS)
    assert (said.verdict, said.observed_at_ms) == ("PASSED", NOW_MS)
    assert said.evidence_digest.startswith("sha256:")
    assert called.read_text().split() == [
        "attest", "--device", "gpu", "--verifier", "local", "--gpu-evidence", str(evidence),
        "--rim-url", "https://rim.example", "--ocsp-url", "https://ocsp.example",
    ]  # fmt: skip


async def test_live_evidence_is_asked_for_with_a_nonce(tmp_path: Path) -> None:
    called = tmp_path / "called"
    await ask(Verifier(program(tmp_path, f'echo "$@" > {called}')), "ab" * 32, lambda: NOW_MS)
    assert called.read_text().split()[5:] == ["--nonce", "ab" * 32]


async def test_no_such_program_is_no_attestation(tmp_path: Path) -> None:
    said = await ask(Verifier(str(tmp_path / "absent")), "00", lambda: NOW_MS)
    assert said.verdict == "NONE"
    assert "absent" in said.detail


async def test_a_verifier_that_hangs_is_killed_and_says_nothing(tmp_path: Path) -> None:
    hanging = Verifier(program(tmp_path, "exec sleep 3600"))
    said = await ask(hanging, "00", lambda: NOW_MS, timeout_s=0.2)
    assert (said.verdict, said.detail) == ("NONE", "no answer in time")


async def test_a_verifier_that_prints_without_end_is_cut_off(tmp_path: Path) -> None:
    said = await ask(Verifier(program(tmp_path, "exec yes")), "00", lambda: NOW_MS)
    assert said.verdict == "NONE"
    assert str(OUTPUT_BYTES_MAX) in said.detail


async def test_before_the_first_answer_there_is_none(tmp_path: Path) -> None:
    attester = Attester(Verifier(program(tmp_path, "true")), lambda: "00", lambda: NOW_MS)
    assert attester.latest is None
