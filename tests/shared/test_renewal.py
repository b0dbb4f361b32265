"""When a certificate is renewed, and that failures do not end renewal."""

import asyncio
from pathlib import Path

import pytest

from sovshared import pki, renewal
from sovshared.renewal import Renewed
from tests.shared.ca import FROM_MS, TestCa

HOUR = 3600 * 1000
URI = "spiffe://sov.example/site/a/agent"


@pytest.mark.parametrize(
    ("life_ms", "age_ms", "due"),
    [
        pytest.param(12 * HOUR, 6 * HOUR - 1, False, id="not before half its life"),
        pytest.param(12 * HOUR, 6 * HOUR, True, id="at half its life"),
        pytest.param(7 * 24 * HOUR, 24 * HOUR - 1, False, id="a week's certificate lasts a day"),
        pytest.param(7 * 24 * HOUR, 24 * HOUR, True, id="and is renewed daily"),
        pytest.param(HOUR, 5 * HOUR, True, id="an expired one is due"),
        pytest.param(HOUR, -HOUR, False, id="one from the future is not"),
    ],
)
def test_due(life_ms: int, age_ms: int, due: bool) -> None:
    assert renewal.is_due(FROM_MS, FROM_MS + life_ms, FROM_MS + age_ms) is due


def test_retries_back_off_within_bounds() -> None:
    waits = [renewal.retry_in_ms(n) for n in range(1, 100)]
    assert waits[0] == renewal.RETRY_MS_MIN
    assert waits == sorted(waits)
    assert waits[-1] == renewal.RETRY_MS_MAX


async def test_renewal_survives_failures_and_changes_the_key(tmp_path: Path) -> None:
    ca = TestCa()
    pki.save(tmp_path, ca.issue(URI, until_ms=FROM_MS + 2 * HOUR))
    old = pki.load(tmp_path)
    calls = 0

    async def renew(csr_der: bytes) -> Renewed:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ConnectionError("the control plane is away")
        # The CA signs for the key of the request.
        csr = pki.load_csr(csr_der)
        public = csr.public_key()
        chain = ca.sign(public, URI)  # pyright: ignore[reportArgumentType] - checked by load_csr
        return Renewed(chain, ca.trust_pem)

    done: asyncio.Future[pki.Identity] = asyncio.get_running_loop().create_future()

    async def no_sleep(_: float) -> None:
        await asyncio.sleep(0)

    task = asyncio.create_task(
        renewal.keep_renewed(
            tmp_path, renew, now_ms=lambda: FROM_MS + HOUR, renewed=done.set_result, sleep=no_sleep
        )
    )
    new = await asyncio.wait_for(done, 60)
    task.cancel()
    assert calls == 3
    assert new == pki.load(tmp_path)
    assert new.key_pem != old.key_pem
    assert new.facts().spiffe_id == URI


async def test_a_certificate_for_another_name_is_not_kept(tmp_path: Path) -> None:
    ca = TestCa()
    pki.save(tmp_path, ca.issue(URI))
    old = pki.load(tmp_path)

    async def renew(csr_der: bytes) -> Renewed:
        public = pki.load_csr(csr_der).public_key()
        chain = ca.sign(public, URI.replace("/a/", "/b/"))  # pyright: ignore[reportArgumentType]
        return Renewed(chain, ca.trust_pem)

    with pytest.raises(pki.PkiInvalid, match="found a certificate for"):
        await renewal.renew_once(tmp_path, renew)
    assert pki.load(tmp_path) == old
