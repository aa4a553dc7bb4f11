"""What stands in a flag, a variable or a file as a setting's value: of its type and within its bounds. Room: config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway import limits
from gateway.config.settings import SETTINGS
from gateway.errors import ConfigError


def parsed(name: str, value: object, where: str) -> object:
    """``value`` (text, or a TOML value) as the setting's type and within its bounds."""
    setting = next(s for s in SETTINGS if s.name == name)
    if word := setting.metadata.get("word"):
        return _number_or(word, value, setting.metadata["most"], where)
    value = _PARSERS[type(setting.default)](value, where)
    choices, low, high = (setting.metadata.get(key) for key in ("choices", "low", "high"))
    if choices and value not in choices:
        raise ConfigError(f"{where}: {value!r} is none of {', '.join(map(str, choices))}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ConfigError(f"{where}: {value} is outside {low} to {high}")
    return value


def _number_or(word: str, value: object, most: int, where: str) -> str:
    """A whole number from 1 on, as text, or that word."""
    if value == word:
        return word
    shown = repr(value)[: limits.NAME_SHOWN_CHARS_MAX]
    is_text = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9
    if not is_text and (not isinstance(value, int) or isinstance(value, bool)):
        raise ConfigError(f"{where}: {shown} is neither a number from 1 to {most} nor {word}")
    number = int(str(value))
    if not 1 <= number <= most:
        raise ConfigError(f"{where}: {shown} is outside 1 to {most}")
    return str(number)


def _parse_bool(value: object, where: str) -> bool:
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ConfigError(f"{where}: {value!r} is not true or false")


def _parse_int(value: Any, where: str) -> int:
    try:
        # int() would take both, and cut off what is behind the point.
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):  # the first: TOML has tables, lists and dates, too
        shown = repr(value)[: limits.NAME_SHOWN_CHARS_MAX]
        raise ConfigError(f"{where}: {shown} is not a whole number") from None


def _parse_str(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {value!r} is not text; put it in quotes")
    return value


def _parse_list(value: object, where: str) -> tuple[str, ...]:
    """Text with commas, or a list of such texts."""
    texts = [_parse_str(text, where) for text in (value if isinstance(value, list) else [value])]
    return tuple(part for text in texts for part in map(str.strip, text.split(",")) if part)


_PARSERS: dict[type, Callable[[object, str], object]] = {
    bool: _parse_bool,
    int: _parse_int,
    str: _parse_str,
    tuple: _parse_list,
}
