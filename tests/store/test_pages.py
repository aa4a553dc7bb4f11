"""One connection's pages over a store in memory: what is asked of the store, what is kept, and what a commit says."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from blake3 import blake3

from gateway.errors import BadInput, Conflict, TooLarge
from gateway.limits import (
    STORE_COMMIT_INLINE_PAGES_MAX,
    STORE_COMMIT_PAGES_MAX,
    STORE_READ_PAGES_MAX,
    STORE_WRITE_PAGES_MAX,
    VFS_DIRTY_PAGES_MAX,
    VFS_INLINE_PAGES_MAX,
    VFS_READ_AHEAD_PAGES_MAX,
    VFS_READ_SET_PAGES_MAX,
)
from gateway.store import pages as module
from gateway.store.base import Namespace, PageContent, PageRead, Traits
from gateway.store.pages import (
    Pages,
    commit_together,
    empty_first_page,
    size_of,
    with_counter,
    without_counter,
)
from tests.store.memory_store import MemoryStore

NS = Namespace("w")
SIZE = 4096


class Watched(MemoryStore):
    """Notes which pages were read, and how many contents went ahead at a time."""

    def __init__(self, traits: Traits | None = None) -> None:
        super().__init__()
        self.traits = traits or Traits()  # type: ignore[misc]
        self.asked: list[list[int]] = []
        self.ahead: list[int] = []
        self.create_namespace("w")

    def read(self, ns: Namespace, reads: Any) -> list[PageContent]:
        self.asked.append([read.page for read in reads])
        return super().read(ns, reads)

    def write(self, ns: Namespace, pages: Any) -> list[bytes]:
        self.ahead.append(len(pages))
        return super().write(ns, pages)


@pytest.fixture
def store() -> Watched:
    return Watched()


def pages_of(store: Watched, **how: Any) -> Pages:
    how.setdefault("cache_bytes", 1_000 * SIZE)
    how.setdefault("page_size", SIZE)
    return Pages(store, NS, new_key=lambda: b"k" * 16, **how)


def page(number: int, fill: int = 1) -> bytes:
    return bytes([fill]) + number.to_bytes(4, "big") + bytes(SIZE - 5)


def first_page(size: int, *, counter: int = 0, trunk: int = 0) -> bytes:
    """Page 0 of a database of so many pages. ``trunk``: the page (from 1) on which its free list begins."""
    data = bytearray(empty_first_page(SIZE))
    data[28:32] = size.to_bytes(4, "big")
    data[32:36] = trunk.to_bytes(4, "big")
    return with_counter(bytes(data), counter)


def filled(store: Watched, size: int, **how: Any) -> Pages:
    """One that has committed pages 0 to ``size`` - 1."""
    pages = pages_of(store, **how)
    pages.begin()
    pages.write(0, first_page(size))
    for number in range(1, size):
        pages.write(number, page(number))
    pages.commit()
    store.asked.clear()
    store.ahead.clear()
    return pages


def counter_of(pages: Pages) -> int:
    data = pages.read(0)
    assert data[24:28] == data[92:96]
    return int.from_bytes(data[24:28], "big")


# --- page 0 ------------------------------------------------------------------------------------------


def test_the_first_page_of_an_empty_database_is_what_the_format_says() -> None:
    for size in (4096, 32768):
        data = empty_first_page(size)
        assert len(data) == size
        assert data[:24] == b"SQLite format 3\0" + size.to_bytes(2, "big") + bytes([1, 1, 0, 64, 32, 32])
        assert data[24:52] == bytes(7) + b"\x01" + bytes(20)
        assert data[52:100] == bytes(48)
        assert data[100:108] == bytes([13, 0, 0, 0, 0]) + size.to_bytes(2, "big") + b"\0"
        assert not any(data[108:])
        assert size_of(data) == 1
    assert size_of(b"") == 0


@pytest.mark.parametrize("counter", [0, 1, 0x01020304, 0xFFFF_FFFF])
def test_both_counters_of_page_0_are_set_and_taken_away_and_nothing_else(counter: int) -> None:
    data = bytes(range(1, 251)) * 17
    found = with_counter(data, counter)
    assert found[24:28] == found[92:96] == counter.to_bytes(4, "big")
    assert (found[:24], found[28:92], found[96:]) == (data[:24], data[28:92], data[96:])
    bare = without_counter(found)
    assert bare[24:28] == bare[92:96] == bytes(4)
    assert (bare[:24], bare[28:92], bare[96:]) == (data[:24], data[28:92], data[96:])
    assert with_counter(data, counter + (1 << 32)) == found


@pytest.mark.parametrize("at", [0, 15, 16, 17])
def test_a_page_0_that_is_not_sqlites_is_refused(store: Watched, at: int) -> None:
    data = bytearray(first_page(1))
    data[at] ^= 0x55
    writer = pages_of(store)
    writer.begin()
    writer.write(0, bytes(data))
    writer.commit()
    with pytest.raises(BadInput, match="does not hold a SQLite database"):
        pages_of(store).begin()


def test_the_size_is_that_of_what_is_written_and_else_of_what_is_stored(store: Watched) -> None:
    pages = filled(store, 5)
    pages.begin()
    assert pages.size_pages == 5
    pages.write(0, first_page(9))
    assert pages.size_pages == 9
    pages.discard()
    assert pages.size_pages == 5


# --- a transaction's start ---------------------------------------------------------------------------


def test_the_head_is_asked_for_at_each_begin_by_one_that_follows_and_once_by_a_single_writer(
    store: Watched,
) -> None:
    filled(store, 2)
    for follow, stats in ((True, 3), (False, 1)):
        pages = pages_of(store, follow_head=follow)
        before = store.calls["stat"]
        for _ in range(3):
            pages.begin()
        assert store.calls["stat"] - before == stats == pages.lineage


def test_a_reader_of_one_version_stays_there(store: Watched) -> None:
    writer = filled(store, 2)
    old = writer.head
    writer.begin()
    writer.write(1, page(1, 9))
    writer.commit()
    reader = pages_of(store, version=old)
    assert reader.read_only
    before = store.calls["stat"]
    reader.begin()
    assert reader.read(1) == page(1)
    reader.forget()
    reader.begin()
    assert (reader.head, reader.read(1)) == (old, page(1))
    assert store.calls["stat"] == before


def test_forgetting_has_the_head_and_everything_read_again(store: Watched) -> None:
    pages = filled(store, 3, follow_head=False)
    pages.begin()
    pages.read(1)
    assert store.asked == []
    pages.write(2, page(2, 7))
    pages.forget()
    assert pages.head is None
    assert not pages.dirty
    pages.begin()
    assert store.asked == [[0]]
    assert pages.read(1) == page(1)
    assert store.asked == [[0], [1]]
    assert pages.lineage == 2


def test_sqlites_cache_is_told_of_every_new_look_but_a_readers_only_where_something_changed(
    store: Watched,
) -> None:
    writer = filled(store, 2)
    reader = pages_of(store, writable=False)
    reader.begin()
    before = counter_of(reader)
    reader.begin()
    assert counter_of(reader) == before
    writer.begin()
    first = counter_of(writer)
    writer.begin()
    assert counter_of(writer) == first + 1
    writer.write(1, page(1, 2))
    writer.commit()
    reader.begin()
    assert counter_of(reader) == before + 1


def test_the_counter_goes_on_from_the_greatest_that_was_written(store: Watched) -> None:
    pages = filled(store, 2)
    pages.begin()
    pages.write(0, first_page(2, counter=1_000))
    assert counter_of(pages) == 1_000
    pages.write(0, first_page(2, counter=7))
    assert counter_of(pages) == 1_000


def test_only_pages_that_changed_are_read_again(store: Watched) -> None:
    reader, writer = filled(store, 4), pages_of(store)
    reader.begin()
    writer.begin()
    writer.write(2, page(2, 5))
    writer.commit()
    reader.begin()
    assert [reader.read(n) for n in (1, 2, 3)] == [page(1), page(2, 5), page(3)]
    assert [n for asked in store.asked[1:] for n in asked] == [2], "page 0 is the writer's own first look"
    writer.begin()
    writer.write(0, first_page(7))
    writer.commit()
    store.asked.clear()
    reader.begin()
    assert reader.size_pages == 7
    assert store.asked == [[0]]


# --- reading -----------------------------------------------------------------------------------------


def reads_of(store: Watched, pages: Pages, *numbers: int) -> list[list[int]]:
    store.asked.clear()
    for number in numbers:
        assert pages.read(number) == page(number)
    return store.asked


def test_misses_in_order_are_read_ahead_twice_as_far_each_time_up_to_a_bound(store: Watched) -> None:
    filled(store, 300)
    pages = pages_of(store)
    pages.begin()
    asked = reads_of(store, pages, *range(1, 300))
    assert [len(each) for each in asked] == [1, 2, 4, 8, 16, 32, *[VFS_READ_AHEAD_PAGES_MAX] * 3, 44]
    assert [n for each in asked for n in each] == list(range(1, 300))
    assert VFS_READ_AHEAD_PAGES_MAX <= STORE_READ_PAGES_MAX


def test_misses_out_of_order_are_read_alone_and_what_is_there_is_not_asked_for(store: Watched) -> None:
    filled(store, 50)
    pages = pages_of(store)
    pages.begin()
    assert reads_of(store, pages, 30, 10, 20, 5) == [[30], [10], [20], [5]]
    assert reads_of(store, pages, 6, 7, 8, 9, 10, 11) == [[6, 7], [8, 9, 11]]
    assert reads_of(store, pages, 12, 13, 25, 26) == [[12, 13, 14, 15, 16, 17, 18, 19], [25], [26, 27]]


def test_nothing_is_read_ahead_beyond_the_end(store: Watched) -> None:
    filled(store, 6)
    pages = pages_of(store)
    pages.begin()
    assert reads_of(store, pages, 1, 2, 3, 4, 5) == [[1], [2, 3], [4, 5]]
    assert pages.read(6) == bytes(SIZE) == pages.read(9)
    assert store.asked[-2:] == [[6], [9]]


def test_the_cache_holds_so_many_pages_and_the_longest_unused_goes_first(store: Watched) -> None:
    filled(store, 10)
    pages = pages_of(store, cache_bytes=3 * SIZE + SIZE // 2)
    pages.begin()
    reads_of(store, pages, 5, 1, 8)
    assert reads_of(store, pages, 5, 1, 8) == []
    assert reads_of(store, pages, 5, 3, 5, 8, 1) == [[3], [1]]
    least = pages_of(store, cache_bytes=1)
    least.begin()
    assert reads_of(store, least, 4, 4, 9, 4) == [[4], [9], [4]]


def test_before_a_snapshot_was_taken_the_head_is_asked_for_once(store: Watched) -> None:
    filled(store, 3)
    pages = pages_of(store, follow_head=False)
    assert pages.read(0)[:16] == b"SQLite format 3\0"
    assert pages.read(1) == page(1)
    assert pages.lineage == 1


# --- what a commit says ------------------------------------------------------------------------------


def test_a_commit_names_the_pages_that_were_read_and_those_alone(store: Watched) -> None:
    pages = filled(store, 6)
    pages.begin()
    pages.read(1)
    pages.read(3)
    pages.write(2, page(2, 2))
    pages.read(2)
    part = pages.prepare(10)
    assert part is not None
    assert part.read_set == {1, 3}
    pages.begin()
    pages.read(4)
    pages.write(2, page(2, 3))
    part = pages.prepare(10)
    assert part is not None
    assert part.read_set == {4}
    assert (part.namespace, part.version, part.anchored) == (NS, pages.head, False)
    assert [(write.page, write.data) for write in part.pages] == [(2, page(2, 3))]
    assert part.pages[0].hash == blake3(page(2, 3)).digest()


@pytest.mark.parametrize("over", [0, 1])
def test_where_too_many_were_read_any_commit_of_others_conflicts(store: Watched, over: int) -> None:
    pages = filled(store, 2)
    pages.begin()
    for number in range(1, VFS_READ_SET_PAGES_MAX + over + 1):
        pages.read(number)
    pages.read(1)
    pages.write(1, page(1, 3))
    part = pages.prepare(10)
    assert part is not None
    assert (part.read_set is None) == bool(over)


def test_a_single_writer_and_one_that_only_reads_keep_no_list_of_what_they_read(store: Watched) -> None:
    pages = filled(store, 3, follow_head=False)
    pages.begin()
    pages.read(1)
    pages.write(1, page(1, 3))
    part = pages.prepare(10)
    assert part is not None
    assert part.read_set is None


@pytest.mark.parametrize("writes_first", [False, True])
def test_beside_others_a_commit_minds_page_0_only_where_it_writes_it(
    store: Watched, writes_first: bool
) -> None:
    pages = filled(store, 3)
    pages.beside_others = True
    pages.begin()
    pages.read(0)
    pages.read(1)
    pages.write(1, page(1, 3))
    if writes_first:
        pages.write(0, first_page(4))
    part = pages.prepare(10)
    assert part is not None
    assert part.read_set == ({0, 1} if writes_first else {1})


def test_a_page_0_that_comes_to_the_same_is_not_committed(store: Watched) -> None:
    pages = filled(store, 3)
    pages.begin()
    pages.write(0, first_page(3, counter=44))
    assert pages.dirty
    assert pages.prepare(10) is None
    pages.begin()
    pages.write(0, first_page(4, counter=44))
    part = pages.prepare(10)
    assert part is not None
    assert [write.page for write in part.pages] == [0]


def test_what_is_written_and_given_up_is_gone(store: Watched) -> None:
    pages = filled(store, 3)
    pages.begin()
    assert not pages.dirty
    pages.write(1, page(1, 8))
    assert pages.dirty
    assert pages.read(1) == page(1, 8)
    pages.discard()
    assert not pages.dirty
    assert pages.read(1) == page(1)
    assert pages.prepare(10) is None


# --- written ahead -----------------------------------------------------------------------------------


def test_pages_beyond_the_bound_are_written_ahead_and_read_back_until_and_after_the_commit(
    store: Watched,
) -> None:
    pages = filled(store, 2)
    pages.begin()
    pages.write(0, first_page(VFS_DIRTY_PAGES_MAX + 1))
    for number in range(1, VFS_DIRTY_PAGES_MAX):
        pages.write(number, page(number, 2))
    assert store.ahead == []
    pages.write(VFS_DIRTY_PAGES_MAX, page(VFS_DIRTY_PAGES_MAX, 2))
    assert sum(store.ahead) == VFS_DIRTY_PAGES_MAX
    assert max(store.ahead) == STORE_WRITE_PAGES_MAX
    assert pages.dirty
    for number in (1, 77, VFS_DIRTY_PAGES_MAX):
        assert pages.read(number) == page(number, 2)
    pages.write(77, page(77, 3))
    assert pages.read(77) == page(77, 3)
    pages.commit()
    assert not pages.dirty
    other = pages_of(store)
    for one in (pages, other):
        one.begin()
        assert one.size_pages == VFS_DIRTY_PAGES_MAX + 1
        assert [one.read(n) for n in (1, 77, 78)] == [page(1, 2), page(77, 3), page(78, 2)]


@pytest.mark.parametrize("over", [0, 1])
def test_a_commit_takes_so_many_pages_and_one_more_is_refused(
    store: Watched, monkeypatch: pytest.MonkeyPatch, over: int
) -> None:
    monkeypatch.setattr(module, "STORE_COMMIT_PAGES_MAX", 20)
    monkeypatch.setattr(module, "VFS_DIRTY_PAGES_MAX", 8)
    pages = filled(store, 2)
    pages.begin()
    for number in range(1, 21 + over):
        pages.write(number, page(number, 2))
    if over:
        with pytest.raises(TooLarge, match="changes 21 pages is over the store's bound of 20"):
            pages.commit()
    else:
        pages.commit()
    assert STORE_COMMIT_PAGES_MAX > 20


@pytest.mark.parametrize(
    ("traits", "inline_max"),
    [
        (Traits(), VFS_INLINE_PAGES_MAX),
        (Traits(in_process=True), STORE_COMMIT_INLINE_PAGES_MAX),
    ],
)
def test_as_many_pages_go_inside_a_commit_as_the_store_takes(traits: Traits, inline_max: int) -> None:
    for over in (0, 1):
        store = Watched(traits)
        pages = filled(store, 2)
        pages.begin()
        for number in range(1, inline_max + over + 1):
            pages.write(number, page(number, 2))
        pages.commit()
        writes = store.requests[-1].namespaces[0].pages
        assert len(writes) == inline_max + over
        assert all((write.data is None) == bool(over) for write in writes)
        assert store.requests[-1].first_attempt
        assert store.requests[-1].idempotency_key == b"k" * 16
        pages.begin()
        assert pages.read(1) == page(1, 2)


def test_databases_that_commit_together_share_what_goes_inside() -> None:
    store = Watched()
    store.create_namespace("v")
    parts = [
        Pages(store, Namespace(key), new_key=lambda: b"", page_size=SIZE, cache_bytes=SIZE)
        for key in ("w", "v")
    ]
    for pages in parts:
        pages.begin()
        for number in range(6):
            pages.write(number, page(number) if number else first_page(6))
    commit_together(store, parts, b"k" * 16)
    first, second = store.requests[-1].namespaces
    assert all(write.data is not None for write in first.pages)
    assert all(write.data is None for write in second.pages)
    assert parts[0].head == parts[1].head == store.stat(NS).version
    commits = store.calls["commit"]
    for pages in parts:
        pages.begin()
        pages.read(1)
    parts[1].write(1, page(1, 3))
    commit_together(store, parts, b"k" * 16)
    assert [part.namespace.key for part in store.requests[-1].namespaces] == ["v"]
    commit_together(store, parts, b"k" * 16)
    assert store.calls["commit"] == commits + 1


# --- after a commit ----------------------------------------------------------------------------------


def test_what_was_committed_is_the_heads_and_needs_not_be_read(store: Watched) -> None:
    for follow in (True, False):
        pages = filled(store, 4, follow_head=follow)
        assert pages.committed is not None
        assert pages.head == pages.committed.version
        assert pages.head == store.stat(NS).version
        pages.begin()
        assert [pages.read(n) for n in (1, 2, 3)] == [page(n) for n in (1, 2, 3)]
        assert pages.size_pages == 4
        assert store.asked == []


def test_what_others_changed_meanwhile_is_read_anew_after_the_commit(store: Watched) -> None:
    pages, other = filled(store, 5), pages_of(store)
    pages.begin()
    other.begin()
    other.write(3, page(3, 9))
    other.commit()
    pages.write(1, page(1, 2))
    pages.commit()
    store.asked.clear()
    assert [pages.read(n) for n in (1, 2, 3)] == [page(1, 2), page(2), page(3, 9)]
    assert store.asked == [[3]]


def test_where_nobody_tells_what_others_changed_all_is_read_anew(store: Watched) -> None:
    pages, other = filled(store, 5), pages_of(store)
    pages.begin()
    for _ in range(101):
        other.begin()
        other.write(3, page(3, 9))
        other.write(3, page(3, 10))
        other.commit()
    pages.write(1, page(1, 2))
    pages.commit()
    store.asked.clear()
    assert [pages.read(n) for n in (1, 3)] == [page(1, 2), page(3, 10)]
    assert 3 in itertools.chain(*store.asked)


def test_whoever_read_what_another_changed_conflicts(store: Watched) -> None:
    pages, other = filled(store, 5), pages_of(store)
    pages.begin()
    pages.read(3)
    other.begin()
    other.write(3, page(3, 9))
    other.commit()
    pages.write(1, page(1, 2))
    with pytest.raises(Conflict):
        pages.commit()


def test_each_commit_tells_how_many_page_versions_it_made_and_the_size(store: Watched) -> None:
    told: list[tuple[int, int]] = []
    pages = pages_of(store)
    pages.on_committed = lambda count, size: told.append((count, size))
    pages.begin()
    pages.write(0, first_page(3))
    pages.write(1, page(1))
    pages.commit()
    pages.begin()
    pages.write(1, page(1, 2))
    pages.commit()
    pages.begin()
    pages.write(0, first_page(30))
    for number in range(1, 15):
        pages.write(number, page(number, 3))
    pages.commit()  # page 0 as well went ahead
    assert told == [(2, 3), (1, 3), (15, 0)]


# --- anchors -----------------------------------------------------------------------------------------


def test_a_single_writer_over_a_store_that_mixes_names_up_names_its_own_page_0_with_each_commit() -> None:
    store = Watched(Traits(takes_any_version=True))
    told: list[int] = []
    pages = pages_of(store, follow_head=False)
    pages.on_committed = lambda count, size: told.append(count)

    def commits(*numbers: int, size: int = 3) -> list[tuple[int, bool]]:
        pages.begin()
        for number in numbers:
            pages.write(number, page(number, 5 + len(told)) if number else first_page(size))
        pages.commit()
        part = store.requests[-1].namespaces[0]
        assert part.anchored == bool(told[1:])
        return [(write.page, write.data is not None) for write in part.pages]

    first = blake3(first_page(3)).digest()
    assert commits(0, 1) == [(0, True), (1, True)]
    assert commits(1) == [(0, False), (1, True)]
    assert store.requests[-1].namespaces[0].pages[0].hash == first
    assert commits(2, 0, size=9) == [(0, False), (2, True), (0, True)]
    assert store.requests[-1].namespaces[0].pages[0].hash == first
    assert commits(1) == [(0, False), (1, True)]
    assert store.requests[-1].namespaces[0].pages[0].hash == blake3(first_page(9)).digest()
    assert told == [2, 2, 3, 2]
    pages.forget()
    pages.begin()
    pages.write(1, page(1, 99))
    part = pages.prepare(10)
    assert part is not None
    assert not part.anchored, "it is not known whose page 0 that is"
    assert sorted((write.page, write.data is not None) for write in part.pages) == [(0, True), (1, True)]


@pytest.mark.parametrize("how", [{"follow_head": True}, {"follow_head": False}])
def test_where_names_are_not_mixed_up_nothing_is_anchored(how: dict[str, bool]) -> None:
    store = Watched(Traits(takes_any_version=how["follow_head"]))
    pages = filled(store, 3, **how)
    for _ in range(2):
        pages.begin()
        pages.write(1, page(1, 4))
        pages.commit()
        part = store.requests[-1].namespaces[0]
        assert not part.anchored
        assert [write.page for write in part.pages] == [1]


# --- the free list -----------------------------------------------------------------------------------


def test_what_the_first_page_of_the_free_list_does_not_use_is_stored_as_zeros(store: Watched) -> None:
    pages = filled(store, 6)
    rest = bytes(range(1, 241)) * 18
    trunk = bytes(4) + (3).to_bytes(4, "big") + rest[: SIZE - 8]
    pages.begin()
    pages.write(0, first_page(6, trunk=4))
    pages.write(3, trunk)
    pages.write(2, trunk)
    pages.commit()
    pages.begin()
    assert pages.read(3) == trunk[:20] + bytes(SIZE - 20)
    assert pages.read(2) == trunk
    pages.write(3, trunk)  # page 0 as it was stored says where it is
    pages.write(2, trunk[::-1])
    pages.commit()
    assert pages.read(3) == trunk[:20] + bytes(SIZE - 20)
    assert pages.read(2) == trunk[::-1]


def test_a_database_without_a_free_list_is_stored_as_it_is(store: Watched) -> None:
    pages = filled(store, 6)
    pages.begin()
    data = bytes([0, 0, 0, 0, 0, 0, 0, 1]) + bytes([7]) * (SIZE - 8)
    for number in (1, 5):
        pages.write(number, data)
    pages.commit()
    assert pages.read(1) == pages.read(5) == data


def test_a_version_and_its_pages_are_asked_for_at_the_head_of_the_snapshot(store: Watched) -> None:
    pages, other = filled(store, 3), pages_of(store)
    pages.begin()
    head = pages.head
    other.begin()
    other.write(2, page(2, 6))
    other.commit()
    fresh = pages_of(store, version=head)
    fresh.begin()
    assert fresh.read(2) == page(2)
    assert head is not None
    assert store.read(NS, [PageRead(2, head)])[0].data == page(2)
