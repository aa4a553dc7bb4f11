"""A link that delays, drops, reorders and throttles real packets between network namespaces.

Room: bench. Each namespace holds a TUN device; one carrier process moves IP packets between
them by the rules of :mod:`bench.link.model`. The kernels' own TCP and UDP run on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from bench.link.netem import NetemNetwork
from bench.link.network import Host, LinkError, Network, unavailable_because
from gateway.link.model import Direction, GilbertElliott, LinkPath

__all__ = [
    "Direction",
    "GilbertElliott",
    "Host",
    "Link",
    "LinkError",
    "LinkPath",
    "Network",
    "open_network",
    "unavailable_because",
]


class Link(Protocol):
    """Hosts joined by paths, while the context lasts; ``report`` is filled at its end."""

    hosts: list[Host]
    report: dict[str, Any]

    def begin(self, paths: Sequence[LinkPath], seed: int) -> None:
        """Other rules for the same hosts, counters at zero."""

    def counters(self) -> dict[str, Any]:
        """What was carried since the rules came, at least ``bytes_down`` and ``bytes_up`` by address."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_network(
    paths: Sequence[LinkPath], seed: int, *, netem: bool = False, addresses: int = 1, tcp: str | None = None
) -> Link:
    """The link by the carrier, or by the kernel's netem if that was asked for. ``tcp``: congestion control."""
    if netem:
        return NetemNetwork(list(paths), addresses=addresses, tcp=tcp)
    return Network(paths, seed=seed, addresses=addresses, tcp=tcp)
