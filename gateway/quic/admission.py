"""Who may open a connection: so many in all, so many of one address, so many a second. Room: quic.

An address that has not been seen to answer may be forged, so nothing is counted against it for
long: where its first packets come too fast it must answer a Retry (RFC 9000 section 8.1.2), and
it counts as a holder only once it has, or its handshake is complete.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from gateway import limits
from gateway.core.admission import Held, PeerRates, peer_of

if TYPE_CHECKING:
    from gateway.quic.options import QuicOptions
    from gateway.quic.serverpeer import ServerPeer

ALL = "quic_connections_max"
PER_ADDRESS = "connections_per_address_max"
PER_SECOND = "handshakes_per_address_per_s"


class Verdict(Enum):
    """What becomes of a first packet; the values of refusals name the bound, for peers and metrics alike."""

    ADMIT = "admit"
    RETRY = "retry"
    REFUSE_ALL = ALL
    REFUSE_ADDRESS = PER_ADDRESS
    REFUSE_RATE = PER_SECOND


class Admission:
    """The counts behind the verdicts. Every admitted peer is told of by :meth:`established` and :meth:`over`."""

    def __init__(self, options: QuicOptions) -> None:
        self._options = options
        self.half_open: set[ServerPeer] = set()
        self._held = Held(options.connections_per_address_max, "QUIC connections", "--" + PER_ADDRESS)
        self._addresses: dict[ServerPeer, str] = {}
        per_s = float(options.handshakes_per_address_per_s)
        self._unproven = PeerRates(per_s, "handshakes", "--" + PER_SECOND)
        self._proven = PeerRates(per_s, "handshakes", "--" + PER_SECOND)
        self.refused: dict[str, int] = {}

    def judge(self, host: str, now: float, *, connections: int, proven: bool) -> Verdict:
        """The verdict on a first packet from ``host``; ``proven``: it has answered a Retry. RFC 9000 section 8.1.2."""
        verdict = self._judged(peer_of(host), now, connections, proven)
        if verdict not in (Verdict.ADMIT, Verdict.RETRY):
            self.count(verdict.value)
        return verdict

    def _judged(self, address: str, now: float, connections: int, proven: bool) -> Verdict:
        if connections >= self._options.connections_max:
            return Verdict.REFUSE_ALL
        if not proven:
            crowded = len(self.half_open) >= limits.QUIC_HALF_OPEN_MAX
            if self._options.retry or crowded or not self._held.has_room(address):
                return Verdict.RETRY
            return Verdict.ADMIT if self._unproven.admits(address, now) else Verdict.RETRY
        if not self._held.has_room(address):
            return Verdict.REFUSE_ADDRESS
        return Verdict.ADMIT if self._proven.admits(address, now) else Verdict.REFUSE_RATE

    def count(self, bound: str) -> None:
        self.refused[bound] = self.refused.get(bound, 0) + 1

    def begun(self, peer: ServerPeer, host: str, *, proven: bool) -> None:
        """``peer`` was admitted."""
        self.half_open.add(peer)
        self._addresses[peer] = ""
        if proven:
            self._hold(peer, host)

    def _hold(self, peer: ServerPeer, host: str) -> None:
        address = self._addresses[peer] = peer_of(host)
        self._held.take(address)

    def established(self, peer: ServerPeer, host: str) -> bool:
        """Its handshake is complete, from ``host``. False: its address has as many as it may have."""
        self.half_open.discard(peer)
        if self._addresses.get(peer) == "":
            if not self._held.has_room(peer_of(host)):
                self.count(PER_ADDRESS)
                return False
            self._hold(peer, host)
        return True

    def over(self, peer: ServerPeer) -> None:
        """The connection of ``peer`` has ended."""
        self.half_open.discard(peer)
        if address := self._addresses.pop(peer, ""):
            self._held.give_back(address)
