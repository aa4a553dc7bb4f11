"""What carries requests to a remote store, and what its answers mean. Room: store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple, Protocol

from gateway import errors
from gateway.errors import GatewayError, StoreUnavailable


class StoreFailed(StoreUnavailable):
    """The store answered, but with a failure of its own: a 5xx other than 503, which says "later"."""

    code = "store_failed"


class Ask(NamedTuple):
    """One request. ``replayable``: serving it twice does no harm, so it may go in 0-RTT. ``again`` makes the body
    that goes where the first may have arrived; None: there is none that does no harm, or (``replayable``) it is the same."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    answer_bytes_max: int
    replayable: bool = False
    again: Callable[[], bytes] | None = None

    @property
    def may_be_sent_again(self) -> bool:
        """Whether :meth:`second` does no harm. RFC 9110 section 9.2.2."""
        return self.replayable or self.again is not None

    def second(self) -> bytes:
        """The body for another sending of a request that may have been served."""
        return self.body if self.again is None else self.again()

    def sent(self) -> Ask:
        """The same request, after it was sent once."""
        return self if self.again is None else self._replace(body=self.again(), again=None)


class StoreAnswer(NamedTuple):
    """One whole answer. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """A pooled way to one origin."""

    @property
    def url(self) -> str:
        """The origin, for messages."""

    async def request(self, ask: Ask, timeout_s: float) -> StoreAnswer:
        """Ask once. Raises :class:`StoreUnavailable` when no whole answer came in time."""

    def lines(self, ask: Ask, silence_s: float) -> AsyncIterator[str]:
        """The answer's lines as they come. Raises as :func:`check` does, and :class:`StoreUnavailable`."""

    async def aclose(self) -> None: ...


_BY_STATUS: Mapping[int, type[GatewayError]] = {
    403: errors.Forbidden,
    404: errors.NoNamespace,
    409: errors.Conflict,
    410: errors.Gone,
    412: errors.PreconditionFailed,
    413: errors.TooLarge,
    422: errors.Unprocessable,
}
_BY_CODE: Mapping[str, type[GatewayError]] = {
    kind.code: kind
    for kind in (errors.Gone, errors.StoreDamaged, errors.NotFound, errors.MalformedMessage, errors.TooLarge)
}
ENDED_EARLY = "x-ended-early"
"""Answers of a gateway say in this header why a body ends early, where they know it beforehand."""


def check(answer: StoreAnswer, url: str) -> StoreAnswer:
    """The answer if it is good. Raises the error that its status stands for: any 5xx
    :class:`StoreUnavailable` (to be tried again), any 4xx its own class (final). RFC 9110 section 15."""
    if 200 <= answer.status < 300:
        return answer
    # Before the status: a 5xx of a gateway may say that it is final.
    if (final := ended_early(answer, url)) is not None:
        raise final
    detail = _detail(answer) or f"{url} answered HTTP {answer.status}"
    # 425: it came in early data and was not served; it is asked again in 1-RTT packets (RFC 8470 section
    # 5.2).
    if answer.status in (425, 503):
        raise StoreUnavailable(detail)
    if answer.status >= 500:
        raise StoreFailed(detail)
    owner = answer.headers.get("x-lock-owner")
    facts = {} if owner is None else {"owner": owner}
    # Any other 4xx is a fault of ours, and asking again would not mend it.
    raise _BY_STATUS.get(answer.status, errors.BadInput)(detail, **facts)


def ended_early(answer: StoreAnswer, url: str) -> GatewayError | None:
    """Why a good answer's body ends early, if the store says that asking again will not help."""
    code, _, detail = answer.headers.get(ENDED_EARLY, "").partition(" ")
    kind = _BY_CODE.get(code)
    return None if kind is None else kind(detail or f"{url} ended its answer early")


def _detail(answer: StoreAnswer) -> str:
    if "json" in answer.headers.get("content-type", ""):
        try:
            document = json.loads(answer.body)
        except ValueError:
            return ""
        return str(document.get("detail", "")) if isinstance(document, dict) else ""
    return answer.body[:200].decode("utf-8", "replace").strip()
