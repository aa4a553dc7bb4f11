"""The requests that nearly all are, without h11: a page from the cache costs less than h11 does. Room: http.

A head is ordinary where it is of HTTP/1.1, names one host, says its body's length in digits or has none, and asks nothing
of the connection; of every other one nothing is said here, and h11 reads it. So whatever is refused, h11 refuses.
What is taken here is what h11 takes, and means the same: ``tests/http/test_tcp_ordinary.py`` compares them.
Sources: RFC 9112 sections 3 and 6; RFC 9110 section 5.
"""

from __future__ import annotations

import re

from starlette.types import Scope

from gateway import limits
from gateway.http.tcp.framing import BadAnswer, ByH11, RequestFraming, RequestHead
from gateway.http.tcp.heads import Headers, http_scope, split_target

_REQUEST = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE) (/[\x21-\x7e]*) HTTP/1\.1")
# No wider than h11's pattern of a field line (a token; no white space at a value's ends), so that nothing is taken
# here that it refuses.
_FIELD = re.compile(
    rb"([-!#$%&'*+.^_`|~0-9a-zA-Z]+):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*"
)
_LENGTH = re.compile(rb"[0-9]{1,15}")
_NOT_ORDINARY = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"trailer", b"te"})
_NOT_PLAIN = frozenset({b"connection", b"transfer-encoding", b"host"})
"""Headers of an answer that h11 has a say in, or puts elsewhere."""
_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_VALUE = re.compile(rb"(?:[^\x00\s](?:[^\x00\n\r\f\v]*[^\x00\s])?)?")


class Head:
    """An ordinary request's head: the same bytes always mean the same."""

    __slots__ = ("asked", "data", "length", "scope")

    def __init__(self, data: bytes, asked: RequestHead, length: int) -> None:
        self.data = data
        self.asked = asked
        self.length = length
        self.scope = http_scope("1.1", asked.method, asked.path, asked.query, asked.headers, {"state": {}})

    def scope_for(self, common: Scope) -> Scope:
        """As :func:`http_scope`."""
        made = dict(self.scope)
        made.update(common)
        made["headers"] = self.asked.headers.copy()
        made["extensions"] = {}
        made["asgi"] = made["asgi"].copy()
        # What applications write into must be each request's own.
        made["state"] = common["state"].copy()
        return made


class KnownHeads:
    """Heads that came before, within a bound: clients send the same ones again and again. One with a credential, or a
    query, in which one may stand, is read and forgotten."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def read(self, data: bytes) -> Head | None:
        """A whole head, its empty line included; None where it is not ordinary."""
        head = self._known.get(data)
        if head is None and (head := read_head(data)) is not None and _may_be_kept(head):
            if len(self._known) >= limits.HTTP_HEADS_KEPT_MAX:
                # The oldest goes; what is usual is known again with the next request.
                del self._known[next(iter(self._known))]
            self._known[data] = head
        return head


def _may_be_kept(head: Head) -> bool:
    secret = any(b"auth" in name or b"cookie" in name or b"proof" in name for name, _ in head.asked.headers)
    return not secret and not head.asked.query and len(head.data) <= limits.HTTP_HEAD_KEPT_BYTES_MAX


def read_head(data: bytes) -> Head | None:
    """As :meth:`KnownHeads.read`, whatever came before. Pure. RFC 9112 section 3."""
    first, *lines = data[:-4].split(b"\r\n")
    asked = _REQUEST.fullmatch(first)
    if asked is None:
        return None
    headers: Headers = []
    hosts, length = 0, None
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        name, value = field[1].lower(), field[2]
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            # A second one is left to h11, even if it is equal (RFC 9110 section 8.6).
            if length is not None or _LENGTH.fullmatch(value) is None:
                return None
            length = int(value)
        elif name in _NOT_ORDINARY or (name == b"connection" and value.lower() != b"keep-alive"):
            return None
        headers.append((name, value))
    # None or several are to be refused (RFC 9112 section 3.2), which h11 does.
    if hosts != 1:
        return None
    path, query, _ = split_target(asked[2], asked[1])
    return Head(data, RequestHead(asked[1], b"1.1", path, query, headers), length or 0)


class Ordinary:
    """A :class:`RequestFraming` for an ordinary request."""

    __slots__ = ("_by_h11", "_head", "_left", "_to_give", "has_ended", "must_close")

    awaits_continue = False

    def __init__(self, head: Head) -> None:
        self._head = head
        self._left = head.length
        self._to_give: int | None = None
        """Bytes of the answer's body that are still to come; None: by chunks."""
        self._by_h11: RequestFraming | None = None
        self.has_ended = False
        self.must_close = False

    def piece(self, inbox: bytearray) -> bytes | None:
        left = self._left
        if not left:
            self.has_ended = True
            return b""
        if len(inbox) <= left and len(inbox) <= limits.HTTP_PIECE_BYTES_MAX:
            taken = bytes(inbox)
            inbox.clear()
        else:
            size = min(left, limits.HTTP_PIECE_BYTES_MAX)
            taken = bytes(inbox[:size])
            del inbox[:size]
        self._left = left - len(taken)
        return taken or None

    def go_on(self) -> bytes:
        return b""

    def head(self, status: int, headers: Headers) -> bytes:
        # With the space and no phrase, as h11 writes it (RFC 9112 section 4: the phrase may be empty, the space
        # not).
        lines = [b"HTTP/1.1 %d \r\n" % status]
        length = None
        for name, value in headers:
            if name == b"content-length":
                if length is not None or _LENGTH.fullmatch(value) is None:
                    return self._head_by_h11(status, headers)
                length = int(value)
            elif name in _NOT_PLAIN or not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
                return self._head_by_h11(status, headers)
            lines += (name, b": ", value, b"\r\n")
        if not 200 <= status < 1000:
            return self._head_by_h11(status, headers)
        if status in (204, 304) or self._head.asked.method == b"HEAD":
            if length is None and self._head.asked.method == b"HEAD":
                return self._head_by_h11(status, headers)
            length = 0
        self._to_give = length
        lines.append(b"Transfer-Encoding: chunked\r\n\r\n" if length is None else b"\r\n")
        return b"".join(lines)

    def _head_by_h11(self, status: int, headers: Headers) -> bytes:
        self._by_h11 = framing = ByH11(self._head.data)
        return framing.head(status, headers)

    def body(self, data: bytes, *, end: bool) -> list[bytes]:
        if self._by_h11 is not None:
            pieces = self._by_h11.body(data, end=end)
            self.must_close = end and self._by_h11.must_close
            return pieces
        if self._to_give is None:
            pieces = [b"%x\r\n" % len(data), data, b"\r\n"] if data else []
            if end:
                pieces.append(b"0\r\n\r\n")
            return pieces
        self._to_give -= len(data)
        if self._to_give < 0 or (end and self._to_give):
            what = "more" if self._to_give < 0 else "less"
            raise BadAnswer(
                f"the response is not what its head said: its body is {what} than its Content-Length"
            )
        return [data] if data else []
