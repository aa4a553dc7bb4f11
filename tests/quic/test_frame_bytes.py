"""Every frame by itself: its fields in their order, where it ends, and that no part of it is missing (RFC 9000 section 19)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicErrorCode

from gateway.quic.connection import frames
from gateway.quic.connection.frames import NOT_ELICITING, OF_IDS, OF_STREAMS, PROBING, READERS

CID, TOKEN, DATA = b"12345678", bytes(range(16)), b"8 bytes."


class Heard:
    """Whoever frames concern, and what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in ("incoming", "table", "peer_ids"):
            return self  # type: ignore[return-value]

        def tell(*args: object) -> bool:
            self.told.append((name, *args))
            return True

        return tell


def _said(*parts: int | bytes) -> bytes:
    return b"".join(part if isinstance(part, bytes) else encode_uint_var(part) for part in parts)


BIG, SMALL = 300, 5
READ = {
    "RESET_STREAM": (_said(4, 8, BIG, 70_000), ("take_reset", 4, 8, BIG, 70_000, None)),
    "RESET_STREAM_AT": (_said(0x24, 8, BIG, 70_000, 65), ("take_reset", 0x24, 8, BIG, 70_000, 65)),
    "RESET_STREAM_AT of all": (_said(0x24, 8, 1, 65, 65), ("take_reset", 0x24, 8, 1, 65, 65)),
    "CRYPTO": (_said(6, BIG, len(DATA), DATA), ("on_crypto", BIG, DATA)),
    "NEW_TOKEN": (_said(7, len(DATA), DATA), ("on_token", DATA)),
    "MAX_STREAMS of two ways": (_said(0x12, BIG), ("take_limit", 0x12, BIG)),
    "MAX_STREAMS of one way": (_said(0x13, BIG), ("take_limit", 0x13, BIG)),
    "MAX_STREAM_DATA": (_said(0x11, BIG, 70_000), ("take_stream_limit", 0x11, BIG, 70_000)),
    "STREAM_DATA_BLOCKED": (_said(0x15, BIG, 70_000), ("take_blocked", 0x15, BIG)),
    "DATA_BLOCKED": (_said(0x14, BIG), None),
    "STREAMS_BLOCKED of two ways": (_said(0x16, 1 << 60), None),
    "STREAMS_BLOCKED of one way": (_said(0x17, 1 << 60), None),
    "NEW_CONNECTION_ID": (
        _said(0x18, BIG, SMALL, bytes([len(CID)]), CID, TOKEN),
        ("on_new_id", BIG, SMALL, CID, TOKEN),
    ),
    "NEW_CONNECTION_ID of none": (_said(0x18, 9, 1, b"\x00", TOKEN), ("on_new_id", 9, 1, b"", TOKEN)),
    "RETIRE_CONNECTION_ID": (_said(0x19, BIG), ("on_retired_id", BIG)),
    "PATH_CHALLENGE": (_said(0x1A, DATA), ("on_challenge", DATA)),
    "PATH_RESPONSE": (_said(0x1B, DATA), ("on_response", DATA)),
    "CONNECTION_CLOSE of the transport": (
        _said(0x1C, BIG, SMALL, 3, b"why"),
        ("on_close", BIG, SMALL, "why"),
    ),
    "CONNECTION_CLOSE of the application": (_said(0x1D, BIG, 3, b"why"), ("on_close", BIG, None, "why")),
    "CONNECTION_CLOSE of no words": (_said(0x1D, BIG, 0), ("on_close", BIG, None, "")),
    "CONNECTION_CLOSE of no text": (_said(0x1D, BIG, 2, b"\xff\xfe"), ("on_close", BIG, None, "")),
    "HANDSHAKE_DONE": (_said(0x1E), ("on_handshake_done",)),
    "DATAGRAM with a length": (_said(0x31, len(DATA), DATA), ("on_datagram", DATA, 0x31)),
    "DATAGRAM of nothing": (_said(0x31, 0), ("on_datagram", b"", 0x31)),
}


@pytest.mark.parametrize(("said", "told"), READ.values(), ids=READ)
def test_a_frame_is_told_with_its_fields_and_ends_where_it_ends(
    said: bytes, told: tuple[object, ...] | None
) -> None:
    for before, behind in ((b"", b""), (b"??", b""), (b"??", b"\x01more")):
        heard = Heard()
        plain = before + said + behind
        end = READERS[said[0]](heard, said[0], plain, len(before) + 1)  # type: ignore[arg-type]
        assert end == len(before) + len(said)
        assert heard.told == ([] if told is None else [told])


@pytest.mark.parametrize("said", [said for said, _ in READ.values()], ids=READ)
def test_a_frame_that_is_cut_short_tells_nothing(said: bytes) -> None:
    for cut in range(1, len(said)):
        heard = Heard()
        with pytest.raises(IndexError):
            READERS[said[0]](heard, said[0], said[:cut], 1)  # type: ignore[arg-type]
        assert heard.told == []


def test_a_datagram_without_a_length_is_the_rest_of_the_packet() -> None:
    heard = Heard()
    assert READERS[0x30](heard, 0x30, b"?\x30rest\x00", 2) == 7  # type: ignore[arg-type]
    assert heard.told == [("on_datagram", b"rest\x00", 0x30)]


def test_stopping_a_stream_is_told_to_the_stream_and_to_whoever_sends_on_it() -> None:
    heard = Heard()
    assert READERS[5](heard, 5, _said(5, 8, BIG) + b"\x01", 1) == 4  # type: ignore[arg-type]
    assert heard.told == [("take_stop", 5, 8, BIG), ("on_stopped", 8, BIG)]


def test_every_frame_of_the_standard_is_read() -> None:
    """RFC 9000 section 19, RFC 9221, and RESET_STREAM_AT; PADDING, PING and ACK are read in line."""
    assert set(READERS) == {*range(0x04, 0x1F), 0x24, 0x30, 0x31}
    assert set(OF_STREAMS) == {4, 5, *range(0x08, 0x18), 0x24}
    assert set(OF_IDS) == {0x18, 0x19}
    assert set(PROBING) == {0, 0x18, 0x1A, 0x1B}
    assert set(NOT_ELICITING) == {0, 2, 3, 0x1C, 0x1D}


@pytest.mark.parametrize(("fault", "words"), [(frames.unknown, "Unknown"), (frames.cut_short, "parse")])
def test_what_is_no_frame_is_refused_under_its_type(fault: Callable[[int | None], Any], words: str) -> None:
    assert (fault(0x42).code, fault(0x42).frame_type) == (QuicErrorCode.FRAME_ENCODING_ERROR, 0x42)
    assert words in fault(None).reason
