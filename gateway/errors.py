"""The error tree: every way in which the gateway says no.

A room of its own: imports nothing of the house, and every room may import it. Each class
carries its machine-readable ``code``, the HTTP ``status`` it maps to and whether a client may
try again (``retry``). A message names the value, the bound and the way out.

Source: RFC 9457 (problem documents); the statuses of the store's classes are those of
mvstore's protocol, where any 5xx invites a retry and any 4xx is final.
"""

from __future__ import annotations

from typing import Any, ClassVar


class GatewayError(Exception):
    """The root. ``facts`` are extra members of the problem document (JSON-ready values). Where a bound refuses,
    ``bound`` names it: the flag of its setting, or a few words."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retry: ClassVar[bool] = False

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts
        self.is_noted = False
        """Whether the refusal was counted."""

    def problem(self) -> dict[str, object]:
        """The RFC 9457 problem document, as a JSON-ready mapping."""
        return {
            "type": f"urn:mvgateway:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.message,
            "retry": self.retry,
            **self.facts,
        }


class ConfigError(GatewayError):
    """A setting, flag or file at start that cannot be used; the message names the flag that mends it."""

    code = "config"
    title = "Unusable configuration"


class BadInput(GatewayError):
    """What the peer sent cannot be taken, and sending it again will not help."""

    code = "bad_input"
    status = 400
    title = "Bad input"


class MalformedMessage(BadInput):
    """Bytes that are not a message of the frame protocol."""

    code = "malformed"
    title = "Malformed message"


class BadName(BadInput):
    """A world, entity or mark name outside its rule."""

    code = "bad_name"
    title = "Name outside the rule"


class TooLarge(BadInput):
    """A body, message or value over its bound."""

    code = "too_large"
    status = 413
    title = "Too large"


class WorldFull(TooLarge):
    """A world's state holds as many records or bytes as it may: what found no room was left out."""

    code = "world_full"
    title = "World full"


class Unsupported(BadInput):
    """A content type or protocol version that is not spoken here."""

    code = "unsupported"
    status = 415
    title = "Unsupported"


class Unprocessable(BadInput):
    """Well-formed, but the content does not decode or makes no sense."""

    code = "unprocessable"
    status = 422
    title = "Unprocessable content"


class ForeignSchema(Unprocessable):
    """A database that holds triggers or views of others: it is read, and not written to."""

    code = "foreign_schema"
    title = "Foreign schema"


class Unauthorized(BadInput):
    """No token, or none that counts (RFC 9110 section 15.5.2). ``rule`` says which rule it does not keep."""

    code = "unauthorized"
    status = 401
    title = "Unauthorized"


class Forbidden(BadInput):
    """Not allowed to this peer."""

    code = "forbidden"
    status = 403
    title = "Forbidden"


class NotFound(BadInput):
    """What was named is not there."""

    code = "not_found"
    status = 404
    title = "Not found"


class NoNamespace(NotFound):
    """A store has no namespace of that key, or not for this proof of it; it tells a client no more than :class:`NotFound`."""


class UnknownWorld(NotFound):
    """No world of that name."""

    code = "unknown_world"
    title = "Unknown world"


class NothingRecorded(NotFound):
    """The world is there, the asked-for moment is not."""

    code = "nothing_recorded"
    title = "Nothing recorded"


class Conflict(BadInput):
    """Someone else was first."""

    code = "conflict"
    status = 409
    title = "Conflict"
    retry = True


class PublisherPresent(Conflict):
    """The world has a publisher already; ``takeover=1`` replaces it."""

    code = "publisher_present"
    title = "Publisher present"
    retry = False


class WorldHeld(Conflict):
    """Another gateway over the same store is the world's home. ``facts``: ``world``, ``url`` (where it is reached, or
    "" where that is not known), ``fence``."""

    code = "world_held"
    title = "World held by another gateway"
    retry = False

    @classmethod
    def at(cls, world: str, url: str, fence: int) -> WorldHeld:
        """The refusal that names the home."""
        where = f"the gateway at {url}" if url else "another gateway"
        return cls(
            f"world {world} has its home at {where}: publish and follow it there, or say takeover=1 "
            "(mvgateway publish --takeover) to take it over",
            world=world,
            url=url,
            fence=fence,
        )


class NameTaken(Conflict):
    """Something of this name is there already; asking again changes nothing, another name does."""

    title = "Name taken"
    retry = False


class PreconditionFailed(BadInput):
    """An If-Match / If-None-Match or a trade's precondition does not hold."""

    code = "precondition_failed"
    status = 412
    title = "Precondition failed"


class Gone(BadInput):
    """It was there and is no longer: a lost lock, an expired ticket, a page that was collected."""

    code = "gone"
    status = 410
    title = "Gone"


class WorldDeleted(Gone):
    """The world was deleted while this was under way; asking again finds what its name means now."""

    code = "world_deleted"
    title = "World deleted"
    retry = True
    source: object | None = None
    """What noticed it: of the database that was open, so that no other of that name is taken for it."""


class Overloaded(GatewayError):
    """A bound on concurrent work was reached; try again."""

    code = "overloaded"
    status = 503
    title = "Overloaded"
    retry = True


class TooMany(GatewayError):
    """One peer wants more than its share of something (RFC 6585 section 4). ``bound``: the setting's flag."""

    code = "too_many"
    status = 429
    title = "Too many"
    retry = True


class StoreError(GatewayError):
    """The root of what a store answers that is neither conflict nor bad input."""

    code = "store"
    title = "Store error"


class StoreUnavailable(StoreError):
    """The store does not answer, or not in time; try again."""

    code = "store_unavailable"
    status = 503
    title = "Store unavailable"
    retry = True


class StoreDamaged(StoreError):
    """A stored page does not match its hash: damage on disk. The hash is named."""

    code = "store_damaged"
    title = "Store damaged"


class ShuttingDown(GatewayError):
    """The gateway is draining; connect again after ``reconnect_after_ms``."""

    code = "shutting_down"
    status = 503
    title = "Shutting down"
    retry = True
