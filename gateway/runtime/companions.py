"""Things that must be written together with what the journal writes. Room: runtime.

An entity that is put to sleep leaves the world state and enters its table in one commit, or
neither happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import apsw


@dataclass(slots=True)
class Companion:
    """Something to be run in the transaction that brings the journal to ``order``."""

    order: int
    also: Callable[[apsw.Connection], object]
    told: asyncio.Future[Any]
    answer: object = None
    error: Exception | None = None


@dataclass(slots=True)
class Companions:
    """Those of one batch. A failing one is undone alone: the journal goes on."""

    members: list[Companion]

    def run(self, connection: apsw.Connection) -> None:
        """On the database's thread, within the transaction; maybe more than once."""
        for one in self.members:
            one.answer, one.error = None, None
            try:
                with connection:  # a savepoint: a transaction is open already
                    one.answer = one.also(connection)
            except apsw.IOError:
                raise  # the store's: the whole transaction fails, and runs again
            except Exception as error:
                one.error = error

    def tell(self) -> None:
        """After the commit, on the loop."""
        for one in self.members:
            if one.told.done():
                continue
            if one.error is not None:
                one.told.set_exception(one.error)
            else:
                one.told.set_result(one.answer)
