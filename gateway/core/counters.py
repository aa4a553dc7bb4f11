"""What a world counts, as plain integers. Room: core. The metrics page reads them."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Counters:
    """Totals since the world was opened. Messages unless the name says otherwise; ``frames``: ticks of
    which at least one message came."""

    frames: int = 0
    received: int = 0
    received_bytes: int = 0
    malformed: int = 0
    late: int = 0
    delivered: int = 0
    lost: int = 0
    repaired: int = 0
    repeated: int = 0
    parity: int = 0
    redundant_bytes: int = 0
    redundancy_withheld: int = 0
    streamed: int = 0
    streams_reset: int = 0
    resyncs: int = 0
    withheld: int = 0
    keyframes_encoded: int = 0
    records_refused: int = 0
    gaps: int = 0
    journal_frames: int = 0
    journal_dropped: int = 0
    journal_failures: int = 0
    publishers: int = 0
    subscribers: int = 0

    def as_dict(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}
