"""One QUIC connection: bytes and times in, bytes and events out; no socket, no clock, no task. Room: quic."""

from gateway.core.ports import Refusal
from gateway.quic.connection.connection import Connection
from gateway.quic.connection.flight import FateSink

__all__ = ["Connection", "FateSink", "Refusal"]
