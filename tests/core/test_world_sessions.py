"""Who comes to a world and who goes: what each is told, what the log and the counters hear, and what readers do not notice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.closing import close_code
from gateway.core.events import Event, PublisherReplaced, SessionOpened
from gateway.core.ports import CloseCode, LiveOptions, Mark
from gateway.core.state import WorldState
from gateway.core.world import World, WorldSettings
from gateway.errors import GatewayError, MalformedMessage, Overloaded, PublisherPresent, ShuttingDown
from gateway.limits import DRAIN_SPREAD_MS, GAP_COMING_S, GAP_POLL_S, GAP_WAIT_S
from gateway.wire import Frame, Record, decode_frame, encode_control, encode_frame, prefix
from gateway.wire.journal import Batch, Gap
from tests.core.links import RecordingLink

NOW_US = 1_800_000_000_000_000


def message(tick: int, values: dict[int, bytes | None], epoch: int = 0, **how: object) -> bytes:
    return encode_frame(Frame(epoch, tick, [Record(k, v) for k, v in values.items()], **how))  # type: ignore[arg-type]


def recorded(epoch: int, tick: int) -> WorldState:
    """What a store holds of a world: one record of that moment."""
    state = WorldState()
    state.apply(decode_frame(message(tick, {1: b"stored"}, epoch)))
    return state


class Rig:
    """A world, what its log was told, and how often whoever drives it was woken."""

    def __init__(self, *, opened_with: dict[str, object] | None = None, **settings: object) -> None:
        made = WorldSettings(**settings)  # type: ignore[arg-type]
        self.world = World("arena", made, mono=100.0, now_us=NOW_US, **(opened_with or {}))  # type: ignore[arg-type]
        self.events: list[Event] = []
        self.wakes = 0
        self.world.on_event = self.events.append
        self.world.on_work = self._work

    def _work(self) -> None:
        self.wakes += 1

    def commit(self, mono: float) -> Batch:
        batch = self.world.take_batch(mono)
        assert batch is not None
        self.world.committed(batch, mono)
        return batch

    def gaps(self, mono: float) -> list[Gap]:
        """What becomes certain to be missing by then."""
        self.world.poll(mono, NOW_US)
        batch = self.world.take_batch(mono)
        if batch is None:
            return []
        self.world.committed(batch, mono)
        return list(batch.gaps)


def link_at(address: str, *, lossy: bool = True) -> RecordingLink:
    link = RecordingLink(lossy=lossy)
    link.address = address
    return link


# --- the log and the counters ---------------------------------------------------------------


def test_the_log_hears_who_came_by_what_and_for_which_epoch() -> None:
    rig = Rig()
    rig.world.attach_publisher(link_at("10.0.0.1:5"), 4, 100.0)
    rig.world.attach_subscriber(link_at("10.0.0.2:6", lossy=False), LiveOptions(), 100.0)
    assert rig.events == [
        SessionOpened("arena", "publish", "webtransport", "10.0.0.1:5", 4),
        SessionOpened("arena", "subscribe", "websocket", "10.0.0.2:6", 4),
    ]


def test_everybody_who_was_attached_is_counted_also_after_they_left() -> None:
    rig = Rig()
    for _ in range(2):
        rig.world.attach_publisher(RecordingLink(), 1, 100.0).on_closed(100.0)
    for _ in range(3):
        rig.world.attach_subscriber(RecordingLink(), LiveOptions(), 100.0).on_closed(100.0)
    assert (rig.world.counters.publishers, rig.world.counters.subscribers) == (2, 3)


def test_counters_are_told_by_their_names() -> None:
    rig = Rig()
    rig.world.attach_subscriber(RecordingLink(), LiveOptions(), 100.0)
    rig.world.attach_publisher(RecordingLink(), 1, 100.0).on_message(message(1, {1: b"a"}), 100.0)
    told = rig.world.counters.as_dict()
    assert {name: count for name, count in told.items() if count} == {
        "frames": 1,
        "received": 1,
        "received_bytes": len(message(1, {1: b"a"})),
        "delivered": 1,
        "journal_frames": 1,
        "publishers": 1,
        "subscribers": 1,
    }
    assert {"malformed", "late", "gaps", "resyncs"} <= told.keys()


@pytest.mark.parametrize(("epoch", "why"), [(2, "taken_over"), (1, "reconnected")])
def test_who_is_replaced_hears_by_whom_and_so_does_the_log(epoch: int, why: str) -> None:
    rig, first = Rig(), RecordingLink()
    rig.world.attach_publisher(first, 1, 100.0)
    rig.events.clear()
    rig.world.attach_publisher(link_at("10.0.0.9:1"), epoch, 100.0, takeover=True)
    assert (first.controls[-1]["reason"], first.closed) == (why, CloseCode.TAKEN_OVER)
    assert rig.events[0] == PublisherReplaced("arena", 1, epoch, "10.0.0.9:1")


def test_received_bytes_are_those_of_the_messages_that_came() -> None:
    rig = Rig()
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    sent = [message(tick, {1: bytes(tick)}) for tick in (1, 2, 2)]
    for one in sent:
        session.on_message(one, 100.0)
    assert (rig.world.counters.received, rig.world.counters.received_bytes) == (3, sum(map(len, sent)))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MalformedMessage("no"), CloseCode.MALFORMED),
        (PublisherPresent("no"), CloseCode.PUBLISHER_PRESENT),
        (ShuttingDown("no"), CloseCode.SHUTTING_DOWN),
        (Overloaded("no"), CloseCode.ERROR),
    ],
)
def test_a_refusal_closes_by_the_code_that_says_its_kind(error: GatewayError, code: CloseCode) -> None:
    assert close_code(error) is code


# --- time -----------------------------------------------------------------------------------


def test_a_session_lasts_from_when_it_was_attached() -> None:
    rig = Rig()
    assert rig.world.mono == 100.0
    publisher = rig.world.attach_publisher(RecordingLink(), 1, 110.0)
    reader = rig.world.attach_subscriber(RecordingLink(), LiveOptions(), 120.0)
    rig.events.clear()
    reader.on_closed(123.0)
    publisher.on_closed(124.0)
    assert [event.seconds for event in rig.events] == [3.0, 14.0]  # type: ignore[union-attr]


def test_when_the_last_publisher_left_is_known_until_the_next_one_comes() -> None:
    rig = Rig()
    assert rig.world.publisher_left_us is None
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_closed(102.5)
    assert rig.world.publisher_left_us == NOW_US + 2_500_000
    rig.world.attach_publisher(RecordingLink(), 1, 103.0)
    assert rig.world.publisher_left_us is None


def test_a_publisher_that_leaves_wakes_whoever_polls_for_it_is_waited_for() -> None:
    rig = Rig(linger_s=5.0)
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    assert (rig.world.next_poll, rig.world.is_lingering, rig.wakes) == (None, False, 0)
    session.on_closed(101.0)
    assert (rig.world.next_poll, rig.world.is_lingering, rig.wakes) == (106.0, True, 1)
    rig.world.poll(106.0, NOW_US)
    assert (rig.world.next_poll, rig.world.is_lingering) == (None, False)
    session.on_closed(107.0)
    assert rig.wakes == 1


@pytest.mark.parametrize(
    ("after_ms", "told"),
    [
        (200, [200, 300, 400, 500]),
        (0, [0] * 4),
        (DRAIN_SPREAD_MS, [DRAIN_SPREAD_MS + n * DRAIN_SPREAD_MS // 4 for n in range(4)]),
    ],
)
def test_readers_come_back_spread_over_twice_the_time_that_is_told_or_the_bound(
    after_ms: int, told: list[int]
) -> None:
    rig, links = Rig(), [RecordingLink() for _ in range(4)]
    for link in links:
        rig.world.attach_subscriber(link, LiveOptions(), 100.0)
    rig.world.shutdown("shutting_down", after_ms)
    assert [link.controls[-1]["reconnect_after_ms"] for link in links] == told


# --- the welcome ----------------------------------------------------------------------------


def test_a_reader_at_the_home_is_told_of_no_hops() -> None:
    rig, link = Rig(), RecordingLink()
    rig.world.attach_subscriber(link, LiveOptions(), 101.0)
    assert link.controls[0].fields == {
        "world": "arena",
        "role": "subscribe",
        "epoch": 0,
        "tick": 0,
        "durable": None,
        "max_datagram": 1_200,
        "server_time": NOW_US + 1_000_000,
    }


def test_a_reader_at_a_gateway_that_is_fed_hears_how_far_the_home_is_and_how_long_it_was_silent() -> None:
    rig = Rig()
    rig.world.hops = 2
    for silent_ms in (0, 250):
        if silent_ms:
            rig.world.stale_ms = lambda: 250
        link = RecordingLink()
        rig.world.attach_subscriber(link, LiveOptions(), 100.0)
        assert (link.controls[0]["hops"], link.controls[0]["stale_ms"]) == (2, silent_ms)


def test_a_delayed_reader_hears_of_the_delay_and_of_what_it_has_come_to() -> None:
    for state, durable in ((recorded(3, 9), {"epoch": 3, "tick": 9}), (None, None)):
        rig = Rig(opened_with={"state": state, "delay_s": 2.0, "durable": Mark(3, 20)})
        link = RecordingLink()
        rig.world.attach_subscriber(link, LiveOptions(), 100.0)
        assert (link.controls[0]["delay_s"], link.controls[0]["durable"]) == (2.0, durable)


@pytest.mark.parametrize(("state", "epoch"), [(None, 5), (recorded(3, 9), 3)])
def test_a_readers_epoch_is_the_states_and_before_there_is_any_the_one_handed_out(
    state: WorldState | None, epoch: int
) -> None:
    rig = Rig(opened_with={"state": state, "last_epoch": 5})
    link = RecordingLink()
    rig.world.attach_subscriber(link, LiveOptions(), 100.0)
    assert link.controls[0]["epoch"] == epoch


@pytest.mark.parametrize(("epoch", "tick"), [(3, 9), (4, 0)])
def test_a_publisher_goes_on_from_the_newest_tick_of_its_own_epoch(epoch: int, tick: int) -> None:
    rig = Rig(opened_with={"state": recorded(3, 9), "last_epoch": 3, "durable": Mark(3, 8)})
    link = RecordingLink()
    rig.world.attach_publisher(link, epoch, 100.0)
    assert (link.controls[0]["tick"], link.controls[0]["durable"]) == (tick, {"epoch": 3, "tick": 8})


# --- the publisher's place ------------------------------------------------------------------


def test_who_comes_back_with_the_secret_of_the_epoch_has_the_place() -> None:
    rig, link = Rig(), RecordingLink()
    rig.world.attach_publisher(link, 1, 100.0, fresh="ab" * 16)
    assert link.controls[0]["resume"] == "ab" * 16
    assert [rig.world.is_publishers(secret) for secret in ("ab" * 16, "cd" * 16, None)] == [
        True,
        False,
        False,
    ]
    back = LiveOptions(role="publish", epoch=1, resume="ab" * 16)
    assert rig.world.may_go(back)
    assert rig.world.may_go(LiveOptions(role="publish", takeover=True))
    assert not rig.world.may_go(LiveOptions(role="publish"))
    with pytest.raises(PublisherPresent):
        rig.world.attach_publisher(RecordingLink(), 1, 100.0, resume="cd" * 16)
    rig.world.attach_publisher(RecordingLink(), 1, 100.0, resume="ab" * 16)
    assert link.controls[-1]["reason"] == "reconnected"


def test_nobody_publishes_without_anybody_there() -> None:
    rig = Rig()
    assert not rig.world.is_publishers("ab" * 16)
    assert rig.world.may_go(LiveOptions(role="publish"))


def test_a_publisher_that_comes_hears_how_far_the_store_is_though_the_last_one_was_told() -> None:
    rig, first, second = Rig(), RecordingLink(lossy=False), RecordingLink(lossy=False)
    session = rig.world.attach_publisher(first, 1, 100.0)
    session.on_message(message(1, {1: b"a"}), 100.0)
    rig.commit(100.1)
    rig.world.poll(101.0, NOW_US)
    assert first.control_types() == ["welcome", "durable"]
    session.on_closed(101.0)
    rig.world.attach_publisher(second, 1, 101.5)
    rig.world.poll(102.0, NOW_US)
    assert second.controls[-1].fields == {"epoch": 1, "tick": 1}
    assert second.control_types() == ["welcome", "durable"]


def test_a_notice_that_was_lost_is_said_again_and_whoever_polls_is_woken() -> None:
    rig, link = Rig(), RecordingLink()
    session = rig.world.attach_publisher(link, 1, 100.0)
    session.on_message(message(1, {1: b"a"}), 100.0)
    rig.commit(100.1)
    rig.world.poll(101.0, NOW_US)
    assert (len(link.sent), rig.world.next_poll) == (1, None)
    wakes = rig.wakes
    session.on_lost(0)
    assert rig.wakes == wakes + 1
    assert rig.world.next_poll is not None
    rig.world.poll(rig.world.next_poll, NOW_US)
    assert [sent for _, sent in link.sent] == [link.sent[0][1]] * 2


# --- readers that join ----------------------------------------------------------------------


def test_who_joins_gets_what_changed_while_nobody_read() -> None:
    rig = Rig()
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(1, {1: b"old"}), 100.0)
    rig.world.attach_subscriber(RecordingLink(), LiveOptions(), 100.0).on_closed(100.0)
    session.on_message(message(2, {1: b"new"}), 100.01)
    link = RecordingLink()
    rig.world.attach_subscriber(link, LiveOptions(), 100.02)
    assert [record.data for part in link.streams[0] for record in decode_frame(part).records] == [b"new"]


def test_who_joins_while_an_epochs_first_frame_is_incomplete_starts_when_it_is_whole() -> None:
    rig, link = Rig(), RecordingLink()
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(0, {1: b"a"}, part=0, parts=2), 100.0)
    rig.world.attach_subscriber(link, LiveOptions(), 100.1)
    assert (link.control_types(), link.streams) == (["welcome"], {})
    session.on_message(message(0, {2: b"b"}, part=1, parts=2), 100.1)
    assert link.control_types() == ["welcome", "resync"]
    records = [record for part in link.streams[0] for record in decode_frame(part).records]
    assert {record.key: record.data for record in records} == {1: b"a", 2: b"b"}


def test_where_the_rest_of_it_never_comes_readers_start_when_that_is_certain() -> None:
    rig, link = Rig(), RecordingLink()
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(0, {1: b"a"}, part=0, parts=2), 100.0)
    rig.world.attach_subscriber(link, LiveOptions(), 100.0)
    started: list[float] = []
    for step in range(10):
        mono = 100.0 + step * GAP_POLL_S
        rig.world.poll(mono, NOW_US)
        if not started and "resync" in link.control_types():
            started.append(mono)
    assert started[0] == pytest.approx(100.0 + GAP_WAIT_S, abs=GAP_POLL_S)


def test_readers_of_a_first_epoch_whose_state_was_empty_are_not_started_afresh() -> None:
    rig, link = Rig(), RecordingLink()
    rig.world.attach_subscriber(link, LiveOptions(), 100.0)
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(1, {1: b"a"}), 100.0)
    assert link.control_types() == ["welcome"]
    assert link.frames()[-1].records[0].data == b"a"


def test_readers_of_what_was_emptied_start_afresh_with_the_next_epoch() -> None:
    rig, link = Rig(), RecordingLink()
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(1, {1: b"a"}), 100.0)
    rig.world.attach_subscriber(link, LiveOptions(), 100.0)
    session.on_message(message(2, {1: None}), 100.0)
    assert not len(rig.world.state)
    after = rig.world.attach_publisher(RecordingLink(), 2, 100.1, takeover=True)
    after.on_message(message(1, {2: b"b"}), 100.1)
    assert link.controls[-1].fields == {"reason": "new_epoch"}


def test_who_joins_while_a_later_frame_is_incomplete_starts_at_once() -> None:
    rig, link = Rig(), RecordingLink()
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(1, {1: b"a"}, part=0, parts=2), 100.0)
    rig.world.attach_subscriber(link, LiveOptions(), 100.0)
    assert link.control_types() == ["welcome", "resync"]


@pytest.mark.parametrize(("conflate", "values"), [(True, [b"c"]), (False, [b"b", b"c"])])
def test_who_was_held_up_in_order_gets_the_newest_or_every_message_as_it_asked(
    conflate: bool, values: list[bytes]
) -> None:
    rig, link = Rig(), RecordingLink(lossy=False)
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(1, {1: b"a"}), 100.0)
    reader = rig.world.attach_subscriber(link, LiveOptions(conflate=conflate), 100.0)
    link.room = 0
    session.on_message(message(2, {1: b"b"}), 100.1)
    session.on_message(message(3, {1: b"c"}), 100.2)
    link.room = 1 << 20
    reader.on_writable(100.3)
    rig.world.poll(101.0, NOW_US)
    behind = [decode_frame(one) for handle in list(link.streams)[1:] for one in link.streams[handle]]
    assert [record.data for frame in (*behind, *link.frames()) for record in frame.records] == values


# --- messages -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worlds", "of_frame", "is_taken"),
    [(16, 16, True), (16, 0, True), (0, 8, True), (0, 0, True), (16, 8, False)],
)
def test_a_stride_is_the_worlds_or_none_or_the_first_one(worlds: int, of_frame: int, is_taken: bool) -> None:
    session = Rig(stride=worlds).world.attach_publisher(RecordingLink(), 1, 100.0)
    sent = message(1, {1: b"\1\0\0\0" + bytes(max(0, of_frame - 4))}, stride=of_frame)
    if is_taken:
        session.receive(sent, 100.0)
    else:
        with pytest.raises(MalformedMessage, match="stride"):
            session.receive(sent, 100.0)


@pytest.mark.parametrize(("of_state", "of_settings", "stride"), [(0, 8, 8), (8, 0, 8)])
def test_a_world_goes_on_with_the_stride_of_its_recording_or_that_it_was_made_with(
    of_state: int, of_settings: int, stride: int
) -> None:
    state = WorldState()
    state.apply(decode_frame(message(4, {1: b"\1\0\0\0abcd"}, 1)))
    state.stride = of_state
    rig, link = Rig(opened_with={"state": state}, stride=of_settings), RecordingLink()
    rig.world.attach_subscriber(link, LiveOptions(), 100.0)
    assert {decode_frame(part).stride for part in link.streams[0]} == {stride}


def test_a_full_world_takes_what_fits_and_tells_its_publisher() -> None:
    rig, link = Rig(records_max=2), RecordingLink()
    session = rig.world.attach_publisher(link, 1, 100.0)
    session.on_message(message(1, {1: b"a", 2: b"b"}), 100.0)
    assert rig.world.counters.records_refused == 0
    session.on_message(message(2, {1: b"A", 3: b"c"}), 100.0)
    session.on_message(message(3, {2: b"B", 4: b"d"}), 100.0)
    session.on_message(message(4, {2: b"C"}), 100.0)
    assert rig.world.state.snapshot() == {1: b"A", 2: b"C"}
    assert rig.world.counters.records_refused == 2
    assert link.control_types() == ["welcome", "notice"]
    assert (link.controls[-1]["code"], link.controls[-1]["limit"]) == ("world_full", 2)
    assert rig.world.refusals.counts == {"records_per_world_max": 2}
    assert "at most" in rig.world.full_message()


def test_of_a_message_that_is_partly_new_readers_get_what_is_and_of_a_new_one_its_own_bytes() -> None:
    rig, link = Rig(), RecordingLink()
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    rig.world.attach_subscriber(link, LiveOptions(), 100.0)
    whole = message(5, {1: b"a", 2: b"b"}, epoch=1)
    session.on_message(whole, 100.0)
    assert link.sent[-1][1] is whole
    link.frames()
    session.on_message(message(4, {2: b"older", 3: b"c"}), 100.0)
    assert [(record.key, record.data) for record in link.frames()[-1].records] == [(3, b"c")]


def test_what_the_gateway_puts_is_one_tick_after_the_newest_and_one_message() -> None:
    rig = Rig()
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(7, {1: b"a"}), 100.0)
    put = rig.world.put([Record(2, b"b")], 101.0)
    assert (put.epoch, put.tick, put.part, put.parts) == (1, 8, 0, 1)
    assert (put.sent_at, rig.world.state.tick) == (NOW_US + 1_000_000, 8)
    assert rig.world.journal.awaits is False


class Gathering(RecordingLink):
    """A link whose transport has read several things together, and hands them over one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.afterwards: list[Callable[[], None]] = []

    def after_input(self, call: Callable[[], None]) -> None:
        self.afterwards.append(call)


def test_what_came_together_is_offered_once_and_what_the_gateway_puts_does_not_wait_for_it() -> None:
    rig, source, link = Rig(), Gathering(), RecordingLink()
    session = rig.world.attach_publisher(source, 1, 100.0)
    rig.world.attach_subscriber(link, LiveOptions(), 100.0)
    for tick in (1, 2):
        session.on_message(message(tick, {tick: b"a"}), 100.5)
    assert (len(source.afterwards), link.sent, rig.world.mono) == (1, [], 100.5)
    rig.world.put([Record(3, b"put")], 100.6)
    assert [frame.tick for frame in link.frames()] == [1, 2, 3]
    source.afterwards[0]()
    assert link.sent == []


def test_what_a_whole_keyframe_removed_is_a_message_of_which_nobody_waits_for_parts() -> None:
    rig, link = Rig(), RecordingLink()
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(1, {1: b"a", 2: b"b"}), 100.0)
    rig.world.attach_subscriber(link, LiveOptions(), 100.0)
    session.on_message(message(2, {2: b"B"}, keyframe=True, sent_at=77), 100.1)
    removal = link.frames()[-1]
    assert (removal.epoch, removal.tick, removal.part, removal.parts, removal.sent_at) == (1, 2, 0, 0, 77)
    assert removal.records == [Record(1, None, 2)]


def test_what_the_gateway_puts_is_told_to_a_publisher_that_asked_in_its_own_epoch() -> None:
    rig, link = Rig(opened_with={"state": recorded(3, 9), "last_epoch": 3}), RecordingLink()
    rig.world.put([Record(2, b"before anybody came")], 100.0)
    session = rig.world.attach_publisher(link, 4, 100.0)
    rig.world.put([Record(2, b"not asked for")], 100.0)
    assert not link.streams
    session.on_message(encode_control("changes"), 100.0)
    rig.world.put([Record(2, b"b")], 100.0)
    session.on_message(message(1, {1: b"a"}), 100.0)
    rig.world.put([Record(2, None)], 100.0)
    told = [decode_frame(one) for messages in link.streams.values() for one in messages]
    assert [(frame.epoch, frame.tick, frame.records[0].data) for frame in told] == [
        (4, 12, b"b"),
        (4, 2, None),
    ]


# --- what is missing ------------------------------------------------------------------------


def parted(tick: int, part: int) -> bytes:
    return message(tick, {10 * tick + part: b"a"}, part=part, parts=2)


def test_the_rest_of_a_frame_that_its_publishers_open_stream_may_bring_is_waited_for() -> None:
    rig = Rig()
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_stream_data(3, prefix(parted(1, 0)), False, 100.0)
    assert rig.gaps(100.0 + GAP_WAIT_S + 1.0) == []
    session.on_stream_data(3, prefix(parted(1, 1)), True, 102.0)
    assert rig.gaps(103.0) == []
    assert rig.world.journal.durable == Mark(1, 1)


def test_and_that_of_a_publisher_that_left_or_sent_it_by_datagrams_is_not() -> None:
    for leaves in (True, False):
        rig = Rig()
        session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
        if leaves:
            session.on_stream_data(3, prefix(parted(1, 0)), False, 100.0)
            session.on_closed(100.1)
        else:
            session.on_message(parted(1, 0), 100.0)
        assert rig.gaps(100.0 + GAP_WAIT_S + 0.01) == [Gap(1, 1, 1, "partial")]


def test_nothing_is_waited_for_without_end() -> None:
    rig = Rig()
    session = rig.world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_stream_data(3, prefix(parted(1, 0)), False, 100.0)
    rig.gaps(100.1)
    assert rig.gaps(100.0 + GAP_COMING_S + 0.01) == [Gap(1, 1, 1, "partial")]
