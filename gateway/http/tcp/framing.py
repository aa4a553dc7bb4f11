"""Where one request's body ends, and how its answer is framed: by h11, whatever is asked. Room: http.

A framing is made for each request. Its body is taken from the connection's bytes piece by piece; its answer is
given as bytes. Sources: RFC 9110, RFC 9112.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import h11
from h11._receivebuffer import ReceiveBuffer

from gateway import limits
from gateway.http.tcp.heads import BadHead, Headers, check_framing, check_lines, split_target, with_host


class RequestHead(NamedTuple):
    """A request's head. ``headers``: names in lower case."""

    method: bytes
    version: bytes
    path: bytes
    query: bytes
    headers: Headers


class BadBody(BadHead):
    """A body that breaks the rules. RFC 9112 section 6."""


class BadAnswer(ValueError):
    """An answer that is not what its head said, or that no head can say."""


class RequestFraming(Protocol):
    """One request's."""

    @property
    def has_ended(self) -> bool:
        """The whole body was taken."""

    @property
    def must_close(self) -> bool:
        """The connection ends with this answer. RFC 9112 section 9.6."""

    @property
    def awaits_continue(self) -> bool:
        """The peer sends its body only after a 100 (RFC 9110 section 10.1.1)."""

    def piece(self, inbox: bytearray) -> bytes | None:
        """The body's next piece, taken from ``inbox``; empty: its end; None: more must come. Raises :class:`BadBody`.
        RFC 9112 section 6.3."""

    def go_on(self) -> bytes:
        """The 100 that is waited for. RFC 9110 section 10.1.1."""

    def head(self, status: int, headers: Headers) -> bytes:
        """The answer's head. Raises :class:`BadAnswer`."""

    def body(self, data: bytes, *, end: bool) -> list[bytes]:
        """The next part of the answer's body, in pieces. Raises :class:`BadAnswer`."""


class _StrictLines(ReceiveBuffer):
    """h11's buffer, which takes a bare LF for a line's end in trailers: here it is refused (RFC 9112 section 2.2)."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        if self._data[:2] == b"\r\n":
            return super().maybe_extract_lines()
        end = self._data.find(b"\r\n\r\n")
        try:
            check_lines(self._data[: end + 4] if end >= 0 else self._data)
        except BadHead as error:
            raise h11.RemoteProtocolError(error.detail) from None
        return super().maybe_extract_lines() if end >= 0 else None


class ByH11:
    """A :class:`RequestFraming` for any request."""

    def __init__(self, head: bytes) -> None:
        """Raises :class:`BadHead` for what is no request."""
        self.has_ended = False
        # One for each request, and not start_next_cycle(): what comes behind the request is not h11's to buffer.
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.HTTP_HEADER_BYTES_MAX)
        # A private name of h11 0.16, which has no option for it.
        self._h11._receive_buffer = _StrictLines()
        self._h11.receive_data(head)
        try:
            request = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise BadHead(str(error), error.error_status_hint) from None
        if not isinstance(request, h11.Request):
            raise BadHead("this is no HTTP request")
        # h11 takes any digit; what HTTP/2.0 in this form would mean nobody has said.
        if request.http_version[:1] != b"1":
            shown = request.http_version.decode("ascii")
            raise BadHead(f"HTTP/1.1 and HTTP/1.0 are spoken in this way, not HTTP/{shown}", 505)
        headers: Headers = list(request.headers)
        check_framing(headers, request.http_version)
        path, query, authority = split_target(request.target, request.method)
        if authority is not None:
            headers = with_host(headers, authority)
        self.asked = RequestHead(request.method, request.http_version, path, query, headers)

    @property
    def must_close(self) -> bool:
        return self._h11.our_state is not h11.DONE

    @property
    def awaits_continue(self) -> bool:
        return self._h11.they_are_waiting_for_100_continue

    def piece(self, inbox: bytearray) -> bytes | None:
        try:
            event = self._h11.next_event()
            while event is h11.NEED_DATA and inbox:
                self._h11.receive_data(bytes(inbox[: limits.HTTP_PIECE_BYTES_MAX]))
                del inbox[: limits.HTTP_PIECE_BYTES_MAX]
                event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise _body_fault(error) from None
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            return None
        self.has_ended = True
        # What h11 was given beyond the body is the next request's beginning.
        inbox[:0] = self._h11.trailing_data[0]
        return b""

    def go_on(self) -> bytes:
        return b"".join(
            self._given(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
        )

    def head(self, status: int, headers: Headers) -> bytes:
        try:
            response = h11.Response(status_code=status, headers=headers)
        except h11.LocalProtocolError as error:
            raise BadAnswer(f"the response's head is none: {error}") from None
        return b"".join(self._given(response))

    def body(self, data: bytes, *, end: bool) -> list[bytes]:
        pieces = self._given(h11.Data(data=data)) if data else []
        return pieces + self._given(h11.EndOfMessage()) if end else pieces

    def _given(self, event: h11.Event) -> list[bytes]:
        try:
            return self._h11.send_with_data_passthrough(event) or []
        except h11.LocalProtocolError as error:
            raise BadAnswer(f"the response is not what its head said: {error}") from None


def _body_fault(error: h11.RemoteProtocolError) -> BadBody:
    if error.error_status_hint == 431:
        most = limits.HTTP_HEADER_BYTES_MAX
        return BadBody(f"a chunk's head, and a body's trailers, are at most {most} bytes; send fewer", 431)
    return BadBody(str(error), error.error_status_hint)
