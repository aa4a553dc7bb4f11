"""Batches of many worlds, written together: a transaction each, one sync for all. Room: store.

Nothing of one world depends on another: who fails is told so, and the others go on.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.store.base import CommitRequest, Committed, GroupStore, NamespaceCommit
from gateway.store.world.database import WorldDatabase
from gateway.store.world.writing import finish
from gateway.wire.journal import Batch

Write = tuple[WorldDatabase, Batch]


def append_each(store: GroupStore, writes: Sequence[Write]) -> list[Exception | None]:
    """:meth:`WorldDatabase.append` for each, in a thread; None where it is durable now, else what was
    wrong. A world must stand in ``writes`` but once, and be used by nobody else meanwhile."""
    ends: list[Exception | None] = [None] * len(writes)
    held: list[tuple[int, NamespaceCommit]] = []
    packed = [world.pack(batch) for world, batch in writes]
    finish([each.packed for each in packed])
    for at, ((world, batch), write) in enumerate(zip(writes, packed, strict=True)):
        try:
            part = world.hold_append(batch, write)
        except Exception as error:
            ends[at] = error
            continue
        if part is not None:
            held.append((at, part))
    answers = _committed(store, writes, held)
    for (at, _), answer in zip(held, answers, strict=True):
        writes[at][0].settle_append(writes[at][1], answer)
        ends[at] = None if isinstance(answer, Committed) else answer
    return ends


def _committed(
    store: GroupStore, writes: Sequence[Write], held: Sequence[tuple[int, NamespaceCommit]]
) -> Sequence[Committed | Exception]:
    if not held:
        return ()
    requests = [
        CommitRequest(writes[at][0].database.new_key(), [part], first_attempt=True) for at, part in held
    ]
    try:
        return store.commit_each(requests)
    except Exception as error:
        return [error] * len(held)
    except BaseException as error:
        for at, _ in held:
            writes[at][0].settle_append(writes[at][1], error)
        raise
