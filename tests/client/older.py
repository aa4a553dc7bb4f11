"""A gateway as it was before a reader could say what it wants said twice, made of this one."""

from __future__ import annotations

import pytest

from gateway.core import options
from gateway.core.sessions import SubscriberSession
from gateway.wire import decode_control

SINCE = ("redundancy", "parity")
"""The query keys that it refuses as unknown."""


def without_redundancy(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Neither its keys nor its message are known from now on. The types of what readers say, as they say it."""
    for key in SINCE:
        # Older gateways are no more: this one forgets what they did not know.
        monkeypatch.delitem(options._PARSERS, key)
    types: list[str] = []
    receive = SubscriberSession.receive

    def older(session: SubscriberSession, message: bytes, mono: float) -> None:
        types.append(decode_control(message).type)
        if types[-1] != "redundancy":
            receive(session, message, mono)

    monkeypatch.setattr(SubscriberSession, "receive", older)
    return types
