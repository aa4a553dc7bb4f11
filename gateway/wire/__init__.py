"""Bytes <-> values. Room: wire; pure.

May enter: nothing of the house but ``errors`` and ``limits``; no asyncio, sockets or clocks. To be used: what is exported here for
frames and control messages, and each other protocol by its own module.
"""

from gateway.wire.control import TYPE_CONTROL, Control, decode_control, encode_control, encode_error
from gateway.wire.frames import (
    FLAG_KEYFRAME,
    FLAG_REPAIR,
    FLAG_TICKS,
    FLAG_ZSTD,
    HEADER_BYTES,
    TYPE_FRAME,
    Frame,
    Record,
    decode_frame,
    decode_message,
    encode_frame,
    with_epoch,
)
from gateway.wire.names import is_world_name, world_name
from gateway.wire.records import RecordColumns, fits_stride
from gateway.wire.split import split
from gateway.wire.streams import MessageStream, prefix

__all__ = [
    "FLAG_KEYFRAME",
    "FLAG_REPAIR",
    "FLAG_TICKS",
    "FLAG_ZSTD",
    "HEADER_BYTES",
    "TYPE_CONTROL",
    "TYPE_FRAME",
    "Control",
    "Frame",
    "MessageStream",
    "Record",
    "RecordColumns",
    "decode_control",
    "decode_frame",
    "decode_message",
    "encode_control",
    "encode_error",
    "encode_frame",
    "fits_stride",
    "is_world_name",
    "prefix",
    "split",
    "with_epoch",
    "world_name",
]
