"""What the gateway keeps on disk is its owner's alone, and no link leads its writing elsewhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import httpx
import pytest

from gateway.errors import ConfigError
from gateway.runtime.resetkey import reset_key
from gateway.store.embedded import EmbeddedStore
from tests.runtime.conftest import StartProcess, body, frame


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def lax_umask() -> object:
    before = os.umask(0o000)
    yield
    os.umask(before)


def test_a_served_store_is_its_owners_alone(
    lax_umask: object, tmp_path: Path, start_process: StartProcess
) -> None:
    child = start_process().wait_ready()
    httpx.post(f"{child.base_url}/v1/worlds/w/frames?durable=1", content=body(frame(1, {1: b"x"})))
    store = tmp_path / "store"
    assert mode(store) == 0o700
    files = {path.name: mode(path) for path in store.iterdir()}
    assert {"LOCK", "store.sqlite", "store.sqlite-wal"} <= set(files)
    assert set(files.values()) == {0o600}
    assert mode(tmp_path / "certs" / "reset.key") == 0o600
    assert child.terminate()[0] == 0


def test_an_older_store_is_tightened_and_that_is_said(tmp_path: Path, start_process: StartProcess) -> None:
    start_process().wait_ready().terminate()
    store = tmp_path / "store"
    store.chmod(0o755)
    (store / "store.sqlite").chmod(0o644)
    (store / "LOCK").chmod(0o644)
    child = start_process().wait_ready()
    assert [mode(store), mode(store / "store.sqlite"), mode(store / "LOCK")] == [0o700, 0o600, 0o600]
    assert "store.sqlite was open to other users" in child.terminate()[1]


def test_a_folder_that_others_use_too_keeps_its_mode_and_the_store_in_it_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "notes.txt").write_text("not the store's")
    store = EmbeddedStore.open(tmp_path)
    try:
        assert mode(tmp_path) == 0o755
        assert mode(tmp_path / "store.sqlite") == 0o600
        assert "--store" in caplog.text
    finally:
        store.engine.close()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "store"
    victim.write_text("keep me")
    folder.mkdir()
    (folder / "LOCK").symlink_to(victim)
    with pytest.raises(ConfigError, match="LOCK is a link"):
        EmbeddedStore.open(folder)
    assert victim.read_text() == "keep me"


def test_a_reset_key_that_is_a_link_is_neither_read_nor_written(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"v" * 31)
    (tmp_path / "reset.key").symlink_to(victim)
    with pytest.raises(ConfigError, match=r"reset\.key"):
        reset_key(tmp_path)
    (tmp_path / "reset.key").unlink()
    (tmp_path / "reset.key").symlink_to(tmp_path / "not there")
    with pytest.raises(ConfigError, match=r"reset\.key"):
        reset_key(tmp_path)
    assert victim.read_bytes() == b"v" * 31
    assert not (tmp_path / "not there").exists()


def test_a_private_key_that_others_can_read_is_said_at_start(
    tmp_path: Path, start_process: StartProcess
) -> None:
    start_process().wait_ready().terminate()
    keys = [tmp_path / "certs" / name for name in ("leaf.key", "ca.key")]
    for path in keys:
        path.chmod(0o644)
    errors = start_process().wait_ready().terminate()[1]
    assert all(str(path) in errors for path in keys)
    assert "chmod 600" in errors
