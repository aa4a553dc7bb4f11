"""The four ends without ``await``: publish, follow, entities, the past. Room: client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from gateway import client
from gateway.client import entities, fetch, past, publisher, subscriber
from gateway.client.live import Live
from gateway.client.sync.face import Face, gives, waits
from gateway.core.ports import Mark
from gateway.errors import GatewayError

Session = TypeVar("Session", bound=Live)


class _Live(Face[Session], Generic[Session]):
    """A session that comes back by itself."""

    def open(self) -> None:
        """Connect and wait for ``welcome``, as :meth:`gateway.client.live.Live.start`. ``with`` does so."""
        self._run(self._end.start())

    async def _aclose(self) -> None:
        await self._end.aclose()

    @property
    def connected(self) -> bool:
        return self._end.connected

    @property
    def transport(self) -> str | None:
        """``webtransport`` or ``websocket`` while connected."""
        return self._call(lambda: self._end.transport)

    @property
    def error(self) -> GatewayError | None:
        """Why no session follows, or None."""
        return self._end.error

    @property
    def world(self) -> str:
        return self._end.world

    @property
    def epoch(self) -> int:
        return self._end.epoch

    @property
    def tick(self) -> int:
        return self._end.tick

    @property
    def connects(self) -> int:
        return self._end.connects


class Publisher(_Live[publisher.Publisher]):
    """:class:`gateway.client.Publisher` without ``await``: the same arguments."""

    def __init__(self, url: str, world: str, **options: Any) -> None:
        super().__init__(lambda: publisher.Publisher(url, world, **options))

    def send(
        self, records: Mapping[int, bytes | None], *, tick: int | None = None, keyframe: bool = False
    ) -> int:
        """Send one frame; answers its tick. Never waits for the network."""
        return self._call(lambda: self._end.send(records, tick=tick, keyframe=keyframe))

    def keyframe(self) -> None:
        """Send every live record again."""
        self._call(self._end.keyframe)

    def wait_durable(self, tick: int | None = None, *, timeout_s: float | None = None) -> Mark:
        """Block until ``tick`` (the newest, if not given) is in the store. Raises TimeoutError after ``timeout_s``."""
        return self._run(self._end.wait_durable(tick), timeout_s)

    def records(self) -> dict[int, bytes]:
        """key → newest bytes of every live record."""
        return self._call(self._end.records)

    def facts(self) -> dict[str, object]:
        """The counts, JSON-ready."""
        return self._call(self._end.facts)

    @property
    def durable(self) -> Mark | None:
        return self._end.durable

    @property
    def resume(self) -> str | None:
        """The secret by which this epoch is given back; keep it to yourself."""
        return self._end.resume


class Subscriber(_Live[subscriber.Subscriber]):
    """:class:`gateway.client.Subscriber` without ``await``: the same arguments. ``for frame in sub``."""

    def __init__(self, url: str, world: str, **options: Any) -> None:
        super().__init__(lambda: subscriber.Subscriber(url, world, **options))

    def next(self, timeout_s: float | None = None) -> subscriber.ReceivedFrame:
        """The next frame. Raises TimeoutError after ``timeout_s``, StopIteration once it is closed, or its final error."""
        frame = self._run(self._next(), timeout_s)
        if frame is None:
            raise StopIteration
        return frame

    def frames(self, timeout_s: float | None = None) -> Iterator[subscriber.ReceivedFrame]:
        """What changed, frame by frame; the iteration ends where none comes for ``timeout_s``."""
        while True:
            try:
                yield self.next(timeout_s)
            except (StopIteration, TimeoutError):
                return

    def __iter__(self) -> Iterator[subscriber.ReceivedFrame]:
        return self.frames()

    def records(self) -> dict[int, bytes]:
        """key → bytes of every live record now."""
        return self._call(self._end.records)

    def focus(self, keys: Mapping[int, float]) -> None:
        """Weigh records anew."""
        self._call(lambda: self._end.focus(keys))

    def control(self, type: str, **fields: object) -> None:
        """Send a control message, such as ``seek`` in a replay."""
        self._call(lambda: self._end.control(type, **fields))

    @property
    def counts(self) -> client.ReaderCounts:
        return self._end.counts

    async def _next(self) -> subscriber.ReceivedFrame | None:
        """Nothing is lost where the wait is cancelled: a frame is taken and given in one step."""
        async with aclosing(aiter(self._end)) as frames:  # type: ignore[type-var]  # it is a generator
            async for frame in frames:
                return frame
        return None


class Entities(Face[entities.Entities]):
    """:class:`gateway.client.Entities` without ``await``: the same arguments."""

    def __init__(self, url: str, name: str, **options: Any) -> None:
        super().__init__(lambda: entities.Entities(url, name, **options))

    async def _aclose(self) -> None:
        await self._end.__aexit__()

    put = waits(entities.Entities.put)
    get = waits(entities.Entities.get)
    delete = waits(entities.Entities.delete)
    batch = waits(entities.Entities.batch)
    wake = waits(entities.Entities.wake)
    acquire = waits(entities.Entities.acquire)
    renew = waits(entities.Entities.renew)
    transfer = waits(entities.Entities.transfer)
    accept = waits(entities.Entities.accept)
    cancel = waits(entities.Entities.cancel)
    transfer_record = waits(entities.Entities.transfer_record)
    trade = waits(entities.Entities.trade)

    def patch(self, entity_id: str, **members: object) -> int:
        """Change ``class``, ``owner`` or ``tags``; answers the new revision."""
        return self._run(self._end.patch(entity_id, **members))

    def hibernate(self, entity_id: str, key: int, **members: object) -> dict[str, object]:
        """The live record ``key`` becomes the entity's state and leaves the world."""
        return self._run(self._end.hibernate(entity_id, key, **members))

    def all(self, **wanted: str) -> Iterator[entities.ClientEntity]:
        """Every entity, streamed."""
        return gives(self, lambda: self._end.all(**wanted))

    def watch(
        self, since: int | None = None, *, timeout_s: float | None = None, **wanted: str
    ) -> Iterator[entities.EntityChange]:
        """Changes as they commit; the iteration ends where none comes for ``timeout_s``."""
        return gives(self, lambda: self._end.watch(since, **wanted), timeout_s)

    @property
    def lease_token(self) -> str | None:
        return self._end.lease_token


class Recordings(Face[past.Recordings]):
    """:class:`gateway.client.Recordings` without ``await``: the same arguments."""

    def __init__(self, url: str, world: str, **options: Any) -> None:
        super().__init__(lambda: past.Recordings(url, world, **options))

    async def _aclose(self) -> None:
        await self._end.__aexit__()

    summary = waits(past.Recordings.summary)
    gaps = waits(past.Recordings.gaps)
    marks = waits(past.Recordings.marks)
    mark = waits(past.Recordings.mark)
    last = waits(past.Recordings.last)
    state = waits(past.Recordings.state)


class _Nothing(Face[None]):
    async def _aclose(self) -> None: ...


def fetch_last(url: str, world: str, **options: Any) -> fetch.FetchedState:
    """:func:`gateway.client.fetch_last` without ``await``."""
    with _Nothing(lambda: None) as face:
        return face._run(fetch.fetch_last(url, world, **options))
