"""Backups: whole copies, taken while the store is written, in the home zone alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from scheduler.__main__ import main
from scheduler.api.state import STORE_FILE as STATE_STORE_FILE
from scheduler.runtime.backup import ABOUT_FILE, STORE_FILE, BackupRefused, country_of, make
from scheduler.store.backup import CopyFailed
from scheduler.store.store import ReadStore
from tests.control.plant import Plant, spec

NOW_MS = 1_800_000_000_000


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """A store that is open and in use."""
    state = tmp_path / "state"
    state.mkdir()
    made = Plant(state / STATE_STORE_FILE)
    made.lay_out()
    return made


def store_of(tmp_path: Path) -> Path:
    return tmp_path / "state" / STATE_STORE_FILE


def test_only_what_is_declared_and_at_home_may_hold_one(tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    abroad = vault / "abroad"
    abroad.mkdir(parents=True)
    targets = {vault: "GB", abroad: "US"}
    assert country_of(vault / "monday", targets, ["GB"]) == "GB"
    assert country_of(abroad / "monday", targets, ["GB", "US"]) == "US"
    for directory in (tmp_path, tmp_path / "vault-2", vault / ".." / "elsewhere"):
        with pytest.raises(BackupRefused, match="allowed: what backup_targets declares"):
            country_of(directory, targets, ["GB"])
    with pytest.raises(BackupRefused, match="which is in US; allowed: GB"):
        country_of(abroad / "monday", targets, ["GB"])


def test_a_link_that_leads_away_is_where_it_leads(tmp_path: Path) -> None:
    vault, away = tmp_path / "vault", tmp_path / "away"
    vault.mkdir()
    away.mkdir()
    (vault / "monday").symlink_to(away)
    with pytest.raises(BackupRefused, match="away"):
        country_of(vault / "monday", {vault: "GB"}, ["GB"])


def test_a_copy_is_the_store_as_of_one_moment(plant: Plant, tmp_path: Path) -> None:
    job = plant.submit(spec("kept"))
    about = make(store_of(tmp_path), tmp_path / "b", "GB", NOW_MS)
    later = plant.submit(spec("later"))
    copied = tmp_path / "b" / STORE_FILE
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [ABOUT_FILE, STORE_FILE]
    assert hashlib.sha256(copied.read_bytes()).hexdigest() == about.store_sha256
    assert json.loads((tmp_path / "b" / ABOUT_FILE).read_text())["country"] == "GB"
    store = ReadStore(copied)
    store.open()
    with store.read() as snapshot:
        assert snapshot.jobs.row(job) is not None
        assert snapshot.jobs.row(later) is None
    store.close()
    again = make(store_of(tmp_path), tmp_path / "b", "GB", NOW_MS + 1)
    assert again.store_sha256 != about.store_sha256


def test_what_was_there_stays_when_no_good_copy_is_made(plant: Plant, tmp_path: Path) -> None:
    make(store_of(tmp_path), tmp_path / "b", "GB", NOW_MS)
    before = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database at all" * 1000)
    with pytest.raises(CopyFailed):
        make(damaged, tmp_path / "b", "GB", NOW_MS)
    assert {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()} == before


def test_the_command_says_where_it_is_and_refuses_what_is_not_at_home(
    plant: Plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state-dir", str(tmp_path / "state")]
    target = ["--backup-targets", f"{tmp_path / 'b'}=GB"]
    main(["backup", str(tmp_path / "b"), *state, *target])
    assert capsys.readouterr().out.endswith(f"in {tmp_path / 'b'} (GB)\n")
    for arguments, message in (
        ([*state], "directory: found"),
        ([*state, "--backup-targets", f"{tmp_path / 'b'}=US"], "which is in US; allowed: GB"),
        ([*state, "--backup-targets", "vault"], "backup_targets: found 'vault'"),
        ([*state, *target, "--home", "Britain"], "home: found 'Britain'"),
        (["--state-dir", str(tmp_path / "none"), *target], "state_dir: found no store"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["backup", str(tmp_path / "b"), *arguments])
        assert caught.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
