"""What the query of a live session asks for. Room: core. Pure: text in, :class:`LiveOptions` out.

Source: ``docs/FRAMES.md``, "Opening a session"; ``docs/API.md``. Strict: an unknown key, a key given twice
or a value outside its rule is :class:`BadInput` naming it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

from gateway.core.delay import KEY, parse_delay
from gateway.core.ports import LiveOptions
from gateway.errors import BadInput
from gateway.limits import BUDGET_KBPS_MAX, FOCUS_KEYS_MAX, FOLLOW_CHARS_MAX, QUERY_FIELDS_MAX, WEIGHT_MAX

FOCUS_WEIGHT: Final = 4.0
"""The weight of a key that is named without one; keys that are not named have 1."""
U32_MAX: Final = 0xFFFF_FFFF
RESUME_HEX_DIGITS: Final = 32
"""128 bits: nobody guesses them."""
_SECRETS: Final = re.compile(r"(?i)\b(resume|token)=[^&]*")


def parse_live_query(query: str) -> LiveOptions:
    """``query`` is what stands after the ``?``. Raises :class:`BadInput`."""
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=QUERY_FIELDS_MAX
        )
    except ValueError as error:
        raise BadInput(
            f"the query {_shown(_without_secrets(query))} cannot be read: {error}; write name=value, joined by &"
        ) from None
    values: dict[str, object] = {}
    for name, text in pairs:
        if name not in _PARSERS:
            raise BadInput(f"query key {_shown(name)} is unknown; there are {', '.join(_PARSERS)}")
        # Two of one name are read differently by whoever stands between: the first here, the last there.
        if name in values:
            raise BadInput(f"query key {name!r} is given twice; give it once")
        values[name] = _PARSERS[name](name, text)
    options = replace(LiveOptions(), **values)  # type: ignore[arg-type]  # each parser answers its field's type
    if options.delay_s and options.role == "publish":
        raise BadInput("delay_s goes with role=subscribe: a publisher is taken as it comes")
    return options


def parse_weights(entries: list[tuple[int, float]]) -> dict[int, float]:
    """Checked key weights, as ``?keys=`` and the ``focus`` message give them. Raises :class:`BadInput`."""
    if len(entries) > FOCUS_KEYS_MAX:
        raise BadInput(f"{len(entries)} keys are over the bound of {FOCUS_KEYS_MAX}; name the most important")
    for key, weight in entries:
        if not 0 <= key <= U32_MAX:
            raise BadInput(f"key {key} is not a u32")
        if not (math.isfinite(weight) and 0 < weight <= WEIGHT_MAX):
            raise BadInput(f"weight {weight} of key {key} is not above 0 and at most {WEIGHT_MAX:g}")
    return dict(entries)


def _without_secrets(query: str) -> str:
    """For messages, which end up in logs."""
    return _SECRETS.sub(r"\1=…", query)


def _role(name: str, text: str) -> str:
    if text not in ("publish", "subscribe"):
        raise BadInput(f"{name}={_shown(text)} is neither 'publish' nor 'subscribe'")
    return text


def _flag(name: str, text: str) -> bool:
    if text in ("1", "true"):
        return True
    if text in ("0", "false"):
        return False
    raise BadInput(f"{name}={_shown(text)} is neither 0 nor 1")


def _redundancy(name: str, text: str) -> bool:
    if text not in ("auto", "off"):
        raise BadInput(f"{name}={_shown(text)} is neither 'auto' nor 'off'")
    return text == "auto"


def _number(low: int, high: int, name: str, text: str) -> int:
    # isdigit() holds for other scripts' digits, too, and int() of thousands of digits is refused with another
    # error: the length is looked at before.
    if text.isascii() and text.isdigit() and len(text) <= len(str(high)) and low <= int(text) <= high:
        return int(text)
    raise BadInput(f"{name}={_shown(text)} is not a whole number from {low} to {high}")


def _keys(name: str, text: str) -> dict[int, float]:
    entries: list[tuple[int, float]] = []
    for item in text.split(",") if text else ():
        key, colon, weight = item.partition(":")
        try:
            entries.append((_key(name, key), float(weight) if colon else FOCUS_WEIGHT))
        except ValueError:
            raise BadInput(f"{name}: weight {_shown(weight)} of key {key} is not a number") from None
    return parse_weights(entries)


def _follow(name: str, text: str) -> str:
    if not 0 < len(text) <= FOLLOW_CHARS_MAX:
        raise BadInput(f"{name} has {len(text)} characters; an entity's name has 1 to {FOLLOW_CHARS_MAX}")
    return text


def _resume(name: str, text: str) -> str:
    if len(text) != RESUME_HEX_DIGITS or not set(text.lower()) <= set("0123456789abcdef"):
        raise BadInput(f"{name} is not {RESUME_HEX_DIGITS} hex digits; send what welcome told, or nothing")
    return text.lower()


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


_key: Final = partial(_number, 0, U32_MAX)
_PARSERS: Final[dict[str, Callable[[str, str], object]]] = {
    "role": _role,
    "epoch": _key,
    "takeover": _flag,
    "resume": _resume,
    "zstd": _flag,
    "budget_kbps": partial(_number, 1, BUDGET_KBPS_MAX),
    "keys": _keys,
    "follow": _follow,
    "conflate": _flag,
    KEY: lambda name, text: parse_delay(text),
    "redundancy": _redundancy,
    "parity": _flag,
}
