"""How a publisher's frame goes out: datagrams, a stream where it is large, repairs. Room: client.

Works on any :class:`gateway.core.ports.Link` and returns at once. What the link does not take is
marked stale and goes later, as its newest value only (``docs/FRAMES.md``, Loss).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gateway import limits
from gateway.client.counts import EverySample
from gateway.client.outbox import Outbox, Value
from gateway.core.ports import Link, Refusal
from gateway.wire import Frame, Record, split
from gateway.wire.frames import HEADER_BYTES, encode_message
from gateway.wire.records import record_chunks
from gateway.wire.split import pack_chunks


@dataclass(slots=True)
class PublisherCounts:
    """What a publisher counts. ``durable_lag``: from sending a frame to its being in the store, of every frame
    that is; ``dropped_frames``: ticks that the gateway says are not, and will not be; ``held_frames``: ticks of which a part
    could not go at once, because those before them were still on their way: it went later, as its newest values only."""

    frames: int = 0
    unsent_frames: int = 0
    messages: int = 0
    bytes: int = 0
    streams: int = 0
    lost_datagrams: int = 0
    repaired_records: int = 0
    dropped_frames: int = 0
    held_frames: int = 0
    durable_lag: EverySample = field(default_factory=EverySample)
    durable_lag_ticks: EverySample = field(default_factory=EverySample)

    def as_json(self) -> dict[str, object]:
        """JSON-ready; the two lags as ``{p50, p99}``, in milliseconds and in ticks."""
        return {
            "frames": self.frames,
            "unsent_frames": self.unsent_frames,
            "messages": self.messages,
            "bytes": self.bytes,
            "streams": self.streams,
            "lost_datagrams": self.lost_datagrams,
            "repaired_records": self.repaired_records,
            "dropped_frames": self.dropped_frames,
            "held_frames": self.held_frames,
            "durable_lag_ms": self.durable_lag.summary(),
            "durable_lag_ticks": self.durable_lag_ticks.summary(),
        }


class FrameSender:
    """Sends frames over one link after another. ``epoch`` and ``tick`` are those of the newest frame."""

    def __init__(self, stride: int, clock_us: Callable[[], int]) -> None:
        self.stride = stride
        self.epoch = 0
        self.tick = 0
        self.outbox = Outbox()
        self.counts = PublisherCounts()
        self._clock_us = clock_us
        self._streams: deque[int] = deque()
        self._keyframe_due = False
        self._holds = False

    @property
    def owes(self) -> bool:
        """Whether the gateway lacks something that could not go, or was lost."""
        return self._keyframe_due or bool(self.outbox.stale)

    def send(self, link: Link, records: Mapping[int, bytes | None], *, keyframe: bool) -> None:
        """Send the frame of the newest tick, then repairs as far as there is room. Removals in a
        world with a stride go in a message of their own (``docs/FRAMES.md``, FRAME)."""
        self._holds = False
        if keyframe:
            self.send_keyframe(link)
            self._holds = self._keyframe_due
        else:
            # Rows of one stride have no mark for "removed".
            gone = [Record(key, None) for key, data in records.items() if data is None and self.stride]
            if self._must_wait(link, records.values()):
                self._holds = True
                self.outbox.mark_stale(
                    key for key, data in records.items() if data is not None or not self.stride
                )
            elif len(gone) < len(records) or not gone:
                live = [
                    Record(key, data) for key, data in records.items() if data is not None or not self.stride
                ]
                self._dispatch(link, self._frame(live))
            if gone:
                self._dispatch(link, self._frame(gone))
        self.counts.held_frames += self._holds
        self.repair(link)

    def send_keyframe(self, link: Link) -> None:
        """Send every live record as a keyframe of the newest tick, whole or not at all."""
        frame = self._frame(_rows(self.outbox.live_values()), keyframe=True)
        # Half a keyframe would remove what its other half holds.
        self._keyframe_due = self._is_busy(link)
        if not self._keyframe_due:
            self.outbox.clear_stale()
            self._send_stream(link, split(frame, self._part_bytes(link)))

    def repair(self, link: Link) -> None:
        """Send the newest values of what was lost or never went, as far as there is room."""
        if self._keyframe_due and not self._is_busy(link):
            self.send_keyframe(link)
        if not self.outbox.stale or not link.room_bytes() or self._must_wait(link, self.outbox.stale_data()):
            return
        values = self.outbox.take_stale(limits.CLIENT_REPAIR_RECORDS_MAX)
        self.counts.repaired_records += len(values)
        for rows in (
            [row for row in _rows(values) if row.data is not None],
            [row for row in _rows(values) if row.data is None],
        ):
            if rows:
                self._dispatch(link, self._frame(rows, repair=True))

    def on_lost(self, token: int) -> None:
        self.counts.lost_datagrams += 1
        self.outbox.on_lost(token)

    def link_gone(self) -> None:
        """The link is gone, and with it whatever was under way."""
        self._streams.clear()
        self.outbox.link_lost()

    def _frame(self, rows: list[Record], **flags: bool) -> Frame:
        stride = 0 if any(row.data is None for row in rows) else self.stride
        own_ticks = True if flags.get("repair") else None
        return Frame(
            self.epoch, self.tick, rows, stride=stride, sent_at=self._clock_us(), ticks=own_ticks, **flags
        )

    def _dispatch(self, link: Link, frame: Frame) -> None:
        """Send a frame by datagrams, or by one stream where it is large; what cannot go is stale."""
        keys, values, ticks = frame.columns()
        chunks = record_chunks(keys, values, ticks if frame.ticks else None, frame.stride)
        if sum(map(len, chunks)) > limits.CLIENT_STREAM_BYTES_MIN:
            if self._is_busy(link):
                self._holds = True
                self.outbox.mark_stale(keys)
            else:
                self._send_stream(link, split(frame, self._part_bytes(link)))
            return
        groups, at = pack_chunks(chunks, link.message_bytes_max() - HEADER_BYTES), 0
        for part, group in enumerate(groups):
            message = encode_message(frame, b"".join(group), part, len(groups))
            self._send_message(link, message, keys[at : at + len(group)])
            at += len(group)

    def _send_message(self, link: Link, message: bytes, keys: tuple[int, ...]) -> None:
        if len(message) > link.message_bytes_max():
            self._send_stream(link, [message])
            return
        token = self.outbox.token_for(keys)
        sent = link.send(message, token)
        if sent is Refusal.TOO_LARGE or sent is Refusal.UNSUPPORTED:
            # It goes by a stream, which is not lost: nothing is owed for this token.
            self.outbox.on_acked(token)
            self._send_stream(link, [message])
            return
        if not sent:
            self._holds = True
            self.outbox.on_lost(token)
            return
        self._count([message])
        # TCP loses nothing but with the connection, after which a keyframe says all anew.
        if not link.lossy:
            self.outbox.on_acked(token)

    def _must_wait(self, link: Link, datas: Iterable[bytes | None]) -> bool:
        """Whether a frame of these is too large to go beside those under way. Asked before it is made: on a busy machine what is
        made in vain, tick after tick, is what the others' sending needs."""
        if not self._is_busy(link):
            return False
        size = 0
        for data in datas:
            size += len(data or b"")
            if size > limits.CLIENT_STREAM_BYTES_MIN:
                return True
        return False

    def _is_busy(self, link: Link) -> bool:
        """Whether large frames must wait: too many under way, or an unsent TCP buffer."""
        # Only from the front: they are done in about the order in which they began, and one look a frame is
        # enough.
        while self._streams and link.stream_done(self._streams[0]):
            self._streams.popleft()
        return (
            len(self._streams) >= limits.CLIENT_PUBLISH_STREAMS_MAX if link.lossy else not link.room_bytes()
        )

    def _part_bytes(self, link: Link) -> int:
        return limits.CLIENT_STREAM_PART_BYTES if link.lossy else link.message_bytes_max()

    def _send_stream(self, link: Link, messages: list[bytes]) -> None:
        handle = link.send_stream(messages)
        if link.lossy:
            self._streams.append(handle)
        self.counts.streams += 1
        self._count(messages)

    def _count(self, messages: list[bytes]) -> None:
        self.counts.messages += len(messages)
        self.counts.bytes += sum(map(len, messages))


def _rows(values: Mapping[int, Value]) -> list[Record]:
    return [Record(key, value.data, value.tick) for key, value in values.items()]
