"""Readers that cost next to nothing, so that one core can carry the load of hundreds. Room: bench.

A :class:`LeanPool` connects with the gateway's own client (or raw QUIC, for the stock relay), then takes
over what a reader's QUIC stack must do for 1-RTT packets that carry only datagrams: reads them in
batches (``recvmmsg``, ``UDP_GRO``), removes header protection, decrypts, counts, and acknowledges as RFC 9000 section
13.2.2 has it. Everything else is the real connection's. The relay can't tell the difference; the
same pool is used for every QUIC relay of a comparison.
"""

from bench.lean.ages import LeanAges, Samples
from bench.lean.pool import LeanPool
from bench.lean.reader import LeanReader

__all__ = ["LeanAges", "LeanPool", "LeanReader", "Samples"]
