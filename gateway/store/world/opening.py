"""How the connections of one open world are made: the first by its name, the others to what that found. Room: store."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.store.base import BlockingStore
from gateway.store.world.database import Opened, WorldDatabase
from gateway.store.world.home import Fence
from gateway.store.world.identity import Guard, Identity
from gateway.store.world.schema import Part, Retention
from gateway.store.world.state import MakeState
from gateway.wire.framecodec import LEVEL


class WorldOpening:
    """Both methods block; the first call must have ended before there are calls side by side.

    ``identity`` and ``guard`` are there after the first, ``opened`` after the first :meth:`writer`.
    """

    identity: Identity
    guard: Guard
    opened: Opened

    def __init__(
        self,
        store: BlockingStore,
        name: str,
        *,
        make_state: MakeState,
        now_us: int,
        stride: int = 0,
        retention: Retention | None = None,
        level: int = LEVEL,
        parts: Sequence[Part] = (),
    ) -> None:
        self._store = store
        self._name = name
        self._make_state = make_state
        self._now_us = now_us
        self._stride = stride
        self._retention = retention
        self._level = level
        self._parts = parts
        self._found = False
        self.fence = Fence()
        """What the recording is written under, by each connection of the writer's."""

    def writer(self) -> WorldDatabase:
        """For the world's one writer; the first call makes a world that is not there. Raises as
        :meth:`WorldDatabase.create`, later ones ``WorldDeleted``."""
        # By what the first one found and not by the name, which may mean another world by now.
        if self._found:
            world, self.opened = self._again()
            world.fence = self.fence
            return world
        world, self.opened = WorldDatabase.create(
            self._store,
            self._name,
            make_state=self._make_state,
            now_us=self._now_us,
            stride=self._stride,
            retention=self._retention,
            level=self._level,
            parts=self._parts,
        )
        world.fence = self.fence
        return self._keep(world)

    def _again(self) -> tuple[WorldDatabase, Opened]:
        return WorldDatabase.write_again(
            self._store,
            self.identity,
            self.guard,
            make_state=self._make_state,
            level=self._level,
            parts=self._parts,
        )

    def reader(self) -> WorldDatabase:
        """Read-only; as the first call it raises ``UnknownWorld``, later ``WorldDeleted``."""
        if self._found:
            return WorldDatabase.read_again(
                self._store, self.identity, self.guard, make_state=self._make_state
            )
        return self._keep(WorldDatabase.open(self._store, self._name, make_state=self._make_state))

    def _keep(self, world: WorldDatabase) -> WorldDatabase:
        self.identity, self.guard, self._found = world.identity, world.guard, True
        return world
