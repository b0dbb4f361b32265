"""The keys that grants are signed with follow one another, two good at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.api import ca as ca_module
from scheduler.api.ca import Ca
from scheduler.api.grant_keys import KEYS_KEPT_MAX, LIFE_MS, ROTATE_AFTER_MS, GrantKeys
from sovapi.v1.grants_pb2 import GrantKey, PlacementGrant
from sovshared import grants, pki
from sovshared.grants import GrantTrust, Vouched

NOW_MS = 1_800_000_000_000


@pytest.fixture
def ca(tmp_path: Path) -> Ca:
    return ca_module.create(tmp_path, "sov.example", NOW_MS)


def said(vouched: Vouched) -> GrantKey:
    return GrantKey.FromString(vouched.key)


def test_a_key_signs_for_a_day_and_is_good_for_two(tmp_path: Path, ca: Ca) -> None:
    keys = GrantKeys(tmp_path / "keys", ca)
    first = keys.at(NOW_MS)
    assert keys.at(NOW_MS + ROTATE_AFTER_MS - 1) is first
    second = keys.at(NOW_MS + ROTATE_AFTER_MS)
    assert said(second).number > said(first).number
    assert said(first).not_after_ms - NOW_MS == LIFE_MS == 2 * ROTATE_AFTER_MS
    assert said(second).oldest == 0, "nobody retires a key that only grew old"
    trust = tmp_path / "trust.pem"
    trust.write_bytes(ca.trust_pem)
    opened = GrantTrust(trust)
    for vouched in (first, second):
        token = grants.sign(PlacementGrant(format=grants.FORMAT), vouched)
        assert opened.open(token).key == said(vouched)


def test_a_restart_signs_on_with_the_same_key(tmp_path: Path, ca: Ca) -> None:
    before = GrantKeys(tmp_path / "keys", ca).at(NOW_MS)
    assert GrantKeys(tmp_path / "keys", ca).at(NOW_MS + 1).key == before.key
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}


def test_what_an_operator_rotates_is_taken_up_while_grants_are_signed(
    tmp_path: Path, ca: Ca
) -> None:
    serving, operator = GrantKeys(tmp_path / "keys", ca), GrantKeys(tmp_path / "keys", ca)
    first = serving.at(NOW_MS)
    number = operator.rotate(NOW_MS + 5, retire_older=True)
    found = said(serving.at(NOW_MS + 6))
    assert (found.number, found.oldest) == (number, number)
    assert found.number > said(first).number
    assert said(serving.at(NOW_MS + ROTATE_AFTER_MS + 5)).oldest == number, "retired stays retired"


def test_old_keys_are_not_kept_for_ever(tmp_path: Path, ca: Ca) -> None:
    keys = GrantKeys(tmp_path / "keys", ca)
    for day in range(KEYS_KEPT_MAX + 3):
        keys.at(NOW_MS + day * ROTATE_AFTER_MS)
    assert len(list((tmp_path / "keys").iterdir())) == 2 * KEYS_KEPT_MAX


def test_a_statement_of_another_key_is_refused(tmp_path: Path, ca: Ca) -> None:
    directory = tmp_path / "keys"
    GrantKeys(directory, ca).at(NOW_MS)
    GrantKeys(directory, ca).rotate(NOW_MS + 5, retire_older=False)
    (directory / f"grants-{NOW_MS}.pem").replace(directory / f"grants-{NOW_MS + 5}.pem")
    with pytest.raises(pki.PkiInvalid, match="the statement of another key"):
        GrantKeys(directory, ca).at(NOW_MS + 6)
