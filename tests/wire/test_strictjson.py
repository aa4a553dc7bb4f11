"""What Python's JSON reader lets through and nothing after it can write is refused where it comes in."""

from __future__ import annotations

import json

import pytest

from gateway.errors import MalformedMessage
from gateway.limits import JSON_DEPTH_MAX, JSON_DIGITS_MAX
from gateway.wire import strictjson
from gateway.wire.control import decode_control

FAULTS = {
    "NaN": (b'{"a": NaN}', "NaN is not JSON"),
    "Infinity": (b"[-Infinity]", "-Infinity is not JSON"),
    "overflow": (b'{"a": 1e999}', "1e999 is larger than a double"),
    "half": (b'{"a": "\\ud800"}', "half of a surrogate pair"),
    "half in a key": (b'{"\\uDFFF": 1}', "half of a surrogate pair"),
    "digits": (b"9" * (JSON_DIGITS_MAX + 1), f"{JSON_DIGITS_MAX + 1} digits, the bound is {JSON_DIGITS_MAX}"),
    "deep": (b"[" * (JSON_DEPTH_MAX + 1) + b"]" * (JSON_DEPTH_MAX + 1), f"more than {JSON_DEPTH_MAX} deep"),
    "bottomless": (b"[" * 60_000, "too deeply"),
    "no text": (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
    "nothing": (b"", "Expecting value"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told(fault: str) -> None:
    body, words = FAULTS[fault]
    with pytest.raises(ValueError, match=words):
        strictjson.loads(body)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_control_message_has_none_of_them(fault: str) -> None:
    with pytest.raises(MalformedMessage, match="is UTF-8 JSON"):
        decode_control(b'\x10{"type": "focus", "keys": ' + FAULTS[fault][0] + b"}")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2.5, -1e308, null, true, "\\ud83d\\ude00 \\n"]}',
        "[" * JSON_DEPTH_MAX + "]" * JSON_DEPTH_MAX,
        "[" + "[]," * 10_000 + "[]]",
        "9" * JSON_DIGITS_MAX,
        '"\\\\ud800"',
    ],
)
def test_all_else_is_read_and_can_be_written_again(text: str) -> None:
    value = strictjson.loads(text.encode())
    assert value == json.loads(text)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
