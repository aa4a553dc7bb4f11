"""The JSON of what is told of worlds, made here and nowhere else. Room: http. Source: ``docs/API.md``, "Worlds"."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from gateway.core.ports import Mark
from gateway.core.told import Facts, Listed, Overview, Posted, RecordedState, UdpPlace

Object = dict[str, object]
"""A JSON object, its members in the order of the answer."""


def mark_json(mark: Mark | None) -> Object | None:
    return None if mark is None else {"epoch": mark.epoch, "tick": mark.tick}


def facts_json(facts: Facts) -> Object:
    return {
        "world": facts.world,
        "stride": facts.stride,
        "epoch": facts.epoch,
        "tick": facts.tick,
        "durable": mark_json(facts.durable),
        "publisher": facts.publisher,
        "readers": facts.readers,
        "rates": dict(facts.rates),
        "records": facts.records,
    }


def overview_json(told: Overview) -> Object:
    """What ``GET``, ``PUT`` and ``PATCH /v1/worlds/{world}`` answer."""
    delay: Object = {} if told.delay_s is None else {"delay_s": told.delay_s}
    own: Object = {"retention": told.retention, "ring_s": told.ring_s}
    return {**facts_json(told.facts), "home": told.home, **delay, **own}


def listed_json(told: Listed) -> Object:
    """One of what ``GET /v1/worlds`` answers."""
    if told.facts is not None:
        return {**facts_json(told.facts), "home": told.home, "open": told.is_open}
    error: Object = {} if told.error is None else {"error": told.error}
    return {"world": told.world, "open": told.is_open, **error}


def posted_json(told: Posted) -> Object:
    """What ``POST /v1/worlds/{world}/frames`` answers."""
    head = {"epoch": told.epoch, "tick": told.tick, "frames": told.frames}
    return {**head, **down_json(told.durable, told.dropped)}


def down_json(durable: Mark | None, dropped: Sequence[tuple[int, int]] | None) -> Object:
    """How far the store is: members of an answer, and of a problem document."""
    lost: Object = {} if dropped is None else {"dropped": [list(span) for span in dropped]}
    return {"durable": mark_json(durable), **lost}


def udp_json(place: UdpPlace) -> Object:
    """What ``POST /v1/worlds/{world}/udp`` answers."""
    return {
        "token": place.token,
        "host": place.host,
        "port": place.port,
        "epoch": place.epoch,
        "silence_ms_max": place.silence_ms_max,
    }


def state_json(state: RecordedState) -> bytes:
    """A recorded state, put together record by record: a writer of JSON would keep all threads waiting while it makes
    megabytes at once, and hold them three times."""
    head = {
        "epoch": state.epoch,
        "tick": state.tick,
        "durable_at": state.durable_at_us,
        "stride": state.stride,
    }
    pieces = [json.dumps(head).encode()[:-1], b', "records": {']
    separator = b'"'
    for key, data in state.records.items():
        pieces += (separator, b"%d" % key, b'": "', base64.b64encode(data), b'"')
        separator = b', "'
    pieces.append(b"}}")
    return b"".join(pieces)
