"""What the store holds of the world, looked at past the gateways: by a connection that no fault touches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import apsw

from gateway.core.state import WorldState
from gateway.store.base import Namespace
from gateway.store.database import Database
from gateway.store.embedded import Engine
from gateway.store.world import home
from gateway.store.world.history import History
from gateway.wire import decode_frame
from gateway.wire.journal import JournalFrame
from tests.simulation.history import Said


class Recorded:
    """The rows and gaps by epoch, read on with every look; a row that was there once must stay."""

    def __init__(self, engine: Engine, key: str) -> None:
        self.database = Database.open(engine, Namespace(key), read_only=True)
        self.covered: dict[int, set[int]] = defaultdict(set)
        """epoch → ticks that have a row or lie in a gap."""
        self.gaps: dict[int, set[int]] = defaultdict(set)
        self._seq = -1
        self._gap_count = 0

    def look(self) -> None:
        """Read what is new."""
        self.database.read(self._look)

    def _look(self, connection: apsw.Connection) -> None:
        query = "SELECT seq, epoch, tick FROM frames WHERE seq > ? ORDER BY seq"
        for seq, epoch, tick in connection.execute(query, (self._seq,)):
            assert seq == self._seq + 1, f"row {seq} follows row {self._seq}"
            self._seq = seq
            self.covered[epoch].add(tick)
        count = connection.execute("SELECT count(*) FROM gaps").get
        if count != self._gap_count:
            self._gap_count = count
            for epoch, first, last in connection.execute("SELECT epoch, from_tick, to_tick FROM gaps"):
                ticks = range(first, last + 1)
                self.covered[epoch].update(ticks)
                self.gaps[epoch].update(ticks)

    def fence(self) -> int:
        """The fence of the home that the store knows."""
        row = self.database.read(home.read)
        return 0 if row is None else row.fence

    def check_all(self, said: Said) -> dict[int, bytes]:
        """Every row from the first: what it holds was said, each keyframe is the state up to it. The last state."""
        self.look()
        rows, state = 0, WorldState()
        for row in History(self.database, WorldState).frames(keyframes=True):
            if isinstance(row, JournalFrame):
                assert row.seq >= rows, "rows are told in order"
                rows = row.seq + 1
                state = self._replayed(state, row, said)
        assert rows == self._seq + 1, f"{self._seq + 1} rows were there, {rows} are"
        return state.snapshot()

    def _replayed(self, state: WorldState, row: JournalFrame, said: Said) -> WorldState:
        own = WorldState() if row.keyframe else state
        for message in row.messages:
            frame = decode_frame(message)
            check_values(said, frame.epoch, ((r.key, r.data, r.tick) for r in frame.records))
            own.apply(frame)
        if row.keyframe and state.records:
            was, now = state.snapshot(), own.snapshot()
            wrong = {key for key in was.keys() | now.keys() if was.get(key) != now.get(key)}
            unknown = {key for key in wrong if now.get(key) is not None and key in was}
            assert not unknown or self.gaps, (
                f"keyframe row {row.seq} differs from the rows before it: {unknown}"
            )
        return own if row.keyframe else state

    def close(self) -> None:
        self.database.close()


def check_values(said: Said, epoch: int, records: Iterable[tuple[int, bytes | None, int | None]]) -> None:
    """Nobody was told anything that no publisher said."""
    for key, data, tick in records:
        wrong = said.wrong(epoch, tick or 0, key, data)
        assert wrong is None, wrong
