"""What readers are told that have to go. Room: core. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.core.ports import CloseCode
from gateway.core.sessions import SubscriberSession
from gateway.limits import DRAIN_SPREAD_MS
from gateway.wire.control import encode_control


def come_back_later(readers: Sequence[SubscriberSession], reason: str, reconnect_after_ms: int) -> None:
    """``bye``, with times to come back that are spread over twice ``reconnect_after_ms``, ``DRAIN_SPREAD_MS`` at most:
    whoever is there next does not shake hands with all of them at once."""
    spread = min(DRAIN_SPREAD_MS, 2 * reconnect_after_ms)
    for at, session in enumerate(readers):
        # Evenly by its place in the list, and not by chance: 400 handshakes at once take a core 0.65 s
        # (docs/PERFORMANCE.md).
        after_ms = reconnect_after_ms + spread * at // len(readers)
        session.bye(reason, CloseCode.SHUTTING_DOWN, after_ms)


def go_elsewhere(readers: Iterable[SubscriberSession], name: str, url: str) -> None:
    """The world ``name`` is found at another gateway now, at ``url`` ("": not known)."""
    for session in readers:
        if url:
            path = f"{url}/v1/worlds/{name}/live"
            session.link.control(encode_control("moved", world=name, url=path))
        session.bye("moved", CloseCode.HELD_ELSEWHERE, url=url)
