"""What becomes of a peer's messages and of its session: taken, answered, refused once, counted, and told to whoever keeps the log."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest

from gateway.core.events import Event, SessionClosed
from gateway.core.ports import CloseCode, LiveOptions
from gateway.core.sessions import PublisherSession, SubscriberSession
from gateway.core.states import PublisherState
from gateway.core.world import World, WorldSettings
from gateway.errors import Overloaded, TooMany
from gateway.limits import LATE_RUN_MAX, SESSION_STREAMS_MAX
from gateway.wire import Control, Frame, Record, encode_control, encode_frame, prefix
from tests.core.links import RecordingLink


class Rig:
    """A world with one publisher and one subscriber, and what its log was told."""

    def __init__(self, *, lossy: bool = True) -> None:
        self.events: list[Event] = []
        self.world = World("arena", WorldSettings(), mono=8.0, now_us=0)
        self.world.on_event = self.events.append
        self.source, self.link = RecordingLink(lossy=lossy), RecordingLink()
        self.publisher: PublisherSession = self.world.attach_publisher(self.source, 1, 8.0)
        self.subscriber: SubscriberSession = self.world.attach_subscriber(self.link, LiveOptions(), 8.0)
        self.events.clear()

    @property
    def closed(self) -> list[SessionClosed]:
        return [event for event in self.events if isinstance(event, SessionClosed)]


def frame(tick: int, epoch: int = 0) -> bytes:
    return encode_frame(Frame(epoch, tick, [Record(tick, b"value")]))


@pytest.mark.parametrize("publishes", [True, False])
def test_what_is_malformed_ends_the_session_once_with_the_reason(publishes: bool) -> None:
    rig = Rig()
    session, link = (rig.publisher, rig.source) if publishes else (rig.subscriber, rig.link)
    for mono in (10.0, 11.0):
        session.on_message(b"\xff", mono)
    assert link.closed is CloseCode.MALFORMED
    assert link.control_types().count("error") == 1
    (told,) = rig.closed
    assert (told.role, told.seconds) == (session.role, 2.0)
    assert "unknown" in told.why
    assert rig.world.counters.malformed == 1
    session.on_closed(12.0)
    assert len(rig.closed) == 1


def test_a_refusal_without_blame_ends_the_session_with_an_error_and_counts_by_its_bound() -> None:
    rig = Rig()
    rig.publisher.refuse(TooMany("too many", bound="--worlds-max"))
    rig.subscriber.refuse(Overloaded("too much"))
    assert (rig.source.closed, rig.link.closed) == (CloseCode.ERROR, CloseCode.ERROR)
    assert rig.world.counters.malformed == 0
    assert rig.world.refusals.counts == {"worlds_max": 1}


def test_a_stream_ends_the_session_where_a_message_of_it_is_refused_and_no_later_one_is_taken() -> None:
    rig = Rig()
    rig.publisher.on_stream_data(3, prefix(frame(1)) + prefix(b"\xff") + prefix(frame(2)), False, 10.0)
    rig.publisher.on_stream_data(3, prefix(frame(3)), False, 10.0)
    assert rig.source.closed is CloseCode.MALFORMED
    assert list(rig.world.state.snapshot()) == [1]
    assert rig.closed[0].seconds == 2.0


def test_a_stream_that_was_reset_leaves_nothing_behind() -> None:
    rig = Rig()
    rig.publisher.on_stream_data(3, prefix(frame(1))[:-1], False, 8.0)
    rig.publisher.on_stream_reset(3)
    rig.publisher.on_stream_data(3, prefix(frame(2)), True, 8.0)
    assert list(rig.world.state.snapshot()) == [2]
    assert not rig.publisher.closed


def test_goodbye_names_the_gateway_where_the_world_is_and_only_then() -> None:
    rig = Rig()
    rig.publisher.bye("moved", CloseCode.HELD_ELSEWHERE, 250, url="https://there")
    rig.subscriber.bye("over", CloseCode.OK)
    assert rig.source.controls[-1].fields == {
        "reason": "moved",
        "reconnect_after_ms": 250,
        "world": "arena",
        "url": "https://there",
    }
    assert rig.link.controls[-1].fields == {"reason": "over", "reconnect_after_ms": 0}
    assert (rig.source.closed, rig.link.closed) == (CloseCode.HELD_ELSEWHERE, CloseCode.OK)
    assert [event.why for event in rig.closed] == ["moved", "over"]


def test_who_leaves_is_told_with_its_time_and_its_messages() -> None:
    rig = Rig()
    for tick in (1, 2, 3):
        rig.publisher.on_message(frame(tick), 8.0)
    rig.subscriber.on_closed(9.0)
    rig.publisher.on_closed(10.5)
    assert [(event.role, event.why, event.seconds) for event in rig.closed] == [
        ("subscribe", "left", 1.0),
        ("publish", "left", 2.5),
    ]
    assert [event.messages for event in rig.closed] == [3, 3]
    assert rig.publisher.state is PublisherState.OVER


def test_a_later_publisher_counts_its_own_messages() -> None:
    rig = Rig()
    rig.publisher.on_message(frame(1), 8.0)
    rig.publisher.on_closed(9.0)
    later = rig.world.attach_publisher(RecordingLink(), 2, 9.0)
    later.on_message(frame(1), 9.0)
    assert later.messages == 1


@pytest.mark.parametrize(("word", "flag"), [("lags", "wants_lags"), ("changes", "wants_changes")])
def test_a_publisher_asks_once_and_is_told_from_then_on(word: str, flag: str) -> None:
    rig = Rig()
    assert (rig.publisher.wants_lags, rig.publisher.wants_changes) == (False, False)
    rig.publisher.on_message(encode_control(word), 8.0)
    rig.publisher.on_message(encode_control("later-version"), 8.0)
    assert {name: getattr(rig.publisher, name) for name in ("wants_lags", "wants_changes")} == {
        "wants_lags": flag == "wants_lags",
        "wants_changes": flag == "wants_changes",
    }


@pytest.mark.parametrize(("epoch", "is_taken"), [(0, True), (1, True), (2, False)])
def test_a_frame_names_its_sessions_epoch_or_none(epoch: int, is_taken: bool) -> None:
    rig = Rig()
    rig.publisher.on_message(frame(1, epoch), 8.0)
    assert (rig.source.closed is None) is is_taken


def test_late_messages_in_a_row_are_counted_and_a_new_one_ends_the_row() -> None:
    rig = Rig()
    rig.publisher.on_message(frame(9), 8.0)
    assert rig.publisher.state is PublisherState.IN_ORDER
    stale = encode_frame(Frame(0, 8, [Record(9, b"older")]))
    for _ in range(LATE_RUN_MAX - 1):
        rig.publisher.on_message(stale, 8.0)
    assert rig.source.closed is None
    assert rig.publisher.state is PublisherState.LATE
    rig.publisher.on_message(frame(10), 8.0)
    assert rig.publisher.state is PublisherState.IN_ORDER


def test_the_newest_tick_said_again_is_not_late() -> None:
    rig = Rig(lossy=False)
    for _ in range(2):
        rig.publisher.on_message(frame(9), 8.0)
    assert rig.source.closed is None
    rig.publisher.on_message(frame(9), 8.0)
    assert rig.publisher.state is PublisherState.IN_ORDER


def test_what_may_still_come_by_a_stream_is_what_began_before() -> None:
    rig = Rig()
    assert not rig.publisher.may_bring(99.0, True)
    rig.publisher.on_stream_data(3, b"\x09", False, 10.0)
    rig.publisher.on_stream_data(3, b"\x00", False, 12.0)
    assert [rig.publisher.may_bring(mono, False) for mono in (9.0, 10.0, 11.0)] == [False, True, True]
    rig.publisher.on_stream_reset(3)
    assert not rig.publisher.may_bring(99.0, True)
    rig.publisher.on_stream_data(4, prefix(frame(1)), True, 13.0)
    assert not rig.publisher.may_bring(99.0, True)


def test_in_order_what_may_still_come_is_of_the_newest() -> None:
    rig = Rig(lossy=False)
    assert [rig.publisher.may_bring(9.0, newest) for newest in (True, False)] == [True, False]


def test_of_so_many_streams_the_newest_are_waited_for() -> None:
    rig = Rig()
    message = prefix(frame(1))
    for stream in range(SESSION_STREAMS_MAX + 1):
        rig.publisher.on_stream_data(stream, message, False, 10.0 + stream)
    assert rig.source.closed is None
    assert [rig.publisher.may_bring(mono, False) for mono in (10.5, 11.0)] == [False, True]


def test_a_lost_notice_is_said_again_and_an_acknowledged_one_is_nothing() -> None:
    rig = Rig()
    rig.publisher.on_message(frame(1), 8.0)
    batch = rig.world.take_batch(8.0)
    assert batch is not None
    rig.world.committed(batch, 9.0)

    def notices() -> int:
        return sum(message[0] == 16 for _, message in rig.source.sent)

    assert notices() == 1
    rig.publisher.on_acked(0)
    rig.world.poll(20.0, 0)
    assert notices() == 1
    rig.publisher.on_lost(0)
    rig.world.poll(30.0, 0)
    assert notices() == 2


def test_a_subscriber_that_left_is_sent_nothing_more() -> None:
    rig = Rig()
    rig.subscriber.on_closed(9.0)
    rig.publisher.on_message(frame(1), 9.0)
    rig.subscriber.on_writable(9.0)
    rig.world.poll(10.0, 0)
    assert (rig.link.sent, rig.link.streams) == ([], {})
    assert replace(rig.closed[0], seconds=0.0).messages == 0


def test_a_subscribers_requests_reach_its_reader_and_an_unknown_word_nothing() -> None:
    rig = Rig()
    for control in (
        encode_control("focus", keys=[7], weights=[8]),
        encode_control("redundancy", mode="off"),
        encode_control("of a later version"),
        encode_control("ping"),
    ):
        rig.subscriber.on_message(control, 9.0)
    assert rig.link.closed is None
    assert "pong" in rig.link.control_types()
    rig.subscriber.on_message(frame(1), 9.0)
    assert rig.link.closed is CloseCode.MALFORMED


def test_what_is_malformed_on_a_stream_ends_the_session_at_its_time() -> None:
    rig = Rig()
    rig.publisher.on_stream_data(3, prefix(b"\xff"), False, 10.0)
    assert rig.closed[0].seconds == 2.0


def test_as_many_late_messages_in_a_row_as_the_bound_end_the_session() -> None:
    rig = Rig()
    assert rig.publisher.state is PublisherState.IN_ORDER
    rig.publisher.on_message(frame(9), 8.0)
    for _ in range(LATE_RUN_MAX):
        assert rig.source.closed is None
        rig.publisher.on_message(encode_frame(Frame(0, 8, [Record(9, b"older")])), 8.0)
    assert rig.source.closed is CloseCode.MALFORMED


def test_the_first_tick_said_again_by_one_that_came_back_is_not_late() -> None:
    rig = Rig()
    first = encode_frame(Frame(0, 0, [Record(1, b"value")]))
    rig.publisher.on_message(first, 8.0)
    rig.publisher.on_closed(9.0)
    link = RecordingLink(lossy=False)
    back = rig.world.attach_publisher(link, 1, 9.0)
    back.on_message(first, 9.0)
    assert (link.closed, back.state) == (None, PublisherState.IN_ORDER)


def test_a_stream_that_ended_brings_nothing_more() -> None:
    rig = Rig()
    message = prefix(frame(1))
    rig.publisher.on_stream_data(3, message[:5], False, 10.0)
    rig.publisher.on_stream_data(3, message[5:], True, 11.0)
    assert not rig.publisher.may_bring(99.0, True)


@pytest.mark.parametrize("publishes", [True, False])
def test_either_is_answered_its_ping_and_its_token_is_handed_on(publishes: bool) -> None:
    rig = Rig()
    session, link = (rig.publisher, rig.source) if publishes else (rig.subscriber, rig.link)
    tokens: list[Control] = []
    link.on_token = tokens.append
    session.on_message(encode_control("ping"), 9.0)
    session.on_message(encode_control("token", token="fresh"), 9.0)
    assert "pong" in link.control_types()
    assert [token["token"] for token in tokens] == ["fresh"]


def test_what_a_subscriber_asks_for_is_what_its_reader_does() -> None:
    rig = Rig()
    edges: list[SubscriberSession] = []
    rig.world.on_edge = edges.append
    rig.subscriber.on_message(encode_control("focus", keys=[7], weights=[8]), 9.0)
    assert rig.subscriber.reader.weights == {7: 8.0}
    rig.publisher.on_message(frame(1), 9.0)
    rig.subscriber.on_lost(0)
    assert rig.subscriber.reader.say_again(None, 9.0)
    assert edges == []
    rig.subscriber.on_message(encode_control("redundancy", mode="off"), 9.0)
    assert not rig.subscriber.reader.say_again(None, 9.0)
    rig.subscriber.on_message(encode_control("edge"), 9.0)
    assert edges == [rig.subscriber]


def test_a_subscriber_is_sent_again_what_was_lost_and_not_what_arrived() -> None:
    rig = Rig()
    for tick in (1, 2):
        rig.publisher.on_message(frame(tick), 9.0)
    rig.subscriber.on_acked(0)
    for token in (0, 1):
        rig.subscriber.on_lost(token)
    rig.link.frames()
    rig.subscriber.on_writable(9.5)
    assert [again.keys for again in rig.link.frames()] == [(2,)]


def test_a_subscriber_says_whom_it_follows() -> None:
    rig = Rig()
    follower = rig.world.attach_subscriber(RecordingLink(), LiveOptions(follow="ada"), 9.0)
    assert (follower.follow, rig.subscriber.follow) == ("ada", None)


def test_who_left_is_freed_with_the_last_that_holds_it() -> None:
    rig = Rig()
    rig.publisher.on_message(frame(1), 8.0)
    link = RecordingLink()
    session = rig.world.attach_subscriber(link, LiveOptions(), 8.0)
    gone = weakref.ref(link)
    gc.disable()
    try:
        session.on_closed(9.0)
        del session, link
        assert gone() is None
    finally:
        gc.enable()
