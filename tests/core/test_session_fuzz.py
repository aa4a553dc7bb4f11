"""Whatever a peer sends: no exception, no growth, and nobody else notices."""

from __future__ import annotations

import gc
import os
import random
import struct
import sys

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.ports import LiveOptions
from gateway.core.world import World
from gateway.limits import SESSION_STREAM_BYTES_MAX, SESSION_STREAMS_MAX
from gateway.wire import Frame, Record, encode_control, encode_frame, prefix
from tests.core.links import RecordingLink

LONG = os.environ.get("MVGATEWAY_FUZZ") == "long"
u32 = st.integers(0, 0xFFFF_FFFF)
headers = st.builds(
    lambda *fields: struct.pack("<BBHHHIIQ", *fields),
    st.sampled_from([0, 1, 1, 1, 1, 2, 16, 255]),
    st.integers(0, 31),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from([0, 0, 3, 4, 8, 100, 65_535]),
    st.sampled_from([0, 1, 2]),
    u32,
    st.integers(0, 2**64 - 1),
)
good = st.builds(
    lambda tick, rows, keyframe: encode_frame(
        Frame(0, tick, [Record(key, data) for key, data in rows.items()], keyframe=keyframe)
    ),
    st.integers(0, 50),
    st.dictionaries(st.integers(0, 20), st.none() | st.binary(max_size=8), max_size=4),
    st.booleans(),
)
controls = st.builds(
    lambda kind, fields: encode_control(kind, **fields),
    st.sampled_from(["focus", "bye", "welcome", ""]),
    st.dictionaries(
        st.sampled_from(["keys", "weights", "x"]),
        st.lists(
            st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3), max_size=4
        ),
    ),
)


def flipped(message: bytes, bits: list[int]) -> bytes:
    """The message with these bits turned over, counted modulo its length."""
    whole = bytearray(message)
    for bit in bits:
        at = bit % (8 * len(whole))
        whole[at // 8] ^= 1 << at % 8
    return bytes(whole)


valid = good | controls
truncated = st.builds(lambda message, cut: message[: cut % len(message)], valid, st.integers(0, 10_000))
bit_flipped = st.builds(flipped, valid, st.lists(st.integers(0, 100_000), min_size=1, max_size=4))
messages = (
    valid
    | truncated
    | bit_flipped
    | st.binary(max_size=60)
    | st.builds(lambda h, b: h + b, headers, st.binary(max_size=60))
)
acts = st.one_of(
    st.tuples(st.just("message"), messages),
    st.tuples(
        st.just("stream"), st.integers(0, 5), messages.map(prefix) | st.binary(max_size=40), st.booleans()
    ),
    st.tuples(st.just("reset"), st.integers(0, 5)),
    st.tuples(st.just("acked"), st.integers(-2, 60)),
    st.tuples(st.just("lost"), st.integers(-2, 60)),
    st.tuples(st.just("room"), st.integers(0, 4_000)),
    st.tuples(st.just("poll"), st.floats(0, 3)),
)


@settings(max_examples=20_000 if LONG else 300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.booleans(), st.booleans(), st.lists(acts, max_size=40))
def test_a_session_takes_anything_and_others_go_on(publishes: bool, lossy: bool, script: list[tuple]) -> None:
    world, link, other = World("arena", mono=0.0, now_us=0), RecordingLink(lossy=lossy), RecordingLink()
    mono = 0.0
    world.attach_subscriber(other, LiveOptions(), mono)
    session = (
        world.attach_publisher(link, 1, mono)
        if publishes
        else world.attach_subscriber(link, LiveOptions(budget_kbps=64), mono)
    )
    for name, *args in script:
        mono += 0.01
        if name == "message":
            session.on_message(args[0], mono)
        elif name == "stream":
            session.on_stream_data(args[0], args[1], args[2], mono)
        elif name == "reset":
            session.on_stream_reset(args[0])
        elif name in ("acked", "lost"):
            getattr(session, f"on_{name}")(args[0])
        elif name == "room":
            link.room = args[0]
            session.on_writable(mono)
        else:
            mono += args[0]
            world.poll(mono, int(mono * 1e6))
    session.on_closed(mono)
    assert other.closed is None
    assert world.state.keyframes_pending <= 2
    fresh = world.attach_publisher(RecordingLink(), 2, mono, takeover=True)
    fresh.on_message(encode_frame(Frame(0, 1, [Record(1, b"after")])), mono)
    assert world.state.get(1) is not None
    assert session.closed


def test_a_world_that_is_fed_garbage_by_peer_after_peer_keeps_nothing_of_it() -> None:
    """Random bytes, and good messages cut short or with bits flipped, as datagrams and on streams."""
    dice = random.Random(7)
    rows = [Record(key, key.to_bytes(4, "little") + b"data") for key in range(4)]
    wellformed = [
        encode_frame(Frame(0, 1, rows)),
        encode_frame(Frame(0, 2, rows, stride=8)),
        encode_frame(Frame(0, 3, rows, keyframe=True, parts=2)),
        encode_frame(Frame(0, 4, [Record(2, None)], repair=True, parts=0)),
        encode_frame(Frame(0, 5, rows * 9, stride=8, zstd=True)),
        encode_control("focus", keys=[1, 2], weights=[4, 0.5]),
    ]

    def piece() -> bytes:
        message = dice.choice(wellformed)
        kind = dice.randrange(3)
        if kind == 0:
            return dice.randbytes(dice.randrange(80))
        if kind == 1:
            return message[: dice.randrange(len(message))]
        return flipped(message, [dice.randrange(1 << 16) for _ in range(dice.randint(1, 4))])

    world, mono, blocks = World("arena", mono=0.0, now_us=0), 0.0, []
    for round_ in range(40 if LONG else 8):
        for _ in range(500):
            mono += 1.0
            publishes = dice.random() < 0.5
            link = RecordingLink(lossy=dice.random() < 0.5)
            session = (
                world.attach_publisher(link, world.last_epoch + 1, mono, takeover=True)
                if publishes
                else world.attach_subscriber(link, LiveOptions(budget_kbps=64), mono)
            )
            for _ in range(8):
                if dice.random() < 0.5:
                    session.on_message(piece(), mono)
                else:
                    data = prefix(piece()) if dice.random() < 0.7 else piece()
                    session.on_stream_data(dice.randrange(3), data, dice.random() < 0.3, mono)
            session.on_closed(mono)
            batch = world.take_batch(mono)
            if batch is not None:
                world.committed(batch, mono)
            world.poll(mono, int(mono * 1e6))
        reset = world.attach_publisher(RecordingLink(), world.last_epoch + 1, mono, takeover=True)
        reset.on_message(encode_frame(Frame(0, 1, rows, keyframe=True)), mono)
        assert len(world.state) == len(rows)
        assert world.subscribers == {}
        gc.collect()
        if round_ >= 2:
            blocks.append(sys.getallocatedblocks())
    assert min(blocks[-2:]) <= blocks[0] + 2_000, "half a block a peer would be more"


def test_unfinished_streams_are_bounded_in_number_and_bytes() -> None:
    world = World("arena", mono=0.0, now_us=0)
    many, large = RecordingLink(), RecordingLink()
    session = world.attach_publisher(many, 1, 0.0)
    for stream in range(SESSION_STREAMS_MAX + 1):
        session.on_stream_data(stream, b"\xff\0\0\0", False, 0.0)
    assert many.controls[-1]["code"] == "too_large"
    session = world.attach_publisher(large, 2, 0.0)
    half = (16 << 20).to_bytes(4, "little") + bytes((16 << 20) - 1)
    for stream in range(SESSION_STREAM_BYTES_MAX // (16 << 20) + 1):
        session.on_stream_data(stream, half, False, 0.0)
    assert large.controls[-1]["code"] == "too_large"
    assert session.buffered_bytes == 0


def test_a_stream_of_frames_is_taken_message_by_message_one_byte_at_a_time() -> None:
    world = World("arena", mono=0.0, now_us=0)
    session = world.attach_publisher(RecordingLink(), 1, 0.0)
    wire = b"".join(prefix(encode_frame(Frame(1, tick, [Record(tick, b"x")]))) for tick in range(1, 5))
    for at in range(len(wire)):
        session.on_stream_data(2, wire[at : at + 1], at == len(wire) - 1, 0.0)
    assert len(world.state) == 4
    assert session.buffered_bytes == 0


def test_a_stream_that_ends_inside_a_message_is_malformed() -> None:
    link = RecordingLink()
    session = World("arena", mono=0.0, now_us=0).attach_publisher(link, 1, 0.0)
    session.on_stream_data(2, prefix(b"\x01" * 30)[:-1], True, 0.0)
    assert link.controls[-1]["code"] == "malformed"
