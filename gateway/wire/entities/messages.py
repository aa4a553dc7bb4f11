"""Entity messages: what streams of entities, changes and batches are made of. Room: wire; pure.

One message: u8 type 32, u8 flags (0), u16 zero, u32 ``head_bytes``, the head (UTF-8 JSON, one
object with an ``"id"``), then the state's bytes up to the message's end. All integers are
little-endian; on a stream each message is preceded by its u32 length, as frames are. Source: docs/ENTITIES.md.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Final

from gateway.errors import MalformedMessage
from gateway.limits import ENTITY_HEAD_BYTES_MAX
from gateway.wire import strictjson

ENTITY: Final = 32
ENTITIES_TYPE: Final = "application/vnd.mvgateway.entities"
"""The content type of a body of length-prefixed messages, these or control messages."""

_HEADER: Final = struct.Struct("<BBHI")
_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode


def encode_entity(head: Mapping[str, object], state: bytes = b"") -> bytes:
    """One message. ``head`` is JSON-ready."""
    text = _to_json(head).encode()
    return _HEADER.pack(ENTITY, 0, 0, len(text)) + text + state


def decode_entity(message: bytes) -> tuple[dict[str, object], bytes]:
    """(head, state). Raises :class:`MalformedMessage`."""
    if len(message) < _HEADER.size:
        raise MalformedMessage(
            f"an entity message has {_HEADER.size} bytes at least, this one {len(message)}"
        )
    kind, _, _, head_bytes = _HEADER.unpack_from(message)
    if kind != ENTITY:
        raise MalformedMessage(f"an entity message is of type {ENTITY}, this one of {kind}")
    end = _HEADER.size + head_bytes
    if head_bytes > ENTITY_HEAD_BYTES_MAX or end > len(message):
        raise MalformedMessage(
            f"an entity's head of {head_bytes} bytes; at most {ENTITY_HEAD_BYTES_MAX}, and within the message"
        )
    try:
        head = strictjson.loads(message[_HEADER.size : end])
    except ValueError as error:
        raise MalformedMessage(f"an entity's head is not JSON: {error}") from None
    if not isinstance(head, dict):
        raise MalformedMessage("an entity's head is JSON, but not an object")
    return head, message[end:]
