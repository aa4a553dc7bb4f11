"""Coverage-guided fuzzing of every decoder and of a session, with atheris: ``make fuzz``.

A decoder may answer or raise a ``GatewayError``; anything else ends the run with the input that did it. A
session may answer, refuse or close; it may not raise, and what it holds stays bounded. No target may leave
memory behind: the blocks that Python holds are counted every :data:`COUNT_RUNS` inputs.
``python tests/fuzz/decoders.py [TARGET…] -runs=N``: targets are the keys of ``TARGETS``; all by default.
"""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["gateway"]):
    from gateway import limits
    from gateway.core.options import parse_live_query
    from gateway.core.ports import LiveOptions
    from gateway.core.world import World
    from gateway.errors import GatewayError
    from gateway.wire import (
        Frame,
        MessageStream,
        Record,
        decode_message,
        encode_control,
        encode_frame,
        prefix,
        variant,
    )
    from gateway.wire.mvstore import FrameReader
    from tests.core.links import RecordingLink

RUNS = 200_000
INPUT_BYTES_MAX = 4_096
COUNT_RUNS = 20_000
GROWTH_BLOCKS_MAX = 5_000
"""A quarter of a block an input, once all code has run: caches fill meanwhile, each with its bound."""


def messages(data: bytes) -> None:
    """One message of the frame protocol, with its records read."""
    frame = decode_message(data)
    getattr(frame, "records", None)


def streams(data: bytes) -> None:
    """Length-prefixed messages, cut at a place that the input chooses."""
    stream = MessageStream(INPUT_BYTES_MAX)
    cut = data[0] if data else 0
    for piece in (data[1 : 1 + cut], data[1 + cut :]):
        stream.feed(piece)
        for message in stream:
            decode_message(message)


def store_frames(data: bytes) -> None:
    """mvstore's frames, a piece at a time."""
    reader = FrameReader()
    for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
        reader.feed(piece)
        for _ in reader:
            pass


def variants(data: bytes) -> None:
    """A Godot Variant, and what it encodes to again."""
    value = variant.decode(data)
    variant.to_json(value)
    variant.encode(value)


def queries(data: bytes) -> None:
    """The query of a live session."""
    parse_live_query(data.decode("latin-1"))


def sessions(data: bytes) -> None:
    """A publisher and a reader, fed with datagrams and stream bytes of a peer's choice: anything at all, and
    messages that were good before they were cut short or had bits flipped."""
    provider = atheris.FuzzedDataProvider(data)
    world = World("fuzz", mono=0.0, now_us=0)
    publisher = world.attach_publisher(RecordingLink(), 1, 0.0)
    reader = world.attach_subscriber(RecordingLink(), LiveOptions(), 0.0)
    mono, given = 0.0, 0
    while provider.remaining_bytes():
        mono += 0.01
        session = publisher if provider.ConsumeBool() else reader
        piece = _piece(provider)
        as_message, framed = provider.ConsumeBool(), provider.ConsumeBool()
        piece = prefix(piece) if framed and not as_message else piece
        given += len(piece)
        if as_message:
            session.on_message(piece, mono)
        else:
            session.on_stream_data(provider.ConsumeIntInRange(0, 40), piece, provider.ConsumeBool(), mono)
        world.poll(mono, int(mono * 1e6))
    _check_bounds(world, publisher.buffered_bytes + reader.buffered_bytes, given)


def _piece(provider: atheris.FuzzedDataProvider) -> bytes:
    """Bytes of a peer: any, or a good message, whole, cut short, or with bits flipped."""
    kind = provider.ConsumeIntInRange(0, 3)
    if kind == 0:
        return bytes(provider.ConsumeBytes(provider.ConsumeIntInRange(0, 64)))
    message = bytearray(GOOD[provider.ConsumeIntInRange(0, len(GOOD) - 1)])
    if kind == 2:
        del message[provider.ConsumeIntInRange(0, len(message)) :]
    if kind == 3:
        for _ in range(provider.ConsumeIntInRange(1, 4)):
            bit = provider.ConsumeIntInRange(0, 8 * len(message) - 1)
            message[bit // 8] ^= 1 << bit % 8
    return bytes(message)


def _check_bounds(world: World, held: int, given: int) -> None:
    """What a session and its world keep is no more than what came in, and within the limits."""
    if held > given:
        raise AssertionError(f"{held} bytes held after {given} bytes of input")
    state, journal = world.state, world.journal
    assert state.keyframes_pending <= limits.KEYFRAMES_PENDING_MAX
    assert len(state.tombstones) <= limits.TOMBSTONES_MAX
    assert journal.size_bytes <= limits.JOURNAL_BYTES_MAX
    for reader in world.subscribers.values():
        assert len(reader.stale) <= len(state) + len(state.tombstones)


def _good_messages() -> list[bytes]:
    """One of each kind, and of each flag."""
    rows = [Record(key, key.to_bytes(4, "little") + b"data") for key in range(3)]
    gone = [Record(1, None), Record(2, b"")]
    frames = [
        Frame(0, 1, rows),
        Frame(1, 2, rows, stride=8),
        Frame(1, 3, rows, keyframe=True, part=0, parts=2),
        Frame(1, 3, gone, keyframe=True, part=1, parts=2),
        Frame(1, 4, gone, parts=0),
        Frame(1, 5, [Record(1, b"own tick", 3)], repair=True),
        Frame(1, 6, rows * 9, stride=8, zstd=True),
        Frame(2, 1, rows, keyframe=True),
    ]
    focus = encode_control("focus", keys=[1, 2], weights=[4, 0.5])
    return [*map(encode_frame, frames), focus, encode_control("bye", reason="done")]


GOOD = _good_messages()

TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (messages, streams, store_frames, variants, queries, sessions)
}


def guarded(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The target, with the answers that it may give, watched for memory that it keeps."""
    runs, least = 0, 0

    def one(data: bytes) -> None:
        nonlocal runs, least
        with contextlib.suppress(GatewayError):
            target(data)
        runs += 1
        if runs % COUNT_RUNS == 0:
            gc.collect()
            blocks = sys.getallocatedblocks()
            least = min(least or blocks, blocks)
            if blocks > least + GROWTH_BLOCKS_MAX:
                raise AssertionError(
                    f"{blocks - least} blocks more after {runs} inputs than after some before"
                )

    return one


def main(argv: list[str]) -> int:
    """Each target in a process of its own: libFuzzer ends the process when it is done."""
    options = [word for word in argv if word.startswith("-")] or [f"-runs={RUNS}"]
    names = [word for word in argv if not word.startswith("-")]
    if len(names) == 1:
        atheris.Setup([sys.argv[0], f"-max_len={INPUT_BYTES_MAX}", *options], guarded(TARGETS[names[0]]))
        atheris.Fuzz()
    for name in names or TARGETS:
        print(f"fuzzing {name}", flush=True)
        done = subprocess.run(
            [sys.executable, __file__, name, *options], env={**os.environ, "PYTHONPATH": "."}, check=False
        )
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
