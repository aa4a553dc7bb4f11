"""Conversations with the streams of one end: a script of what it is told and asked, and of what it answers, as plain lines.

``>> FRAME``: the peer says this. ``-- ACT``: the application does this, or a packet is asked for, or what became of one is told.
What follows is the answer: ``<< FRAME``, ``== EVENT``, ``!! FAULT``. :func:`hold` plays the script's ``>>`` and ``--`` lines and
compares what comes of it with the whole, so that a difference reads as one of conversations.

Bytes of a stream are named by their offsets, ``0..300``; each is told by where it stands, so that none can take another's place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import ndiff
from textwrap import dedent
from typing import Any

from aioquic.buffer import encode_uint_var
from aioquic.quic.events import QuicEvent, StreamDataReceived, StreamReset
from aioquic.quic.packet import QuicErrorCode

from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.flight import Handler
from gateway.quic.connection.frames import OF_STREAMS
from gateway.quic.connection.packets import varint
from gateway.quic.connection.streams import Streams

WINDOW, DATA_WINDOW = 1_000, 3_000
KINDS = {
    "RESET": 0x04,
    "STOP": 0x05,
    "MAX_DATA": 0x10,
    "MAX_STREAM_DATA": 0x11,
    "MAX_STREAMS_BIDI": 0x12,
    "MAX_STREAMS_UNI": 0x13,
    "DATA_BLOCKED": 0x14,
    "STREAM_DATA_BLOCKED": 0x15,
    "STREAMS_BLOCKED_BIDI": 0x16,
    "STREAMS_BLOCKED_UNI": 0x17,
    "RESET_AT": 0x24,
}
NAMES = {kind: name for name, kind in KINDS.items()}
FIELDS = {0x04: 3, 0x05: 2, 0x11: 2, 0x15: 2, 0x24: 4}


def content(start: int, stop: int) -> bytes:
    """The bytes that a stream has there."""
    return bytes((at * 7 + at // 256) % 256 for at in range(start, stop))


def _span(text: str) -> tuple[int, int]:
    start, _, stop = text.partition("..")
    return int(start), int(stop)


def frame_of(line: str) -> bytes:
    """The frame that a line names. ``STREAM 2 0..300 end``; of others the name and their numbers in the order of RFC 9000."""
    name, *rest = line.split()
    if name != "STREAM":
        return b"".join(map(encode_uint_var, (KINDS[name], *map(int, rest))))
    (start, stop), is_end = _span(rest[1]), "end" in rest
    head = b"".join(map(encode_uint_var, (0x0E | is_end, int(rest[0]), start, stop - start)))
    return head + content(start, stop)


def line_name(kind: int) -> str:
    """What a frame of this type is called."""
    return "STREAM" if 0x08 <= kind <= 0x0F else NAMES[kind]


def lines_of(plain: bytes) -> Iterator[str]:
    """The lines that name these frames."""
    at = 0
    while at < len(plain):
        kind, at = varint(plain, at)
        if kind in (0x0E, 0x0F):
            number, at = varint(plain, at)
            start, at = varint(plain, at)
            size, at = varint(plain, at)
            data, at = plain[at : at + size], at + size
            assert data == content(start, start + size), f"other bytes at {start} of stream {number}"
            yield f"STREAM {number} {start}..{start + size}" + " end" * (kind & 1)
            continue
        numbers = []
        for _ in range(FIELDS.get(kind, 1)):
            number, at = varint(plain, at)
            numbers.append(str(number))
        yield " ".join([NAMES[kind], *numbers])


@dataclass
class StreamsTalk:
    """One end's streams, and what is said."""

    streams: Streams
    said: list[str] = field(default_factory=list)
    came: dict[int, int] = field(default_factory=dict)
    flying: list[Handler] = field(default_factory=list)

    # as the readers of frames want it
    @property
    def incoming(self) -> Any:
        return self.streams.incoming

    @property
    def table(self) -> Any:
        return self.streams.table

    def on_stopped(self, number: int, code: int) -> None:
        self.said.append(f"== stopped {number} {code}")

    # -- what it hears, and does --------------------------------------------------------------

    def hear(self, line: str) -> None:
        """A frame of the peer's."""
        plain = frame_of(line)
        self.hear_bytes(plain + b"\x01", len(plain))

    def hear_bytes(self, plain: bytes, stop: int) -> None:
        """A frame of the peer's that ends there."""
        kind, at = varint(plain, 0)
        try:
            assert OF_STREAMS[kind](self, kind, plain, at) == stop
        except PeerFault as fault:
            about = line_name(kind) if fault.frame_type == kind else "a frame"
            self.said.append(f"!! {QuicErrorCode(fault.code).name} of {about}: {fault.reason}")

    def act(self, line: str) -> None:
        """The application's, or the connection's."""
        name, *rest = line.split()
        try:
            getattr(self, "do_" + name)(*rest)
        except (ValueError, RuntimeError) as error:
            self.said.append(f"!! {type(error).__name__}")

    def do_write(self, number: str, span: str, end: str = "") -> None:
        self.streams.write(int(number), content(*_span(span)), end=bool(end))

    def do_reset(self, number: str, code: str) -> None:
        self.streams.reset(int(number), int(code))

    def do_stop(self, number: str, code: str) -> None:
        self.streams.stop(int(number), int(code))

    def do_abandon(self, number: str, code: str) -> None:
        self.said.append(
            f"== {'abandoned' if self.streams.abandon_receiving(int(number), int(code)) else 'over'}"
        )

    def do_hold(self, number: str, size: str) -> None:
        self.streams.hold(int(number), int(size))

    def do_release(self, number: str, size: str) -> None:
        self.streams.release(int(number), int(size))

    def do_peer(self, data: str, bidi: str, uni: str, of_each: str) -> None:
        """The peer's limits come: of data in all, of streams, and of each stream's data."""
        peer = self.streams.peer
        peer.data, peer.streams_bidi, peer.streams_uni = int(data), int(bidi), int(uni)
        self.streams.table.learn(int(of_each), int(of_each), int(of_each))

    def do_ask(self, room: str = "1200") -> None:
        """A packet with so much room is to be filled."""
        out, left = self.streams.outgoing, int(room)
        control, data = out.look_over()
        plain = b""
        if control:
            plain = out.control_frames(left, self.flying)
        if data:
            written, told = out.data_frames(left - len(plain))
            plain, self.flying = plain + written, self.flying + told
        assert len(plain) <= left
        lines = [f"<< {line}" for line in lines_of(plain)]
        self.said += lines or ["<< nothing" + " although there is" * (control or data)]

    def do_acked(self, at: str = "") -> None:
        self._fate(True, at)

    def do_lost(self, at: str = "") -> None:
        self._fate(False, at)

    def _fate(self, acked: bool, at: str) -> None:
        """Of the frame that stands there among those that nothing is known of, or of all."""
        told = [self.flying.pop(int(at))] if at else self.flying
        if not at:
            self.flying = []
        for handler, args in told:
            handler(acked, *args)

    def do_show(self, number: str) -> None:
        """What the application may ask of a stream."""
        streams, stream = self.streams, int(number)
        words = {
            "open": stream in streams.by_number,
            "may write": streams.can_send_on(stream),
            "sent": streams.send_is_over(stream),
        }
        told = " ".join([word for word, holds in words.items() if holds])
        self.said.append(
            f"== {number}: {told}; {streams.unsent_bytes(stream)} of {streams.unsent_total()} waiting"
        )

    def do_next(self) -> None:
        """Which streams may be opened next."""
        two, one = (self.streams.next_number(one_way=way) for way in (False, True))
        self.said.append(f"== next {two} {one}" + " may" * self.streams.can_open_uni())

    # -- what it tells ------------------------------------------------------------------------

    def emit(self, event: QuicEvent) -> None:
        if isinstance(event, StreamReset):
            self.said.append(f"== reset {event.stream_id} {event.error_code}")
        elif isinstance(event, StreamDataReceived):
            start = self.came.get(event.stream_id, 0)
            stop = self.came[event.stream_id] = start + len(event.data)
            assert event.data == content(start, stop), f"other bytes at {start} of stream {event.stream_id}"
            self.said.append(f"== data {event.stream_id} {start}..{stop}" + " end" * event.end_stream)


def streams_talk(*, is_client: bool = False) -> StreamsTalk:
    """An end that has said nothing yet, whose peer lets it do nothing yet."""
    talk: StreamsTalk
    streams = Streams(
        is_client=is_client, window=WINDOW, data_window=DATA_WINDOW, emit=lambda event: talk.emit(event)
    )
    talk = StreamsTalk(streams)
    return talk


def hold(talk: StreamsTalk, script: str) -> None:
    """Play a script, and fail where another conversation comes of it."""
    wanted = [line.strip() for line in dedent(script).strip().splitlines() if line.strip()]
    for line in wanted:
        if line.startswith(">> "):
            talk.said.append(line)
            talk.hear(line[3:])
        elif line.startswith("-- "):
            talk.said.append(line)
            talk.act(line[3:])
    said, talk.said = talk.said, []
    if said != wanted:
        raise AssertionError("another conversation:\n" + "\n".join(ndiff(wanted, said)))
