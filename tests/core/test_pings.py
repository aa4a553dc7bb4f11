"""``ping``: whoever asks hears that the path is alive, and cannot make the gateway say more than ten a second."""

from __future__ import annotations

import pytest

from gateway.core.ports import LiveOptions
from gateway.core.world import World, WorldSettings
from gateway.limits import PONG_S_MIN
from gateway.wire import encode_control
from tests.core.links import RecordingLink


@pytest.mark.parametrize("role", ["publish", "subscribe"])
def test_a_ping_is_answered_and_a_flood_of_them_is_not(role: str) -> None:
    world = World("arena", WorldSettings(), mono=0.0, now_us=0)
    link = RecordingLink()
    session = (
        world.attach_publisher(link, 1, 0.0, fresh="ab" * 16)
        if role == "publish"
        else world.attach_subscriber(link, LiveOptions(), 0.0)
    )
    session.receive(encode_control("ping"), 1.0)
    assert link.control_types().count("pong") == 1
    for n in range(10_000):
        session.receive(encode_control("ping"), 1.0 + n / 10_000)
    assert link.control_types().count("pong") <= 1 + 1 / PONG_S_MIN
    assert link.closed is None


def test_a_ping_is_answered_again_when_its_time_has_just_come() -> None:
    link = RecordingLink()
    session = World("arena", WorldSettings(), mono=0.0, now_us=0).attach_subscriber(link, LiveOptions(), 0.0)
    for mono, answers in ((1.0, 1), (1.0 + PONG_S_MIN / 2, 1), (1.0 + PONG_S_MIN, 2)):
        session.receive(encode_control("ping"), mono)
        assert link.control_types().count("pong") == answers
