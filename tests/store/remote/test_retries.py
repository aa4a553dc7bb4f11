"""When a remote store is asked again, where, and for how long: on a clock of the test's own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgpack
import pytest
from blake3 import blake3

from gateway.errors import Conflict, GatewayError, Gone, NotFound, StoreUnavailable, TooLarge
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageRead, PageWrite
from gateway.store.remote import AdminNeeded, Ask, RemoteOptions, RemoteStore, StoreAnswer
from gateway.wire import mvstore

NS = Namespace("world")
V = "0" * 19 + "1"
STAT = b'{"version":"00000000000000000001","metadata":"","read_only":false,"interval":null}'


class Clock:
    """Time that passes only when somebody sleeps on it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def options(self, **more: Any) -> RemoteOptions:
        middle: Callable[[float, float], float] = lambda low, high: (low + high) / 2  # noqa: E731
        return RemoteOptions(clock=lambda: self.now, sleep=self.sleep, uniform=middle, **more)


class Scripted:
    """A transport that answers what the test says, and keeps what it was asked."""

    def __init__(
        self, clock: Clock, url: str, *answers: StoreAnswer | Exception, took_s: float = 0.0
    ) -> None:
        self.clock, self.url, self.took_s = clock, url, took_s
        self.answers = list(answers)
        self.asked: list[Ask] = []
        self.closed = False

    async def request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        self.asked.append(ask)
        self.clock.now += min(self.took_s, timeout_s)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def lines(self, ask: Ask, silence_s: float) -> AsyncIterator[str]:
        raise AssertionError("not asked for lines")
        yield ""

    async def aclose(self) -> None:
        self.closed = True


def good(body: bytes = STAT, headers: Mapping[str, str] | None = None) -> StoreAnswer:
    return StoreAnswer(200, headers or {}, body)


def bad(status: int, body: bytes = b"") -> StoreAnswer:
    return StoreAnswer(status, {}, body)


BROKEN = StoreUnavailable("connection broken")


async def test_a_broken_connection_and_any_5xx_are_tried_again_with_a_growing_wait() -> None:
    clock = Clock()
    transport = Scripted(clock, "http://a", BROKEN, bad(500), bad(503), bad(599), good())
    store = RemoteStore([transport], options=clock.options())
    assert (await store.stat(NS)).version == V
    assert clock.waits == pytest.approx([0.05, 0.075, 0.1125, 0.16875])
    assert store.facts()["retries"] == 4


@pytest.mark.parametrize(
    ("status", "error"), [(400, GatewayError), (404, NotFound), (409, Conflict), (410, Gone), (413, TooLarge)]
)
async def test_any_4xx_is_final(status: int, error: type[GatewayError]) -> None:
    clock = Clock()
    transport = Scripted(clock, "http://a", bad(status, b"because"))
    with pytest.raises(error, match="because"):
        await RemoteStore([transport], options=clock.options()).stat(NS)
    assert len(transport.asked) == 1


async def test_a_short_body_is_tried_again() -> None:
    clock = Clock()
    whole = mvstore.encode_page(V, b"page")
    transport = Scripted(clock, "http://a", good(b""), good(whole[:-1]), good(whole))
    store = RemoteStore([transport], options=clock.options())
    assert (await store.read(NS, [PageRead(1, V)]))[0].data == b"page"
    hashes = mvstore.encode_hash(blake3(b"x").digest())
    transport.answers = [good(hashes), good(hashes + mvstore.encode_hash(b""))]
    assert await store.write(NS, [b"x"]) == [blake3(b"x").digest()]


async def test_nothing_waits_longer_than_the_deadline() -> None:
    clock = Clock()
    store = RemoteStore([Scripted(clock, "http://a", BROKEN)], options=clock.options())
    with pytest.raises(StoreUnavailable, match=r"http://a within 5 s.*connection broken"):
        await store.stat(NS)
    assert clock.now <= 5.0


async def test_a_page_that_never_comes_is_gone_and_not_unavailable() -> None:
    clock = Clock()
    store = RemoteStore([Scripted(clock, "http://a", good(b""))], options=clock.options())
    with pytest.raises(Gone, match="page 7"):
        await store.read(NS, [PageRead(7, V)])
    assert 3.0 < clock.now <= 5.0


async def test_a_gateway_says_that_asking_again_will_not_help() -> None:
    clock = Clock()
    why = {"x-ended-early": "gone below the truncation mark"}
    transport = Scripted(clock, "http://a", good(b"", why))
    with pytest.raises(Gone, match="truncation mark"):
        await RemoteStore([transport], options=clock.options()).read(NS, [PageRead(7, V)])
    assert len(transport.asked) == 1


async def test_the_next_address_is_asked_at_once_and_kept() -> None:
    clock = Clock()
    first = Scripted(clock, "http://a", BROKEN)
    second = Scripted(clock, "http://b", good())
    store = RemoteStore([first, second], options=clock.options())
    await store.stat(NS)
    assert clock.waits == []
    for _ in range(5):
        await store.stat(NS)
    assert (len(first.asked), len(second.asked)) == (1, 6)
    assert store.facts()["failing"] == {"http://a": 1, "http://b": 0}


async def test_an_address_that_is_silent_leaves_time_for_the_others() -> None:
    clock = Clock()
    silent = Scripted(clock, "http://a", StoreUnavailable("silent"), took_s=60.0)
    store = RemoteStore([silent, Scripted(clock, "http://b", good())], options=clock.options())
    await store.stat(NS)
    assert clock.now == 2.5


async def test_an_address_that_failed_comes_back() -> None:
    clock = Clock()
    first = Scripted(clock, "http://a", BROKEN, good())
    second = Scripted(clock, "http://b", good())
    store = RemoteStore([first, second], options=clock.options())
    await store.stat(NS)
    second.answers = [BROKEN]
    clock.now += 1.0
    await store.stat(NS)
    assert len(first.asked) == 2


async def test_only_the_first_attempt_may_skip_the_idempotency_check() -> None:
    clock = Clock()
    done = StoreAnswer(200, {"x-committed-version": V}, mvstore.encode_changelog({"world": []}))
    transport = Scripted(clock, "http://a", BROKEN, done)
    store = RemoteStore([transport], options=clock.options())
    key = os.urandom(16)
    part = NamespaceCommit(NS, V, [PageWrite(1, blake3(b"x").digest(), b"x")])
    assert (await store.commit(CommitRequest(key, [part], first_attempt=True))).version == V
    heads = [
        msgpack.unpackb(ask.body[4 : 4 + int.from_bytes(ask.body[:4], "big")]) for ask in transport.asked
    ]
    assert [head["allow_skip_idempotency_check"] for head in heads] == [True, False]
    assert [head["idempotency_key"] for head in heads] == [key, key]


async def test_many_pages_go_ahead_of_their_commit() -> None:
    clock = Clock()
    pages = [bytes([n]) * 100 for n in range(60)]
    hashes = [blake3(page).digest() for page in pages]
    ahead = [good(b"".join(map(mvstore.encode_hash, (*part, b"")))) for part in (hashes[:50], hashes[50:])]
    done = StoreAnswer(200, {"x-committed-version": V}, mvstore.encode_changelog({}))
    transport = Scripted(clock, "http://a", *ahead, done)
    store = RemoteStore([transport], options=clock.options())
    writes = [PageWrite(n, digest, page) for n, (digest, page) in enumerate(zip(hashes, pages, strict=True))]
    await store.commit(CommitRequest(os.urandom(16), [NamespaceCommit(NS, V, writes)], True))
    assert [ask.path for ask in transport.asked] == ["/batch/write", "/batch/write", "/batch/commit"]
    assert len(transport.asked[2].body) < 60 * 100


async def test_an_answer_that_is_no_store_s_is_told_as_such() -> None:
    clock = Clock()
    for body in (b"<html>", b"[]", b'{"version": 1}', b'{"version": "x", "interval": 3}'):
        store = RemoteStore([Scripted(clock, "http://a", good(body))], options=clock.options(deadline_s=0.1))
        with pytest.raises(StoreUnavailable, match="http://a"):
            await store.stat(NS)


async def test_a_namespace_that_use_does_not_make_needs_the_admin_api() -> None:
    clock = Clock()
    transport = Scripted(clock, "http://a", bad(404))
    store = RemoteStore([transport], options=clock.options())
    with pytest.raises(AdminNeeded, match="--store-admin"):
        await store.create_namespace("new")
    with pytest.raises(AdminNeeded, match="--store-admin"):
        await store.delete_namespace("old")
    transport.answers = [good()]
    await store.create_namespace("new")
    await store.aclose()
    assert transport.closed
