"""Coverage-guided fuzzing of every decoder and of a session, with atheris: ``make fuzz``.

A decoder may answer or raise a ``GatewayError``; anything else ends the run with the input that did it. A
session may answer, refuse or close; it may not raise, and what it holds stays bounded.
``python tests/fuzz/decoders.py [TARGET…] -runs=N``: targets are the keys of ``TARGETS``; all by default.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["gateway"]):
    from gateway.core.options import parse_live_query
    from gateway.core.ports import LiveOptions
    from gateway.core.world import World
    from gateway.errors import GatewayError
    from gateway.wire import MessageStream, decode_message, variant
    from gateway.wire.mvstore import FrameReader
    from tests.core.links import RecordingLink

RUNS = 200_000
INPUT_BYTES_MAX = 4_096


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
    """A publisher and a reader, fed with datagrams and stream bytes of a peer's choice."""
    provider = atheris.FuzzedDataProvider(data)
    world = World("fuzz", mono=0.0, now_us=0)
    publisher = world.attach_publisher(RecordingLink(), 1, 0.0)
    reader = world.attach_subscriber(RecordingLink(), LiveOptions(), 0.0)
    mono = 0.0
    while provider.remaining_bytes():
        mono += 0.01
        session = publisher if provider.ConsumeBool() else reader
        piece = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 64))
        if provider.ConsumeBool():
            session.on_message(piece, mono)
        else:
            session.on_stream_data(provider.ConsumeIntInRange(0, 40), piece, provider.ConsumeBool(), mono)
        world.poll(mono, int(mono * 1e6))
    held = publisher._inbox.buffered_bytes + reader._inbox.buffered_bytes
    if held > len(data):
        raise AssertionError(f"{held} bytes held after {len(data)} bytes of input")


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (messages, streams, store_frames, variants, queries, sessions)
}


def guarded(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The target, with the answers that it may give."""

    def one(data: bytes) -> None:
        with contextlib.suppress(GatewayError):
            target(data)

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
