"""Entities from a game server or a client: put, get, list, watch, transfer. Room: client.

    async with Entities(url, "town", ca="certs/ca.pem") as town:
        await town.put("chest:7", {"gold": 12}, tags=["chest"])
        ticket = await town.transfer("player:1", to="forest")

HTTP/3 first, TCP where UDP is silent. A state given as ``bytes`` goes as it is; anything else as
a Godot Variant (``gateway.wire.variant``), and comes back decoded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote, urlencode

from gateway.client.connect import TransportChoice
from gateway.client.http import Answer, HttpClient
from gateway.client.token import Token, TokenSource
from gateway.client.trust import Trust
from gateway.errors import GatewayError
from gateway.limits import (
    CLIENT_BACKOFF_S_MIN,
    ENTITY_MESSAGE_BYTES_MAX,
)
from gateway.quic import ConnectFailed, RequestFailed
from gateway.wire import MessageStream, decode_control, prefix, variant
from gateway.wire.entities import refusals, trades, transfers
from gateway.wire.entities.messages import ENTITIES_TYPE, ENTITY, decode_entity, encode_entity
from gateway.wire.entities.values import CONTENT_TYPES, HEAD_DEFAULTS

KNOWN_ERRORS = (refusals.NotOwner, trades.NotEnough, transfers.TransferEnded)
"""Raised by their own classes because these modules are imported."""


@dataclass(frozen=True, slots=True)
class ClientEntity:
    """An entity as it was fetched. ``state`` is the raw bytes; :attr:`value` decodes them."""

    id: str
    kind: str
    state: bytes
    revision: int
    class_name: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    key: int | None = None
    quantity: int = 1
    in_transfer: bool = False

    @property
    def value(self) -> object:
        """The state decoded: a Variant, JSON, or bytes as they are."""
        if self.kind == "variant":
            return variant.decode(self.state)
        return json.loads(self.state) if self.kind == "json" else self.state

    @classmethod
    def of(cls, head: Mapping[str, object], state: bytes) -> ClientEntity:
        """From the head of an entity message, which leaves defaults out."""
        told: Mapping[str, Any] = {**HEAD_DEFAULTS, **head}
        return cls(
            told["id"], told["kind"], state, told["revision"], told["class"], told["owner"],
            tuple(told["tags"]), told["key"], told["quantity"], told["in_transfer"],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class EntityChange:
    """What :meth:`Entities.watch` gives: ``entity`` is None for one that went (``moved_to``: where).
    ``reset``: forget all that you knew; what follows is everything."""

    id: str
    revision: int
    entity: ClientEntity | None = None
    moved_to: str | None = None
    reset: bool = False


class Entities:
    """The entities of one world, or (``inventory=True``) the items of one owner. A context manager.

    Raises the gateway's own error classes: ``NotFound``, ``PreconditionFailed`` (somebody was
    first), ``NotOwner``, ``InTransfer``, ``StoreUnavailable`` where nothing answers.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        inventory: bool = False,
        lease: str | None = None,
        transport: TransportChoice = "auto",
        ca: str | Path | None = None,
        certificate_sha256: str | bytes | None = None,
        insecure: bool = False,
        token: TokenSource | Token | None = None,
    ) -> None:
        trust = Trust.of(ca=ca, certificate_sha256=certificate_sha256, insecure=insecure)
        self.name = name
        self.lease_token = lease
        self._base = (
            f"/v1/inventories/{quote(name)}/items" if inventory else f"/v1/worlds/{quote(name)}/entities"
        )
        self._http = HttpClient(url, trust=trust, transport=transport, token=token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.__aexit__(*exc)

    # --- one ------------------------------------------------------------------------------------

    async def put(
        self,
        entity_id: str,
        state: object,
        *,
        kind: str | None = None,
        class_name: str | None = None,
        owner: str | None = None,
        tags: Iterable[str] | None = None,
        key: int | None = None,
        quantity: int | None = None,
        if_match: int | None = None,
        create_only: bool = False,
    ) -> int:
        """Store; answers the new revision. ``kind``: ``bytes`` for bytes, else ``variant``, or ``json``."""
        chosen = kind or ("bytes" if isinstance(state, bytes) else "variant")
        headers = {
            "content-type": CONTENT_TYPES[chosen],
            **_given("class", None if class_name is None else quote(class_name)),
            **_given("owner", None if owner is None else quote(owner)),
            **_given("tags", None if tags is None else ",".join(map(quote, tags))),
            **_given("key", key),
            **_given("quantity", quantity),
            **_condition(if_match, create_only),
        }
        # safe='': an id may hold a slash, which would be another path.
        answer = await self._request("PUT", f"/{quote(entity_id, safe='')}", headers, _encode(state, chosen))
        return int(answer.json()["revision"])

    async def get(self, entity_id: str, *, at: str | None = None) -> ClientEntity:
        """Fetch, now or ``at`` a time in the past (RFC 3339, ``90s-ago``, or a version). Raises ``NotFound`` (fact ``moved_to``)."""
        query = "" if at is None else "?" + urlencode({"at": at})
        answer = await self._request("GET", f"/{quote(entity_id, safe='')}{query}")
        return _from_headers(entity_id, answer)

    async def patch(self, entity_id: str, **members: object) -> int:
        """Change ``class``, ``owner`` or ``tags``; answers the new revision."""
        answer = await self._json("PATCH", f"/{quote(entity_id, safe='')}", members)
        return int(answer["revision"])

    async def delete(self, entity_id: str, *, if_match: int | None = None) -> int:
        """Delete; answers the removal's revision."""
        path = f"/{quote(entity_id, safe='')}"
        return int((await self._request("DELETE", path, _condition(if_match, False))).json()["revision"])

    # --- many -----------------------------------------------------------------------------------

    async def batch(
        self, operations: Sequence[tuple[Mapping[str, object], bytes]]
    ) -> list[dict[str, object]]:
        """All in one commit or none: ``(head, state)`` each, ``{"op": "put", "id": …, "kind": …}``.
        Answers the heads of the results; a got state is under ``state``. Raises ``BatchRefused``."""
        body = b"".join(prefix(encode_entity(head, state)) for head, state in operations)
        answer = await self._request("POST", ":batch", {"content-type": ENTITIES_TYPE}, body)
        stream = MessageStream(ENTITY_MESSAGE_BYTES_MAX)
        stream.feed(answer.body)
        return [{**head, "state": state} for head, state in map(decode_entity, stream)]

    async def all(self, **wanted: str) -> AsyncIterator[ClientEntity]:
        """Every entity (``class_``, ``owner``, ``tag``, ``prefix`` narrow it), streamed: a cold start."""
        async for message in self._messages("", wanted):
            if message[:1] == bytes([ENTITY]):
                yield ClientEntity.of(*decode_entity(message))
            else:
                _raise_if_error(message)

    async def watch(self, since: int | None = None, **wanted: str) -> AsyncIterator[EntityChange]:
        """Changes as they commit, from revision ``since`` on (None: from now); connects again by
        itself and goes on where it was, so nothing is missed."""
        pause_s = CLIENT_BACKOFF_S_MIN
        while True:
            try:
                query = wanted if since is None else {**wanted, "since": str(since)}
                async for message in self._messages("/live", query):
                    # Whatever comes shows that the gateway is well: the next break begins with a short
                    # pause again.
                    pause_s = CLIENT_BACKOFF_S_MIN
                    if message[:1] == bytes([ENTITY]):
                        yield _change(*decode_entity(message))
                        continue
                    control = decode_control(message)
                    _raise_if_error(message)
                    if control.type == "bye":
                        break
                    since = int(control["revision"])
                    if control.type == "reset":
                        yield EntityChange("", since, reset=True)
            except (GatewayError, ConnectFailed, RequestFailed) as error:
                # What is refused stays refused; all else is the network's or the store's, and passes.
                if isinstance(error, GatewayError) and error.status < 500:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2.0, pause_s * 2)

    async def _messages(self, path: str, wanted: Mapping[str, str]) -> AsyncIterator[bytes]:
        query = urlencode({name.rstrip("_"): value for name, value in wanted.items()})
        stream = MessageStream(ENTITY_MESSAGE_BYTES_MAX)
        full = f"{self._base}{path}" + (f"?{query}" if query else "")
        async for piece in self._http.stream(full, {"accept": ENTITIES_TYPE}):
            stream.feed(piece)
            for message in stream:
                yield message

    # --- live records, ownership, transfers, trades ----------------------------------------------

    async def hibernate(self, entity_id: str, key: int, **members: object) -> dict[str, object]:
        """The live record ``key`` becomes the entity's state and leaves the world."""
        path = f"/{quote(entity_id, safe='')}:hibernate"
        return await self._json("POST", path, {"key": key, **members})

    async def wake(self, entity_id: str, key: int | None = None) -> dict[str, object]:
        """The reverse: ``{id, key, epoch, tick}``."""
        return await self._json("POST", f"/{quote(entity_id, safe='')}:wake", {"key": key})

    async def acquire(self, owner: str, *, takeover: bool = False) -> str:
        """Take an owner's lease: from now on this client writes in its name. Renew it every second or so."""
        path = f"/v1/worlds/{quote(self.name)}/leases"
        answer = await self._json("POST", path, {"owner": owner, "takeover": takeover}, base="")
        self.lease_token = str(answer["lease"])
        return self.lease_token

    async def renew(self, owner: str) -> None:
        """Keep the lease for another 5 s. Raises ``Gone`` when it is another's."""
        await self._json("PUT", f"/v1/worlds/{quote(self.name)}/leases/{quote(owner, safe='')}", {}, base="")

    async def transfer(self, *entities: str, to: str, expires_ms: int = 5_000) -> str:
        """Offer entities to another world; answers the ticket."""
        body = {"entities": list(entities), "from": self.name, "to": to, "expires_ms": expires_ms}
        return str((await self._json("POST", "/v1/transfers", body, base=""))["ticket"])

    async def accept(self, ticket: str, *, owner: str | None = None) -> dict[str, object]:
        """Take what a ticket offers: ``{state, moved: [entity, …], …}``."""
        members = {} if owner is None else {"owner": owner}
        return await self._json("POST", f"/v1/transfers/{quote(ticket, safe='~')}:accept", members, base="")

    async def cancel(self, ticket: str) -> dict[str, object]:
        """Take an offer back."""
        return await self._json("POST", f"/v1/transfers/{quote(ticket, safe='~')}:cancel", {}, base="")

    async def transfer_record(self, ticket: str) -> dict[str, object]:
        """How a transfer stands: its ``state`` is offered, accepted, cancelled or expired."""
        return await self._json("GET", f"/v1/transfers/{quote(ticket, safe='~')}", None, base="")

    async def trade(
        self, moves: Sequence[Mapping[str, object]], expect: Sequence[Mapping[str, object]] = ()
    ) -> list[dict[str, object]]:
        """Move items between two owners: ``{item, from, to, quantity}`` each, all or none."""
        body = {"moves": list(moves), "expect": list(expect)}
        answer = await self._json("POST", "/v1/inventories:trade", body, base="")
        return list(answer["items"])

    # --- below ------------------------------------------------------------------------------------

    async def _json(
        self, method: str, path: str, members: Mapping[str, object] | None, base: str | None = None
    ) -> dict[str, Any]:
        headers = {"accept": "application/json"}
        body = b""
        if members is not None:
            headers["content-type"] = "application/json"
            body = json.dumps(members).encode()
        answer: dict[str, Any] = (await self._request(method, path, headers, body, base=base)).json()
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        base: str | None = None,
    ) -> Answer:
        told = dict(headers or {})
        if self.lease_token is not None:
            told["x-owner-lease"] = self.lease_token
        whole = (self._base if base is None else base) + path
        return await self._http.request(method, whole, headers=told, body=body)


def _encode(state: Any, kind: str) -> bytes:
    if kind == "variant":
        return variant.encode(state)
    return json.dumps(state).encode() if kind == "json" else bytes(state)


def _given(name: str, value: object) -> dict[str, str]:
    return {} if value is None else {f"x-entity-{name}": str(value)}


def _condition(if_match: int | None, create_only: bool) -> dict[str, str]:
    if if_match is not None:
        return {"if-match": f'"{if_match}"'}
    return {"if-none-match": "*"} if create_only else {}


def _from_headers(entity_id: str, answer: Answer) -> ClientEntity:
    told = {name[9:]: value for name, value in answer.headers.items() if name.startswith("x-entity-")}
    plain = answer.headers.get("content-type", "").partition(";")[0]
    kind = next((kind for kind, known in CONTENT_TYPES.items() if known == plain), "bytes")
    return ClientEntity(
        entity_id,
        kind,
        answer.body,
        int(answer.headers["etag"].strip('"')),
        unquote(told.get("class", "")),
        unquote(told.get("owner", "")),
        tuple(unquote(tag) for tag in told.get("tags", "").split(",") if tag),
        int(told["key"]) if "key" in told else None,
        int(told.get("quantity", 1)),
        told.get("in-transfer") == "1",
    )


def _change(head: Mapping[str, Any], state: bytes) -> EntityChange:
    entity = ClientEntity.of(head, state) if head["op"] == "put" else None
    return EntityChange(head["id"], head["revision"], entity, head.get("moved_to"))


def _raise_if_error(message: bytes) -> None:
    from gateway.client.problems import error_for

    control = None
    with suppress(GatewayError):
        control = decode_control(message)
    if control is not None and control.type == "error":
        raise error_for(str(control.get("code")), str(control.get("message")))
