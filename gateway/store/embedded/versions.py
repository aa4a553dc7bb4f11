"""Versions as text and as integers. Room: store. Pure.

A version is 10 bytes on the wire (20 hex digits). Inside the engine it is one integer,
``commit << 16 | order``: the engine hands out commit numbers below 2**47, so that it fits
SQLite's 64-bit integers and integer order is version order. What a client sends may be any
20 digits; above the range it is capped, which keeps every comparison right. Source: docs/STORE.md.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import BadInput
from gateway.store.base import Version

TOP: Final = 2**63 - 1
"""Above every version that the engine ever hands out."""
ORDER_BITS: Final = 16
ORDER_MAX: Final = (1 << ORDER_BITS) - 1

_is_version = re.compile(r"[0-9a-fA-F]{20}").fullmatch


def parse(version: Version) -> int:
    """The integer of 20 hex digits. Raises :class:`BadInput` on anything else."""
    if not isinstance(version, str) or _is_version(version) is None:
        raise BadInput(f"version {version!r:.60} is not 20 hex digits")
    value = int(version, 16)
    return value if value < TOP else TOP


def text(value: int) -> Version:
    """The 20 hex digits of an integer version."""
    return f"{value:020x}"
