"""What all workers tell as one: worlds, metrics, health. Room: runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from gateway.core.ports import Mark
from gateway.core.told import Facts, Listed
from gateway.http.metrics import Metric, MetricKind, Sample

LABEL: Final = "worker"
_STORE: Final = ("ok", "lagging", "failing")
"""How the store is, the better first."""


ToldMetric = tuple[str, MetricKind, str, list[tuple[float, dict[str, str], str]]]
"""Name, kind, help, and the samples: value, labels, suffix."""

# -- metrics --------------------------------------------------------------------------------


def told_metrics(metrics: Iterable[Metric]) -> list[ToldMetric]:
    """As JSON, whose arrays stand for tuples."""
    return [
        (one.name, one.kind, one.help, [(s.value, dict(s.labels), s.suffix) for s in one.samples])
        for one in metrics
    ]


def joined_metrics(by_worker: Mapping[str, Sequence[ToldMetric]]) -> list[Metric]:
    """One metric of each name, with every worker's samples under its label."""
    found: dict[str, tuple[MetricKind, str, list[Sample]]] = {}
    for worker, told in by_worker.items():
        for name, kind, text, samples in told:
            _, _, all_samples = found.setdefault(name, (kind, text, []))
            all_samples += [
                Sample(float(value), {LABEL: worker, **labels}, suffix) for value, labels, suffix in samples
            ]
    return [Metric(name, kind, text, tuple(samples)) for name, (kind, text, samples) in found.items()]


# -- worlds ---------------------------------------------------------------------------------


def told_facts(facts: Facts, *, is_home: bool, home: str | None) -> dict[str, object]:
    """As JSON. ``is_home``: whether this worker is the world's home; ``home``: the URL of the gateway that is."""
    return {**asdict(facts), "is_home": is_home, "home": home}


def _facts(told: Mapping[str, Any]) -> Facts:
    values = {name: value for name, value in told.items() if name not in ("is_home", "home")}
    durable = values["durable"]
    return Facts(**{**values, "durable": None if durable is None else Mark(**durable)})


def joined_facts(own: Facts, is_home: bool, others: Iterable[Mapping[str, Any]]) -> Facts:
    """What the home tells, or this worker where no other is it; readers are everybody's."""
    told, readers = own, own.readers
    for other in others:
        readers += int(other["readers"])
        # Between two homes both may say so for a moment: this worker's own word counts.
        if other["is_home"] and not is_home:
            told = _facts(other)
    return replace(told, readers=readers)


def joined_list(
    own: Sequence[Listed], homes: Mapping[str, bool], others: Sequence[Mapping[str, Any]], url: str
) -> list[Listed]:
    """The list of worlds, those that are open at any worker told as open. ``homes``: of what is open here, whether this
    worker is its home; ``others``: each worker's facts, by world; ``url``: of all of them."""
    return [
        _listed(one, homes.get(one.world, False), [o for o in others if one.world in o], url) for one in own
    ]


def _listed(own: Listed, is_home: bool, others: Sequence[Mapping[str, Any]], url: str) -> Listed:
    if not others:
        return own
    told = [other[own.world] for other in others]
    if own.facts is None:
        first = _facts(told[0])
        joined = joined_facts(replace(first, readers=0), False, told)
    else:
        joined = joined_facts(own.facts, is_home, told)
    has_home = is_home or any(one["is_home"] for one in told)
    elsewhere = own.home or next((one["home"] for one in told if one["home"]), None)
    return Listed(own.world, True, joined, url if has_home else elsewhere)


# -- health ---------------------------------------------------------------------------------


def joined_health(
    own: Mapping[str, object], others: Iterable[Mapping[str, object]], wanted: int
) -> dict[str, object]:
    """This worker's, but for what the others say that is worse."""
    told = list(others)
    joined = dict(own)
    for other in told:
        for name, value in other.items():
            if name == "worlds_open":
                joined[name] = _number(joined.get(name, 0)) + _number(value)
            elif name not in joined or _is_worse(name, value, joined[name]):
                joined[name] = value
    return {**joined, "workers": {"wanted": wanted, "alive": 1 + len(told)}}


def _number(value: object) -> int | float:
    return value if isinstance(value, int | float) else 0


def _is_worse(name: str, value: object, than: object) -> bool:
    if name == "store":
        return _STORE.index(str(value)) > _STORE.index(str(than))
    if name == "late_worlds":
        return isinstance(value, list) and len(value) > len(list(than) if isinstance(than, Iterable) else ())
    return name == "oldest_waiting_ms" and _number(value) > _number(than)


def joined_ready(own: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Ready while every worker is that answers."""
    missing, oldest_ms = list(own["missing"]), own["oldest_waiting_ms"]
    for other in others:
        missing += [why for why in other["missing"] if why not in missing]
        oldest_ms = max(oldest_ms, other["oldest_waiting_ms"])
    return {**own, "ready": not missing, "missing": missing, "oldest_waiting_ms": oldest_ms}
