"""What one address may have of the worlds: so many held, so many made a minute, so many replays. Room: runtime."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.config import Settings
from gateway.core.admission import Held, PeerRates, host_of, peer_of
from gateway.core.events import Event, SessionClosed, SessionOpened
from gateway.errors import TooMany
from gateway.limits import REPLAYS_PEER_SHARE

WORLDS_FLAG = "--worlds-per-address-max"
MADE_FLAG = "--worlds-made-per-address-per-min"
REPLAYS_FLAG = "--replays-max"


class Shares:
    """Counted by the events of sessions. ``clock``: seconds, monotonic."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._worlds_max = settings.worlds_per_address_max
        self._sessions: dict[str, dict[str, int]] = {}
        """peer → world → its sessions there."""
        self._made = PeerRates(
            settings.worlds_made_per_address_per_min / 60, "new worlds", MADE_FLAG, burst_s=60.0
        )
        self._clock = clock
        self.replays = Held(max(1, settings.replays_max // REPLAYS_PEER_SHARE), "replays", REPLAYS_FLAG)

    @property
    def addresses(self) -> int:
        """How many have a session now."""
        return len(self._sessions)

    def saw(self, event: Event) -> None:
        """A session began or ended."""
        if isinstance(event, SessionOpened) and event.address:
            worlds = self._sessions.setdefault(peer_of(host_of(event.address)), {})
            worlds[event.world] = worlds.get(event.world, 0) + 1
        elif isinstance(event, SessionClosed) and event.address:
            self._left(peer_of(host_of(event.address)), event.world)

    def _left(self, peer: str, world: str) -> None:
        worlds = self._sessions.get(peer, {})
        left = worlds.get(world, 0) - 1
        if left > 0:
            worlds[world] = left
        else:
            worlds.pop(world, None)
            if not worlds:
                self._sessions.pop(peer, None)

    def check_world(self, peer: str, world: str) -> None:
        """Raise :class:`TooMany` where ``peer`` holds as many worlds as it may, and this is another one."""
        held = self._sessions.get(peer, {})
        if peer and world not in held and len(held) >= self._worlds_max:
            raise TooMany(
                f"{peer} has sessions in {len(held)} worlds, which is the bound for one address; leave one, or start the "
                f"gateway with a higher {WORLDS_FLAG}",
                bound=WORLDS_FLAG,
                limit=self._worlds_max,
            )

    def check_made(self, peer: str) -> None:
        """Raise :class:`TooMany` where ``peer`` makes worlds faster than it may."""
        if peer:
            self._made.take(peer, self._clock())
