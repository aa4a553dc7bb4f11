"""What is asked of a remote store and what its answers are taken for: each rule by itself, without a network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from blake3 import blake3

from gateway import errors, limits
from gateway.errors import (
    BadInput,
    Conflict,
    Forbidden,
    GatewayError,
    Gone,
    NoNamespace,
    NotFound,
    StoreError,
    StoreUnavailable,
    TooLarge,
    Unprocessable,
)
from gateway.store.base import (
    ZERO_VERSION,
    CommitRequest,
    Committed,
    LockInfo,
    Namespace,
    NamespaceCommit,
    NamespaceInfo,
    OverlayBase,
    PageContent,
    PageRead,
    PageWrite,
    Stat,
    TimeBounds,
    TimePoint,
)
from gateway.store.embedded import EmbeddedStore
from gateway.store.remote import AdminApi, AdminNeeded, Ask, RemoteStore, StoreAnswer, bodies
from gateway.store.remote.addresses import Addresses, Backoff
from gateway.store.remote.asking import Incomplete, bears
from gateway.store.remote.assumed import AssumedVersions
from gateway.store.remote.blocking import BlockingBridge
from gateway.store.remote.requests import ask_for, ask_stat, cut, side_by_side
from gateway.store.remote.sunken import SunkenHeads
from gateway.store.remote.transport import StoreFailed, check, ended_early
from gateway.wire import mvstore
from tests.held import count as held_count
from tests.patience import HANG_S
from tests.store.remote.test_retries import BROKEN, NS, Clock, Scripted, V, bad, good

URL = "http://a"


def v(number: int) -> str:
    return f"{number:020x}"


def middle(low: float, high: float) -> float:
    return (low + high) / 2


class Timed(Scripted):
    """Keeps how long each request was given, too."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.given: list[float] = []

    async def request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        self.given.append(timeout_s)
        return await super().request(ask, timeout_s)


# --- addresses --------------------------------------------------------------------------------------


def test_waits_grow_by_half_up_to_ten_seconds_each_a_fifth_shorter_or_longer() -> None:
    asked: list[tuple[float, float]] = []

    def least(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    backoff = Backoff(least)
    waits = [backoff.next_s() for _ in range(20)]
    assert waits[:3] == pytest.approx([0.04, 0.06, 0.09])
    assert waits[-1] == pytest.approx(0.8 * limits.STORE_BACKOFF_S_MAX)
    assert waits == sorted(waits)
    assert set(asked) == {(0.8, 1.2)}


def test_the_address_that_answered_last_is_kept_and_one_that_failed_set_aside_for_ever_longer() -> None:
    clock = Clock()
    a, b, c = (Scripted(clock, f"http://{name}", good()) for name in "abc")
    addresses = Addresses([a, b, c], middle)
    assert (len(addresses), addresses.transports) == (3, [a, b, c])
    assert addresses.pick(0.0) is a
    addresses.bad(a, 0.0)
    assert addresses.pick(0.0) is b
    assert addresses.pick(1.0) is b, "the other is back, and this one is good"
    addresses.bad(b, 1.0)
    assert addresses.pick(1.0) is c, "the next, not the first"
    addresses.bad(c, 1.0)
    assert addresses.pick(1.0) is a
    addresses.bad(a, 1.0)  # for the second time: 75 ms
    assert not addresses.any_ready(1.0)
    assert not addresses.any_ready(1.049)
    assert addresses.any_ready(1.05)
    assert addresses.pick(1.0) in (b, c), "all are set aside: that which is back first"
    assert addresses.health() == {"http://a": 2, "http://b": 1, "http://c": 1}
    addresses.good(a)
    assert addresses.health()["http://a"] == 0
    assert addresses.any_ready(1.0)
    for one in (a, b, c):
        addresses.bad(one, 2.0)
    assert not addresses.any_ready(2.049)
    assert addresses.any_ready(2.05), "it begins anew with the shortest wait"
    assert addresses.pick(2.05) is a
    addresses.good(b)
    addresses.good(b)
    assert addresses.health()["http://b"] == 0


def test_an_address_is_back_at_its_time_and_not_before() -> None:
    clock = Clock()
    a, b = (Scripted(clock, f"http://{name}", good()) for name in "ab")
    addresses = Addresses([a, b], middle)
    addresses.bad(a, 0.0)
    addresses.bad(b, 0.0)
    addresses.bad(b, 0.0)
    assert addresses.pick(0.0) is a
    addresses.bad(a, 0.2)
    assert addresses.pick(0.2) is b
    assert addresses.pick(0.3) is b


# --- asking -----------------------------------------------------------------------------------------


def test_so_many_failures_of_a_kind_are_borne_and_any_of_another() -> None:
    patience = bears(StoreFailed, 2)
    assert [
        patience(failure) for failure in (BROKEN, StoreFailed("x"), BROKEN, StoreFailed("x"), BROKEN)
    ] == [
        *(True, True, True, False, False),
    ]


async def test_a_request_is_given_its_share_of_the_time_and_never_more_than_is_left() -> None:
    clock = Clock()
    first, second = (
        Timed(clock, "http://a", BROKEN, took_s=60.0),
        Timed(clock, "http://b", BROKEN, took_s=60.0),
    )
    store = RemoteStore([first, second], options=clock.options(deadline_s=6.0))
    with pytest.raises(StoreUnavailable, match="within 6 s; the last attempt: connection broken"):
        await store.stat(NS)
    assert (first.given, second.given) == ([3.0], [3.0])
    assert store.facts() == {
        "requests": 2, "retries": 1, "failovers": 1, "given_up": 1, "failing": {"http://a": 1, "http://b": 1},
    }  # fmt: skip


async def test_what_waits_is_given_what_is_left_of_its_time() -> None:
    clock = Clock()
    transport = Timed(clock, "http://a", BROKEN, BROKEN, good(), took_s=2.0)
    store = RemoteStore([transport], options=clock.options(deadline_s=5.0))
    await store.stat(NS)
    assert transport.given == pytest.approx([5.0, 2.95, 0.875])
    assert clock.waits == pytest.approx([0.05, 0.075])
    assert store.facts()["failovers"] == 0
    assert store.facts()["failing"] == {"http://a": 0}


async def test_nothing_is_waited_for_that_ends_at_the_deadline() -> None:
    clock = Clock()
    transport = Timed(clock, "http://a", BROKEN, good())
    store = RemoteStore([transport], options=clock.options(deadline_s=0.05))
    with pytest.raises(StoreUnavailable):
        await store.stat(NS)
    assert clock.waits == []
    store = RemoteStore([Timed(clock, "http://a", BROKEN, good())], options=clock.options(deadline_s=0.051))
    assert (await store.stat(NS)).version == V


@pytest.mark.parametrize("failure", [bad(500, b"broken"), good(b"")])
async def test_what_kind_of_failure_it_was_is_still_told_at_the_deadline(failure: StoreAnswer) -> None:
    clock = Clock()
    store = RemoteStore([Scripted(clock, URL, failure)], options=clock.options(deadline_s=0.2))
    kind = StoreFailed if failure.status == 500 else Incomplete
    with pytest.raises(kind, match=r"no good answer from http://a within 0\.2 s"):
        await store.write(NS, [b"page"])


# --- requests and answers ---------------------------------------------------------------------------


def test_a_request_names_its_namespace_and_proof_in_headers() -> None:
    assert ask_for("GET", "/x", None) == Ask("GET", "/x", {}, b"", limits.STORE_SMALL_ANSWER_BYTES_MAX)
    assert ask_for("POST", "/x", Namespace("k"), b"b", 5, replayable=True) == Ask(
        "POST", "/x", {"x-namespace-key": "k"}, b"b", 5, True
    )
    headers = {"x-namespace-key": "k:h", "x-namespace-hashproof": "p"}
    assert ask_for("GET", "/x", Namespace("k:h", "p")).headers == headers


def test_a_stat_asks_since_when_and_for_whom() -> None:
    assert ask_stat(NS, None, None).path == "/stat"
    assert ask_stat(NS, V, None).path == f"/stat?from_version={V}"
    assert ask_stat(NS, "", None).path == "/stat?from_version="
    found = urllib.parse.urlsplit(ask_stat(NS, V, "an owner&x").path)
    assert urllib.parse.parse_qs(found.query) == {"from_version": [V], "lock_owner": ["an owner&x"]}
    assert ask_stat(NS, None, None).replayable
    with pytest.raises(BadInput):
        ask_stat(NS, "no version", None)


def test_a_second_sending_says_that_it_is_one() -> None:
    first = ("POST", "/x", {}, b"first", 10)
    ask = Ask(*first)
    assert not ask.may_be_sent_again
    assert (ask.second(), ask.sent()) == (b"first", ask)
    assert Ask(*first, replayable=True).may_be_sent_again
    again = Ask(*first, again=lambda: b"again")
    assert again.may_be_sent_again
    assert (again.second(), again.sent()) == (b"again", Ask("POST", "/x", {}, b"again", 10))


def test_what_is_cut_is_whole_again() -> None:
    assert cut(range(7), 3) == [range(3), range(3, 6), range(6, 7)]
    assert cut([], 3) == []


async def test_parts_go_a_few_at_once_and_their_answers_in_order() -> None:
    now = most = 0

    async def work(part: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _ in range(20 - part):
            await asyncio.sleep(0)
        now -= 1
        return part * 2

    assert await side_by_side(work, range(12)) == [part * 2 for part in range(12)]
    assert most == limits.STORE_REQUESTS_AT_ONCE
    assert await side_by_side(work, [4]) == [8]
    assert await side_by_side(work, []) == []


async def test_the_first_failure_ends_the_others() -> None:
    ended: list[int] = []

    async def work(part: int) -> None:
        if part == 1:
            raise Gone("the second")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(part)

    with pytest.raises(Gone, match="the second"):
        await side_by_side(work, range(3))
    assert sorted(ended) in ([0], [0, 2])


STATUSES: dict[int, type[GatewayError]] = {
    400: BadInput,
    401: BadInput,
    403: Forbidden,
    404: NoNamespace,
    409: Conflict,
    410: Gone,
    412: errors.PreconditionFailed,
    413: TooLarge,
    422: Unprocessable,
    425: StoreUnavailable,
    499: BadInput,
    500: StoreFailed,
    501: StoreFailed,
    503: StoreUnavailable,
    599: StoreFailed,
    300: BadInput,
    199: BadInput,
}


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_stands_for_an_error_with_the_stores_own_words(status: int) -> None:
    for body, words in ((b"  why it is so\n", "why it is so"), (b"", f"http://a answered HTTP {status}")):
        with pytest.raises(STATUSES[status], match=words) as refused:
            check(StoreAnswer(status, {}, body), URL)
        assert type(refused.value) is STATUSES[status]
        assert refused.value.message == words
    with pytest.raises(STATUSES[status]) as refused:
        check(StoreAnswer(status, {}, b"x" * 999), URL)
    assert len(refused.value.message) == 200


def test_a_good_status_is_good() -> None:
    for status in (200, 204, 299):
        answer = StoreAnswer(status, {}, b"")
        assert check(answer, URL) is answer


def test_what_a_problem_document_says_is_its_detail() -> None:
    headers = {"content-type": "application/problem+json"}
    for document, words in (
        (b'{"detail": "because"}', "because"),
        (b'{"title": "x"}', "http://a answered HTTP 404"),
        (b"[]", "http://a answered HTTP 404"),
        (b"no json", "http://a answered HTTP 404"),
    ):
        with pytest.raises(NotFound) as refused:
            check(StoreAnswer(404, headers, document), URL)
        assert refused.value.message == words


def test_a_conflict_tells_who_holds_the_lock() -> None:
    with pytest.raises(Conflict) as refused:
        check(StoreAnswer(409, {"x-lock-owner": "somebody"}, b"locked"), URL)
    assert refused.value.facts == {"owner": "somebody"}
    with pytest.raises(Conflict) as refused:
        check(StoreAnswer(409, {}, b"locked"), URL)
    assert refused.value.facts == {}


def test_why_a_body_ends_early_is_taken_from_who_says_it() -> None:
    for code, kind in (("gone", Gone), ("store_damaged", errors.StoreDamaged), ("too_large", TooLarge)):
        found = ended_early(StoreAnswer(200, {"x-ended-early": f"{code} the very reason"}, b""), URL)
        assert type(found) is kind
        assert found.message == "the very reason"
        with pytest.raises(kind):
            check(StoreAnswer(503, {"x-ended-early": code}, b""), URL)
    found = ended_early(StoreAnswer(200, {"x-ended-early": "gone"}, b""), URL)
    assert found is not None
    assert found.message == "http://a ended its answer early"
    assert ended_early(StoreAnswer(200, {"x-ended-early": "unheard of"}, b""), URL) is None
    assert ended_early(StoreAnswer(200, {}, b""), URL) is None


def test_of_pages_that_break_off_the_first_that_is_missing_is_named() -> None:
    reads = [PageRead(3, V), PageRead(4, ""), PageRead(5, V)]
    page = mvstore.encode_page(V, b"page")
    assert bodies.take_pages(good(page * 3), URL, reads) == [PageContent(V, b"page")] * 3
    with pytest.raises(Incomplete, match=r"at page 4 of version \(by hash\)"):
        bodies.take_pages(good(page), URL, reads)
    with pytest.raises(Incomplete, match=f"at page 5 of version {V}"):
        bodies.take_pages(good(page * 2), URL, reads)
    with pytest.raises(Incomplete, match="at page 5"):
        bodies.take_pages(good(page * 4), URL, reads)
    with pytest.raises(Gone, match="cut off"):
        bodies.take_pages(good(page, {"x-ended-early": "gone cut off"}), URL, reads)
    with pytest.raises(StoreUnavailable, match="answered what is not a page"):
        bodies.take_pages(good(struct.pack(">I", 3) + b"\xc1\xc1\xc1"), URL, reads)


def test_packed_pages_are_unpacked_within_a_bound() -> None:
    plain = os.urandom(40) + bytes(3_000)
    body = mvstore.encode_page(V, zstandard.ZstdCompressor().compress(plain), True)
    assert bodies.take_pages(good(body), URL, [PageRead(0, V)]) == [PageContent(V, plain)]
    most = bytes(limits.STORE_PAGE_BYTES_UNPACKED_MAX)
    body = mvstore.encode_page(V, zstandard.ZstdCompressor().compress(most), True)
    assert bodies.take_pages(good(body), URL, [PageRead(0, V)])[0].data == most
    many = zstandard.ZstdCompressor().compress(most + b"!")
    hit = struct.pack("<IBQ", zstandard.MAGIC_NUMBER, 0xE0, 1 << 52) + many[9:]
    for packed in (many, hit, b"no zstd"):
        with pytest.raises(StoreUnavailable, match="a page that is not zstd"):
            bodies.take_pages(good(mvstore.encode_page(V, packed, True)), URL, [PageRead(0, V)])


def test_hashes_are_taken_once_the_last_frame_says_that_the_pages_are_durable() -> None:
    one, other, end = blake3(b"1").digest(), blake3(b"2").digest(), mvstore.encode_hash(b"")
    both = mvstore.encode_hash(one) + mvstore.encode_hash(other)
    assert bodies.take_hashes(good(both + end), URL, 2) == [one, other]
    for body, count in ((both, 2), (both, 1), (both + end, 1), (both + end, 3), (b"", 1)):
        with pytest.raises(Incomplete, match="frames"):
            bodies.take_hashes(good(body), URL, count)


def test_a_page_over_the_bound_is_refused_here() -> None:
    page = bytes(limits.STORE_PAGE_BYTES_MAX)
    assert bodies.check_page(page) is page
    with pytest.raises(TooLarge, match=f"a page of {len(page) + 1} bytes"):
        bodies.check_page(page + b"!")


def commit_of(*pages: PageWrite, ns: Namespace = NS, version: str = V, **more: Any) -> CommitRequest:
    part = NamespaceCommit(ns, version, list(pages), **{k: more.pop(k) for k in ("anchored",) if k in more})
    return CommitRequest(os.urandom(16), [part], **{"first_attempt": True, **more})


def test_a_commit_carries_a_hundred_pages_at_most() -> None:
    pages = [PageWrite(n, bytes(32), b"x") for n in range(limits.STORE_COMMIT_INLINE_PAGES_MAX)]
    assert bodies.inline_pages(commit_of(*pages, PageWrite(500, bytes(32)))) == len(pages)
    with pytest.raises(TooLarge, match="write the content ahead"):
        bodies.inline_pages(commit_of(*pages, PageWrite(500, bytes(32), b"x")))
    with pytest.raises(TooLarge, match="a page of"):
        bodies.inline_pages(commit_of(PageWrite(1, bytes(32), bytes(limits.STORE_PAGE_BYTES_MAX + 1))))


def frames_in(body: bytes) -> list[bytes]:
    found = []
    while body:
        size = int.from_bytes(body[:4], "big")
        found.append(body[4 : 4 + size])
        body = body[4 + size :]
    return found


async def test_a_commits_body_says_what_there_is_in_frames() -> None:
    count = 2 * limits.STORE_COMMIT_STEP_PAGES + 5
    pages = [PageWrite(n, blake3(b"%d" % n).digest()) for n in range(count)]
    request = CommitRequest(
        bytes(16),
        [NamespaceCommit(NS, V, pages, frozenset({3}), "said"), NamespaceCommit(NS, V, [])],
        True,
        "me",
    )
    body = await bodies.CommitBody.of(request)
    head, first, *rest = frames_in(body.first())
    assert mvstore.decode_commit_head(head) == mvstore.CommitHead(bytes(16), True, 2, "me")
    named = mvstore.decode_commit_namespace(first)
    assert (named.version, named.key, named.metadata, named.pages) == (V, NS.key, "said", count)
    assert [mvstore.decode_commit_page(frame).page for frame in rest[:count]] == list(range(count))
    assert len(rest) == count + 1
    again = frames_in(body.later())
    assert mvstore.decode_commit_head(again[0]) == mvstore.CommitHead(bytes(16), False, 2, "me")
    assert again[1:] == [first, *rest]


async def test_a_commit_of_many_pages_lets_others_have_their_turn() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await asyncio.sleep(0)
    for count, pauses in ((limits.STORE_COMMIT_STEP_PAGES, 0), (3 * limits.STORE_COMMIT_STEP_PAGES, 2)):
        before = turns
        await bodies.CommitBody.of(commit_of(*(PageWrite(n, bytes(32)) for n in range(count))))
        assert turns - before == pauses
    task.cancel()


async def test_a_frame_that_no_store_takes_is_refused_here() -> None:
    part = NamespaceCommit(
        NS, V, [], frozenset(range(1 << 20, (1 << 20) + limits.STORE_FRAME_BYTES_MAX // 4))
    )
    with pytest.raises(TooLarge, match="send no read set"):
        await bodies.CommitBody.of(CommitRequest(bytes(16), [part]))


def test_an_answer_that_a_store_does_not_give_is_told_as_such() -> None:
    good_stat = {"version": V, "metadata": "m", "read_only": True, "interval": [1, 2]}
    assert bodies.take_stat(good(json.dumps(good_stat).encode()), URL) == Stat(V, True, (1, 2), "m")
    assert bodies.take_stat(good(json.dumps({"version": V}).encode()), URL) == Stat(V, False, None, "")
    for wrong in (
        b"{}",
        b'{"version": 1}',
        b'{"version": "x"}',
        b"[]",
        b"<html>",
        b'{"version": "%s", "interval": 3}' % V.encode(),
        b'{"version": "%s", "interval": [1, 1e999]}' % V.encode(),
    ):
        with pytest.raises(StoreUnavailable, match="http://a answered"):
            bodies.take_stat(good(wrong), URL)
    point = {"version": V, "time": 7}
    assert bodies.take_bounds(
        good(json.dumps({"after": point, "not_after": None}).encode()), URL
    ) == TimeBounds(TimePoint(V, 7), None)
    assert bodies.take_bounds(good(b"{}"), URL) == TimeBounds(None, None)
    endless = b'{"after": {"version": "%s", "time": 1e999}}' % V.encode()
    for wrong in (b'{"after": {"version": "x", "time": 1}}', b'{"after": {}}', b'{"not_after": 3}', endless):
        with pytest.raises(StoreUnavailable, match="not a point in time"):
            bodies.take_bounds(good(wrong), URL)
    done = StoreAnswer(200, {"x-committed-version": V}, mvstore.encode_changelog({"world": [4]}))
    assert bodies.take_committed(done, URL) == Committed(V, {"world": (4,)})
    for answer in (StoreAnswer(200, {}, done.body), StoreAnswer(200, done.headers, b"\xc1")):
        with pytest.raises(StoreUnavailable, match="not a commit's answer"):
            bodies.take_committed(answer, URL)


# --- reading ----------------------------------------------------------------------------------------


class Store:
    """A store that says of each page its number and the version that was asked for; ``short`` answers end early."""

    def __init__(self, clock: Clock, *, short: int = 0, head: str = v(9), url: str = URL) -> None:
        self.clock, self.url, self.short, self.head = clock, url, short, head
        self.asked: list[Ask] = []
        self.unreadable: set[str] = set()

    async def request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        self.asked.append(ask)
        if ask.path.startswith("/stat"):
            return good(json.dumps({"version": self.head}).encode())
        if ask.path == "/batch/commit":
            self.head = v(int(self.head, 16) + 1)
            return good(mvstore.encode_changelog({}), {"x-committed-version": self.head})
        wanted = [mvstore.decode_read(frame) for frame in frames_in(ask.body)]
        if self.short:
            self.short -= 1
            return good(b"")
        if any(read.version in self.unreadable for read in wanted):
            return good(b"")
        return good(b"".join(mvstore.encode_page(read.version, b"%d" % read.page) for read in wanted))

    async def lines(self, ask: Ask, silence_s: float) -> AsyncIterator[str]:
        raise AssertionError("not asked for lines")
        yield ""

    async def aclose(self) -> None:
        pass

    def paths(self) -> list[str]:
        return [ask.path.partition("?")[0] for ask in self.asked]


class Admin(Scripted):
    """The admin API of a namespace with a mark."""

    def __init__(self, clock: Clock, mark: str | None) -> None:
        facts = {"nskey": "world", "nsid": v(1), "metadata": {"truncated_before": mark}}
        super().__init__(clock, "http://admin", good(json.dumps(facts).encode()))


async def test_many_pages_are_asked_for_two_hundred_at_a_time_and_answered_in_order() -> None:
    clock = Clock()
    for count, requests in ((limits.STORE_READ_PAGES_MAX, 1), (limits.STORE_READ_PAGES_MAX + 1, 2), (450, 3)):
        transport = Store(clock)
        store = RemoteStore([transport], options=clock.options())
        found = await store.read(NS, [PageRead(page, V) for page in range(count)])
        assert [page.data for page in found] == [b"%d" % page for page in range(count)]
        assert transport.paths() == ["/batch/read"] * requests
        assert all(
            ask.replayable and ask.answer_bytes_max > limits.STORE_SMALL_ANSWER_BYTES_MAX
            for ask in transport.asked
        )
    with pytest.raises(BadInput):
        await store.read(NS, [PageRead(1, "no version")])
    assert (await store.read(NS, [PageRead(1, "", blake3(b"x").digest())]))[0].data == b"1"


async def test_an_answer_that_ends_early_twice_has_the_store_asked_why() -> None:
    clock = Clock()
    transport = Store(clock, short=2)
    store = RemoteStore([transport], admin=AdminApi(Admin(clock, None)), options=clock.options())
    assert (await store.read(NS, [PageRead(1, v(9))]))[0].data == b"1"
    assert transport.paths() == ["/batch/read"] * 2 + ["/stat", "/batch/read"]
    transport = Store(clock, short=1)
    store = RemoteStore([transport], options=clock.options())
    await store.read(NS, [PageRead(1, v(9))])
    assert transport.paths() == ["/batch/read"] * 2, "once is a hiccup"


async def test_what_lies_below_the_mark_is_gone_and_said_to_be_so() -> None:
    clock = Clock()
    transport = Store(clock)
    transport.unreadable = {v(4)}
    store = RemoteStore([transport], admin=AdminApi(Admin(clock, v(5))), options=clock.options())
    with pytest.raises(Gone, match="before the truncation mark") as refused:
        await store.read(NS, [PageRead(1, v(8)), PageRead(1, v(4))])
    assert refused.value.facts == {"truncated_before": v(5)}
    assert v(4) in refused.value.message
    assert clock.now < 1.0, "it is known at once"


async def test_a_version_at_the_mark_is_not_below_it() -> None:
    clock = Clock()
    transport = Store(clock, short=2)
    store = RemoteStore([transport], admin=AdminApi(Admin(clock, v(4))), options=clock.options())
    assert (await store.read(NS, [PageRead(1, v(4))]))[0].version == v(4)


async def test_a_head_below_its_mark_is_lifted_by_an_empty_commit_and_read_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    transport = Store(clock, head=v(4))
    transport.unreadable = {v(4)}
    store = RemoteStore([transport], admin=AdminApi(Admin(clock, v(7))), options=clock.options())
    assert (await store.read(NS, [PageRead(2, v(4))])) == [PageContent(v(5), b"2")]
    assert transport.paths().count("/batch/commit") == 1
    assert f"its head {v(4)} lay below its truncation mark ({v(7)})" in caplog.text
    assert (await store.read(NS, [PageRead(3, v(4)), PageRead(4, v(5))])) == [
        PageContent(v(5), b"3"),
        PageContent(v(5), b"4"),
    ]
    assert transport.paths().count("/batch/commit") == 1


async def test_what_is_wanted_above_the_head_is_served_as_the_head_is() -> None:
    clock = Clock()
    transport = Store(clock, head=v(4))
    transport.unreadable = {v(8)}
    store = RemoteStore([transport], options=clock.options())
    digest = blake3(b"x").digest()
    found = await store.read(NS, [PageRead(1, v(8)), PageRead(2, v(3)), PageRead(3, "", digest)])
    assert [page.version for page in found][:2] == [v(4), v(3)]


async def test_without_an_admin_api_a_head_that_cannot_be_read_is_lifted_when_time_is_up() -> None:
    clock = Clock()
    transport = Store(clock, head=v(4))
    transport.unreadable = {v(4)}
    store = RemoteStore([transport], options=clock.options())
    assert (await store.read(NS, [PageRead(2, v(4))])) == [PageContent(v(5), b"2")]
    assert 3.0 < clock.now < 6.0


async def test_another_version_that_cannot_be_read_is_gone_when_time_is_up() -> None:
    clock = Clock()
    transport = Store(clock)
    transport.unreadable = {v(3)}
    clock.now = 100.0
    store = RemoteStore([transport], options=clock.options())
    with pytest.raises(Gone, match="page 2"):
        await store.read(NS, [PageRead(2, v(3))])
    assert 103.0 < clock.now <= 105.0
    assert "/batch/commit" not in transport.paths()


# --- heads that sank --------------------------------------------------------------------------------


def sunken(
    head: str | Exception, commits: list[CommitRequest], done: str | Exception = "0" * 19 + "6"
) -> SunkenHeads:
    async def ask_head(ns: Namespace) -> str:
        if isinstance(head, Exception):
            raise head
        return head

    async def commit(request: CommitRequest) -> Committed:
        commits.append(request)
        await asyncio.sleep(0)
        if isinstance(done, Exception):
            raise done
        return Committed(done)

    return SunkenHeads(ask_head, commit, None)


async def test_a_head_is_lifted_once_however_many_read_it() -> None:
    commits: list[CommitRequest] = []
    heads = sunken(v(5), commits)
    reads = [PageRead(1, v(5)), PageRead(2, v(4)), PageRead(3, v(5), bytes(32))]
    assert heads.moved("world", reads) is reads
    assert await asyncio.gather(*(heads.lift(NS, v(5), None) for _ in range(5))) == [True] * 5
    (request,) = commits
    assert request.first_attempt
    assert len(request.idempotency_key) == 16
    assert request.namespaces == [NamespaceCommit(NS, v(5), ())]
    assert heads.moved("world", reads) == [PageRead(1, v(6)), reads[1], reads[2]]
    assert heads.moved("other", reads) == reads
    assert held_count(heads, kind=asyncio.Lock) == 0, "nothing is under way"


@pytest.mark.parametrize("failure", [Conflict("x"), Gone("x"), NotFound("x"), StoreUnavailable("x")])
async def test_a_head_that_somebody_else_has_is_left_to_him(failure: GatewayError) -> None:
    commits: list[CommitRequest] = []
    assert not await sunken(v(5), commits, failure).lift(NS, v(5), None)
    assert not await sunken(failure, []).lift(NS, v(5), None)
    assert not await sunken(v(7), commits).lift(NS, v(5), None)
    assert len(commits) == 1
    assert await sunken(failure, []).head(NS) is None
    assert await sunken(v(7), []).head(NS) == v(7)
    assert await sunken(v(7), []).mark("world") is None


async def test_so_many_lifted_heads_are_remembered_and_the_oldest_go() -> None:
    heads = sunken(v(5), [])
    for number in range(limits.STORE_NAMESPACES_CACHED_MAX + 2):
        await heads.lift(Namespace(f"{number}"), v(5), None)
    read = [PageRead(1, v(5))]
    assert [heads.moved(key, read)[0].version for key in ("0", "1", "2")] == [v(5), v(5), v(6)]


# --- assumed versions -------------------------------------------------------------------------------


class Looked:
    """What a store and its admin API say of the namespace; how often they were asked."""

    def __init__(self, stat: Stat, ns_id: str | Exception | None, *, checks: bool = False) -> None:
        self.stat, self.ns_id, self.checks = stat, ns_id, checks
        self.stats = self.infos = 0
        self.versions = AssumedVersions(self._ask_stat, None if ns_id is None else self._ask_info)

    async def _ask_stat(self, part: NamespaceCommit, owner: str | None) -> tuple[Stat, bool]:
        self.stats += 1
        return self.stat, self.checks

    async def _ask_info(self, key: str) -> NamespaceInfo:
        self.infos += 1
        if isinstance(self.ns_id, Exception):
            raise self.ns_id
        assert self.ns_id is not None
        return NamespaceInfo(key, self.ns_id)

    async def takes(self, version: str, *, first: bool = True) -> bool:
        try:
            await self.versions.check(commit_of(version=version, first_attempt=first))
        except Conflict:
            return False
        return True


ASSUMED: list[tuple[str, str, tuple[int, ...] | None, str | None, bool, bool]] = [
    # assumed version, head, interval, namespace's id, first attempt; whether it is taken
    (v(9), v(9), None, v(2), True, True),  # it is the head
    (v(5), v(9), (1,), v(2), True, True),  # its change log knows it
    (v(1), v(1), None, v(2), True, False),  # of the namespace that was there before
    (v(1), v(9), (), v(2), True, False),
    (v(2), v(2), None, v(2), True, True),
    (v(10), v(9), None, v(2), True, False),  # ahead of the head
    (v(10), v(9), None, None, True, False),
    (v(5), v(9), None, v(2), True, False),  # below the head, and nobody knows it
    (v(5), v(9), None, v(2), False, True),  # a retry, whose own commit may have moved the head
    (v(2), v(9), None, v(2), True, True),  # the id itself
    (v(2), v(9), None, v(2), False, True),
    (v(5), v(9), None, None, True, False),  # no admin API to ask
    (v(5), v(9), None, None, False, True),
    (ZERO_VERSION, v(9), None, v(2), True, True),  # it assumes nothing
    (ZERO_VERSION, v(2), None, v(2), True, True),
    (ZERO_VERSION, v(1), None, v(2), True, False),  # but must not go to the one that was deleted
    (ZERO_VERSION, v(1), None, v(2), False, False),
    (ZERO_VERSION, v(9), None, None, True, True),
]


@pytest.mark.parametrize(("version", "head", "interval", "ns_id", "first", "taken"), ASSUMED)
async def test_a_commit_on_another_namespace_is_told_from_one_on_this(
    version: str, head: str, interval: tuple[int, ...] | None, ns_id: str | None, first: bool, taken: bool
) -> None:
    looked = Looked(Stat(head, False, interval), ns_id)
    assert await looked.takes(version, first=first) == taken


async def test_a_store_that_looks_by_itself_is_not_asked_again() -> None:
    looked = Looked(Stat(v(9)), v(2), checks=True)
    assert await looked.takes(v(1))
    assert await looked.takes(v(1))
    assert looked.stats == 1
    looked = Looked(Stat(v(9)), v(2))
    assert await looked.takes(v(9))
    assert await looked.takes(v(9))
    assert looked.stats == 2


async def test_an_anchored_commit_needs_no_question() -> None:
    looked = Looked(Stat(v(9)), v(2))
    await looked.versions.check(commit_of(version=v(1), anchored=True))
    assert looked.stats == 0


async def test_whoever_has_committed_the_head_needs_no_admin_api() -> None:
    looked = Looked(Stat(v(9)), v(2))
    looked.versions.learn(commit_of(), Committed(v(9)))
    assert await looked.takes(v(9))
    assert (looked.stats, looked.infos) == (1, 0)
    assert await looked.takes(v(2))
    assert looked.infos > 0
    looked.stat, looked.infos = Stat(v(10)), 0
    assert not await looked.takes(v(9)), "somebody has written since, who knows to what"
    assert looked.infos == 1


async def test_so_many_commits_are_remembered_and_the_oldest_go() -> None:
    looked = Looked(Stat(v(9)), v(2))
    for number in range(limits.STORE_NAMESPACES_CACHED_MAX):
        looked.versions.learn(commit_of(ns=Namespace(f"{number}")), Committed(v(9)))
    looked.versions.learn(commit_of(ns=Namespace("0")), Committed(v(9)))
    looked.versions.learn(commit_of(ns=Namespace("new")), Committed(v(9)))
    for key, infos in (("0", 0), ("2", 0), ("new", 0), ("1", 1)):
        looked.infos = 0
        await looked.versions.check(commit_of(ns=Namespace(key), version=v(9)))
        assert looked.infos == infos, key


async def test_an_admin_api_that_does_not_answer_is_let_be_for_a_while() -> None:
    looked = Looked(Stat(v(9)), StoreUnavailable("away"))
    assert await looked.takes(v(9))
    assert await looked.takes(v(9))
    assert looked.infos == 1
    looked = Looked(Stat(v(9)), NotFound("no such key"))
    with pytest.raises(NotFound):
        await looked.takes(v(9))


# --- committing -------------------------------------------------------------------------------------


def done_of(number: int = 1) -> StoreAnswer:
    return StoreAnswer(200, {"x-committed-version": v(number)}, mvstore.encode_changelog({}))


async def test_a_commit_carries_as_many_pages_as_it_may_and_else_none() -> None:
    clock = Clock()
    for count, paths in ((32, ["/batch/commit"]), (33, ["/batch/write", "/batch/commit"])):
        pages = [PageWrite(n, blake3(b"%d" % n).digest(), b"%d" % n) for n in range(count)]
        written = good(b"".join(mvstore.encode_hash(page.hash) for page in pages) + mvstore.encode_hash(b""))
        answers = [written, done_of()] if len(paths) > 1 else [done_of()]
        transport = Scripted(clock, URL, *answers)
        await RemoteStore([transport], options=clock.options()).commit(commit_of(*pages))
        assert [ask.path for ask in transport.asked] == paths
        carried = [
            mvstore.decode_commit_page(frame).data for frame in frames_in(transport.asked[-1].body)[2:]
        ]
        assert carried == ([page.data for page in pages] if len(paths) == 1 else [None] * count)


async def test_a_commit_that_names_content_which_is_not_there_is_on_another_namespace_where_it_was_anchored() -> (
    None
):
    clock = Clock()
    gone = bad(410, b"no such content")
    store = RemoteStore([Scripted(clock, URL, gone)], options=clock.options())
    with pytest.raises(Conflict, match="is not there any more: no such content"):
        await store.commit(commit_of(PageWrite(1, bytes(32)), anchored=True))
    for more in ({}, {"anchored": True, "lock_owner": "me"}):
        with pytest.raises(Gone):
            await store.commit(commit_of(PageWrite(1, bytes(32)), **more))


async def test_a_commit_that_fails_is_tried_again_but_not_one_of_a_size_that_never_went() -> None:
    clock = Clock()
    most = [PageWrite(n, bytes(32)) for n in range(limits.STORE_TRANSACTION_PAGES)]
    transport = Scripted(clock, URL, bad(500), bad(500), bad(500), done_of())
    store = RemoteStore([transport], options=clock.options())
    assert (await store.commit(commit_of(*most))).version == v(1)
    assert len(transport.asked) == 4
    transport = Scripted(clock, URL, bad(500, b"why"))
    store = RemoteStore([transport], options=clock.options())
    with pytest.raises(TooLarge, match=rf"a commit of {len(most) + 1} pages .*why"):
        await store.commit(commit_of(*most, PageWrite(99_999, bytes(32))))
    assert len(transport.asked) == limits.STORE_TRANSACTION_FAILURES
    with pytest.raises(StoreFailed):
        await store.commit(commit_of(*most[:5]))


class Checking(Store):
    """A store that says that it looks at assumed versions itself."""

    async def request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        answer = await super().request(ask, timeout_s)
        return StoreAnswer(
            answer.status, {**answer.headers, "x-store-checks": "assumed-version"}, answer.body
        )


async def test_before_a_store_that_takes_any_version_it_is_looked_at_which_is_assumed() -> None:
    clock = Clock()
    plain = Store(clock, head=v(9))
    store = RemoteStore([plain], options=clock.options(check_assumed=True))
    assert store.traits.takes_any_version
    with pytest.raises(Conflict, match="is ahead of the head"):
        await store.commit(commit_of(version=v(11)))
    assert plain.paths() == ["/stat"]
    assert f"from_version={v(11)}" in plain.asked[0].path
    assert (await store.commit(commit_of(version=v(9)))).version == v(10)
    checking = Checking(clock, head=v(9))
    store = RemoteStore([checking], options=clock.options(check_assumed=True))
    for _ in range(2):
        await store.commit(commit_of(version=v(11)))
    assert checking.paths() == ["/stat", "/batch/commit", "/batch/commit"]
    store = RemoteStore([other := Store(clock)], options=clock.options())
    await store.commit(commit_of(version=v(11)))
    assert (store.traits.takes_any_version, other.paths()) == (False, ["/batch/commit"])


async def test_a_commit_that_was_answered_makes_the_next_one_need_no_admin_api() -> None:
    clock = Clock()
    admin = Admin(clock, None)
    store = RemoteStore(
        [Store(clock, head=v(9))], admin=AdminApi(admin), options=clock.options(check_assumed=True)
    )
    await store.commit(commit_of(version=v(9)))
    assert len(admin.asked) == 1
    await store.commit(commit_of(version=v(10)))
    assert len(admin.asked) == 1


async def test_a_large_commit_is_given_longer() -> None:
    clock = Clock()
    transport = Timed(clock, URL, done_of())
    store = RemoteStore([transport], options=clock.options())
    await store.commit(commit_of(*(PageWrite(n, bytes(32)) for n in range(2_000))))
    assert transport.given == pytest.approx([5.0 + 2_000 * limits.STORE_COMMIT_PAGE_S])


# --- the store --------------------------------------------------------------------------------------


async def test_pages_are_written_fifty_at_a_time() -> None:
    clock = Clock()

    class Hashing(Scripted):
        async def request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
            self.asked.append(ask)
            pages = [mvstore.decode_write(frame) for frame in frames_in(ask.body)[:-1]]
            return good(
                b"".join(mvstore.encode_hash(blake3(page).digest()) for page in pages)
                + mvstore.encode_hash(b"")
            )

    for count, requests in ((limits.STORE_WRITE_AHEAD_PAGES, 1), (limits.STORE_WRITE_AHEAD_PAGES + 1, 2)):
        transport = Hashing(clock, URL)
        pages = [b"page %d" % n for n in range(count)]
        found = await RemoteStore([transport], options=clock.options()).write(NS, pages)
        assert found == [blake3(page).digest() for page in pages]
        assert len(transport.asked) == requests
    with pytest.raises(TooLarge):
        await RemoteStore([transport]).write(NS, [bytes(limits.STORE_PAGE_BYTES_MAX + 1)])


async def test_locks_are_asked_for_by_an_owner_of_a_length_that_the_store_takes() -> None:
    clock = Clock()
    transport = Scripted(clock, URL, good(b""))
    store = RemoteStore([transport], options=clock.options())
    await store.lock(NS, "o")
    await store.lock(NS, "ü" * 128, V)
    await store.unlock(NS, "o", rollback=False)
    await store.unlock(NS, "o", rollback=True)
    assert [(ask.path, json.loads(ask.body)) for ask in transport.asked] == [
        ("/nslock/acquire", {"owner": "o"}),
        ("/nslock/acquire", {"owner": "ü" * 128, "version": V}),
        ("/nslock/release", {"owner": "o", "mode": "commit"}),
        ("/nslock/release", {"owner": "o", "mode": "rollback"}),
    ]
    for owner in ("", "ü" * 128 + "x"):
        with pytest.raises(BadInput, match="lock owner of"):
            await store.lock(NS, owner)


async def test_times_are_asked_for_by_second() -> None:
    clock = Clock()
    transport = Scripted(clock, URL, good(b"{}"))
    assert await RemoteStore([transport], options=clock.options()).time2version(77) == TimeBounds(None, None)
    assert (transport.asked[0].path, transport.asked[0].replayable) == ("/time2version?t=77", True)


async def test_a_namespace_is_truncated_up_to_its_head_and_never_where_that_is_not_known() -> None:
    clock = Clock()
    api = Lines(clock, "http://admin", ["step", "DONE"])
    store = RemoteStore([Store(clock, head=v(9))], admin=AdminApi(api), options=clock.options())
    for wanted, asked in ((v(5), v(5)), (v(9), v(9)), (v(10), v(9))):
        assert [line async for line in store.truncate_namespace("world", wanted, apply=False)] == ["step"]
        assert json.loads(api.asked[-1].body) == {"key": "world", "before_version": asked, "apply": False}
    with pytest.raises(Forbidden, match="is protected"):
        [line async for line in store.truncate_namespace("world:hash", v(5))]
    assert [line async for line in store.delete_unreferenced_content("world")] == ["step"]
    assert json.loads(api.asked[-1].body) == {"key": "world", "apply": True}
    await store.aclose()
    assert api.closed


async def test_without_an_admin_api_it_is_said_what_needs_it() -> None:
    clock = Clock()
    store = RemoteStore([Scripted(clock, URL, good())], options=clock.options())
    for work in (
        lambda: store.rename_namespace("a", "b"),
        lambda: store.list_namespaces(),
        lambda: store.namespace_info("a"),
        lambda: store.create_namespace("a", OverlayBase(v(1), v(2))),
    ):
        with pytest.raises(
            AdminNeeded, match=r"by the admin API of http://a; give it with --store-admin URL"
        ):
            await work()
    with pytest.raises(AdminNeeded):
        [line async for line in store.truncate_namespace("a", v(1))]


# --- the admin API ----------------------------------------------------------------------------------


class Lines(Scripted):
    """An admin API whose work says these lines; an exception among them ends it."""

    def __init__(self, clock: Clock, url: str, said: list[str | Exception]) -> None:
        super().__init__(clock, url, good(b""))
        self.said = said

    async def lines(self, ask: Ask, silence_s: float) -> AsyncIterator[str]:
        self.asked.append(ask)
        for line in self.said:
            if isinstance(line, Exception):
                raise line
            yield line


def api(clock: Clock, *transports: Scripted) -> AdminApi:
    return AdminApi(*transports, clock=lambda: clock.now, uniform=middle)


async def test_each_address_of_the_admin_api_is_asked_once_in_turn() -> None:
    clock = Clock()
    first, second = Timed(clock, "http://a", BROKEN), Timed(clock, "http://b", good(b""))
    admin = api(clock, first, second)
    assert admin.urls == "http://a, http://b"
    await admin.create_namespace("new", None)
    await admin.create_namespace("new", OverlayBase(v(1), v(2)))
    assert (len(first.asked), len(second.asked)) == (1, 2), "the one that answered last is first"
    assert first.given == [limits.STORE_DEADLINE_S / 2]
    assert [json.loads(ask.body) for ask in second.asked] == [
        {"key": "new"},
        {"key": "new", "overlay_base": {"ns_id": v(1), "snapshot_version": v(2)}},
    ]
    assert second.asked[0].headers == {"content-type": "application/json"}
    second.answers = [BROKEN]
    with pytest.raises(StoreUnavailable):
        await admin.delete_namespace("x")
    assert (len(first.asked), len(second.asked)) == (2, 3)
    first.answers = [bad(500)]
    with pytest.raises(StoreUnavailable):
        await admin.delete_namespace("x")
    assert (len(first.asked), len(second.asked)) == (3, 4)
    await admin.aclose()
    assert first.closed
    assert second.closed


async def first_asked(clock: Clock, *transports: Scripted, admin: AdminApi) -> list[Scripted]:
    """Which are asked by one call, in order."""
    before = {id(each): len(each.asked) for each in transports}
    order: list[Scripted] = []
    for each in transports:
        each.noted = order  # type: ignore[attr-defined]
    with contextlib.suppress(GatewayError):
        await admin.namespace_info("x")
    asked = [each for each in transports if len(each.asked) > before[id(each)]]
    assert sorted(map(id, order)) == sorted(map(id, asked))
    return order


class Noting(Scripted):
    """Notes in which order it is asked among others."""

    noted: list[Scripted]

    async def request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        self.noted.append(self)
        return await super().request(ask, timeout_s)


@pytest.mark.parametrize("answer", [bad(404), good(b"{}")], ids=["a refusal", "an answer"])
async def test_an_address_of_the_admin_api_that_answers_again_is_first_again(answer: StoreAnswer) -> None:
    clock = Clock()
    a, b = Noting(clock, "http://a", BROKEN), Noting(clock, "http://b", good(b"{}"))
    admin = api(clock, a, b)
    assert await first_asked(clock, a, b, admin=admin) == [a, b]
    a.answers, b.answers = [answer], [BROKEN]
    assert await first_asked(clock, a, b, admin=admin) == [b, a]
    assert await first_asked(clock, a, b, admin=admin) == [a], (
        "though the time for which it was set aside is not over"
    )


async def test_no_address_of_the_admin_api_is_asked_twice_while_another_was_not_asked() -> None:
    """Also where the others are set aside for longer than the one that has just failed."""
    clock = Clock()
    a, b = Noting(clock, "http://a", BROKEN), Noting(clock, "http://b", BROKEN)
    admin = api(clock, a, b)
    assert await first_asked(clock, a, b, admin=admin) == [a, b]
    assert await first_asked(clock, a, b, admin=admin) == [a, b]
    a.answers = [good(b"{}")]
    assert await first_asked(clock, a, b, admin=admin) == [a]
    a.answers = [BROKEN]
    assert await first_asked(clock, a, b, admin=admin) == [a, b]


async def test_what_an_address_before_has_done_is_done() -> None:
    clock = Clock()
    for work in (lambda admin: admin.delete_namespace("x"), lambda admin: admin.rename_namespace("x", "y")):
        lost, gone = Scripted(clock, "http://a", BROKEN), Scripted(clock, "http://b", bad(404))
        await work(api(clock, lost, gone))
        with pytest.raises(NotFound):
            await work(api(clock, gone))
        with pytest.raises(Conflict):
            await work(api(clock, lost, Scripted(clock, "http://b", bad(409))))
    with pytest.raises(Unprocessable):
        await api(clock, lost, Scripted(clock, "http://b", bad(422))).create_namespace("x", None)


async def test_namespaces_are_told_as_the_api_tells_them() -> None:
    clock = Clock()
    listed = Scripted(clock, URL, good(b'{"nskey": "a", "nsid": "1"}\n\n{"nskey": "b", "nsid": "2"}\n'))
    assert await api(clock, listed).list_namespaces("a/b &") == [
        NamespaceInfo("a", "1"),
        NamespaceInfo("b", "2"),
    ]
    assert listed.asked[0] == Ask(
        "GET", "/api/list_namespace?prefix=a%2Fb%20%26", {}, b"", limits.STORE_ADMIN_ANSWER_BYTES_MAX
    )
    lock = {"owner": "o", "snapshot_version": v(3), "nonce": "ff"}
    base = {"ns_id": v(1), "snapshot_version": v(2)}
    for metadata, info in (
        ({}, NamespaceInfo("a", "1")),
        (
            {"lock": lock, "overlay_base": base, "truncated_before": v(4)},
            NamespaceInfo("a", "1", LockInfo("o", v(3), "ff"), OverlayBase(v(1), v(2)), v(4)),
        ),
        ({"lock": {**lock, "rolling_back": True}}, NamespaceInfo("a", "1", LockInfo("o", v(3), "ff", True))),
    ):
        body = json.dumps({"nskey": "a", "nsid": "1", "metadata": metadata}).encode()
        assert await api(clock, Scripted(clock, URL, good(body))).namespace_info("a") == info
    for wrong in (
        b"no json",
        b"{}",
        b"[]",
        b'{"nskey": "a", "nsid": "1", "metadata": {"lock": {"owner": "x"}}}',
    ):
        with pytest.raises(StoreUnavailable, match="answered what an admin API does not"):
            await api(clock, Scripted(clock, URL, good(wrong))).namespace_info("a")
        with pytest.raises(StoreUnavailable, match="answered what an admin API does not"):
            await api(clock, Scripted(clock, URL, good(b'{"nskey": 1}'))).list_namespaces("")


async def said_by(admin: AdminApi) -> list[str]:
    return [line async for line in admin.truncate_namespace("world", V, apply=True)]


async def test_work_is_told_line_by_line_and_how_it_ended() -> None:
    clock = Clock()
    assert await said_by(api(clock, Lines(clock, URL, ["a", "b", "DONE", "c"]))) == ["a", "b"]
    with pytest.raises(StoreError, match="failed; the store's log tells why"):
        await said_by(api(clock, Lines(clock, URL, ["a", "ERROR"])))
    with pytest.raises(StoreUnavailable, match="broke off before it was done"):
        await said_by(api(clock, Lines(clock, URL, ["a"])))


async def test_work_that_has_begun_is_not_begun_at_another_address() -> None:
    clock = Clock()
    other = Lines(clock, "http://b", ["b", "DONE"])
    assert await said_by(api(clock, Lines(clock, URL, [BROKEN]), other)) == ["b"]
    with pytest.raises(StoreUnavailable):
        await said_by(api(clock, Lines(clock, URL, ["a", BROKEN]), other))
    assert len(other.asked) == 1
    first = Lines(clock, URL, [BROKEN])
    admin = api(clock, first, other)
    for _ in range(2):
        assert await said_by(admin) == ["b"]
    assert (len(first.asked), len(other.asked)) == (1, 3), "one that failed is set aside"
    first.said, other.said = ["a", "DONE"], [BROKEN]
    for _ in range(2):
        assert await said_by(admin) == ["a"]
    assert (len(first.asked), len(other.asked)) == (3, 4), "and one that works is kept"
    other.said = ["b", "DONE"]
    with pytest.raises(StoreUnavailable, match="connection broken"):
        await said_by(api(clock, Lines(clock, URL, [BROKEN]), Lines(clock, "http://b", [BROKEN])))


async def test_a_key_that_is_missing_is_told_as_everywhere_else() -> None:
    clock = Clock()

    async def collected(failure: Exception) -> list[str]:
        admin = api(clock, Lines(clock, URL, [failure]))
        return [line async for line in admin.delete_unreferenced_content("k" * 300, apply=True)]

    with pytest.raises(NoNamespace) as refused:
        await collected(BadInput("namespace does not exist"))
    assert refused.value.facts == {"namespace": "k" * 200}
    with pytest.raises(BadInput, match="otherwise"):
        await collected(BadInput("otherwise"))


# --- for SQLite's threads ---------------------------------------------------------------------------


async def test_a_thread_waits_while_the_loop_asks_and_the_loop_may_not_wait_for_itself() -> None:
    clock = Clock()
    store = RemoteStore([Scripted(clock, URL, good())], options=clock.options())
    bridge = store.blocking()
    assert isinstance(bridge, BlockingBridge)
    assert bridge.traits is store.traits
    assert (await asyncio.to_thread(bridge.stat, NS)).version == V
    with pytest.raises(GatewayError, match="own thread"):
        bridge.stat(NS)


async def test_a_thread_does_with_a_store_of_the_loop_all_that_a_store_does(tmp_path: Path) -> None:
    store = EmbeddedStore.open(tmp_path)
    bridge = BlockingBridge(store, asyncio.get_running_loop())

    def work() -> None:
        bridge.create_namespace("base")
        base, page = Namespace("base"), b"page"
        (digest,) = bridge.write(base, [page])
        assert digest == blake3(page).digest()
        part = NamespaceCommit(base, bridge.stat(base).version, [PageWrite(3, digest)])
        version = bridge.commit(CommitRequest(os.urandom(16), [part], True)).version
        assert bridge.stat(base, from_version=version) == Stat(version, interval=())
        assert bridge.read(base, [PageRead(3, version)]) == [PageContent(version, page)]
        info = bridge.namespace_info("base")
        bridge.create_namespace("fork", OverlayBase(info.ns_id, version))
        assert bridge.namespace_info("fork").overlay_base == OverlayBase(info.ns_id, version)
        bridge.rename_namespace("fork", "spoon")
        assert [each.key for each in bridge.list_namespaces("s")] == ["spoon"]
        bridge.delete_namespace("spoon")
        assert [each.key for each in bridge.list_namespaces()] == ["base"]
        assert isinstance(bridge.time2version(0), TimeBounds)

    await asyncio.to_thread(work)
    await store.aclose()


class Slow:
    """A store of which one call never ends."""

    traits = None

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def time2version(self, t: int) -> TimeBounds:
        self.asked.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("it never ends")


async def test_a_store_that_is_closed_under_a_request_is_away() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    bridge = BlockingBridge(Slow(), loop)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable, match="closed before a request"):
        await asyncio.to_thread(bridge.time2version, 1)
    slow = Slow()
    bridge = BlockingBridge(slow, asyncio.get_running_loop())  # type: ignore[arg-type]
    waiting = asyncio.create_task(asyncio.to_thread(bridge.time2version, 1))
    await asyncio.wait_for(slow.asked.wait(), HANG_S)
    for task in asyncio.all_tasks() - {waiting, asyncio.current_task()}:
        task.cancel()
    with pytest.raises(StoreUnavailable, match="closed under a request"):
        await waiting
