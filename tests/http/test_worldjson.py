"""The JSON of what is told of worlds: these members, in this order, to the byte."""

from __future__ import annotations

import json

import pytest
from starlette.responses import JSONResponse

from gateway import limits
from gateway.core.ports import Mark
from gateway.core.told import Facts, Listed, Overview, Posted, RecordedState, UdpPlace
from gateway.errors import TooLarge
from gateway.http.worldjson import listed_json, overview_json, posted_json, state_json, udp_json
from gateway.wire.layouts import parse

FACTS = Facts("arena", 100, 2, 7, Mark(2, 6), "udp", 3, {"frames_per_s": 60.0}, 9)
FACTS_TEXT = (
    b'"world":"arena","stride":100,"epoch":2,"tick":7,"durable":{"epoch":2,"tick":6},"publisher":"udp",'
    b'"readers":3,"rates":{"frames_per_s":60.0},"records":9'
)


def body(told: dict[str, object]) -> bytes:
    return bytes(JSONResponse(told).body)


def test_a_world_as_it_is() -> None:
    rest = b',"home":"https://a","retention":"ring","ring_s":900}'
    assert body(overview_json(Overview(FACTS, "https://a", "ring", 900))) == b"{" + FACTS_TEXT + rest


def test_a_world_as_it_was_of_which_nothing_is_durable() -> None:
    facts = Facts("arena", 0, 0, 0, None)
    expected = (
        b'{"world":"arena","stride":0,"epoch":0,"tick":0,"durable":null,"publisher":null,"readers":0,"rates":{},'
        b'"records":0,"home":null,"delay_s":2.5,"retention":"record","ring_s":60}'
    )
    assert body(overview_json(Overview(facts, None, "record", 60, 2.5))) == expected


def test_the_list_of_worlds() -> None:
    live = body(listed_json(Listed("arena", True, FACTS, "https://a")))
    assert live == b"{" + FACTS_TEXT + b',"home":"https://a","open":true}'
    assert body(listed_json(Listed("arena", True))) == b'{"world":"arena","open":true}'
    assert body(listed_json(Listed("a", False))) == b'{"world":"a","open":false}'
    assert (
        body(listed_json(Listed("a", False, error="damaged")))
        == b'{"world":"a","open":false,"error":"damaged"}'
    )


def test_what_became_of_frames() -> None:
    down = b'{"epoch":1,"tick":5,"frames":2,"durable":{"epoch":1,"tick":3}'
    assert body(posted_json(Posted(1, 5, 2, Mark(1, 3)))) == down + b"}"
    assert body(posted_json(Posted(1, 5, 2, Mark(1, 3), [(4, 4)]))) == down + b',"dropped":[[4,4]]}'
    assert body(posted_json(Posted(1, 5, 2, None))) == b'{"epoch":1,"tick":5,"frames":2,"durable":null}'


def test_where_to_send_plain_datagrams() -> None:
    expected = b'{"token":"00ff","host":"127.0.0.1","port":4434,"epoch":3,"silence_ms_max":5000}'
    assert body(udp_json(UdpPlace("00ff", "127.0.0.1", 4434, 3, 5_000))) == expected


def test_a_recorded_state() -> None:
    text = state_json(RecordedState(1, 5, 1_700, 0, {1: b"a", 2: b""}, []))
    assert (
        text == b'{"epoch": 1, "tick": 5, "durable_at": 1700, "stride": 0, "records": {"1": "YQ==", "2": ""}}'
    )
    empty = state_json(RecordedState(1, 5, 1_700, 0, {}, []))
    assert json.loads(empty)["records"] == {}


def test_values_of_exactly_the_bound_are_told_and_a_byte_more_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = parse({"fields": [{"name": "a", "type": "u8", "offset": 0}]})
    state = RecordedState(1, 1, 0, 0, {1: b"\x01", 2: b"\x02"}, (), layout)
    told = json.loads(state_json(state, values=True))["values"]
    size = len(b'"1": {"a": 1}, "2": {"a": 2}')
    assert told == {"1": {"a": 1}, "2": {"a": 2}}
    monkeypatch.setattr(limits, "LAYOUT_ANSWER_BYTES_MAX", size)
    state_json(state, values=True)
    monkeypatch.setattr(limits, "LAYOUT_ANSWER_BYTES_MAX", size - 1)
    with pytest.raises(TooLarge, match=f"more than {size - 1:,} bytes"):
        state_json(state, values=True)
