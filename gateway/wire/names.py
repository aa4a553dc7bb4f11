"""The rule for world names. Room: wire. Pure; nothing enters but the error tree and the limits.

Source: ``docs/FRAMES.md``, "What is said": ``[A-Za-z0-9][A-Za-z0-9._-]{0,62}``. A name never has a ``:``,
which in mvstore would make it a hash-protected namespace key.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import BadName
from gateway.limits import NAME_SHOWN_CHARS_MAX, WORLD_NAME_CHARS_MAX

_WORLD_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{WORLD_NAME_CHARS_MAX - 1}}}")


def is_world_name(name: str) -> bool:
    """True for a name that a world may have."""
    return _WORLD_NAME.fullmatch(name) is not None


def world_name(name: str) -> str:
    """Answer ``name`` itself, or raise :class:`BadName` naming it and the rule."""
    if is_world_name(name):
        return name
    shown = name if len(name) <= NAME_SHOWN_CHARS_MAX else name[:NAME_SHOWN_CHARS_MAX] + "…"
    raise BadName(
        f"world name {shown!r} is outside the rule: 1 to {WORLD_NAME_CHARS_MAX} characters of "
        "A-Z a-z 0-9 . _ -, the first a letter or digit; choose another name"
    )
