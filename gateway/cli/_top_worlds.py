"""What several gateways say of each world, as one row. Room: cli. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.cli._top_look import Look, WorldNumbers, loss_percent, whole

Pair = tuple[Look, Look | None]
"""A gateway's newest look, and the one before it."""


def world_rows(pairs: Mapping[str, Pair]) -> list[dict[str, object]]:
    """Of all worlds that are open anywhere, those with the most readers first. ``pairs``: by the gateways' URLs."""
    names = {name for now, _ in pairs.values() for name, told in now.worlds.items() if told.get("open")}
    rows = [
        _row(name, {url: pair for url, pair in pairs.items() if name in pair[0].worlds}) for name in names
    ]
    return sorted(rows, key=lambda row: (-whole(row["readers"]), str(row["world"])))


def _row(name: str, pairs: Mapping[str, Pair]) -> dict[str, object]:
    url = _teller(name, pairs)
    now, before = pairs[url]
    told = now.worlds[name]
    numbers = [now.told[name] for now, _ in pairs.values() if name in now.told]
    return {
        "world": name,
        "home": told.get("home"),
        "publisher": told.get("publisher"),
        "readers": sum(_readers(name, now) for now, _ in pairs.values()),
        "records": told.get("records"),
        "epoch": told.get("epoch"),
        "tick": told.get("tick"),
        "tick_rate": _tick_rate(name, now, before),
        "lag_ms": round(1_000 * max(one.waiting_s for one in numbers)) if numbers else None,
        "loss_percent": loss_percent(numbers, _before(name, pairs)),
    }


def _teller(name: str, pairs: Mapping[str, Pair]) -> str:
    """Whose word counts: the home's, else that of whoever is farthest."""

    def rank(url: str) -> tuple[bool, bool, int, int]:
        now, _ = pairs[url]
        told = now.worlds[name]
        is_home = name in now.told and now.told[name].is_home
        return is_home, told.get("publisher") is not None, whole(told.get("epoch")), whole(told.get("tick"))

    return max(pairs, key=rank)


def _readers(name: str, now: Look) -> int:
    if name in now.told:
        return int(now.told[name].readers)
    return whole(now.worlds[name].get("readers"))


def _tick_rate(name: str, now: Look, before: Look | None) -> float | None:
    earlier = None if before is None else before.worlds.get(name)
    if before is None or earlier is None or now.at <= before.at:
        return None
    told = now.worlds[name]
    ticks = whole(told.get("tick")) - whole(earlier.get("tick"))
    if told.get("epoch") != earlier.get("epoch") or ticks < 0:
        return None
    return round(ticks / (now.at - before.at), 1)


def _before(name: str, pairs: Mapping[str, Pair]) -> list[WorldNumbers] | None:
    looks = [before for _, before in pairs.values()]
    if any(look is None for look in looks):
        return None
    return [look.told[name] for look in looks if look is not None and name in look.told]
