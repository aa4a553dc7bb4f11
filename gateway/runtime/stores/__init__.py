"""Stores opened by their names: a folder, an mvstore, another gateway. Room: runtime.

It stands beside what wires the parts because a store behind ``https://`` is reached over QUIC, which ``store`` does not know.
"""

from gateway.runtime.stores.opening import StoreTransport, is_remote, open_store

__all__ = ["StoreTransport", "is_remote", "open_store"]
