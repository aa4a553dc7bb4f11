"""JSON text to values bottom-up, without recursion: a deep document costs no Python frames. Room: wire.

RFC 8259; ``NaN`` and ``Infinity`` are not JSON and are refused. Strings and numbers are read by the
standard library's own scanners.
"""

from __future__ import annotations

import json.decoder
import re
from collections.abc import Callable
from json.decoder import JSONDecodeError

from gateway.errors import Unprocessable

_scan_string: Callable[[str, int, bool], tuple[str, int]] = vars(json.decoder)["scanstring"]
"""The standard library's own string scanner, which its type stubs leave out."""

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = {"null": None, "true": True, "false": False}
_WORD = re.compile(r"null|true|false")

Pairs = list[tuple[str, object]]


class _Open:
    """An array or object being read. ``key``: an object's member name that waits for its value."""

    __slots__ = ("items", "key", "pairs", "start")

    def __init__(self, start: int, is_object: bool) -> None:
        self.start = start
        self.items: list[object] = []
        self.pairs: Pairs | None = [] if is_object else None
        self.key: str = ""


class JsonTextReader:
    """One document. ``on_array`` and ``on_object`` make a value of what closed; they may raise. RFC 8259."""

    def __init__(
        self,
        text: str,
        on_array: Callable[[list[object]], object],
        on_object: Callable[[Pairs], object],
        depth_max: int,
    ) -> None:
        self.text = text
        self.at = 0
        self.on_array = on_array
        self.on_object = on_object
        self.depth_max = depth_max

    def read(self) -> object:
        """The document's value. Raises :class:`Unprocessable` with ``offset`` (in characters)."""
        value = self._value()
        self._space()
        if self.at < len(self.text):
            raise self.fault("nothing may follow the value")
        return value

    def fault(self, what: str) -> Unprocessable:
        return Unprocessable(f"not JSON: {what} at character {self.at}", offset=self.at)

    def _value(self) -> object:
        stack: list[_Open] = []
        while True:
            self._space()
            if self._open(stack):
                if not self._empty(stack[-1]):
                    continue
                value = self._close(stack.pop())
            else:
                value = self._scalar()
            while True:
                if not stack:
                    return value
                self._keep(stack[-1], value)
                if not self._more(stack[-1]):
                    value = self._close(stack.pop())
                    continue
                break

    def _open(self, stack: list[_Open]) -> bool:
        """At an opening bracket: pass it and push what it opens."""
        mark = self._peek()
        if mark != "[" and mark != "{":
            return False
        if len(stack) >= self.depth_max:
            raise self.fault(f"nested deeper than {self.depth_max:,}")
        stack.append(_Open(self.at, mark == "{"))
        self.at += 1
        return True

    def _empty(self, top: _Open) -> bool:
        """Just opened: True at the closing bracket; else an object's first name is read."""
        self._space()
        if self._peek() == ("]" if top.pairs is None else "}"):
            return True
        if top.pairs is not None:
            self._key(top)
        return False

    def _key(self, top: _Open) -> None:
        self._space()
        if self._peek() != '"':
            raise self.fault("a member's name is wanted")
        top.key = self._string()
        self._space()
        if self._peek() != ":":
            raise self.fault("a colon is wanted")
        self.at += 1

    def _keep(self, top: _Open, value: object) -> None:
        if top.pairs is None:
            top.items.append(value)
        else:
            top.pairs.append((top.key, value))

    def _more(self, top: _Open) -> bool:
        """After a value: past the comma to the next one, or False at the closing bracket."""
        self._space()
        mark = self._peek()
        if mark == ",":
            self.at += 1
            if top.pairs is not None:
                self._key(top)
            return True
        if mark != ("]" if top.pairs is None else "}"):
            raise self.fault("a comma or the closing bracket is wanted")
        return False

    def _close(self, top: _Open) -> object:
        self.at += 1
        try:
            return self.on_array(top.items) if top.pairs is None else self.on_object(top.pairs)
        except Unprocessable as error:
            raise Unprocessable(
                f"{error.message} (JSON at character {top.start})", offset=top.start
            ) from error

    def _scalar(self) -> object:
        if self._peek() == '"':
            return self._string()
        word = _WORD.match(self.text, self.at)
        if word:
            self.at = word.end()
            return _WORDS[word[0]]
        number = _NUMBER.match(self.text, self.at)
        if not number:
            raise self.fault("a value is wanted")
        try:
            # A point or an exponent makes it a FLOAT: 1.0 and 1 are different Variants.
            value = float(number[0]) if number[1] or number[2] else int(number[0])
        except ValueError as error:
            raise self.fault("a number of too many digits") from error
        self.at = number.end()
        return value

    def _string(self) -> str:
        try:
            text, self.at = _scan_string(self.text, self.at + 1, True)
        except JSONDecodeError as error:
            self.at = error.pos
            raise self.fault("a broken string") from error
        return text

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        if match:
            self.at = match.end()
