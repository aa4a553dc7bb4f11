"""Control messages of the frame protocol: type 16, then one JSON object. Room: wire. Pure.

Source: ``docs/FRAMES.md``, "Control messages".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.errors import GatewayError, MalformedMessage, WorldHeld
from gateway.limits import CONTROL_MESSAGE_BYTES_MAX
from gateway.wire import strictjson

TYPE_CONTROL: Final = 16
CONTROL_BOUND: Final = "control message bytes"
"""What a refusal names the bound of a control message by."""
_TYPE_BYTE: Final = bytes([TYPE_CONTROL])
_encoded: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Control:
    """One control message: its ``type`` and the other members of its JSON object."""

    type: str
    fields: dict[str, object] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: object = None) -> Any:
        return self.fields.get(name, default)


def encode_control(type: str, **fields: object) -> bytes:
    """The message's bytes. ``fields`` are JSON-ready values."""
    return _TYPE_BYTE + _encoded({"type": type, **fields}).encode()


def encode_error(error: GatewayError) -> bytes:
    """The ``error`` message of a refusal; of a world that another gateway holds with where that is."""
    # Nothing else of an error's facts: they may name what whoever asks has no right to see.
    where = ("world", "url") if isinstance(error, WorldHeld) else ()
    facts = {name: error.facts[name] for name in where if name in error.facts}
    return encode_control("error", code=error.code, message=error.message, **facts)


def encode_durable(epoch: int, tick: int, **more: object) -> bytes:
    """The ``durable`` message, of which a busy gateway sends a thousand a second: the bytes of
    :func:`encode_control`. ``more``: further fields, JSON-ready."""
    if more:
        return encode_control("durable", epoch=epoch, tick=tick, **more)
    # Numbers only: nothing in it could want escaping.
    return b'%c{"type":"durable","epoch":%d,"tick":%d}' % (TYPE_CONTROL, epoch, tick)


def decode_control(message: bytes) -> Control:
    """The control message in ``message`` (its type byte included); raises :class:`MalformedMessage`."""
    # Before it is parsed: JSON unpacks to many times its bytes.
    if len(message) > CONTROL_MESSAGE_BYTES_MAX:
        raise MalformedMessage(
            f"a control message of {len(message)} bytes is over the bound of {CONTROL_MESSAGE_BYTES_MAX}; send less in one",
            bound=CONTROL_BOUND,
            limit=CONTROL_MESSAGE_BYTES_MAX,
        )
    if not message or message[0] != TYPE_CONTROL:
        raise MalformedMessage(f"a control message starts with the byte {TYPE_CONTROL}")
    fields = _json_object(message[1:])
    kind = fields.pop("type", None)
    if not isinstance(kind, str):
        raise MalformedMessage(
            'a control message is a JSON object with a text member "type"; this one has none'
        )
    return Control(kind, fields)


def _json_object(body: bytes) -> dict[str, object]:
    try:
        value = strictjson.loads(body)
    except ValueError as error:
        raise MalformedMessage(f"a control message is UTF-8 JSON; this is not: {str(error)[:120]}") from None
    if not isinstance(value, dict):
        raise MalformedMessage("a control message is one JSON object; this is another JSON value")
    return value
