"""JSON as RFC 8259 has it, of what a peer sent. Room: wire. Pure.

Python's reader lets through what its own writer, SQLite and other readers then fail on: ``NaN`` and ``Infinity``,
numbers that overflow to them, halves of surrogate pairs, and values nested so deeply that writing them again runs
out of stack. Here they are refused where they come in.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final, NoReturn

from gateway.limits import JSON_DEPTH_MAX, JSON_DIGITS_MAX

_HALVES: Final = re.compile(r"\\u[dD][89a-fA-F]")


def loads(body: bytes | bytearray | str, depth_max: int = JSON_DEPTH_MAX) -> object:
    """The value of a JSON text (UTF-8), nested so deep at most. Raises ``ValueError`` that says what is wrong with it.
    RFC 8259 sections 6 and 8.2."""
    try:
        text = body if isinstance(body, str) else body.decode("utf-8")
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply to be read; send it flatter") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    # Cheap and never too low: brackets within strings count too, and only then the value is walked.
    if text.count("[") + text.count("{") > depth_max:
        _check_depth(value, depth_max)
    # Decoded halves are str without being text: encoding one raises later, in SQLite or in another's answer.
    if _HALVES.search(text):
        _check_text(value)
    return value


def _check_depth(value: object, depth_max: int) -> None:
    level = [value]
    # By levels, not by recursion: this is the place that must not run out of stack.
    for _ in range(depth_max):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    if any(isinstance(one, dict | list) for one in level):
        raise ValueError(f"it is nested more than {depth_max} deep; send it flatter")


def _check_text(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a \\u escape is half of a surrogate pair, which is no character") from None


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _float(digits: str) -> float:
    # 1e400 is inf in Python, which JSON cannot say (RFC 8259 section 6).
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:20]} is larger than a double holds; send a smaller one")
    return number


def _int(digits: str) -> int:
    # int() takes time that grows with the square of the digits (Python refuses 4,300 by itself since
    # CVE-2020-10735).
    if len(digits) > JSON_DIGITS_MAX:
        raise ValueError(
            f"a number has {len(digits)} digits, the bound is {JSON_DIGITS_MAX}; send it as a text"
        )
    return int(digits)


_DECODER: Final = json.JSONDecoder(parse_constant=_constant, parse_float=_float, parse_int=_int)
"""Made once: making one costs more than decoding a message, and leaves a little behind."""
