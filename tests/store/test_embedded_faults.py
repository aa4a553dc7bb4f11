"""Bad folders, full disks and flipped bits: a clear sentence, and the rest goes on."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
import zstandard
from blake3 import blake3

from gateway.errors import ConfigError, StoreDamaged, StoreUnavailable
from gateway.limits import STORE_PAGE_BYTES_MAX
from gateway.store.base import Namespace, PageRead
from gateway.store.embedded import EmbeddedOptions, Engine, check
from tests.patience import HANG_S
from tests.store.test_embedded_durability import NS, commit, read

QUIET = EmbeddedOptions(background=False)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "store", auto_create=True, options=QUIET)
    engine.stat(NS)
    yield engine
    engine.close()


def test_second_opening_is_refused_naming_the_flag_and_the_process(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="--store") as refused:
        Engine(engine.folder)
    assert str(os.getpid()) in refused.value.message


def test_another_process_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom gateway.store.embedded import Engine\nfrom gateway.errors import ConfigError\n"
        "try:\n    Engine(sys.argv[1]).close()\nexcept ConfigError as error:\n    sys.exit(str(error))\n"
    )
    engine = Engine(tmp_path)
    refused = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "in use by process" in refused.stderr
    engine.close()
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == 0


def test_folder_that_cannot_be_made_is_refused_naming_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="--store"):
        Engine(tmp_path / "file" / "store")


def test_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    con = apsw.Connection(str(tmp_path / "store.sqlite"))
    con.execute("CREATE TABLE mine(x)")
    con.close()
    with pytest.raises(ConfigError, match="not a store"):
        Engine(tmp_path)
    con = apsw.Connection(str(tmp_path / "store.sqlite"))
    assert con.execute("SELECT name FROM sqlite_schema").fetchall() == [("mine",)]
    con.close()


def test_store_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    Engine(tmp_path).close()
    con = apsw.Connection(str(tmp_path / "store.sqlite"))
    con.execute("PRAGMA user_version=99")
    con.close()
    with pytest.raises(ConfigError, match="format 99"):
        Engine(tmp_path)


def test_checking_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no store"):
        check(tmp_path)


def test_full_disk_refuses_commits_keeps_reads_and_recovers(engine: Engine) -> None:
    kept = commit(engine, 0, b"before")
    engine.registry.find(NS.key)
    limit_pages(engine, 1)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="no space"):
            commit_large(engine)
        limit_pages(engine, 1)
        assert read(engine, 0, kept) == b"before"
        assert engine.stat(NS).version == kept
    limit_pages(engine, 2**30)
    commit_large(engine)
    assert read(engine, 0, engine.stat(NS).version) == b"before"


def limit_pages(engine: Engine, pages: int) -> None:
    """Have SQLite find the disk full: its own bound on the file's size, at least the present one."""
    # The bound is the writing connection's own, as a full disk is the writer's alone to see.
    engine.writer._begin_cursor().execute(f"PRAGMA max_page_count={pages}")


def commit_large(engine: Engine) -> None:
    for page in range(40, 80):
        commit(engine, page, os.urandom(30_000))


FULL_DISK = """
import os, resource, sys
from blake3 import blake3
from gateway.errors import StoreUnavailable
from gateway.limits import STORE_PAGE_BYTES_MAX
from gateway.store.base import Namespace, PageRead
from gateway.store.embedded import Engine
from tests.store.test_embedded_durability import NS, commit, read
engine = Engine(sys.argv[1], auto_create=True)
engine.stat(NS)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
kept, refused = {}, 0
for n in range(60):
    data = os.urandom(20_000)
    try:
        kept[n] = commit(engine, n, data), data
    except StoreUnavailable:
        refused += 1
assert kept and refused, (len(kept), refused)
for n, (version, data) in kept.items():
    assert read(engine, n, version) == data
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
version = commit(engine, 99, b"room again")
assert read(engine, 99, version) == b"room again"
engine.close()
engine = Engine(sys.argv[1])
for n, (version, data) in kept.items():
    assert read(engine, n, version) == data
engine.close()
"""


def test_writes_that_the_system_refuses_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=HANG_S
    )
    assert ended.returncode == 0, ended.stderr
    assert check(tmp_path).damaged == 0


def flip(folder: Path, content: bytes) -> None:
    """Flip one bit in the middle of ``content`` wherever the store's file has it (SQLite leaves stale copies)."""
    path = folder / "store.sqlite"
    data = bytearray(path.read_bytes())
    at = data.find(content[200:260])
    assert at >= 0
    while at >= 0:
        data[at + 30] ^= 0x10
        at = data.find(content[200:260], at + 1)
    path.write_bytes(data)


def test_flipped_bit_fails_the_read_by_name_and_the_rest_is_served(tmp_path: Path) -> None:
    contents = [os.urandom(1_000) for _ in range(6)]
    engine = Engine(tmp_path, auto_create=True, options=QUIET)
    engine.stat(NS)
    version = [commit(engine, page, data) for page, data in enumerate(contents)][-1]
    engine.close()
    assert check(tmp_path).damaged == 0
    flip(tmp_path, contents[2])
    engine = Engine(tmp_path, options=QUIET)
    for wanted in ([PageRead(2, version)], [PageRead(page, version) for page in range(6)]):
        with pytest.raises(StoreDamaged, match=blake3(contents[2]).hexdigest()):
            engine.read(NS, wanted)
    for page in (0, 1, 3, 4, 5):
        assert read(engine, page, version) == contents[page]
    commit(engine, 2, b"mended by a new write")
    assert read(engine, 2, engine.stat(NS).version) == b"mended by a new write"
    engine.close()


def test_flipped_bit_in_compressed_content_is_found_too(tmp_path: Path) -> None:
    engine = Engine(tmp_path, auto_create=True, options=QUIET)
    engine.stat(NS)
    data = os.urandom(500) + bytes(3_500)
    version = commit(engine, 0, data)
    engine.close()
    flip(tmp_path, data[:500])
    engine = Engine(tmp_path, options=QUIET)
    with pytest.raises(StoreDamaged, match=blake3(data).hexdigest()):
        read(engine, 0, version)
    engine.close()


@pytest.mark.parametrize("stated", [1 << 52, 1 << 33, STORE_PAGE_BYTES_MAX + 1])
def test_a_length_that_was_hit_asks_for_no_more_memory_than_a_page_takes(tmp_path: Path, stated: int) -> None:
    """Compressed content states its length (RFC 8878 section 3.1.1.1.4): one flipped bit makes petabytes of it."""
    engine = Engine(tmp_path, auto_create=True, options=QUIET)
    engine.stat(NS)
    data = bytes(4_000)
    version = commit(engine, 0, data)
    commit(engine, 1, b"another")
    engine.close()
    con = apsw.Connection(str(tmp_path / "store.sqlite"))
    ((packed,),) = con.execute("SELECT data FROM blob WHERE enc = 1")
    head = struct.pack(
        "<IBQ", zstandard.MAGIC_NUMBER, 0xE0, stated
    )  # of one segment, its length in eight bytes
    con.execute("UPDATE blob SET data = ? WHERE enc = 1", (head + packed[7:],))
    con.close()
    engine = Engine(tmp_path, options=QUIET)
    with pytest.raises(StoreDamaged, match=f"it says that it holds {stated} bytes"):
        read(engine, 0, version)
    assert read(engine, 1, engine.stat(NS).version) == b"another"
    engine.close()
    assert check(tmp_path).damaged == 1


def test_check_goes_on_past_damage_and_counts_it(tmp_path: Path) -> None:
    contents = [os.urandom(1_000) for _ in range(20)]
    engine = Engine(tmp_path, auto_create=True, options=QUIET)
    engine.stat(NS)
    for page, data in enumerate(contents):
        commit(engine, page, data)
    engine.close()
    for bad in (3, 11):
        flip(tmp_path, contents[bad])
    lines: list[str] = []
    report = check(tmp_path, lines.append)
    assert (report.contents, report.references, report.damaged) == (18, 20, 2)
    assert {blake3(contents[bad]).hexdigest() for bad in (3, 11)} == {line.split()[1] for line in lines}


def test_check_finds_pages_whose_content_is_missing(tmp_path: Path) -> None:
    engine = Engine(tmp_path, auto_create=True, options=QUIET)
    engine.stat(NS)
    for page in range(5):
        commit(engine, page, b"%d" % page)
    engine.close()
    con = apsw.Connection(str(tmp_path / "store.sqlite"))
    con.execute("DELETE FROM content WHERE hash = ?", (blake3(b"2").digest(),))
    con.execute("DELETE FROM blob WHERE data = ?", (b"3",))
    con.close()
    report = check(tmp_path)
    assert (report.contents, report.references, report.damaged) == (3, 4, 2)


def test_damage_in_the_middle_of_a_table_leaves_both_ends_checked(tmp_path: Path) -> None:
    engine = Engine(tmp_path, auto_create=True, options=QUIET)
    engine.stat(NS)
    for _ in range(20):
        engine.write(NS, [os.urandom(16) for _ in range(100)])
    engine.close()
    path = tmp_path / "store.sqlite"
    con = apsw.Connection(str(path))
    query = "SELECT pageno FROM dbstat WHERE name = 'content' AND pagetype = 'leaf' ORDER BY path"
    leaves = [page for (page,) in con.execute(query)]
    con.close()
    data = bytearray(path.read_bytes())
    at = (leaves[len(leaves) // 2] - 1) * 4096
    data[at : at + 4096] = bytes(4096)
    path.write_bytes(data)
    lines: list[str] = []
    report = check(tmp_path, lines.append)
    assert report.damaged >= 2
    assert 1_500 < report.contents < 2_000


def test_reading_a_namespace_name_with_odd_characters(engine: Engine) -> None:
    odd = Namespace("w é ' \" % \x00 _")
    engine.stat(odd)
    version = commit(engine, 0, b"odd", odd)
    assert engine.read(odd, [PageRead(0, version)])[0].data == b"odd"
    assert [info.key for info in engine.list_namespaces("w é '")] == [odd.key]
