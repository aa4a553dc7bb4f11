"""What was recorded of a world: its span, gaps, marks, and its state at any moment. Room: client.

    async with Recordings(url, "arena", ca="certs/ca.pem") as film:
        before = await film.state(mark="boss")

Source: ``docs/RECOVERY.md``, "Over HTTP". Watching it is a :class:`gateway.client.Subscriber` with ``replay=``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self, cast

from gateway.client.address import world_path
from gateway.client.connect import TransportChoice
from gateway.client.fetch import FetchedState, fetch_state
from gateway.client.http import HttpClient
from gateway.client.token import Token, TokenSource
from gateway.client.trust import Trust
from gateway.errors import BadInput, NothingRecorded
from gateway.wire.recorded import ToldGap, ToldMark, ToldSummary


class Recordings:
    """The recording of one world, behind a gateway. An async context manager. Arguments as of
    :class:`gateway.client.Entities`. Raises :class:`gateway.errors.UnknownWorld` and what :class:`HttpClient` raises."""

    def __init__(
        self,
        url: str,
        world: str,
        *,
        transport: TransportChoice = "auto",
        ca: str | Path | None = None,
        certificate_sha256: str | bytes | None = None,
        insecure: bool = False,
        token: TokenSource | Token | None = None,
    ) -> None:
        trust = Trust.of(ca=ca, certificate_sha256=certificate_sha256, insecure=insecure)
        self.world = world
        self._http = HttpClient(url, trust=trust, transport=transport, token=token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._http.__aexit__(*exc)

    async def summary(self) -> ToldSummary:
        """The span: first, last, rows, gaps, marks, retention, parent (docs/API.md)."""
        return cast(ToldSummary, await self._http.get_json(world_path(self.world, "recording")))

    async def gaps(self) -> list[ToldGap]:
        """What is known to be missing: ``{epoch, from, to, reason}`` each."""
        return list((await self._http.get_json(world_path(self.world, "gaps")))["gaps"])

    async def marks(self) -> list[ToldMark]:
        """The named moments: ``{name, epoch, tick, …}`` each."""
        return list((await self._http.get_json(world_path(self.world, "marks")))["marks"])

    async def mark(
        self, name: str, *, tick: int | None = None, epoch: int | None = None, data: object = None
    ) -> ToldMark:
        """Name a moment, the newest one if no ``tick`` is given; ``data`` is anything JSON."""
        members = {"name": name, "tick": tick, "epoch": epoch, "data": data}
        told = {member: value for member, value in members.items() if value is not None}
        return cast(ToldMark, await self._http.post_json(world_path(self.world, "marks"), told))

    async def last(self) -> FetchedState:
        """The last synced state. Raises :class:`NothingRecorded` where there is none."""
        return await fetch_state(self._http, world_path(self.world, "frames", "last"))

    async def state(
        self,
        *,
        tick: int | None = None,
        epoch: int | None = None,
        at: str | None = None,
        mark: str | None = None,
    ) -> FetchedState:
        """The state at a tick (of ``epoch``, or of the newest), at a time (RFC 3339, or ``90s-ago``), or at a mark: exactly
        one of the three. Raises :class:`BadInput`, :class:`NothingRecorded` where nothing was recorded then."""
        if (tick is None) + (at is None) + (mark is None) != 2:
            raise BadInput(f"give one of tick, at and mark, not tick={tick}, at={at}, mark={mark}")
        if mark is not None:
            known = await self.marks()
            found = next((one for one in known if one["name"] == mark), None)
            if found is None:
                names = ", ".join(sorted(one["name"] for one in known)[:20]) or "none"
                raise NothingRecorded(f"there is no mark {mark!r}; there are: {names}")
            tick, epoch = found["tick"], found["epoch"]
        path = world_path(self.world, "frames", epoch=epoch, tick=tick, at=at)
        return await fetch_state(self._http, path)
