"""What does one turn of a reader that is behind cost? CPU time in memory, without any network. Room: bench.

``python -m bench.reader_turns``: a zone of 1,800 records of 100 bytes, 900 of them moving at 20 Hz, and readers
that are held to 256 kbit/s, by their budget or by a link that takes so much; the links throw away what they get.
Simulated time, so a busy machine makes it longer and changes nothing else. One JSON line.
"""

from __future__ import annotations

import argparse
import json
import struct
import time
from collections.abc import Sequence

from gateway.core.ports import CloseCode, LiveOptions, OneByOne, Refusal, Sent, Transport
from gateway.core.world import World
from gateway.core.worldsettings import WorldSettings
from gateway.limits import DATAGRAM_SAFE_BYTES
from gateway.wire import Frame, Record, decode_frame, split

STRIDE = 100
NOW_US = 1_800_000_000_000_000
POLL_S = 0.001
ROOM_BYTES = 4_000
"""What a narrow link admits at once."""


class FreeLink(OneByOne):
    """Takes ``kbps`` (0: all there is) and keeps nothing; a datagram's fate is told one turn later."""

    def __init__(self, lossy: bool, kbps: int) -> None:
        self.lossy = lossy
        self.transport: Transport = "webtransport" if lossy else "websocket"
        self.sent_bytes = self.sent_messages = 0
        self.room = 1 << 30 if not kbps else ROOM_BYTES
        self._per_s = kbps * 125
        self._is_full = False
        self.tokens: list[int] = []

    def earn(self, seconds: float) -> bool:
        """The link took what its rate allows; True: there is room for a message again."""
        if self._per_s:
            self.room = min(ROOM_BYTES, self.room + int(self._per_s * seconds))
        if not self._is_full or self.room < ROOM_BYTES // 2:
            return False
        self._is_full = False
        return True

    def message_bytes_max(self) -> int:
        return 1_182 if self.lossy else 65_535

    def room_bytes(self) -> int:
        self._is_full = self._is_full or self.room < DATAGRAM_SAFE_BYTES
        return max(0, self.room)

    def send(self, message: bytes, token: int) -> Sent:
        if self.room < (len(message) if self.lossy else 1):
            return Refusal.BLOCKED
        self.room -= len(message)
        self.sent_bytes += len(message)
        self.sent_messages += 1
        if self.lossy:
            self.tokens.append(token)
        return True

    def send_stream(self, messages: Sequence[bytes]) -> int:
        self.sent_bytes += sum(map(len, messages))
        return 1

    def reset_stream(self, handle: int) -> None: ...

    def stream_done(self, handle: int) -> bool:
        return True

    def control(self, message: bytes) -> None: ...

    def close(self, code: CloseCode, reason: str) -> None: ...


def frame_messages(tick: int, first: int, count: int) -> list[bytes]:
    """One frame of ``count`` records from key ``first``, cut to datagrams."""
    rows = [
        Record(key, struct.pack("<IQ", key, tick) + bytes(STRIDE - 12)) for key in range(first, first + count)
    ]
    return split(Frame(1, tick, rows, stride=STRIDE, sent_at=NOW_US), 1_100)


def measure(readers: int, held_by: str, seconds: float, hz: int, kbps: int) -> dict[str, object]:
    """Run ``seconds`` of the zone's time; the CPU time of the fan-out alone is counted."""
    mono = 1_000.0
    world = World("zone", WorldSettings(), mono=mono, now_us=NOW_US)
    links = [FreeLink(n % 2 == 0, kbps if held_by == "link" else 0) for n in range(readers)]
    options = LiveOptions(budget_kbps=kbps if held_by == "budget" else None)
    sessions = [world.attach_subscriber(link, options, mono) for link in links]
    publisher = world.attach_publisher(FreeLink(False, 0), 1, mono)
    for message in frame_messages(1, 901, 900):
        publisher.receive(message, mono)
    cpu_s = told_s = 0.0
    for tick in range(2, 2 + int(seconds * hz)):
        frames = [(message, decode_frame(message)) for message in frame_messages(tick, 1, 900)]
        started = time.process_time()
        for message, frame in frames:
            world.ingest(frame, message, 1, mono)
        cpu_s += time.process_time() - started
        batch = world.take_batch(mono)
        if batch is not None:
            world.committed(batch, mono)
        for _ in range(int(1 / hz / POLL_S)):
            mono += POLL_S
            started = time.process_time()
            for link, session in zip(links, sessions, strict=True):
                tokens, link.tokens = link.tokens, []
                for token in tokens:
                    session.on_acked(token)
            told_s += time.process_time() - started
            again = [session for link, session in zip(links, sessions, strict=True) if link.earn(POLL_S)]
            started = time.process_time()
            for session in again:
                session.on_writable(mono)
            if world.next_poll is not None and mono >= world.next_poll:
                world.poll(mono, NOW_US + int(mono * 1e6))
            cpu_s += time.process_time() - started
    if not readers:
        return {"taking_in_us_per_tick": round(1e6 * cpu_s / (seconds * hz), 1)}
    turns = readers * seconds * hz
    return {
        "held_by": held_by,
        "readers": readers,
        "cpu_us_per_reader_tick": round(1e6 * cpu_s / turns, 1),
        "acks_us_per_reader_tick": round(1e6 * told_s / turns, 1),
        "messages_per_reader_tick": round(sum(link.sent_messages for link in links) / turns, 2),
        "kbps_per_reader": round(sum(link.sent_bytes for link in links) * 8 / 1_000 / seconds / readers, 1),
    }


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(prog="python -m bench.reader_turns", description=__doc__)
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0, help="of the zone's time")
    parser.add_argument("--hz", type=int, default=20)
    parser.add_argument("--kbps", type=int, default=256)
    args = parser.parse_args()
    print(json.dumps(measure(0, "nothing", args.seconds, args.hz, args.kbps)), flush=True)
    for held_by in ("budget", "link", "nothing"):
        print(json.dumps(measure(args.readers, held_by, args.seconds, args.hz, args.kbps)), flush=True)


if __name__ == "__main__":
    main()
