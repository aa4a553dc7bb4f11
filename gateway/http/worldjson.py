"""The JSON of what is told of worlds, made here and nowhere else. Room: http. Source: ``docs/API.md``, "Worlds"."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence

from gateway import limits
from gateway.core.ports import Mark
from gateway.core.told import Facts, Listed, Overview, Posted, RecordedState, UdpPlace
from gateway.errors import TooLarge
from gateway.wire.layouts import Layout

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
    layout: Object = {} if told.layout is None else {"layout": told.layout.document}
    own: Object = {"retention": told.retention, "ring_s": told.ring_s, **layout}
    far: Object = {} if told.hops is None else {"hops": told.hops, "stale_ms": told.stale_ms}
    return {**facts_json(told.facts), "home": told.home, **delay, **own, **far}


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


def state_json(state: RecordedState, *, values: bool = False) -> bytes:
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
    pieces.append(b"}")
    if values and state.layout is not None:
        pieces += _values(state.layout, state.records)
    pieces.append(b"}")
    return b"".join(pieces)


def _values(layout: Layout, records: Mapping[int, bytes]) -> Iterator[bytes]:
    """The member that says what the records mean, field by field."""
    yield b', "values": {'
    separator, size = b'"', 0
    for key, data in records.items():
        piece = b'%s%d": %s' % (separator, key, json.dumps(layout.read(data)).encode())
        separator, size = b', "', size + len(piece)
        # Looked at while it is made: how large it gets shows in no number beforehand.
        if size > limits.LAYOUT_ANSWER_BYTES_MAX:
            raise TooLarge(
                f"the values of {len(records):,} records have more than {limits.LAYOUT_ANSWER_BYTES_MAX:,} bytes as JSON; ask "
                "without values=1, or give the world a layout of fewer fields"
            )
        yield piece
    yield b"}"
