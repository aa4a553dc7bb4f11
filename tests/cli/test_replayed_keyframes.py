"""What a replay sends into a world where the recording has keyframes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.cli.replay import WorldSink
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.journal import JournalFrame


class Sent:
    """In place of a publisher."""

    def __init__(self) -> None:
        self.sent: list[tuple[dict[int, bytes | None], bool]] = []

    def send(self, records: dict[int, bytes | None], *, keyframe: bool = False) -> None:
        self.sent.append((records, keyframe))


def row(*frames: Frame) -> JournalFrame:
    return JournalFrame(0, 1, 7, 0, 0, False, tuple(map(encode_frame, frames)))


def part(number: int, parts: int, *, keyframe: bool = True) -> Frame:
    return Frame(1, 7, [Record(number, b"x")], keyframe=keyframe, part=number, parts=parts)


@pytest.mark.parametrize(
    ("recorded", "is_keyframe"),
    [
        (row(part(0, 1)), True),
        (row(part(0, 2), part(1, 2)), True),
        (row(part(1, 2)), False),
        (row(part(0, 1, keyframe=False)), False),
        (row(part(0, 0)), False),
    ],
)
def test_a_whole_keyframe_is_sent_as_one(recorded: JournalFrame, is_keyframe: bool) -> None:
    sent = Sent()
    WorldSink(cast(Any, sent)).show(recorded)
    ((records, keyframe),) = sent.sent
    assert (len(records), keyframe) == (len(recorded.messages), is_keyframe)
