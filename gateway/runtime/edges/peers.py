"""The other gateways over the same store, as this one reaches them. Room: runtime.

Which of them is a world's home the store says (the row ``home`` of its database); whether that address is believed is said
by ``--peers``. They let this gateway in by a token (``--peer-token-file``) as they do any client (docs/ACCESS.md).
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from gateway import limits
from gateway.client.address import Address
from gateway.client.token import Token, from_file
from gateway.client.trust import Trust
from gateway.config import PEERS_OF_THE_STORE, Settings
from gateway.core.ports import Session
from gateway.errors import ConfigError, GatewayError
from gateway.quic import Client, SessionRefused, WebTransportLink, connect

log = logging.getLogger("mvgateway.edge")

VIA: Final = "x-mvgateway-via"
"""The gateways between whoever asks and this one, nearest to the reader first."""
NODE: Final = "x-mvgateway-node"
"""Where the gateway that asks is reached."""
RESUME: Final = "x-publisher-resume"

asked_via: ContextVar[tuple[str, ...]] = ContextVar("asked_via", default=())
"""Of the session that is being opened: the gateways that wait for it."""


class EdgeLoop(GatewayError):
    """Gateways follow each other in a ring (RFC 5842 section 7.2 names the status)."""

    code = "edge_loop"
    status = 508
    title = "Loop between gateways"
    retry = False


def is_ring(error: GatewayError) -> bool:
    """Whether this gateway, or the one that it asked, found itself among those that wait for it."""
    document = error.document if isinstance(error, SessionRefused) else {}
    return isinstance(error, EdgeLoop) or document.get("code") == EdgeLoop.code


class Peers:
    """``node``: where this gateway is reached; ``ca``: of its own certificates, where it made them itself."""

    def __init__(self, settings: Settings, node: str, ca: Path | None) -> None:
        self.id = secrets.token_hex(8)
        """Of this process, in ``via``."""
        self.node = node
        self.upstream = Address.parse(settings.upstream) if settings.upstream else None
        named = {Address.parse(url) for url in settings.peers if url != PEERS_OF_THE_STORE}
        self._allowed = None if not named or PEERS_OF_THE_STORE in settings.peers else named
        # No variables of the environment: those are of whoever calls the client, and would have a gateway
        # trust more than its settings say.
        self.trust = Trust.of(ca=settings.peer_ca or ca, environ={})
        self._token = Token(from_file(settings.peer_token_file)) if settings.peer_token_file else None
        self.one_store = False
        """Whether ``upstream`` is known to be over the store that this gateway has."""
        self._unwell: set[Address] = set()
        self.counts = dict.fromkeys(("followed", "followed_again", "failed", "let_go", "asked_to_give_up"), 0)
        """Plain counts of this process, over all worlds."""

    @staticmethod
    def wanted(settings: Settings) -> bool:
        """Whether this gateway serves worlds whose home is another one."""
        return bool(settings.node or settings.peers or settings.upstream)

    def address_of(self, node: str) -> Address | None:
        """Of another gateway that a world's row names; None where it is not to be asked."""
        try:
            address = Address.parse(node)
        except (ConfigError, ValueError):
            return None
        # A row of the store names the address, and whoever may write the store could name any: without TLS
        # the token would go there in clear.
        if not address.secure or (self._allowed is not None and address not in self._allowed):
            return None
        return address

    def note_asked(self, headers: Mapping[str, str]) -> None:
        """For the session that is opened from here on. Raises :class:`EdgeLoop`."""
        via = tuple(
            # From outside: anybody may send this header.
            part.strip()[: limits.EDGE_ID_CHARS_MAX]
            for part in headers.get(VIA, "").split(",")
            if part.strip()
        )
        if self.id in via or len(via) > limits.EDGE_HOPS_MAX:
            raise EdgeLoop(
                f"{len(via)} gateways wait for each other in a ring, or in a longer row than {limits.EDGE_HOPS_MAX}: "
                "look at their --upstream"
            )
        asked_via.set(via)

    async def credentials(self) -> dict[str, str]:
        """Headers that let this gateway in. Raises as the token's source."""
        return {} if self._token is None else {"authorization": f"Bearer {await self._token.current()}"}

    @property
    def token_due_s(self) -> float | None:
        """In how many seconds sessions need a fresh token; None: never."""
        return None if self._token is None else self._token.due_in_s

    async def fresh_token(self) -> str:
        """Another one. Raises as the token's source."""
        assert self._token is not None
        return await self._token.fresh()

    async def session(
        self, address: Address, path: str, make: Callable[[WebTransportLink], Session], timeout_s: float
    ) -> Client:
        """A session at ``path`` on a connection of its own, which ends with it. Raises :class:`GatewayError`."""
        headers = {**await self.credentials(), VIA: ",".join([*asked_via.get(), self.id])}
        client = await connect(address.host, address.port, trust=self.trust.for_quic(), timeout_s=timeout_s)
        try:
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            # The client's own patience ends in TimeoutError, which says nothing of whom it waited for.
            await client.webtransport(path, make, raw, timeout_s=timeout_s)
        except BaseException as error:
            client.close()
            if isinstance(error, TimeoutError):
                raise GatewayError(f"{address.base_url} did not answer within {timeout_s:g} s") from None
            raise
        return client

    async def ask(
        self, address: Address, method: str, path: str, more: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """One request: its status and the JSON object of its answer. Raises as :meth:`ask_whole`."""
        status, body, _ = await self.ask_whole(address, method, path, more)
        try:
            told = json.loads(body)
        except ValueError:
            told = {}
        return status, told if isinstance(told, dict) else {}

    async def ask_whole(
        self, address: Address, method: str, path: str, more: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, bytes, Sequence[tuple[bytes, bytes]]]:
        """One request: status, body and headers of its answer. Raises :class:`GatewayError` and ``TimeoutError``."""
        headers = {**more, **await self.credentials(), NODE: self.node}
        timeout_s, trust = limits.EDGE_ASK_S, self.trust.for_quic()
        # Twice: connecting and answering have `timeout_s` each, and the body is read within the rest.
        async with asyncio.timeout(2 * timeout_s):
            async with await connect(address.host, address.port, trust=trust, timeout_s=timeout_s) as client:
                raw = [(name.encode(), value.encode()) for name, value in headers.items()]
                response = await client.request(method, path, raw, body, timeout_s=timeout_s)
                answer = await response.read(limits.EDGE_ANSWER_BYTES_MAX)
                return response.status, answer, response.headers

    def is_unwell(self, address: Address, why: str) -> None:
        """It was not followed: said once, until it is."""
        self.counts["failed"] += 1
        # Bounded, as rows of the store name the addresses.
        if address not in self._unwell and len(self._unwell) < limits.EDGE_PEERS_MAX:
            self._unwell.add(address)
            log.warning("the gateway at %s is not followed: %s; it is tried again", address.base_url, why)

    def is_well(self, address: Address) -> None:
        """It is followed."""
        if address in self._unwell:
            self._unwell.discard(address)
            log.info("the gateway at %s is followed again", address.base_url)
