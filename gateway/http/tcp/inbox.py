"""What has come on an HTTP/1.1 connection and was not read yet, and the next request's head in it. Room: http. Pure.

A head is looked at as it comes, before it is whole: what is no request, what is too long and what two readers may understand
differently is refused at once. Sources: RFC 9112 sections 2.2 and 3.
"""

from __future__ import annotations

import re

from gateway import limits
from gateway.http.tcp.heads import BadHead, check_lines
from gateway.http.tcp.ordinary import Head, KnownHeads

_EMPTY_LINES = re.compile(rb"(?:\r\n)*")
"""RFC 9112 section 2.2: those before a request are passed over."""


class NotHttp(Exception):
    """A first line without a version: another protocol's beginning, to which HTTP/1.1 has no answer."""


class RequestInbox:
    """``data`` may be read from its beginning, and what was read deleted."""

    __slots__ = ("_heads", "_searched", "data")

    def __init__(self, heads: KnownHeads) -> None:
        self._heads = heads
        self.data = bytearray()
        self._searched = 0

    def has_begun(self) -> bool:
        """Whether anything of a request is there. Empty lines before it are let go of."""
        if self.data[:2] == b"\r\n":
            del self.data[: _EMPTY_LINES.match(self.data).end()]  # type: ignore[union-attr]  # also matches none
        # A lone CR may be half of another empty line, whose LF is in the next packet.
        return bool(self.data) and self.data != b"\r"

    def head(self) -> Head | bytes | None:
        """The head with which it begins, if it is whole; checked, but for what h11 looks at, and let go of. Raises :class:`BadHead`
        and :class:`NotHttp`, also for the beginning of one."""
        data = self.data
        # From where the last search ended, less three bytes: a head that comes byte by byte would else be searched
        # anew for each.
        end = data.find(b"\r\n\r\n", max(0, self._searched - 3))
        size = len(data) if end < 0 else end + 4
        # No method begins so: TLS on the clear-text door (0x16) and other protocols are told at once, not when the
        # head is whole.
        if data[0] < 0x21:
            raise BadHead("this is no HTTP request")
        if size > limits.HTTP_HEADER_BYTES_MAX:
            raise BadHead(f"a request's head is at most {limits.HTTP_HEADER_BYTES_MAX} bytes", 431)
        if end >= 0 and (ordinary := self._heads.read(bytes(data[:size]))) is not None:
            self._let_go(size)
            return ordinary
        check_lines(data[:size] if end >= 0 else data, self._searched)
        self._searched = size
        if end < 0:
            return None
        if b" HTTP/" not in data[: data.find(b"\r\n")]:
            raise NotHttp
        head = bytes(data[:size])
        self._let_go(size)
        return head

    def _let_go(self, size: int) -> None:
        del self.data[:size]
        self._searched = 0
