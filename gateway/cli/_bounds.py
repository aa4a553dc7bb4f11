"""Whether what a flag was given lies where it may. Room: cli."""

from __future__ import annotations

from gateway.errors import ConfigError


def check(flag: str, given: float | None, low: float, high: float, unit: str = "") -> None:
    """Raises :class:`ConfigError` with the flag, what it was given and both bounds, where that is not from ``low`` to
    ``high``; NaN never is. None: the flag was not given."""
    if given is None or low <= given <= high:
        return
    raise ConfigError(f"{flag} {_shown(given)} is outside {_shown(low)} to {_shown(high)} {unit}".rstrip())


def _shown(number: float) -> str:
    return f"{number}" if isinstance(number, int) else f"{number:g}"
