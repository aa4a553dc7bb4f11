"""Every control message there is: who says it to whom, and with which fields. Room: wire. Plain data.

``tests/wire/test_controls.py`` holds docs/FRAMES.md, the gateway, the Python client and the kits against it.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

End = Literal["gateway", "publisher", "reader", "both"]
"""``both``: publishers and readers."""


class ControlType(NamedTuple):
    """One type. ``fields`` are always there, ``more`` where its page says so."""

    said_by: End
    to: End
    fields: tuple[str, ...] = ()
    more: tuple[str, ...] = ()


_WHERE: Final = ("world", "url")

SESSION: Final[dict[str, ControlType]] = {
    "welcome": ControlType(
        "gateway",
        "both",
        ("world", "role", "epoch", "tick", "durable", "max_datagram", "server_time"),
        ("resume", "delay_s", "hops", "stale_ms"),
    ),
    "durable": ControlType("gateway", "publisher", ("epoch", "tick"), ("dropped", "commits")),
    "lags": ControlType("publisher", "gateway"),
    "changes": ControlType("publisher", "gateway"),
    "resync": ControlType("gateway", "reader", ("reason",)),
    "moved": ControlType("gateway", "reader", _WHERE),
    "notice": ControlType("gateway", "publisher", ("code", "message"), ("bound", "limit", "refused")),
    "bye": ControlType("gateway", "both", ("reason", "reconnect_after_ms"), _WHERE),
    "error": ControlType("gateway", "both", ("code", "message"), _WHERE),
    "token": ControlType("both", "gateway", ("token",)),
    "granted": ControlType("gateway", "both", ("expires",)),
    "focus": ControlType("reader", "gateway", ("keys",), ("weights",)),
    "redundancy": ControlType("reader", "gateway", (), ("mode", "parity")),
    "edge": ControlType("reader", "gateway"),
    "source": ControlType(
        "gateway",
        "reader",
        ("home", "hops", "via", "epoch", "durable", "records", "stale_ms"),
        ("known", "born"),
    ),
    "ping": ControlType("both", "gateway"),
    "pong": ControlType("gateway", "both"),
}
"""In sessions of frames: docs/FRAMES.md, "Control messages", in the order of its table."""

RECORDING: Final[dict[str, ControlType]] = {
    "gap": ControlType("gateway", "reader", ("epoch", "from", "to", "reason")),
    "row": ControlType("gateway", "reader", ("seq", "epoch", "tick", "received_at", "sent_at")),
    "position": ControlType("gateway", "reader"),
    "refused": ControlType("gateway", "reader", ("command",), ("code", "message")),
}
"""Between recorded frames, and in replays:"""

ENTITIES: Final[dict[str, ControlType]] = {
    "end": ControlType("gateway", "reader", ("revision",)),
    "revision": ControlType("gateway", "reader", ("revision",), ("reset",)),
    "reset": ControlType("gateway", "reader", ("revision",)),
    "moved": ControlType("gateway", "reader", _WHERE, ("entity",)),
}
"""In lists and watches of entities:"""

CONTROL_TYPES: Final = {**SESSION, **RECORDING, **ENTITIES}
