"""Values of a world's records by field, for whoever follows it. Room: cli."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from gateway import limits
from gateway.errors import ConfigError, GatewayError

if TYPE_CHECKING:
    from gateway.client import HttpClient
    from gateway.wire.layouts import Layout


def parse_keys(text: str) -> tuple[int, ...]:
    """``7,9``: these records; empty: the first ones. Raises :class:`ConfigError`."""
    keys = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        if not (part.isascii() and part.isdigit() and len(part) <= 10 and int(part) <= 0xFFFF_FFFF):
            raise ConfigError(f"--values {text!r:.80} is not a list of keys such as 7,9")
        keys.append(int(part))
    return tuple(keys)


class Values:
    """What the records mean, asked of the gateway now and then: a layout may be changed meanwhile. ``keys``: which records;
    none: the first ones."""

    def __init__(self, client: Callable[[], HttpClient], world: str, keys: tuple[int, ...]) -> None:
        self._client = client
        self._world = world
        self._keys = keys
        self._layout: Layout | None = None
        self._looked = float("-inf")

    async def look(self) -> None:
        """Ask, where it is time. Raises :class:`ConfigError` where the world has no layout."""
        from gateway.client.address import world_path
        from gateway.wire.layouts import told

        if time.monotonic() - self._looked < limits.WATCH_LAYOUT_LOOK_S:
            return
        first, self._looked = self._looked == float("-inf"), time.monotonic()
        try:
            async with self._client() as client:
                found = told((await client.get_json(world_path(self._world))).get("layout"))
        except GatewayError:
            if first:
                raise
            return  # what was known holds
        if found is None and first:
            raise ConfigError(
                f"world {self._world} has no layout, by which --values could be shown; give it one "
                f"(mvgateway worlds set {self._world} --layout NAME)"
            )
        self._layout = found or self._layout

    def of(self, state: Mapping[int, bytes]) -> dict[int, dict[str, object]]:
        """key → field → value."""
        layout, shown = self._layout, self._chosen(state)
        if layout is None:
            return {}
        return {key: layout.read(state[key]) for key in shown if key in state}

    def _chosen(self, state: Iterable[int]) -> Iterable[int]:
        return self._keys or sorted(state)[: limits.WATCH_RECORDS_SHOWN_MAX]

    def lines(self, state: Mapping[int, bytes]) -> list[str]:
        """A line for each record that is shown, and how many are not."""
        found = self.of(state)
        lines = [
            f"{key:>10}  {'  '.join(f'{name} {_shown(value)}' for name, value in fields.items())}"
            for key, fields in found.items()
        ]
        if not self._keys and len(state) > len(found):
            lines.append(f"            … {len(state) - len(found)} more; --values KEY,KEY shows those")
        return lines


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return f"({', '.join(map(_shown, value))})"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
