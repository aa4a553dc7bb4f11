"""Why an entity request is refused, beyond the house's own error tree. Room: wire; pure."""

from __future__ import annotations

from gateway.errors import Conflict, Forbidden, GatewayError, NotFound, TooLarge, Unprocessable


class Full(TooLarge):
    """A world has as many entities, or an inventory as many items, as it may."""

    code = "full"
    title = "Full"


class NotOwner(Forbidden):
    """The entity belongs to somebody whose lease lives."""

    code = "not_owner"
    title = "Not the owner"


class OwnerPresent(Conflict):
    """The owner's name is held by a living session; ``takeover`` replaces it."""

    code = "owner_present"
    title = "Owner present"
    retry = False


class NoLiveRecord(NotFound):
    """The world has no live record of that key."""

    code = "no_live_record"
    title = "No live record"


class BatchRefused(Unprocessable):
    """Nothing of the batch happened; the fact ``faults`` lists every operation that cannot."""

    code = "batch_refused"
    title = "Batch refused"


def batch_refused(faults: list[tuple[int, str, GatewayError]]) -> BatchRefused:
    """The exception for (index, id, error) of every operation that failed."""
    listed = [
        {"index": index, "id": ident, "status": error.status, "code": error.code, "detail": error.message,
         **({"revision": error.facts["revision"]} if "revision" in error.facts else {})}
        for index, ident, error in faults
    ]  # fmt: skip
    bounds = (
        {"bound": e.facts["bound"], "limit": e.facts.get("limit")} for _, _, e in faults if "bound" in e.facts
    )
    return BatchRefused(
        f"{len(listed)} of the batch's operations cannot be done, so nothing was; the first: {listed[0]['detail']}",
        faults=listed,
        **next(bounds, {}),
    )
