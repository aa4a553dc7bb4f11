"""Values of a shape out of MessagePack: fields of maps or arrays, each checked. Room: wire. Pure.

What mvstore's readers (serde) take: a map with string keys or an array in field order, unknown
fields ignored, missing optional ones absent. Everything else raises :class:`MalformedMessage`.
Sources: docs/STORE.md; https://github.com/msgpack/msgpack/blob/master/spec.md.
"""

from __future__ import annotations

from typing import Final

# Ignored: it comes without types (no py.typed in msgpack 1).
import msgpack  # type: ignore[import-untyped]

from gateway.errors import MalformedMessage

HASH_BYTES: Final = 32
U32_MAX: Final = 0xFFFF_FFFF
MISSING: Final = object()
"""Stands for a field that was not sent."""

_packer = msgpack.Packer(use_bin_type=True)


def pack(value: object) -> bytes:
    """MessagePack of plain values, byte strings as ``bin``."""
    packed: bytes = _packer.pack(value)
    return packed


NUMBERS: Final = [pack(number) for number in range(0x100)]
"""Page numbers of a byte, packed; larger ones take a mark before two bytes, or four."""


def fields(contents: bytes, *names: str) -> list[object]:
    """The named fields of a map, or of an array in field order; ``MISSING`` where there is none."""
    try:
        # Keys of any kind: a field that we do not know may have one, and is to be ignored, not refused.
        value = msgpack.unpackb(contents, raw=False, strict_map_key=False)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise MalformedMessage(f"not MessagePack: {str(error) or type(error).__name__}") from error
    if isinstance(value, dict):
        return [value.get(name, MISSING) for name in names]
    if isinstance(value, list):
        return (value + [MISSING] * len(names))[: len(names)]
    raise MalformedMessage(f"a {type(value).__name__} where a map with {', '.join(names)} belongs")


def _wrong(name: str, value: object, wanted: str) -> MalformedMessage:
    found = "nothing" if value is MISSING else "nil" if value is None else type(value).__name__
    return MalformedMessage(f"{name} is {found}, not {wanted}")


def count(value: object, name: str) -> int:
    """A number from 0, of any size."""
    # Not isinstance(): True is an int in Python, and none in MessagePack.
    if type(value) is not int or value < 0:
        raise _wrong(name, value, "a number from 0")
    return value


def u32(value: object, name: str) -> int:
    """A number that fits unsigned 32 bits."""
    if type(value) is not int or not 0 <= value <= U32_MAX:
        raise _wrong(name, value, "a u32")
    return value


def text(value: object, name: str) -> str:
    """A string."""
    if type(value) is not str:
        raise _wrong(name, value, "a string")
    return value


def text_or_none(value: object, name: str) -> str | None:
    """A string; None for nil or where nothing was sent."""
    return None if value is None or value is MISSING else text(value, name)


def binary(value: object, name: str) -> bytes:
    """A byte string."""
    if type(value) is not bytes:
        raise _wrong(name, value, "a byte string")
    return value


def hash32(value: object) -> bytes:
    """A BLAKE3-256 hash."""
    found = binary(value, "hash")
    if len(found) != HASH_BYTES:
        raise MalformedMessage(f"a hash has {len(found)} bytes, not {HASH_BYTES}")
    return found


def flag(value: object, name: str) -> bool:
    """A boolean; false where nothing was sent."""
    if value is MISSING:
        return False
    if type(value) is not bool:
        raise _wrong(name, value, "true or false")
    return value


def pages_or_none(value: object) -> frozenset[int] | None:
    """A set of page numbers; None for nil or where nothing was sent."""
    if value is None or value is MISSING:
        return None
    if type(value) is not list:
        raise _wrong("read_set", value, "an array of pages")
    return frozenset(u32(page, "read_set") for page in value)
