"""A world: one publisher, many readers, a journal behind them."""

from __future__ import annotations

import pytest

from gateway.core.options import parse_live_query
from gateway.core.ports import CloseCode, LiveOptions, Mark
from gateway.core.state import WorldState
from gateway.core.world import World, WorldSettings
from gateway.errors import MalformedMessage, PublisherPresent
from gateway.limits import LATE_RUN_MAX
from gateway.wire import Frame, Record, decode_frame, encode_control, encode_frame, split
from tests.core.links import RecordingLink

NOW_US = 1_800_000_000_000_000


def make_world(**settings: object) -> World:
    return World("arena", WorldSettings(**settings), mono=100.0, now_us=NOW_US)  # type: ignore[arg-type]


def message(tick: int, values: dict[int, bytes | None], epoch: int = 0, **how: object) -> bytes:
    return encode_frame(Frame(epoch, tick, [Record(k, v) for k, v in values.items()], **how))  # type: ignore[arg-type]


def test_a_publisher_is_welcomed_with_its_epoch_and_a_subscriber_with_the_state() -> None:
    world = make_world()
    publisher, reader = RecordingLink(), RecordingLink()
    session = world.attach_publisher(publisher, 7, 100.0)
    session.on_message(message(3, {1: b"a"}), 100.1)
    world.attach_subscriber(reader, LiveOptions(), 100.2)
    assert publisher.controls[0].fields == {
        "world": "arena",
        "role": "publish",
        "epoch": 7,
        "tick": 0,
        "durable": None,
        "max_datagram": 1_200,
        "server_time": NOW_US,
    }
    assert reader.control_types() == ["welcome", "resync"]
    assert reader.controls[1]["reason"] == "joined"
    (keyframe,) = [decode_frame(m) for m in reader.streams[0]]
    assert keyframe.keyframe
    assert keyframe.records == [Record(1, b"a", 3)]
    assert (keyframe.epoch, keyframe.tick) == (7, 3)


def test_a_subscriber_of_an_empty_world_gets_no_keyframe() -> None:
    reader = RecordingLink()
    make_world().attach_subscriber(reader, LiveOptions(), 100.0)
    assert reader.control_types() == ["welcome"]
    assert not reader.streams


def test_every_reader_gets_the_same_bytes_with_the_epoch_filled_in() -> None:
    world = make_world()
    readers = [RecordingLink() for _ in range(3)]
    session = world.attach_publisher(RecordingLink(), 2, 100.0)
    session.on_message(message(1, {1: b"a"}), 100.0)
    for reader in readers:
        world.attach_subscriber(reader, LiveOptions(), 100.0)
    session.on_message(message(2, {1: b"b"}), 100.1)
    sent = [reader.sent[-1][1] for reader in readers]
    assert sent[0] == message(2, {1: b"b"}, epoch=2)
    assert all(one is sent[0] for one in sent)
    assert world.counters.delivered == 3


def test_a_second_publisher_is_refused_unless_it_takes_over() -> None:
    world = make_world()
    first, second = RecordingLink(), RecordingLink()
    world.attach_publisher(first, 1, 100.0)
    with pytest.raises(PublisherPresent, match="takeover=1"):
        world.reclaim_epoch(LiveOptions(role="publish"))
    with pytest.raises(PublisherPresent):
        world.attach_publisher(second, 2, 100.0)
    assert world.reclaim_epoch(LiveOptions(role="publish", takeover=True)) is None
    world.attach_publisher(second, 2, 100.0, takeover=True)
    assert first.controls[-1].type == "bye"
    assert first.closed == CloseCode.TAKEN_OVER
    assert world.publisher is not None
    assert world.publisher.link is second


def test_a_publisher_gets_its_epoch_back_unless_another_has_attached_since() -> None:
    world = make_world()
    session = world.attach_publisher(RecordingLink(), 4, 100.0)
    session.on_closed(101.0)
    assert world.reclaim_epoch(LiveOptions(role="publish", epoch=4)) == 4
    world.attach_publisher(RecordingLink(), 5, 102.0).on_closed(103.0)
    assert world.reclaim_epoch(LiveOptions(role="publish", epoch=4)) is None


def test_a_pause_shorter_than_linger_is_only_a_pause_to_readers() -> None:
    world = make_world()
    reader = RecordingLink()
    session = world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(1, {1: b"a"}), 100.0)
    world.attach_subscriber(reader, LiveOptions(), 100.0)
    session.on_closed(101.0)
    world.poll(105.9, NOW_US)
    again = world.attach_publisher(RecordingLink(), 1, 105.9)
    again.on_message(message(2, {1: b"b"}), 105.9)
    assert reader.control_types() == ["welcome", "resync"]
    assert reader.frames()[-1].tick == 2


@pytest.mark.parametrize("epoch", [1, 2])
def test_after_linger_or_with_a_new_epoch_readers_start_from_a_keyframe(epoch: int) -> None:
    world = make_world()
    reader = RecordingLink()
    session = world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(1, {1: b"a", 2: b"x"}), 100.0)
    world.attach_subscriber(reader, LiveOptions(), 100.0)
    session.on_closed(101.0)
    assert world.next_poll == pytest.approx(106.0)
    world.poll(106.0, NOW_US)
    world.attach_publisher(RecordingLink(), epoch, 107.0).on_message(message(2, {1: b"b"}), 107.0)
    assert reader.controls[-1].fields == {"reason": "new_epoch"}
    copy = WorldState()
    for part in reader.streams[max(reader.streams)]:
        copy.apply(decode_frame(part))
    assert copy.snapshot() == {1: b"b", 2: b"x"}
    assert copy.epoch == epoch


def test_a_first_tick_0_in_parts_is_whole_before_readers_start_from_a_keyframe() -> None:
    world = make_world()
    reader = RecordingLink()
    old = world.attach_publisher(RecordingLink(), 1, 100.0)
    old.on_message(message(50, {1: b"old", 2: b"old"}), 100.0)
    world.attach_subscriber(reader, LiveOptions(), 100.0)
    new = world.attach_publisher(RecordingLink(), 2, 101.0, takeover=True)
    new.on_message(message(0, {1: b"new"}, part=0, parts=2), 101.0)
    assert reader.controls[-1]["reason"] == "joined"
    new.on_message(message(0, {2: b"new"}, part=1, parts=2), 101.0)
    assert reader.controls[-1]["reason"] == "new_epoch"


def test_a_malformed_message_ends_its_sender_and_nobody_else() -> None:
    world = make_world(stride=16)
    publisher, reader = RecordingLink(), RecordingLink()
    session = world.attach_publisher(publisher, 1, 100.0)
    world.attach_subscriber(reader, LiveOptions(), 100.0)
    session.on_message(b"\x01", 100.0)
    assert publisher.controls[-1].type == "error"
    assert publisher.controls[-1]["code"] == "malformed"
    assert publisher.closed == CloseCode.MALFORMED
    assert world.counters.malformed == 1
    assert reader.closed is None
    assert world.publisher is None


def test_a_stride_that_is_not_the_worlds_is_refused() -> None:
    session = make_world(stride=16).attach_publisher(RecordingLink(), 1, 100.0)
    with pytest.raises(MalformedMessage, match="stride 8"):
        session.receive(message(1, {1: b"\x01\0\0\0abcd"}, stride=8), 100.0)


def test_a_foreign_epoch_in_a_header_is_refused() -> None:
    session = make_world().attach_publisher(RecordingLink(), 3, 100.0)
    with pytest.raises(MalformedMessage, match="epoch 2"):
        session.receive(message(1, {1: b"a"}, epoch=2), 100.0)


def test_ticks_going_back_are_an_error_in_order_and_only_late_out_of_order() -> None:
    world = make_world()
    in_order = world.attach_publisher(RecordingLink(lossy=False), 1, 100.0)
    in_order.receive(message(10, {1: b"a"}), 100.0)
    with pytest.raises(MalformedMessage, match="tick 5 went back"):
        in_order.receive(message(5, {1: b"b"}), 100.0)
    world.attach_publisher(RecordingLink(), 1, 100.0).receive(message(4, {1: b"c"}), 100.0)
    assert world.counters.late == 2


def test_a_publisher_whose_every_message_is_late_is_told_so() -> None:
    session = make_world().attach_publisher(RecordingLink(), 1, 100.0)
    session.receive(message(100_000, {1: b"a"}), 100.0)
    for _ in range(2 * LATE_RUN_MAX):
        session.receive(message(100_000, {1: b"a"}), 100.0)
    for tick in range(1, LATE_RUN_MAX):
        session.receive(message(tick, {1: b"b"}), 100.0)
    with pytest.raises(MalformedMessage, match="went back"):
        session.receive(message(LATE_RUN_MAX, {1: b"b"}), 100.0)


def test_what_a_keyframe_removed_is_said_outright_to_every_reader() -> None:
    world = make_world()
    reader = RecordingLink()
    session = world.attach_publisher(RecordingLink(), 1, 100.0)
    session.receive(message(1, {1: b"a", 2: b"b"}), 100.0)
    world.attach_subscriber(reader, LiveOptions(), 100.0)
    session.receive(message(2, {2: b"B"}, keyframe=True), 100.1)
    frames = reader.frames()
    assert frames[-1].records == [Record(1, None, 2)]


def test_a_hundred_readers_joining_together_cost_one_encoding() -> None:
    world = make_world()
    session = world.attach_publisher(RecordingLink(), 1, 100.0)
    session.receive(message(1, {key: bytes(100) for key in range(500)}), 100.0)
    readers = [RecordingLink() for _ in range(100)]
    for at, link in enumerate(readers):
        world.attach_subscriber(link, LiveOptions(), 100.0)
        session.receive(message(2 + at, {at: b"moved"}), 100.0)
    assert world.counters.keyframes_encoded == 1
    last = WorldState()
    for part in readers[-1].streams[0]:
        last.apply(decode_frame(part))
    for one in readers[-1].frames():
        last.apply(one)
    assert last.snapshot() == world.state.snapshot()


def test_the_durable_mark_reaches_the_publisher_at_most_every_100_ms() -> None:
    world = make_world()
    link = RecordingLink(lossy=False)
    session = world.attach_publisher(link, 1, 100.0)
    for tick in range(1, 31):
        mono = 100.0 + tick / 60
        session.receive(message(tick, {1: b"a"}), mono)
        batch = world.take_batch(mono)
        assert batch is not None
        world.committed(batch, mono)
        world.poll(mono, NOW_US)
    notices = [control for control in link.controls if control.type == "durable"]
    assert 3 <= len(notices) <= 6
    world.poll(101.0, NOW_US)
    assert link.controls[-1].fields == {"epoch": 1, "tick": 30}


def test_fan_out_comes_before_the_journal_and_does_not_need_it() -> None:
    world = make_world(journal_bytes_max=1_000)
    reader = RecordingLink()
    world.attach_subscriber(reader, LiveOptions(), 100.0)
    session = world.attach_publisher(RecordingLink(), 1, 100.0)
    for tick in range(1, 200):
        session.receive(message(tick, {1: bytes(100)}), 100.0)
    assert reader.frames()[-1].tick == 199
    assert world.journal.size_bytes <= 1_000


def test_focus_sets_weights_and_nonsense_in_it_is_refused() -> None:
    world = make_world()
    link = RecordingLink()
    session = world.attach_subscriber(link, LiveOptions(), 100.0)
    session.on_message(encode_control("focus", keys=[1, 2], weights=[4, 0.5]), 100.0)
    session.on_message(encode_control("something-later"), 100.0)
    assert link.closed is None
    session.on_message(encode_control("focus", keys=[1, "x"]), 100.0)
    assert link.closed == CloseCode.MALFORMED


def test_a_subscriber_that_sends_a_frame_is_told_to_publish_instead() -> None:
    link = RecordingLink()
    session = make_world().attach_subscriber(link, LiveOptions(), 100.0)
    session.on_message(message(1, {1: b"a"}), 100.0)
    assert "role=publish" in link.controls[-1]["message"]


def test_shutdown_says_bye_to_everybody_with_a_time_to_come_back() -> None:
    world = make_world()
    links = [RecordingLink(), RecordingLink()]
    world.attach_publisher(links[0], 1, 100.0)
    world.attach_subscriber(links[1], LiveOptions(), 100.0)
    world.shutdown("shutting_down", 1_500)
    for link in links:
        assert link.controls[-1].fields == {"reason": "shutting_down", "reconnect_after_ms": 1_500}
        assert link.closed == CloseCode.SHUTTING_DOWN
    assert not world.subscribers


def test_facts_tell_the_world() -> None:
    world = make_world(stride=100)
    world.attach_publisher(RecordingLink(), 6, 100.0)
    facts = world.facts(100.0)
    assert facts.epoch == 6
    assert facts.publisher == "webtransport"
    assert facts.stride == 100
    assert facts.durable is None


def test_records_put_by_the_gateway_reach_readers_and_leave_the_publisher_in_order() -> None:
    world = make_world()
    reader = RecordingLink()
    world.attach_subscriber(reader, LiveOptions(), 100.0)
    session = world.attach_publisher(RecordingLink(lossy=False), 1, 100.0)
    session.receive(message(1, {1: b"a", 2: b"b"}), 100.0)
    world.put([Record(2, None)], 100.0)
    world.put([Record(3, b"new")], 100.0)
    session.receive(message(2, {1: b"c"}), 100.0)
    assert world.state.snapshot() == {1: b"c", 3: b"new"}
    assert [frame.records[0].key for frame in reader.frames()][-3:] == [2, 3, 1]


def test_a_world_opened_from_the_store_goes_on_where_it_was() -> None:
    state = WorldState()
    for part in split(Frame(3, 9, [Record(1, b"a")], keyframe=True, ticks=True), 1_000):
        state.apply(decode_frame(part))
    world = World(
        "arena", mono=0.0, now_us=NOW_US, state=state, next_seq=42, last_epoch=3, durable=Mark(3, 9)
    )
    assert world.reclaim_epoch(LiveOptions(role="publish", epoch=3)) == 3
    session = world.attach_publisher(RecordingLink(), 3, 0.0)
    session.receive(message(10, {1: b"b"}), 0.0)
    batch = world.take_batch(0.0)
    assert batch is not None
    assert [row.seq for row in batch.frames] == [42, 43]


def test_a_budget_and_weights_of_the_query_reach_the_reader() -> None:
    options = parse_live_query("role=subscribe&budget_kbps=64&keys=7:8&zstd=1")
    world = make_world()
    session = world.attach_publisher(RecordingLink(), 1, 100.0)
    session.receive(message(1, {key: bytes(50) for key in range(100)}), 100.0)
    link = RecordingLink()
    world.attach_subscriber(link, options, 100.0)
    assert decode_frame(link.streams[0][0]).zstd


def test_readers_that_fell_behind_together_are_sent_one_repair_message_with_the_newest_values() -> None:
    world = make_world()
    session = world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(1, {1: b"a", 2: b"b", 3: b"c"}), 100.0)
    links = [RecordingLink() for _ in range(3)]
    for link in links:
        world.attach_subscriber(link, LiveOptions(), 100.1)
    for turn in range(2):
        at, tick = 101.0 + 10 * turn, 2 + 3 * turn
        for link in links:
            link.room = 0
        session.on_message(message(tick, {1: b"old%d" % turn}), at)
        session.on_message(message(tick + 1, {1: b"new%d" % turn}), at + 0.1)
        for link in links:
            link.room = 1 << 20
            link.sent.clear()
        world.poll(at + 1.5, NOW_US)
        repairs = [link.sent[-1][1] for link in links]
        assert decode_frame(repairs[0]).repair
        assert decode_frame(repairs[0]).records == [Record(1, b"new%d" % turn, tick + 1)]
        assert repairs[0] is repairs[1] is repairs[2]


def test_a_publisher_that_is_refused_lingers_from_that_moment_on() -> None:
    world = make_world(linger_s=5.0)
    session = world.attach_publisher(RecordingLink(), 1, 100.0)
    session.on_message(message(1, {1: b"a"}), 100.1)
    session.on_message(b"no message", 200.0)
    assert world.publisher is None
    assert world.next_poll == 205.0


def fed_world(*, tick: int) -> tuple[World, RecordingLink]:
    """A world that was fed by its home up to that tick, and a reader of it that has it all."""
    world, reader = make_world(), RecordingLink()
    world.begin_fed(100.0)
    for at in range(1, tick + 1):
        data = message(at, {at: b"%d" % at}, epoch=3)
        world.ingest(decode_frame(data), data, 3, 100.0)
    world.attach_subscriber(reader, LiveOptions(), 100.0)
    assert reader.control_types() == ["welcome", "resync"]
    return world, reader


def recorded_state(*, tick: int) -> WorldState:
    state = WorldState()
    for at in range(1, tick + 1):
        state.apply(decode_frame(message(at, {at: b"%d" % at}, epoch=3)))
    return state


@pytest.mark.parametrize("recorded", [0, 4, 5])
def test_who_becomes_the_home_of_what_it_was_fed_lets_its_readers_go_on_without_a_resync(
    recorded: int,
) -> None:
    world, reader = fed_world(tick=5)
    state = recorded_state(tick=recorded) if recorded else None
    world.adopt(state, next_seq=recorded, last_epoch=3, durable=None, mono=101.0)
    world.poll(101.5, NOW_US)
    assert reader.control_types() == ["welcome", "resync"]
    session = world.attach_publisher(RecordingLink(), 3, 102.0)
    session.on_message(message(6, {6: b"six"}), 102.0)
    assert {(record.key, record.data) for record in reader.frames()[-1].records} == {(6, b"six")}
    assert reader.control_types() == ["welcome", "resync"]


def test_who_becomes_the_home_and_finds_more_in_the_store_than_it_was_fed_gives_its_readers_what_they_lack() -> (
    None
):
    world, reader = fed_world(tick=5)
    sent = len(reader.frames())
    world.adopt(recorded_state(tick=7), next_seq=8, last_epoch=3, durable=None, mono=101.0)
    world.poll(101.5, NOW_US)
    given = [record for frame in reader.frames()[sent:] for record in frame.records]
    assert {record.key: record.data for record in given} == {6: b"6", 7: b"7"}
    assert reader.control_types() == ["welcome", "resync"]


def test_who_finds_another_epoch_in_the_store_starts_its_readers_afresh() -> None:
    world, reader = fed_world(tick=5)
    state = recorded_state(tick=4)
    state.apply(decode_frame(message(1, {9: b"9"}, epoch=4)))
    world.adopt(state, next_seq=8, last_epoch=4, durable=None, mono=101.0)
    world.poll(101.5, NOW_US)
    assert reader.control_types() == ["welcome", "resync", "resync"]


def test_who_wants_every_message_starts_afresh_where_some_are_in_the_store_alone() -> None:
    world, _ = fed_world(tick=5)
    ordered = RecordingLink(lossy=False)
    world.attach_subscriber(ordered, LiveOptions(conflate=False), 100.0)
    world.adopt(recorded_state(tick=7), next_seq=8, last_epoch=3, durable=None, mono=101.0)
    world.poll(101.5, NOW_US)
    assert ordered.control_types() == ["welcome", "resync", "resync"]
