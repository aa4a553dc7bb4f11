"""The client where streams come in another order than they were sent, as WebTransport lets them."""

from __future__ import annotations

from gateway import limits
from gateway.client import Subscriber
from gateway.client.session import LiveSession
from gateway.wire import Frame, Record, encode_control, encode_frame, prefix
from tests.core.links import RecordingLink

WELCOME = encode_control("welcome", world="film", role="replay", epoch=1, tick=30)


def test_what_overtakes_the_welcome_counts_after_it() -> None:
    said: list[str] = []
    reader = Subscriber(
        "https://127.0.0.1", "film", replay={"paused": 1}, on_event=lambda event: said.append(event.type)
    )
    session = LiveSession(RecordingLink(lossy=True), reader)
    keyframe = encode_frame(Frame(1, 7, [Record(1, b"x")], keyframe=True))
    position = encode_control("position", epoch=1, tick=7, speed=0, ended=False)
    session.on_stream_data(7, prefix(encode_control("resync", reason="seek")) + prefix(keyframe), False, 0.0)
    session.on_stream_data(7, prefix(position), True, 0.0)
    assert said == []
    session.on_stream_data(3, prefix(WELCOME), False, 0.0)
    assert said == ["welcome", "resync", "position"]
    assert reader.records() == {1: b"x"}
    assert (reader.epoch, reader.tick) == (1, 7), "the place that is shown, not the newest that welcome names"


def test_what_comes_before_a_welcome_has_a_bound() -> None:
    link = RecordingLink(lossy=True)
    session = LiveSession(link, Subscriber("https://127.0.0.1", "arena"))
    message = encode_frame(Frame(1, 1, [Record(1, bytes(4 * limits.MIB))]))
    for _ in range(limits.CLIENT_EARLY_BYTES_MAX // len(message) + 1):
        session.on_message(message, 0.0)
    assert link.closed is not None
    assert session.ended_by is not None
    assert str(limits.CLIENT_EARLY_BYTES_MAX) in session.ended_by.message
