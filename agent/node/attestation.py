"""What NVIDIA's verifier says of this node's GPUs, asked as a child process with bounded time.

The program is `nvattest`; nothing is asked unless the settings name it, because even its local
verifier contacts services for reference measurements and revocations. Where those are mirrored, the
settings name the mirrors. What it prints is one JSON document: `result_code`, `result_message` and
`claims`, one for each device, whose `measres` is Success or Failure. PASSED takes exit status 0,
result code 0 and Success for every device; FAILED takes a device that says Failure. Anything else
(no such program, no confidential computing, no answer in time) is NONE, and says why.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from sovapi.v1.sitelink_pb2 import Attestation

TIMEOUT_S = 120
OUTPUT_BYTES_MAX = 4 << 20
EVERY_S = 3600
DETAIL_CHARACTERS_MAX = 300

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verifier:
    """How the verifier is called; empty texts are left out."""

    program: str
    evidence: str = ""
    """A file of evidence that was collected before; empty: this machine's GPUs."""
    rim_url: str = ""
    ocsp_url: str = ""

    def command(self, nonce: str) -> Sequence[str]:
        """Program and arguments."""
        told = [self.program, "attest", "--device", "gpu", "--verifier", "local"]
        if self.evidence:
            told += ["--gpu-evidence", self.evidence]
        else:
            told += ["--nonce", nonce]
        for option, value in (("--rim-url", self.rim_url), ("--ocsp-url", self.ocsp_url)):
            told += [option, value] if value else []
        return told


async def ask(
    verifier: Verifier, nonce: str, now_ms: Callable[[], int], *, timeout_s: float = TIMEOUT_S
) -> Attestation:
    """What the verifier says now."""
    try:
        status, printed = await _run(verifier.command(nonce), timeout_s)
    except (OSError, TimeoutError) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        return Attestation(verdict="NONE", detail=_short(why), observed_at_ms=now_ms())
    verdict, detail = judge(status, printed)
    return Attestation(
        verdict=verdict,
        detail=_short(detail),
        evidence_digest=f"sha256:{sha256(printed).hexdigest()}",
        observed_at_ms=now_ms(),
    )


def judge(status: int, printed: bytes) -> tuple[str, str]:
    """The verdict in what the verifier printed, and what there is to say of it."""
    try:
        document: Any = json.loads(printed)
    except ValueError:
        return "NONE", f"it ended with {status} and printed no JSON"
    if not isinstance(document, dict):
        return "NONE", "it printed no JSON object"
    found = cast("dict[str, Any]", document)
    message = str(found.get("result_message", ""))
    listed: Any = found.get("claims")
    claims = cast("list[Any]", listed) if isinstance(listed, list) else []
    results = [
        cast("dict[str, Any]", claim).get("measres") for claim in claims if isinstance(claim, dict)
    ]
    if "Failure" in results:
        failed = results.count("Failure")
        return "FAILED", f"{failed} of {len(results)} devices have other measurements: {message}"
    good = results and all(result == "Success" for result in results)
    if status == 0 and found.get("result_code") == 0 and good and len(results) == len(claims):
        return "PASSED", f"{len(results)} devices have the measurements that are published"
    return "NONE", f"result {found.get('result_code')}: {message or 'no claim'}"


async def _run(command: Sequence[str], timeout_s: float) -> tuple[int, bytes]:
    """Exit status and what was printed. What takes too long, or prints too much, is killed."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert child.stdout is not None, "its output is piped"
    try:
        async with asyncio.timeout(timeout_s):
            printed = await _bounded(child.stdout)
            return await child.wait(), printed
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := await stream.read(65_536):
        parts.append(part)
        size += len(part)
        if size > OUTPUT_BYTES_MAX:
            raise OSError(f"it printed more than {OUTPUT_BYTES_MAX} bytes")
    return b"".join(parts)


def _short(text: str) -> str:
    return text[:DETAIL_CHARACTERS_MAX]


class Attester:
    """Asks the verifier now and then, and has the latest answer."""

    def __init__(
        self, verifier: Verifier, nonce: Callable[[], str], now_ms: Callable[[], int]
    ) -> None:
        self._verifier = verifier
        self._nonce = nonce
        self._now_ms = now_ms
        self.latest: Attestation | None = None

    async def run(self) -> None:
        """For ever."""
        while True:
            self.latest = await ask(self._verifier, self._nonce(), self._now_ms)
            _log.info("attestation: %s %s", self.latest.verdict, self.latest.detail)
            await asyncio.sleep(EVERY_S)
