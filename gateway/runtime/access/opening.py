"""The gate that the settings ask for. Room: runtime."""

from __future__ import annotations

import logging
import math
from pathlib import Path

from gateway.config import Settings, is_loopback
from gateway.runtime.access.gate import AccessGate
from gateway.runtime.access.keysource import KeySource, NoKeys, key_source
from gateway.runtime.access.revoked import Revoked
from gateway.runtime.events import EventLog

log = logging.getLogger("mvgateway.gate")


def gate_of(settings: Settings, events: EventLog) -> AccessGate | None:
    """None: everybody may do everything, as far as they reach. Raises :class:`ConfigError`. What is revoked is kept in
    the store's folder; where the store is elsewhere, beside the certificates."""
    if not settings.auth_keys and not settings.client_ca:
        if not is_loopback(settings.host):
            log.warning(
                "--insecure-public: whoever reaches %s may read, write and delete everything; --auth-keys asks for tokens",
                settings.host,
            )
        return None

    def note(event: str, level: int = logging.INFO, **facts: object) -> None:
        events.note(event, level, **facts)

    source: KeySource = NoKeys()
    if settings.auth_keys:
        source = key_source(settings.auth_keys, settings.auth_ca, note)
    folder = Path(settings.certs if "://" in settings.store else settings.store)
    # A token lives for a day at most; a certificate may for years, and what revokes it must last as long.
    revoked = Revoked(folder, math.inf) if settings.client_ca else Revoked(folder)
    return AccessGate(source, revoked, settings.auth_audience)
