"""What comes in together is offered to each reader together; several ticks become the newest one."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from gateway.core.bundle import Bundle, Burst, newest_of
from gateway.core.outgoing import Outgoing
from gateway.core.ports import LiveOptions, Refusal
from gateway.core.state import WorldState
from gateway.core.window import SentWindow
from gateway.core.world import World
from gateway.limits import BURST_SIZES_CACHED_MAX, OUTSTANDING_MAX, PIECES_MAX
from gateway.wire import Frame, Record, decode_frame, encode_frame
from gateway.wire.parity import encode_parity
from tests.core.links import RecordingLink
from tests.held import count


class Batching(RecordingLink):
    """A link whose transport reads several messages at once; ``hand_over`` is the end of that."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], None]] = []

    def after_input(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def hand_over(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Counting(RecordingLink):
    """A reader's link that counts how often it is asked."""

    bursts = 0

    def send_burst(self, burst: Burst, token: int) -> int | Refusal:
        self.bursts += 1
        return super().send_burst(burst, token)


def _part(tick: int, part: int, parts: int, size: int = 50) -> bytes:
    records = [Record(10 * part + n, tick.to_bytes(4, "big") + bytes(size)) for n in range(3)]
    return encode_frame(Frame(0, tick, records, part=part, parts=parts))


def _world(*readers: RecordingLink, conflate: bool = True) -> tuple[World, Batching, Callable[[bytes], None]]:
    world = World("arena", mono=100.0, now_us=0)
    source = Batching()
    session = world.attach_publisher(source, 1, 100.0)
    session.on_message(_part(1, 0, 1), 100.0)
    source.hand_over()
    for link in readers:
        world.attach_subscriber(link, LiveOptions(conflate=conflate), 100.0)
        link.sent.clear()
    return world, source, lambda message: session.on_message(message, 100.1)


def test_the_parts_of_a_frame_go_to_a_reader_in_one_call_under_tokens_in_a_row() -> None:
    links = [Counting() for _ in range(3)]
    world, source, publish = _world(*links)
    for part in range(4):
        publish(_part(2, part, 4))
    assert not links[0].sent
    source.hand_over()
    for link in links:
        assert link.bursts == 1
        assert [token for token, _ in link.sent] == [1, 2, 3, 4]  # the keyframe was 0
        assert [frame.part for frame in link.frames()] == [0, 1, 2, 3]
    assert world.counters.delivered == 12
    assert world.journal.ready


def test_of_several_ticks_that_came_together_only_the_newest_is_sent() -> None:
    link = Counting()
    _, source, publish = _world(link)
    for tick in (2, 3, 4):
        for part in range(2):
            if (tick, part) != (4, 1):
                publish(_part(tick, part, 2))
    source.hand_over()
    assert [(frame.tick, frame.part) for frame in link.frames()] == [(4, 0), (3, 1)]


def test_every_tick_is_journalled_whatever_readers_are_spared() -> None:
    world, source, publish = _world(RecordingLink())
    for tick in (2, 3, 4):
        publish(_part(tick, 0, 1))
    source.hand_over()
    batch = world.take_batch(100.2)
    assert batch is not None
    assert {frame.tick for frame in batch.frames} >= {2, 3, 4}


def test_a_reader_that_wants_every_frame_in_order_gets_every_frame() -> None:
    link = RecordingLink(lossy=False)
    _, source, publish = _world(link, conflate=False)
    before = len(link.streams)
    for tick in (2, 3, 4):
        publish(_part(tick, 0, 1))
    source.hand_over()
    ticks = [
        decode_frame(m).tick for handle in range(before, len(link.streams)) for m in link.streams[handle]
    ]
    assert ticks == [2, 3, 4]


def test_where_there_is_room_for_a_part_of_it_the_rest_follows_as_newest_values() -> None:
    link = RecordingLink()
    world, source, publish = _world(link)
    messages = [_part(2, part, 3) for part in range(3)]
    link.room = len(messages[0]) + len(messages[1])
    for message in messages:
        publish(message)
    source.hand_over()
    assert [frame.part for frame in link.frames()] == [0, 1]
    link.room = 10_000
    (session,) = world.subscribers
    session.on_writable(100.2)
    (repair,) = link.frames()
    assert repair.repair
    assert {record.key for record in repair.records} == {20, 21, 22}


def test_messages_beyond_the_path_are_cut_and_beyond_datagrams_streamed() -> None:
    link = RecordingLink(bytes_max=150)
    world, source, publish = _world(link)
    publish(_part(2, 0, 2))
    publish(_part(2, 1, 2))
    source.hand_over()
    keys = [record.key for frame in link.frames() for record in frame.records]
    assert keys == [0, 1, 2, 10, 11, 12]
    before = len(link.streams)
    link.done.update(range(before))
    for reader in world.subscribers.values():
        reader.poll(100.2)
    publish(encode_frame(Frame(0, 3, [Record(n, bytes(100)) for n in range(PIECES_MAX + 3)])))
    publish(_part(3, 5, 6))
    source.hand_over()
    assert len(link.streams) == before + 1
    assert {record.key for frame in link.frames() for record in frame.records} >= {50, 51, 52}


def test_what_is_put_meanwhile_does_not_wait_for_the_batch() -> None:
    link = RecordingLink()
    world, source, publish = _world(link)
    publish(_part(2, 0, 1))
    world.put([Record(99, b"now")], 100.1)
    assert {record.key for frame in link.frames() for record in frame.records} == {0, 1, 2, 99}
    source.hand_over()
    assert not link.sent


@pytest.mark.parametrize("seed", range(20))
def test_readers_come_to_the_state_of_the_world_whatever_the_batches(seed: int) -> None:
    rng = random.Random(seed)
    links = [RecordingLink() for _ in range(4)]
    world, source, publish = _world(*links)
    states = [WorldState() for _ in links]
    sessions = list(world.subscribers)
    for link, state in zip(links, states, strict=True):
        for messages in link.streams.values():
            for message in messages:
                state.apply(decode_frame(message))
    mono = 100.1

    def deliver(loss: float) -> None:
        for link, session, state in zip(links, sessions, states, strict=True):
            sent, link.sent = link.sent, []
            for token, message in sent:
                if rng.random() < loss:
                    session.on_lost(token)
                else:
                    state.apply(decode_frame(message))
                    session.on_acked(token)
            for handle in range(len(link.streams)):
                if handle not in link.done:
                    link.done.add(handle)
                    for message in link.streams[handle]:
                        state.apply(decode_frame(message))

    for tick in range(2, 80):
        for part in range(rng.randrange(1, 4)):
            publish(_part(tick, part, 0))
        if rng.random() < 0.4:
            source.hand_over()
        for link in links:
            link.room = rng.choice((0, 300, 1_000, 1 << 20))
        mono += 0.016
        world.poll(mono, int(mono * 1e6))
        deliver(0.2)
    source.hand_over()
    for _ in range(50):
        for link, session in zip(links, sessions, strict=True):
            link.room = 1 << 20
            session.on_writable(mono)
        mono += 0.05
        world.poll(mono, int(mono * 1e6))
        deliver(0.0)
    for state in states:
        assert state.snapshot() == world.state.snapshot()


def test_bursts_of_a_bundle_are_made_once_and_kept_up_to_their_bound() -> None:
    frame = Frame(1, 1, [Record(n, bytes(100)) for n in range(20)])
    bundle = Bundle([Outgoing(frame, encode_frame(frame), frame.keys)])
    assert bundle.whole(False) is bundle.whole(False)
    assert bundle.cut(False, 500) is bundle.cut(False, 500)
    for size in range(500, 500 + 3 * BURST_SIZES_CACHED_MAX):
        bundle.cut(False, size)
    assert 0 < count(bundle, kind=Burst) - 1 <= BURST_SIZES_CACHED_MAX, "and the whole one"
    assert newest_of(bundle.outs) is bundle.outs


def test_runs_of_fates_settle_a_window_as_single_ones_do() -> None:
    one, single = SentWindow(), SentWindow()
    rng = random.Random(3)
    token = 0
    for _ in range(500):
        keys = tuple([(n,) for n in range(rng.randrange(1, 6))])
        one.add_all(keys)
        for each in keys:
            single.add(each)
        if rng.random() < 0.8:
            count = rng.randrange(1, 7)
            one.acked(token, count)
            for n in range(token, token + count):
                single.acked(n)
            token += rng.choice((0, count, 1))
        if rng.random() < 0.2:
            lost = token + rng.randrange(4)
            assert one.lost(lost) == single.lost(lost)
        assert len(one) == len(single)
        assert one.oldest == single.oldest
        assert one.next_token == single.next_token
    assert len(one) < OUTSTANDING_MAX


def out_of(
    tick: int, *, part: int = 0, parts: int = 1, keys: tuple[int, ...] = (1,), size: int = 8
) -> Outgoing:
    rows = [Record(key, bytes(size)) for key in keys]
    message = encode_frame(Frame(1, tick, rows, part=part, parts=parts))
    return Outgoing(decode_frame(message), message, keys)


MANY = PIECES_MAX + 1


@pytest.mark.parametrize(
    ("ticks", "parts", "is_large"),
    [
        ([1] * PIECES_MAX, [1] * PIECES_MAX, False),
        ([1] * MANY, [1] * MANY, True),
        ([1] * (MANY - 1) + [2], [1] * MANY, False),
        ([1] + [2] * (MANY - 1), [1] * MANY, False),
        (list(range(MANY)), [PIECES_MAX] * MANY, False),
        (list(range(MANY)), [PIECES_MAX] * (MANY - 1) + [MANY], True),
        ([1], [PIECES_MAX], False),
        ([1], [MANY], True),
        ([1, 2], [1, MANY], False),
    ],
)
def test_a_bundle_is_large_where_it_belongs_to_a_frame_of_more_datagrams_than_one_goes_out_as(
    ticks: list[int], parts: list[int], is_large: bool
) -> None:
    outs = [out_of(tick, parts=of) for tick, of in zip(ticks, parts, strict=True)]
    assert Bundle(outs).is_large is is_large
    assert Bundle(outs, is_large=True).is_large


def test_of_several_ticks_what_a_newer_one_replaces_key_for_key_is_left_out() -> None:
    first, second, third = out_of(1, keys=(1, 2)), out_of(2, keys=(3,)), out_of(3, keys=(1, 2))
    assert list(newest_of([first, second, third])) == [third, second]
    assert list(newest_of([first, third])) == [third]
    assert list(newest_of([first, second])) == [first, second]
    assert list(newest_of([first, first, third])) == [third]
    assert list(newest_of([first, third, third])) == [third]
    same = [out_of(1, keys=(1,)), out_of(1, keys=(1,))]
    assert newest_of(same) is same, "the parts of one frame are all wanted"


def test_a_burst_says_how_many_messages_it_has_and_how_long_they_are() -> None:
    burst = Burst([(b"a" * 30, (1,)), (b"b" * 50, (2, 3)), (b"c" * 40, ())])
    assert (burst.count, burst.largest, burst.size_bytes) == (3, 50, 120)
    assert burst.keys == ((1,), (2, 3), ())


def test_the_parity_of_a_bursts_messages_is_one_more_message_and_made_once() -> None:
    parts = [out_of(1, part=part, parts=2, keys=(part,)) for part in range(2)]
    burst = Bundle(parts).whole(False)
    parity = burst.parity()
    assert parity is not None
    assert parity is burst.parity()
    assert parity.messages == (encode_parity(burst.messages),)
    assert parity.keys == ((),)


def test_what_is_not_one_whole_frame_has_no_parity_however_often_it_is_asked() -> None:
    burst = Bundle([out_of(1, keys=(1,)), out_of(2, keys=(2,))]).whole(False)
    assert [burst.parity(), burst.parity()] == [None, None]


def test_a_message_that_fits_stays_whole_and_one_that_does_not_is_cut_in_its_place() -> None:
    small, large = out_of(1, keys=(1,)), out_of(1, keys=(2, 3), size=40)
    bundle = Bundle([small, large, small])
    fits = len(large.message)
    burst = bundle.cut(False, fits)
    assert burst is not None
    assert burst.messages == bundle.whole(False).messages
    burst = bundle.cut(False, fits - 1)
    assert burst is not None
    assert burst.keys == ((1,), (2,), (3,), (1,))
    assert burst.messages[0] is burst.messages[3] is small.message
    assert bundle.cut(False, 60) is None, "a record that no datagram holds goes by a stream"


def test_so_many_sizes_of_bursts_are_kept_and_one_more_begins_anew() -> None:
    bundle = Bundle([out_of(1, keys=tuple(range(20)), size=100)])
    first = bundle.cut(False, 500)
    for size in range(501, 500 + BURST_SIZES_CACHED_MAX):
        bundle.cut(False, size)
    assert bundle.cut(False, 500) is first
    bundle.cut(False, 499)
    assert bundle.cut(False, 500) is not first


def test_a_reader_that_takes_zstd_gets_it_whole_where_it_fits() -> None:
    frame = Frame(1, 1, [Record(n, bytes(100)) for n in range(20)], zstd=True)
    out = Outgoing(decode_frame(encode_frame(frame)), encode_frame(frame), frame.keys)
    bundle = Bundle([out])
    assert bundle.whole(True).messages == (out.packed,)
    assert bundle.whole(False).messages == (out.message,)
    packed, plain = bundle.cut(True, 500), bundle.cut(False, 500)
    assert packed is not None
    assert plain is not None
    assert (packed.count, plain.count > 1) == (1, True)
