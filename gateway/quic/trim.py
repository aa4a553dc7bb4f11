"""What a connection need not hold once its handshake is over. Room: quic.

aioquic keeps three 16 KiB buffers for TLS messages, the keys of the handshake's packets, and a set
of epochs for each frame type. Of a reader that only listens that is more than half of its memory.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic import connection
from aioquic.quic.crypto import CryptoPair

POST_HANDSHAKE_BUFFER_BYTES = 512
"""For what TLS may still want to say: an alert, or nothing."""


def share_epochs() -> None:
    """Have aioquic make each set of epochs once, not some thirty of them for every connection. Idempotent."""
    if not hasattr(connection.EPOCHS, "cache_info"):
        connection.EPOCHS = cache(connection.EPOCHS)


@cache
def _no_keys() -> CryptoPair:
    """A pair without keys: packets of a past epoch are dropped by it as undecryptable."""
    return CryptoPair()


def trim(quic: Any) -> None:
    """Let go of what only the handshake needed. ``quic``: a connection whose handshake is confirmed."""
    for epoch in list(quic._crypto_buffers):
        quic._crypto_buffers[epoch] = Buffer(capacity=POST_HANDSHAKE_BUFFER_BYTES)
    for epoch in (tls.Epoch.INITIAL, tls.Epoch.HANDSHAKE):
        if quic._spaces[epoch].discarded:
            quic._cryptos[epoch] = _no_keys()
    if quic._spaces[tls.Epoch.INITIAL].discarded:
        quic._cryptos_initial = dict.fromkeys(quic._cryptos_initial, _no_keys())
    context = quic.tls
    if not quic._is_client:
        context.handshake_extensions = []
        context.received_extensions = []
        context._ec_private_keys = []
        context._x25519_private_key = context._x448_private_key = None
        context._key_schedule_psk = context._key_schedule_proxy = None
