"""A world's options as clients send them, checked. Room: runtime. Source: ``docs/API.md``, "Worlds"."""

from __future__ import annotations

from collections.abc import Mapping

from gateway import limits
from gateway.errors import Unprocessable
from gateway.wire.layouts import resolve

OPTION_NAMES = ("stride", "retention", "ring_s", "layout")
_OPTION_MIN = {"stride": 0, "ring_s": 1}
_OPTION_MAX = {"stride": 65_535, "ring_s": limits.RING_S_MAX}


def checked_options(options: Mapping[str, object], names: tuple[str, ...]) -> dict[str, object]:
    """A world's options as a client sent them, a layout read. Raises :class:`Unprocessable` naming the key."""
    checked = dict(options)
    for name, value in options.items():
        if name not in names:
            raise Unprocessable(f"option {name[:64]!r} is unknown here; known are {', '.join(names)}")
        if name == "retention":
            if value not in ("ring", "record"):
                raise Unprocessable(f"retention {value!r:.64} is neither 'ring' nor 'record'")
        elif name == "layout":
            checked[name] = None if value is None else resolve(value)
        elif (
            not isinstance(value, int)
            or isinstance(value, bool)
            or not _OPTION_MIN[name] <= value <= _OPTION_MAX[name]
        ):
            raise Unprocessable(
                f"{name} {value!r:.64} is not a whole number from {_OPTION_MIN[name]} to {_OPTION_MAX[name]}"
                + ("; to keep more, say retention 'record'" if name == "ring_s" else "")
            )
    if options.get("stride") in (1, 2, 3):
        raise Unprocessable(
            "a stride below 4 has no room for the record's key; 0 means that records carry lengths"
        )
    return checked
