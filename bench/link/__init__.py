"""A link that delays, drops, reorders and throttles real packets between network namespaces.

Room: bench. Each namespace holds a TUN device; one carrier process moves IP packets between
them by the rules of :mod:`bench.link.model`. The kernels' own TCP and UDP run on top.
"""

from bench.link.model import Direction, GilbertElliott, Path
from bench.link.network import Host, Network, unavailable_because

__all__ = ["Direction", "GilbertElliott", "Host", "Network", "Path", "unavailable_because"]
