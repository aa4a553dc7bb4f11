"""Several processes make, renew and read the certificates of one folder at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.runtime import certs
from gateway.runtime.folderlock import LOCK
from gateway.runtime.resetkey import reset_key
from tests.patience import HANG_S
from tests.runtime.conftest import settings_in
from tests.runtime.test_certs import NOW, Clock

_AT_ONCE = """
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from cryptography import x509
from gateway.config import Settings
from gateway.runtime import certs
from gateway.runtime.resetkey import reset_key

way, now = sys.argv[1], datetime(2026, 11, 21, tzinfo=UTC)
print("up", flush=True)
for line in sys.stdin:
    folder = Path(line.strip())
    if way == "start":
        held = certs.Certificates(Settings(certs=str(folder)), lambda: now)
        leaf, key = held.current, reset_key(folder).hex()
    else:
        leaf, key = certs.ensure_own(folder, "127.0.0.1", now, renew=True), ""
    chain = x509.load_pem_x509_certificates(leaf.cert_pem)
    chain[0].verify_directly_issued_by(chain[1])
    print(leaf.sha256, chain[1].serial_number, key, sep=",", flush=True)
"""


def at_once(way: str, folders: list[Path], processes: int = 8) -> list[set[str]]:
    """What each of the processes told of each folder: all of them take it at the same moment."""
    command = [sys.executable, "-c", _AT_ONCE, way]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) for _ in range(processes)
    ]
    told: list[set[str]] = []
    try:
        assert [_line_of(each) for each in running] == ["up"] * processes
        for folder in folders:
            for each in running:
                assert each.stdin is not None
                each.stdin.write(f"{folder}\n")
            told.append({_line_of(each) for each in running})
            _assert_whole(folder)
        for each in running:
            each.communicate(timeout=HANG_S)
        assert [each.returncode for each in running] == [0] * processes
    finally:
        for each in running:
            each.kill()
            each.wait()
    return told


def _line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the process has ended"
    return line.strip()


def _assert_whole(folder: Path) -> None:
    own = certs.read_pair(folder / certs.LEAF_CERT, folder / certs.LEAF_KEY, NOW)
    ca = certs.read_pair(folder / certs.CA_CERT, folder / certs.CA_KEY, NOW)
    assert own.cert_pem.endswith(ca.cert_pem)
    assert stat.S_IMODE((folder / LOCK).stat().st_mode) == 0o600
    assert not [path for path in folder.iterdir() if path.name.startswith(".") and path.name != LOCK]


def test_gateways_that_start_at_once_on_an_empty_folder_make_one_certificate_for_all(tmp_path: Path) -> None:
    for told in at_once("start", [tmp_path / f"{n}" for n in range(12)]):
        assert len(told) == 1


def test_renewals_at_once_end_with_one_new_leaf_of_the_same_authority(tmp_path: Path) -> None:
    old = certs.ensure_own(tmp_path, "127.0.0.1", NOW)
    ca = (tmp_path / certs.CA_CERT).read_bytes()
    for told in at_once("renew", [tmp_path] * 12):
        assert old.sha256 not in {each.partition(",")[0] for each in told}
    assert (tmp_path / certs.CA_CERT).read_bytes() == ca


def test_gateways_that_run_take_a_renewed_leaf_whole_however_often_it_is_renewed(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    certs.ensure_own(folder, "127.0.0.1", NOW)
    command = [sys.executable, "-c", _AT_ONCE, "renew"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as other:
        assert _line_of(other) == "up"
        held = certs.Certificates(settings_in(tmp_path), Clock())
        assert other.stdin is not None
        other.stdin.write(f"{folder}\n" * 200)
        other.stdin.close()
        while other.poll() is None:
            try:
                held.refresh()
            except ConfigError as error:  # it waits for a moment only, and the next look takes it
                if "another process has held" not in error.message:
                    raise
    assert other.returncode == 0
    held.refresh()
    assert held.current.cert_pem == held.cert_path.read_bytes()
    assert held.current.key_pem == held.key_path.read_bytes()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks into /proc for who waits")
def test_a_key_that_waits_for_its_certificate_is_waited_for(tmp_path: Path) -> None:
    made = certs.ensure_own(tmp_path, "127.0.0.1", NOW)
    key = (tmp_path / certs.LEAF_KEY).read_bytes()
    command = [sys.executable, "-c", _AT_ONCE, "start"]
    pipe = subprocess.PIPE
    with (
        (tmp_path / LOCK).open("rb+") as lock,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as other,
    ):
        assert _line_of(other) == "up"
        fcntl.flock(lock, fcntl.LOCK_EX)
        (tmp_path / certs.LEAF_KEY).write_bytes(key[:40])
        assert other.stdin is not None
        other.stdin.write(f"{tmp_path}\n")
        until = time.monotonic() + HANG_S
        while not _has_open(other.pid, tmp_path / LOCK) and time.monotonic() < until:
            assert other.poll() is None
        (tmp_path / certs.LEAF_KEY).write_bytes(key)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert _line_of(other).startswith(made.sha256)
    assert (tmp_path / certs.LEAF_KEY).read_bytes() == key


def _has_open(pid: int, path: Path) -> bool:
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if each.readlink() == path.resolve():
                return True
    return False


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="mounts need root")
@pytest.mark.parametrize("has_lock", [True, False])
def test_a_folder_that_cannot_be_written_is_used_with_the_certificates_in_it(
    tmp_path: Path, has_lock: bool
) -> None:
    made = certs.ensure_own(tmp_path, "127.0.0.1", NOW)
    reset_key(tmp_path)
    if not has_lock:
        (tmp_path / LOCK).unlink()
    prepare = (
        'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && ! touch "$0/x" 2>/dev/null && exec "$@"'
    )
    mounted = ["unshare", "--mount", "sh", "-c", prepare, str(tmp_path), sys.executable, "-c", _AT_ONCE]
    start, renew = (
        subprocess.run([*mounted, way], input=f"{tmp_path}\n", capture_output=True, text=True, timeout=HANG_S)
        for way in ("start", "renew")
    )
    assert start.returncode == 0, start.stderr
    assert start.stdout.split()[1].startswith(f"{made.sha256},")
    assert "ConfigError: --certs" in renew.stderr


def test_a_folder_that_another_process_holds_for_long_is_an_error_that_names_it(tmp_path: Path) -> None:
    clock = Clock()
    held = certs.Certificates(settings_in(tmp_path), clock)
    first, lock = held.current, tmp_path / "certs" / LOCK
    clock.now = NOW + timedelta(days=11)
    with lock.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=f"another process has held {lock}"):
            held.refresh()
        assert held.current is first
    assert held.refresh()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="it is a link"):
        certs.ensure_own(tmp_path / "certs", "127.0.0.1", NOW)
    assert not (tmp_path / "elsewhere").exists()
