"""Who owns what: leases of owners, in an open transaction. Room: store.

A lease is a secret token that its owner's session holds; the database keeps only its hash. While
it lives, what the owner owns is changed by nobody without the token. Times: microseconds, Unix.
Source: docs/ENTITIES.md.
"""

from __future__ import annotations

import hashlib
import hmac

import apsw

from gateway.errors import Gone
from gateway.store.entities.schema import ensure
from gateway.wire.entities.refusals import NotOwner, OwnerPresent
from gateway.wire.entities.values import Actor


def _hash(token: str) -> bytes:
    # No salt and no stretching: it is 128 random bits, which nobody guesses from its hash.
    return hashlib.sha256(token.encode()).digest()


def _live(connection: apsw.Connection, owner: str, now_us: int) -> tuple[bytes, int] | None:
    sql = "SELECT token_hash, expires_us FROM entity_leases WHERE owner = ? AND expires_us > ?"
    for token_hash, expires_us in connection.execute(sql, (owner, now_us)):
        return bytes(token_hash), int(expires_us)
    return None


def must_own(connection: apsw.Connection, owner: str, actor: Actor, now_us: int) -> None:
    """Raise :class:`NotOwner` if ``owner`` has a living lease that ``actor`` does not hold."""
    lease = _live(connection, owner, now_us) if owner else None
    if lease is None or actor.takeover:
        return
    # In constant time, as every comparison of a secret.
    if actor.lease is None or not hmac.compare_digest(_hash(actor.lease), lease[0]):
        raise NotOwner(
            f"{owner} owns it and its lease lives for another {(lease[1] - now_us) // 1000} ms; "
            "send that owner's lease, wait, or take over explicitly",
            owner=owner,
            expires_us=lease[1],
        )


def holds(connection: apsw.Connection, owner: str, token: str | None, now_us: int) -> bool:
    """Whether ``token`` is the living lease of ``owner``."""
    lease = _live(connection, owner, now_us) if owner and token else None
    return lease is not None and hmac.compare_digest(_hash(token or ""), lease[0])


def acquire(
    connection: apsw.Connection, owner: str, token: str, now_us: int, ttl_us: int, *, takeover: bool
) -> int:
    """Take the lease of ``owner`` under ``token``. Answers when it ends. Raises :class:`OwnerPresent`."""
    ensure(connection)
    lease = _live(connection, owner, now_us)
    if lease is not None and not takeover and not hmac.compare_digest(lease[0], _hash(token)):
        raise OwnerPresent(
            f"{owner} has a living lease; wait {(lease[1] - now_us) // 1000} ms or say takeover",
            owner=owner,
            expires_us=lease[1],
        )
    connection.execute(
        "INSERT OR REPLACE INTO entity_leases (owner, token_hash, expires_us) VALUES (?, ?, ?)",
        (owner, _hash(token), now_us + ttl_us),
    )
    # A minute late: the clocks of gateways over one store differ, and another may still take it for alive.
    connection.execute("DELETE FROM entity_leases WHERE expires_us < ?", (now_us - 60_000_000,))
    return now_us + ttl_us


def renew(connection: apsw.Connection, owner: str, token: str, now_us: int, ttl_us: int) -> int:
    """Make it end ``ttl_us`` from now (0: give it back). Raises :class:`Gone` if it is another's by now."""
    sql = "UPDATE entity_leases SET expires_us = ? WHERE owner = ? AND token_hash = ? AND expires_us > ?"
    ensure(connection)
    connection.execute(sql, (now_us + ttl_us, owner, _hash(token), now_us))
    # One statement decides: a look and then a write would need a lock for what lies between.
    if not connection.changes():
        raise Gone(f"the lease of {owner} has run out or was taken over; acquire it again", owner=owner)
    return now_us + ttl_us
