"""How much one peer may have: so many at a time, so many a second. Room: core. Pure: times are arguments.

A peer is told by its address: one IPv4 address, or the /64 that an IPv6 host has for itself
(RFC 4291 section 2.5.4, RFC 6177), since a host may pick any address of that.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from gateway.errors import GatewayError, TooMany
from gateway.limits import ADDRESSES_COUNTED_MAX, PEERS_CACHED_MAX, RATE_BURST_S


@lru_cache(PEERS_CACHED_MAX)
def peer_of(host: str) -> str:
    """Whom an address counts for: ``198.51.100.7`` itself, ``2001:db8::7`` as ``2001:db8::/64``, an IPv4
    address in IPv6 clothes (``::ffff:198.51.100.7``) as the IPv4 address. What is no address stands for itself."""
    # A scope (fe80::1%eth0) is of this machine and no part of the address; IPv6Network would not take it.
    if "%" in host:
        host = host.partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv4Address):
        return str(address)
    return _peer_of_v6(address)


def _peer_of_v6(address: IPv6Address) -> str:
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    # Not by its /64: ::/64 holds the mapped and the unspecified addresses as well.
    if address.is_loopback:
        return str(address)
    return str(IPv6Network((int(address) >> 64 << 64, 64)))


def host_of(address: str) -> str:
    """``127.0.0.1:4433`` → ``127.0.0.1``, ``[::1]:4433`` → ``::1``."""
    host, colon, _ = address.rpartition(":")
    return host.strip("[]") if colon else address


class Held:
    """What each peer holds at a time, at most ``at_most`` of it; ``what`` and ``flag`` stand in the refusal."""

    def __init__(self, at_most: int, what: str, flag: str) -> None:
        self.at_most = at_most
        self._what = what
        self._flag = flag
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def of(self, peer: str) -> int:
        """How many ``peer`` holds."""
        return self._counts.get(peer, 0)

    def has_room(self, peer: str) -> bool:
        """Whether ``peer`` may take one more."""
        return self._counts.get(peer, 0) < self.at_most

    def take(self, peer: str) -> None:
        """One more for ``peer``, to be given back. Raises :class:`TooMany` at the bound."""
        if not self.has_room(peer):
            raise TooMany(
                f"{peer} has {self.at_most} {self._what}, which is the bound for one address; end one, "
                f"or raise {self._flag}",
                bound=self._flag,
                limit=self.at_most,
            )
        self._counts[peer] = self._counts.get(peer, 0) + 1

    def give_back(self, peer: str) -> None:
        """One less."""
        left = self._counts.get(peer, 0) - 1
        if left > 0:
            self._counts[peer] = left
        else:
            self._counts.pop(peer, None)


class PeerRates:
    """A token bucket a peer: ``per_s`` a second, :data:`RATE_BURST_S` worth of it at once.

    A bucket that is full again is forgotten with the next one that needs its place.
    """

    def __init__(self, per_s: float, what: str, flag: str, *, burst_s: float = RATE_BURST_S) -> None:
        self.per_s = per_s
        self.burst = max(1.0, per_s * burst_s)
        self._what = what
        self._flag = flag
        self._buckets: dict[str, tuple[float, float]] = {}
        """(what is left, as of when), least recently used first."""

    def __len__(self) -> int:
        return len(self._buckets)

    def admits(self, peer: str, now: float) -> bool:
        """Take one token of ``peer``'s at ``now`` (seconds of a monotonic clock). False: there is none."""
        # Taken out and put back, so that a dict's order is that of use, and the first entry the one that was idle
        # for longest.
        left, since = self._buckets.pop(peer, (self.burst, now))
        left = min(self.burst, left + (now - since) * self.per_s)
        admitted = left >= 1.0
        self._buckets[peer] = (left - 1.0 if admitted else left, now)
        if len(self._buckets) > ADDRESSES_COUNTED_MAX:
            # One in, one out. Whoever comes from more addresses than are counted has a full bucket each time:
            # bounded memory is worth more here.
            del self._buckets[next(iter(self._buckets))]
        return admitted

    def has_left(self, peer: str, now: float) -> bool:
        """Whether :meth:`admits` would take one; takes none."""
        left, since = self._buckets.get(peer, (self.burst, now))
        return left + (now - since) * self.per_s >= 1.0

    def take(self, peer: str, now: float) -> None:
        """As :meth:`admits`, or :class:`TooMany`."""
        if not self.admits(peer, now):
            raise TooMany(
                f"{peer} is over {self.per_s:g} {self._what} a second, which is the bound for one address; "
                f"come back slower, or raise {self._flag}",
                bound=self._flag,
                limit=self.per_s,
            )


def bound_name(bound: str) -> str:
    """``--replays-max`` → ``replays_max``: a setting's name, or the words of a bound that has none."""
    return bound.removeprefix("--").replace("-", "_").replace(" ", "_")


class Refusals:
    """How often each bound refused somebody, for the metrics."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def count(self, bound: str) -> None:
        """One refusal by ``bound``: a setting's name, or of several words for what has none."""
        name = bound_name(bound)
        self.counts[name] = self.counts.get(name, 0) + 1

    def note(self, error: GatewayError) -> None:
        """One refusal, if ``error`` is one by a bound (its fact ``bound``), however many hands it goes through."""
        bound = error.facts.get("bound")
        # One error passes several that count (session, request, worker): it is one refusal.
        if isinstance(bound, str) and not error.is_noted:
            error.is_noted = True
            self.count(bound)
