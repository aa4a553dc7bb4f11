"""One QUIC connection: bytes and times in, bytes and events out; no socket, no clock, no task. Room: quic."""

from gateway.quic.connection.base import Connection, FateSink

__all__ = ["Connection", "FateSink"]
