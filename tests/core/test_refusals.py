"""What a refused message means to whoever sends: cut it, wait, go by streams for ever, or be done."""

from __future__ import annotations

import pytest

from gateway.client.sender import FrameSender
from gateway.core.bundle import Bundle
from gateway.core.notices import DurableNotices
from gateway.core.outgoing import Outgoing
from gateway.core.ports import Mark, Refusal, Sent
from gateway.core.reader import Reader
from gateway.core.state import WorldState
from gateway.wire import Frame, Record, decode_message, encode_frame
from tests.core.links import RecordingLink, offer_alone


class Refusing(RecordingLink):
    """A link that refuses every datagram for the same reason, and says of their size what it did before."""

    def __init__(self, why: Refusal | None) -> None:
        super().__init__()
        self.why, self.asked = why, 0

    def send(self, message: bytes, token: int) -> Sent:
        self.asked += 1
        return super().send(message, token) if self.why is None else self.why

    def carried(self) -> dict[int, bytes]:
        """The newest values that its streams brought."""
        messages = [decode_message(message) for stream in self.streams.values() for message in stream]
        frames = [message for message in messages if isinstance(message, Frame)]
        return {record.key: record.data or b"" for frame in frames for record in frame.records}


class Rig:
    def __init__(self, why: Refusal | None, **options: object) -> None:
        self.state, self.link = WorldState(), Refusing(why)
        self.reader = Reader(self.state, self.link, 0.0, **options)  # type: ignore[arg-type]
        self.tick = 0
        self.newest: dict[int, bytes] = {}

    def publish(self, values: dict[int, bytes], mono: float) -> None:
        self.tick += 1
        self.newest |= values
        frame = Frame(1, self.tick, [Record(key, data) for key, data in values.items()])
        keys = self.state.apply(frame).changed
        offer_alone(self.reader, Bundle([Outgoing(frame, encode_frame(frame), keys)]), mono)


def _all_done(link: RecordingLink) -> None:
    link.done |= set(link.streams)


@pytest.mark.parametrize("budget_kbps", [None, 1_000])
def test_a_reader_whose_link_takes_no_datagrams_gets_everything_by_streams(budget_kbps: int | None) -> None:
    rig = Rig(Refusal.UNSUPPORTED, budget_kbps=budget_kbps)
    for tick in range(50):
        mono = tick / 60
        rig.publish({1: b"one %d" % tick, 2 + tick % 3: b"other %d" % tick}, mono)
        _all_done(rig.link)
        rig.reader.poll(mono + 0.008)
    for turn in range(20):
        _all_done(rig.link)
        rig.reader.poll(1.0 + turn / 60)
    assert rig.link.carried() == rig.newest
    assert rig.link.asked == 1, "it is not asked again"
    assert not rig.reader.waiting


def test_nothing_is_kept_for_a_reader_whose_link_is_over() -> None:
    rig = Rig(Refusal.CLOSED)
    for tick in range(200):
        rig.publish({tick: b"value"}, tick / 60)
        assert rig.reader.poll(tick / 60 + 0.001) is None
    assert rig.link.asked == 1
    assert not rig.reader.stale
    assert not rig.reader.waiting
    assert rig.reader.taken is None, "the late log does not wait for it"
    rig.reader.want_keyframe("epoch", 5.0)
    assert rig.reader.poll(9.0) is None
    assert not rig.link.streams


def test_a_message_that_no_longer_fits_the_path_goes_by_a_stream_at_once() -> None:
    rig = Rig(Refusal.BLOCKED)
    rig.publish({1: b"value"}, 0.0)
    assert rig.reader.waiting, "blocked: it goes later"
    assert not rig.link.streams
    rig.link.why = Refusal.TOO_LARGE
    rig.reader.on_writable(0.1)
    assert rig.link.carried() == {1: b"value"}
    assert not rig.reader.waiting


@pytest.mark.parametrize("why", [Refusal.UNSUPPORTED, Refusal.TOO_LARGE])
def test_a_publisher_that_no_datagram_reaches_hears_what_is_durable_on_its_control_stream(
    why: Refusal,
) -> None:
    link, notice = Refusing(why), DurableNotices()
    notice.say(Mark(1, 7), link, 0.0)
    assert link.control_types() == ["durable"]


def test_a_publisher_whose_link_is_blocked_hears_it_later() -> None:
    link, notice = Refusing(Refusal.BLOCKED), DurableNotices()
    notice.say(Mark(1, 7), link, 0.0)
    assert link.control_types() == []
    link.why = None
    notice.say(Mark(1, 8), link, 1.0)
    assert len(link.sent) == 1


@pytest.mark.parametrize("why", [Refusal.UNSUPPORTED, Refusal.TOO_LARGE])
def test_a_publishers_frame_that_no_datagram_takes_goes_by_a_stream(why: Refusal) -> None:
    link, sender = Refusing(why), FrameSender(0, lambda: 0)
    sender.epoch, sender.tick = 1, 1
    sender.send(link, {1: b"value"}, keyframe=False)
    assert link.carried() == {1: b"value"}


def test_a_publishers_frame_that_is_blocked_goes_later_as_its_newest_values() -> None:
    link, sender = Refusing(Refusal.BLOCKED), FrameSender(0, lambda: 0)
    sender.epoch, sender.tick = 1, 1
    sender.outbox.put({1: b"value"}, 1)
    sender.send(link, {1: b"value"}, keyframe=False)
    assert not link.streams
    assert sender.outbox.stale


@pytest.mark.parametrize("why", list(Refusal))
def test_a_refusal_is_false_as_an_answer_to_whether_it_went(why: Refusal) -> None:
    assert not why
