"""The page cache by itself: over which versions a page is answered, what a commit teaches, and what goes first."""

from __future__ import annotations

import random

import pytest
from blake3 import blake3

from gateway import limits
from gateway.store.base import (
    Committed,
    Namespace,
    NamespaceCommit,
    PageContent,
    PageRead,
    PageWrite,
    Version,
)
from gateway.store.cache_pages import PageCache

COST = limits.STORE_CACHE_PAGE_COST_BYTES


def at(number: int) -> Version:
    return f"{number:020x}"


class Asked:
    """A cache, and shorter words for what is asked of it. Versions are numbers here."""

    def __init__(self, bytes_max: int = 1 << 20) -> None:
        self.cache = PageCache(bytes_max)

    def learn(
        self, version: int, since: int | None = None, changed: list[int] | None = None, key: str = "w"
    ) -> None:
        self.cache.learn(key, at(version), None if since is None else at(since), changed)

    def keep(self, page: int, version: int, written: int | None, data: bytes = b"x", key: str = "w") -> None:
        """A read of the page at ``version`` found what was written at ``written`` (None: nothing ever)."""
        content = PageContent("" if written is None else at(written), data)
        self.cache.put(key, [PageRead(page, at(version))], [content])

    def get(self, page: int, version: int, key: str = "w") -> bytes | None:
        found = self.cache.get(key, [PageRead(page, at(version))])[0]
        return None if found is None else found.data

    def held(self, page: int, versions: range, key: str = "w") -> list[int]:
        """At which of these versions the page is answered."""
        return [version for version in versions if self.get(page, version, key) is not None]

    def commit(
        self, assumed: int, version: int, pages: dict[int, bytes], others: tuple[int, ...] | None = ()
    ) -> None:
        writes = [PageWrite(page, blake3(data).digest(), data) for page, data in pages.items()]
        changelog = {} if others is None else {"w": others}
        self.cache.committed(
            NamespaceCommit(Namespace("w"), at(assumed), writes), Committed(at(version), changelog)
        )

    def fact(self, name: str) -> object:
        return self.cache.facts()[f"cache_{name}"]


@pytest.fixture
def asked() -> Asked:
    asked = Asked()
    asked.learn(10)
    return asked


def test_a_page_is_answered_from_where_it_was_written_up_to_where_it_was_read(asked: Asked) -> None:
    asked.keep(1, 7, 3)
    assert asked.held(1, range(12)) == [3, 4, 5, 6, 7]
    asked.keep(1, 8, 3)
    assert asked.held(1, range(12)) == [3, 4, 5, 6, 7, 8]
    asked.keep(1, 5, 3)
    assert asked.held(1, range(12)) == [3, 4, 5, 6, 7, 8]
    assert asked.fact("pages") == 1
    asked.keep(2, 4, None, b"")
    assert asked.held(2, range(12)) == [0, 1, 2, 3, 4]
    assert asked.get(3, 4) is None
    assert asked.get(1, 5, key="other") is None


def test_what_reaches_the_head_grows_with_it_while_it_is_not_among_the_changes(asked: Asked) -> None:
    asked.keep(1, 10, 3)
    asked.keep(2, 10, 4)
    asked.learn(15, 10, [2])
    assert asked.held(1, range(20)) == list(range(3, 16))
    assert asked.held(2, range(20)) == list(range(4, 11))
    asked.learn(18, 12, [2])
    assert asked.held(1, range(20)) == list(range(3, 19)), "changes since before the head tell enough"
    asked.learn(18, 18, [1])
    assert asked.held(1, range(20)) == list(range(3, 19)), "the same head tells nothing"


@pytest.mark.parametrize("how", [(15, None, [2]), (15, 10, None), (15, 11, [2])])
def test_where_it_is_not_known_what_changed_all_stays_good_up_to_then_and_no_further(
    asked: Asked, how: tuple[int, int | None, list[int] | None]
) -> None:
    asked.keep(1, 10, 3)
    asked.learn(*how)
    assert asked.held(1, range(20)) == list(range(3, 11))
    asked.keep(1, 15, 3)
    asked.learn(17, 15, [])
    assert asked.held(1, range(20)) == list(range(3, 18))
    assert asked.fact("pages") == 1


def test_laps_beyond_the_bound_leave_every_page_good_for_what_it_was(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_CACHE_LAPS_MAX", 3)
    for lap in range(10):
        asked.keep(lap, 10 + lap, 5)
        asked.learn(11 + lap)
        for page in range(lap + 1):
            assert asked.held(page, range(30)) == list(range(5, 11 + page))


def test_a_head_that_goes_back_leaves_nothing(asked: Asked) -> None:
    asked.keep(1, 10, 3)
    asked.learn(9, 8, [])
    assert asked.held(1, range(12)) == []
    assert (asked.fact("pages"), asked.fact("bytes")) == (0, 0)
    assert asked.cache.head("w") == at(9)
    assert asked.cache.head("other") is None


def test_what_is_above_the_head_by_hash_or_of_an_unknown_namespace_is_not_kept(asked: Asked) -> None:
    asked.keep(1, 11, 3)
    asked.cache.put("w", [PageRead(1, at(5), bytes(32))], [PageContent(at(5), b"x")])
    asked.keep(1, 5, 3, key="other")
    assert asked.fact("pages") == 0
    asked.keep(1, 5, 3)
    assert asked.cache.get("w", [PageRead(1, at(5), bytes(32))]) == [None]


def test_hits_and_misses_are_counted_by_page(asked: Asked) -> None:
    asked.keep(1, 5, 3)
    reads = [PageRead(1, at(4)), PageRead(1, at(6)), PageRead(2, at(4)), PageRead(1, at(5))]
    assert [page is not None for page in asked.cache.get("w", reads)] == [True, False, False, True]
    asked.cache.get("none", reads)
    assert (asked.fact("hits"), asked.fact("misses")) == (2, 6)


def test_the_bound_counts_contents_and_bookkeeping_and_the_longest_unused_goes_first() -> None:
    asked = Asked(3 * (COST + 100))
    asked.learn(10)
    for page in (1, 2, 3):
        asked.keep(page, 10, 3, bytes(100))
    assert (asked.fact("bytes"), asked.fact("bytes_max"), asked.fact("evicted")) == (
        3 * (COST + 100),
    ) * 2 + (0,)
    asked.get(1, 10)
    asked.keep(2, 10, 3, bytes(100))  # read again: used
    asked.keep(4, 10, 3, b"")
    assert [page for page in (1, 2, 3, 4) if asked.get(page, 10) is not None] == [1, 2, 4]
    assert (asked.fact("evicted"), asked.fact("bytes")) == (1, 3 * COST + 200)
    asked.keep(5, 10, 3, bytes(4 * (COST + 100)))
    assert (asked.fact("pages"), asked.fact("bytes"), asked.fact("evicted")) == (0, 0, 5)


def test_so_many_namespaces_are_known_and_the_longest_unused_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STORE_CACHE_NAMESPACES_MAX", 2)
    asked = Asked()
    for key in ("a", "b"):
        asked.learn(10, key=key)
        asked.keep(1, 10, 3, key=key)
    asked.learn(10, key="a")
    asked.learn(10, key="c")
    assert [asked.cache.head(key) is not None for key in "abc"] == [True, False, True]
    assert asked.fact("pages") == 1
    asked.cache.forget("a")
    asked.cache.forget("a")
    assert (asked.cache.head("a"), asked.fact("pages"), asked.fact("bytes")) == (None, 0, 0)


def test_a_commit_teaches_what_it_wrote_and_what_others_changed(asked: Asked) -> None:
    for page in (1, 2, 3):
        asked.keep(page, 10, 3)
    asked.commit(10, 14, {1: b"new"}, others=(2,))
    assert (asked.get(1, 14), asked.get(2, 14), asked.get(3, 14)) == (b"new", None, b"x")
    assert [asked.get(page, 13) for page in (1, 2, 3)] == [None, None, b"x"]
    assert [asked.get(page, 10) for page in (1, 2, 3)] == [b"x"] * 3
    assert asked.cache.head("w") == at(14)
    asked.learn(16, 14, [])
    assert asked.get(1, 16) == b"new"


@pytest.mark.parametrize(("assumed", "others"), [(10, None), (11, ())])
def test_a_commit_that_does_not_tell_all_that_changed_ends_what_was_current(
    asked: Asked, assumed: int, others: tuple[int, ...] | None
) -> None:
    asked.keep(3, 10, 3)
    asked.commit(assumed, 14, {1: b"new"}, others)
    assert asked.held(3, range(20)) == list(range(3, 11))
    assert asked.held(1, range(20)) == [14]


def test_the_answer_of_an_overtaken_commit_teaches_nothing(asked: Asked) -> None:
    for version in (9, 10):
        asked.commit(8, version, {1: b"old"})
        assert asked.held(1, range(20)) == []
    fresh = Asked()
    fresh.commit(10, 14, {1: b"new"})
    assert fresh.held(1, range(20)) == [14]


def test_of_a_page_that_is_written_twice_in_a_commit_the_last_counts_and_by_hash_only_what_is_here(
    asked: Asked,
) -> None:
    def by_hash(page: int, data: bytes) -> PageWrite:
        return PageWrite(page, blake3(data).digest())

    asked.keep(1, 7, 3, b"older")
    asked.keep(1, 10, 8, b"newest")
    asked.keep(2, 10, 3, b"two")
    writes = [
        by_hash(1, b"newest"),
        by_hash(2, b"another"),
        by_hash(5, b"unknown"),
        PageWrite(6, blake3(b"a").digest(), b"a"),
        PageWrite(6, blake3(b"b").digest(), b"b"),
    ]
    asked.cache.committed(NamespaceCommit(Namespace("w"), at(10), writes), Committed(at(14), {"w": ()}))
    assert [asked.get(page, 14) for page in (1, 2, 5, 6)] == [b"newest", None, None, b"b"]
    assert [asked.get(page, 13) for page in (1, 2)] == [None, None]
    writes = [by_hash(1, b"older")]
    asked.cache.committed(NamespaceCommit(Namespace("w"), at(14), writes), Committed(at(15), {"w": ()}))
    assert asked.get(1, 15) is None, "only the newest is looked at"


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_what_is_answered_is_what_the_store_has(seed: int) -> None:
    dice = random.Random(seed)
    asked = Asked(40 * COST)
    history: list[dict[int, tuple[int, bytes]]] = [{}]
    seen = 0

    def write(pages: list[int]) -> None:
        now = len(history)
        history.append(history[-1] | {page: (now, b"%d.%d" % (now, page)) for page in pages})

    def changed(since: int, upto: int) -> list[int]:
        return [page for page in range(6) if history[since].get(page) != history[upto].get(page)]

    for _ in range(300):
        head = len(history) - 1
        what = dice.random()
        pages = dice.sample(range(6), dice.randint(1, 3))
        if what < 0.2:
            write(pages)
        elif what < 0.35:
            since = dice.choice([None, dice.randint(0, head)])
            known = None if since is None or dice.random() < 0.2 else changed(since, head)
            asked.learn(head, since, known)
            seen = max(seen, head)
        elif what < 0.5 and seen:
            others = tuple(changed(seen, head))
            write(pages)
            content = {page: history[-1][page][1] for page in pages}
            asked.commit(seen, head + 1, content, others if dice.random() < 0.8 else None)
            seen = head + 1
        elif what < 0.8:
            page, version = dice.randrange(6), dice.randint(0, head)
            written, data = history[version].get(page, (None, b""))
            asked.keep(page, version, written, data)
        else:
            page, version = dice.randrange(6), dice.randint(0, head)
            found = asked.get(page, version)
            assert found is None or found == history[version].get(page, (0, b""))[1]
    assert asked.fact("hits") != 0
