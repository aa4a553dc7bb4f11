"""Each part of a connection alone, under whatever may be asked of it in whatever order.

Received packets, packets in flight and the halves of a stream have theirs beside their own tests; here are connection IDs,
paths, datagrams, and the streams of two ends that exchange frames over a link which loses, repeats and reorders them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import limits
from gateway.core.bundle import Burst
from gateway.core.ports import Refusal
from gateway.quic.connection.congestion import congestion
from gateway.quic.connection.datagrams import Datagrams
from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.frames import OF_STREAMS
from gateway.quic.connection.framing import Framing
from gateway.quic.connection.ids import OurIds, PeerIds
from gateway.quic.connection.pacing import Pacer
from gateway.quic.connection.packets import varint
from gateway.quic.connection.paths import AMPLIFICATION, Path, Paths
from gateway.quic.connection.recovery import Recovery
from gateway.quic.connection.state import OPEN, State
from gateway.quic.connection.streams import Streams
from tests.quic.pair import Sink

MANY = settings(max_examples=150, deadline=None, derandomize=True)

# -- connection IDs -------------------------------------------------------------------------

id_steps = st.lists(
    st.tuples(
        st.sampled_from(["new", "change", "frames", "lost", "reserve"]),
        st.integers(0, 12),
        st.integers(0, 12),
    ),
    max_size=80,
)


@MANY
@given(id_steps)
def test_a_peers_connection_ids_stay_few_and_each_is_given_back_once(
    steps: list[tuple[str, int, int]],
) -> None:
    ids = PeerIds()
    ids.begin(b"first", None)
    reserved: list[Any] = []
    told: list[tuple[Any, Any]] = []
    try:
        for what, number, below in steps:
            if what == "new":
                gone = ids.add(number, below, b"cid%d" % number, number.to_bytes(16, "big"), reserved)
                reserved = [one for one in reserved if one not in gone]
            elif what == "change":
                before, spare = ids.current, len(ids.spare)
                assert ids.change() == (spare > 0)
                assert (ids.current is before) == (spare == 0)
            elif what == "frames":
                handlers: list[tuple[Any, Any]] = []
                assert len(ids.frames(9 * number, handlers)) <= 9 * number
                told += handlers
            elif what == "lost" and told:
                handler, args = told.pop()
                handler(False, *args)
            elif what == "reserve" and ids.spare:
                reserved.append(ids.spare.pop(0))
            in_use = [ids.current.number, *(one.number for one in (*ids.spare, *reserved))]
            assert ids.cid == ids.current.cid
            assert len(in_use) == len(set(in_use)) <= limits.QUIC_CONNECTION_IDS_MAX
            assert len(ids.retiring) == len(set(ids.retiring)) <= limits.QUIC_IDS_RETIRING_MAX
            assert not set(ids.spare) & set(reserved)
    except PeerFault:
        assert what == "new"


@MANY
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.integers(0, 5)), max_size=60))
def test_our_connection_ids_are_as_many_as_the_peer_keeps(steps: list[tuple[int, int, int]]) -> None:
    ids = OurIds(b"8 bytes.", b"key")
    ids.count_max = 7
    issued: list[bytes] = []
    for number, in_use, room in steps:
        ids.replenish()
        assert len(ids.known) == limits.QUIC_CONNECTION_IDS_MAX
        handlers: list[tuple[Any, Any]] = []
        assert len(ids.frames(60 * room, handlers, issued.append)) <= 60 * room
        try:
            gone = ids.retire(number, ids.known[in_use % len(ids.known)].cid)
        except PeerFault:
            continue
        assert gone is None or ids.number_of(gone) is None
        assert len({one.cid for one in ids.known}) == len({one.number for one in ids.known}) == len(ids.known)
    assert len(issued) == len(set(issued))


# -- paths ----------------------------------------------------------------------------------


@MANY
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["came", "promote", "challenge", "prove", "send", "give up"]), st.integers(0, 11)
        ),
        max_size=80,
    )
)
def test_paths_stay_few_and_one_that_is_not_proved_gets_no_more_than_it_may(
    steps: list[tuple[str, int]],
) -> None:
    paths = Paths(Path(0, is_proved=True))
    challenges: dict[int, bytes] = {}
    for what, address in steps:
        path = paths.find(address)
        if what == "came":
            path.came_bytes += 100
            path.take_challenge(bytes(8))
            paths.keep(path)
        elif what == "promote" and path in paths.others:
            paths.promote(path)
        elif what == "challenge":
            challenges[address] = path.challenge()[1:]
        elif what == "prove":
            paths.prove(challenges.get(address, b"unknown!"))
        elif what == "send":
            allowed = path.allowed_bytes()
            path.sent_bytes += min(1_200, max(0, 1_200 if allowed is None else allowed))
        elif what == "give up" and not paths.active.is_proved:
            was = paths.active
            assert paths.give_up_active() == (paths.active is not was)
        assert len(paths) <= limits.QUIC_PATHS_MAX
        assert len({one.address for one in paths}) == len(paths)
        assert paths.address == paths.active.address
        for one in paths:
            assert one.is_proved or one.sent_bytes <= AMPLIFICATION * one.came_bytes
            assert len(one.challenges_due) * 9 >= len(one.responses(0))


# -- datagrams ------------------------------------------------------------------------------

datagram_steps = st.lists(
    st.tuples(
        st.sampled_from(["offer", "push", "burst", "fill", "spill", "flight", "drop"]),
        st.integers(0, 1_300),
        st.integers(1, 6),
    ),
    max_size=80,
)


@MANY
@given(datagram_steps, st.booleans())
def test_every_datagram_that_is_taken_goes_once_or_is_told_as_lost(
    steps: list[tuple[str, int, int]], is_open: bool
) -> None:
    state, control = State(30.0), congestion("realtime", 1_200)
    recovery = Recovery(control, Pacer(1_200))
    datagrams, sink = Datagrams(state, recovery), Sink()
    datagrams.payload_bytes_max, datagrams.content_bytes_max = 1_169, 1_172
    state.is_complete = True
    if is_open:
        state.phase = OPEN
    taken: set[int] = set()
    gone: list[int] = []
    token = 0
    for what, size, count in steps:
        refusal: Refusal | None = Refusal.BLOCKED
        if what == "offer":
            refusal = datagrams.offer(bytes(size), sink, token)
        elif what == "push":
            refusal = datagrams.push(bytes(size), sink, token)
        elif what == "burst":
            refusal = datagrams.offer_burst(
                Framing(Burst([(bytes(size), ())] * count), b"", 1_172), sink, token
            )
        elif what == "fill":
            datagrams.spill()
            _, fates = datagrams.fill(b"", (), size)
            gone += [one for _, first, number in fates for one in range(first, first + number)]
        elif what == "spill":
            datagrams.spill()
        elif what == "flight":
            control.in_flight = size * 10
        elif what == "drop":
            datagrams.drop_beyond(recovery.fates)
        if what in ("offer", "push", "burst"):
            number = count if what == "burst" else 1
            if refusal is None:
                taken |= set(range(token, token + number))
            elif size > 1_172:
                assert refusal in (Refusal.TOO_LARGE, Refusal.UNSUPPORTED)
            token += number
        waiting = sum(len(payload) for payload, _, _ in datagrams.queue)
        waiting += datagrams.burst[0].payload_bytes if datagrams.burst is not None else 0
        assert datagrams.size == waiting <= limits.QUIC_DATAGRAM_QUEUE_BYTES_MAX
    datagrams.drop_all(recovery.fates)
    lost = [one for _, one, arrived in recovery.fates if not arrived]
    assert sorted(gone + lost) == sorted(taken)
    assert datagrams.size == 0


# -- streams --------------------------------------------------------------------------------


@dataclass
class StreamsEnd:
    """The streams of one end, what they were told, and which packets of theirs are on their way."""

    streams: Streams
    came: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    sent: list[tuple[bytes, list[Any]]] = field(default_factory=list)

    # as frames' readers want it
    @property
    def incoming(self) -> Any:
        return self.streams.incoming

    @property
    def table(self) -> Any:
        return self.streams.table

    def on_stopped(self, number: int, code: int) -> None: ...

    def hear(self, event: Any) -> None:
        if hasattr(event, "data"):
            self.came[event.stream_id] = self.came.get(event.stream_id, b"") + event.data
            if event.end_stream:
                self.ended.add(event.stream_id)

    def speak(self, room: int) -> None:
        control, data = self.streams.outgoing.look_over()
        content, handlers = b"", []
        if control:
            content = self.streams.outgoing.control_frames(room, handlers)
            assert len(content) <= room
        if data:
            frames, told = self.streams.outgoing.data_frames(room - len(content))
            content, handlers = content + frames, handlers + told
            assert len(content) <= room
        if content:
            self.sent.append((content, handlers))

    def take(self, content: bytes) -> None:
        at = 0
        while at < len(content):
            kind, at = varint(content, at)
            at = OF_STREAMS[kind](self, kind, content, at)


def _end(*, is_client: bool) -> StreamsEnd:
    end: StreamsEnd
    streams = Streams(
        is_client=is_client, window=3_000, data_window=7_000, emit=lambda event: end.hear(event)
    )
    end = StreamsEnd(streams)
    return end


@pytest.mark.parametrize("seed", range(60))
def test_streams_over_a_link_that_loses_repeats_and_reorders_are_whole(seed: int) -> None:
    dice = random.Random(seed)
    ends = _end(is_client=True), _end(is_client=False)
    for one, other in (ends, ends[::-1]):
        peer = one.streams.peer
        peer.data, peer.streams_bidi, peer.streams_uni = (
            7_000,
            limits.QUIC_PEER_STREAMS_MAX,
            limits.QUIC_PEER_STREAMS_MAX,
        )
        one.streams.table.learn(3_000, 3_000, 3_000)
        assert other is not one
    said: dict[tuple[int, int], bytes] = {}
    given_up: set[tuple[int, int]] = set()
    for turn in range(6_000):
        busy = turn < 300
        for index, (one, other) in enumerate((ends, ends[::-1])):
            if busy and dice.random() < 0.2:
                number = one.streams.next_number(one_way=dice.random() < 0.7)
                data = dice.randbytes(dice.choice((0, 1, 900, 9_000)))
                one.streams.write(number, data, end=True)
                if not number & 2:
                    other_side = (1 - index, number)
                    said.setdefault(other_side, b"")
                said[index, number] = data
            if busy and dice.random() < 0.03 and said:
                side, number = dice.choice(list(said))
                if side == index and number in one.streams.by_number:
                    one.streams.reset(number, 7)
                    given_up.add((index, number))
            one.speak(dice.choice((64, 300, 1_100)))
            while one.sent and dice.random() < 0.8:
                content, handlers = one.sent.pop(0 if dice.random() < 0.7 else dice.randrange(len(one.sent)))
                arrives = not busy or dice.random() < 0.8
                if arrives:
                    for _ in range(1 + (dice.random() < 0.1)):
                        other.take(content)
                for handler, args in handlers:
                    handler(arrives, *args)
            # whoever was asked answers with an end at once
            for number in list(one.streams.by_number):
                if not number & 2 and (number & 1) == (index == 0) and one.streams.can_send_on(number):
                    one.streams.write(number, b"", end=True)
        if not busy and not any(end.sent or end.streams.unsent_total() for end in ends):
            break
    for (side, number), data in said.items():
        heard = ends[1 - side].came.get(number, b"")
        if (side, number) in given_up:
            assert data.startswith(heard)
        else:
            assert heard == data, (side, number, len(heard), len(data))
            assert number in ends[1 - side].ended
