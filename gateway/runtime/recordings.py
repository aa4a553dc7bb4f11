"""What can be asked of recordings through a gateway: spans, gaps, marks, branches, replays. Room: runtime."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import apsw

from gateway import limits
from gateway.core.admission import host_of, peer_of
from gateway.core.delay import asked
from gateway.core.gate import within_grant
from gateway.core.ports import Hosted, Link, LiveOptions
from gateway.core.replay import Command, parse_query
from gateway.errors import BadInput, BadName, Overloaded, TooLarge
from gateway.http.queries import time_us
from gateway.recordings.branches import Branched, branch
from gateway.recordings.recording import Moment
from gateway.recordings.verifying import Verifier
from gateway.runtime.branches import Branches
from gateway.runtime.clips import Clip, Wanted, cut
from gateway.runtime.host import WorldHost
from gateway.runtime.replaying import ReplaySession
from gateway.runtime.worlds import HostedWorlds
from gateway.store.world import History
from gateway.store.world.lanes import WorldLanes
from gateway.wallclock import now_us
from gateway.wire import encode_control

T = TypeVar("T")


class HostedRecordings:
    """Implements :class:`gateway.http.recordings.RecordingService` over the open worlds."""

    def __init__(self, worlds: HostedWorlds) -> None:
        self._worlds = worlds
        self._replays = 0
        self._branches = Branches(worlds.store, worlds.settings.branches_per_world_max)

    async def _ask(self, name: str, delay_s: float, question: Callable[[History], T]) -> T:
        return await self._worlds.with_host(
            name, lambda host: host.recorded().world.history(question, until_us=host.until_us(delay_s))
        )

    async def summary(self, name: str, *, delay_s: float = 0.0) -> Mapping[str, object]:
        """What can be got back, and to when."""
        return await self._ask(name, delay_s, lambda history: history.summary())

    async def gaps(self, name: str, *, delay_s: float = 0.0) -> list[dict[str, object]]:
        """``{epoch, from, to, reason}``, oldest first."""
        gaps = await self._ask(name, delay_s, lambda history: history.gaps())
        return [{"epoch": g.epoch, "from": g.from_tick, "to": g.to_tick, "reason": g.reason} for g in gaps]

    async def marks(self, name: str, *, delay_s: float = 0.0) -> list[dict[str, object]]:
        """``{name, epoch, tick, at_us, data}`` in order; ``data`` is the JSON value that was given."""

        def listed(history: History) -> list[dict[str, object]]:
            return [{**mark, "data": _value(mark["data"])} for mark in history.marks()]

        return await self._ask(name, delay_s, listed)

    async def timeline(self, name: str, spans: int, *, delay_s: float = 0.0) -> Mapping[str, object]:
        """The epochs, and what was recorded over time."""
        return await self._ask(name, delay_s, lambda history: history.timeline(spans))

    async def verify(self, name: str, *, delay_s: float = 0.0) -> Mapping[str, object]:
        """Whether the recording adds up; one stretch at a time, so that other readers get their turns."""
        return await self._worlds.with_host(
            name, lambda host: self._verified(host.recorded().world, host.until_us(delay_s))
        )

    async def _verified(self, world: WorldLanes, until_us: int | None) -> Mapping[str, object]:
        # Asked for piece by piece, each at a version of its own: a recording of hours would hold one for
        # minutes.
        verifier = await world.history(Verifier, until_us=until_us)
        stretches = verifier.stretches()

        def one(history: History) -> bool:
            # Of this turn: the one before it is at a version that may be let go by now.
            verifier.history = history
            return next(stretches, None) is not None

        while await world.history(one, until_us=until_us):
            pass
        return verifier.report.as_json()

    async def clip(self, name: str, wanted: Mapping[str, Any], *, delay_s: float = 0.0) -> Clip:
        """A stretch as a file, to be closed by who takes it."""
        return await self._worlds.with_host(
            name, lambda host: cut(host.recorded().world, name, Wanted(**wanted), host.until_us(delay_s))
        )

    async def set_mark(self, name: str, fields: Mapping[str, object]) -> Mapping[str, object]:
        """Set a mark at ``tick`` of ``epoch``, or now. Raises :class:`BadName`, :class:`BadInput`."""
        mark, data = _mark_name(fields.get("name")), _mark_data(fields)
        return await self._worlds.with_host(name, lambda host: self._set_mark(host, mark, data, fields))

    async def _set_mark(
        self, host: WorldHost, mark: str, data: str | None, fields: Mapping[str, object]
    ) -> Mapping[str, object]:
        world = host.database.world
        count, is_there, others_bytes = await world.history(lambda history: _count_marks(history, mark))
        marks_max = self._worlds.settings.marks_per_world_max
        if count >= marks_max and not is_there:
            raise Overloaded(
                f"world {host.name} has {count} marks, which is the bound; move one instead, or raise "
                "--marks-per-world-max",
                bound="--marks-per-world-max",
                limit=marks_max,
            )
        if data is not None and others_bytes + len(data) > limits.MARKS_BYTES_MAX:
            raise Overloaded(
                f"the data of world {host.name}'s marks would be {others_bytes + len(data)} bytes, the bound is "
                f"{limits.MARKS_BYTES_MAX}; keep what is large elsewhere and name it in the mark, or move a mark with less",
                bound="marks bytes",
                limit=limits.MARKS_BYTES_MAX,
            )
        state = host.world.state
        epoch, tick = _whole(fields, "epoch", state.epoch), _whole(fields, "tick", state.tick)
        at_us = now_us()
        if "tick" in fields:
            found = await world.state_at(epoch=epoch, tick=tick, exact=False)
            at_us = found.received_at_us
        await world.set_mark(mark, epoch, tick, at_us, data)
        return {"name": mark, "epoch": epoch, "tick": tick, "at_us": at_us, "data": _value(data)}

    async def branch(self, name: str, fields: Mapping[str, object], *, by: str = "") -> Mapping[str, object]:
        """Make world ``fields["name"]`` from ``name`` as of ``tick``/``epoch``, ``at`` or ``mark``. It counts as one
        more that the peer ``by`` has made."""
        at, asked_us = fields.get("at"), now_us()
        moment = Moment(
            _whole(fields, "epoch", None),
            _whole(fields, "tick", None),
            None if at is None else time_us(str(at), asked_us),
            None if fields.get("mark") is None else str(fields["mark"]),
        )
        new = str(fields.get("name"))

        async def make(host: WorldHost) -> Branched:
            async with self._branches.room_for_one(host.identity.key, host.name):
                return await branch(self._worlds.store, host.name, new, moment, now_us=asked_us)

        # Before anything is done, and once, however often the world turns out to have been deleted
        # meanwhile.
        self._worlds.shares.check_made(by)
        return (await self._worlds.with_host(name, make)).as_json()

    async def open_replay(self, name: str, query: str, headers: Mapping[str, str], link: Link) -> Hosted:
        """A viewer's session at ``…/replay``; ``welcome`` has been given to the link on return."""
        (seek, play), delay_s = parse_query(query), asked(query)
        peer = peer_of(host_of(link.address))
        self._take_replay(peer)
        try:
            return await self._open_replay(name, peer, seek, play, link, delay_s)
        except BaseException:
            self._replay_over(peer)
            raise

    def _take_replay(self, peer: str) -> None:
        most = self._worlds.settings.replays_max
        if self._replays >= most:
            raise Overloaded(
                f"{self._replays} replays are running, which is the bound; come back later, or raise --replays-max",
                bound="--replays-max",
                limit=most,
            )
        # Behind the bound of all: what raises here has taken nothing that would have to be given back.
        self._worlds.shares.replays.take(peer)
        self._replays += 1

    def _replay_over(self, peer: str) -> None:
        self._worlds.shares.replays.give_back(peer)
        self._replays -= 1

    async def _open_replay(
        self, name: str, peer: str, seek: Command | None, play: Command | None, link: Link, delay_s: float
    ) -> Hosted:
        host = await self._worlds.host(name)
        seen = SeenRecording(host, delay_s)
        welcome = {
            "world": name,
            "role": "replay",
            **await seen.newest(),
            "max_datagram": link.message_bytes_max(),
            "server_time": now_us(),
        }
        # Before the session begins: its frames go by other streams, and the first word is this one.
        link.control(encode_control("welcome", **welcome))

        async def open_live(options: LiveOptions, lent: Link) -> Hosted:
            # With the delay of the replay: or else whoever may see only the past would come to the present
            # by its end.
            options = within_grant(replace(options, delay_s=delay_s))
            return await self._worlds.open_session(name, options, lent)

        session = ReplaySession(seen, link, open_live, partial(self._replay_over, peer))
        session.start(seek, play)
        return session


class SeenRecording:
    """A world's recording as a viewer may see it: nothing that came less than ``delay_s`` ago."""

    def __init__(self, host: WorldHost, delay_s: float) -> None:
        self._host = host
        self._delay_s = delay_s

    async def history(self, fn: Callable[[History], T]) -> T:
        """As :meth:`gateway.store.world.lanes.World.history`."""
        return await self._host.recorded().world.history(fn, until_us=self._host.until_us(self._delay_s))

    async def newest(self) -> dict[str, object]:
        """``epoch, tick, durable``, and ``delay_s`` where there is one: how far the recording goes."""
        if not self._delay_s:
            state, durable = self._host.world.state, self._host.world.journal.durable
            mark = None if durable is None else {"epoch": durable.epoch, "tick": durable.tick}
            return {"epoch": state.epoch, "tick": state.tick, "durable": mark}
        last = (await self.history(lambda history: history.summary()))["last"]
        mark = None if last is None else {"epoch": last["epoch"], "tick": last["tick"]}
        place = mark or {"epoch": 0, "tick": 0}
        return {**place, "durable": mark, "delay_s": self._delay_s}


def _mark_name(name: object) -> str:
    if (
        not isinstance(name, str)
        or not 1 <= len(name) <= limits.MARK_NAME_CHARS_MAX
        or not name.isprintable()
    ):
        raise BadName(f"a mark's name is 1 to {limits.MARK_NAME_CHARS_MAX} printable characters")
    return name


def _mark_data(fields: Mapping[str, object]) -> str | None:
    unknown = set(fields) - {"name", "epoch", "tick", "data"}
    if unknown:
        raise BadInput(f"a mark has name, epoch, tick and data, and not {', '.join(sorted(unknown))}")
    if fields.get("data") is None:
        return None
    data = json.dumps(fields["data"])
    if len(data) > limits.MARK_DATA_BYTES_MAX:
        raise TooLarge(
            f"a mark's data has {len(data)} bytes, the bound is {limits.MARK_DATA_BYTES_MAX}; keep it elsewhere, "
            "and name it in the mark"
        )
    return data


def _value(data: str | None) -> object:
    return None if data is None else json.loads(data)


def _whole(fields: Mapping[str, object], name: str, default: int | None) -> Any:
    value = fields.get(name, default)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0xFFFF_FFFF:
        raise BadInput(f"{name} {value!r} is not a whole number from 0 to 4294967295")
    return value


def _count_marks(history: History, name: str) -> tuple[int, bool, int]:
    """How many there are, whether ``name`` is one of them, and how many bytes of data the others have."""

    def count(connection: apsw.Connection) -> tuple[int, bool, int]:
        query = (
            "SELECT count(*), coalesce(max(name = ?1), 0), coalesce(sum(octet_length(data)) FILTER (WHERE name <> ?1), 0) "
            "FROM marks"
        )
        count, is_there, size = connection.execute(query, (name,)).get
        return count, bool(is_there), size

    return history.source.read(count)
