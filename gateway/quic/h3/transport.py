"""A connection as aioquic's HTTP/3 asks for it, and what ours takes of that besides what it promises. Room: quic.

``H3Connection`` takes whatever has these methods and attributes for its QUIC connection; two of the names are aioquic's own.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Final

from aioquic.h3.connection import H3Connection

from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.quic.connection import Connection


PRIVATE: Final = (
    "_check_control_frame_type",
    "_check_request_or_push_frame_type",
    "_decode_headers",
    "_encode_headers",
    "_get_local_settings",
    "_handle_control_frame",
    "_handle_request_or_push_frame",
    "_receive_request_or_push_data",
    "_receive_stream_data",
    "_receive_stream_data_uni",
    "_receive_stream_reset",
)
"""Methods of ``H3Connection`` that :mod:`gateway.quic.h3.http3` adds rules and bounds to."""
PRIVATE_STATE: Final = (
    "_decoder",
    "_encoder",
    "_is_client",
    "_local_control_stream_id",
    "_max_push_id",
    "_peer_control_stream_id",
    "_quic",
    "_stream",
)
"""Attributes of it that are read or set there."""


@cache
def check_http3() -> None:
    """Look whether the aioquic that is installed has what is taken of its HTTP/3. Raises ``ConfigError`` that names what is
    not. Its attributes are looked for in what its constructor sets."""
    made = H3Connection.__init__.__code__.co_names
    for name in (*PRIVATE, *PRIVATE_STATE):
        if not callable(getattr(H3Connection, name, None)) and name not in made:
            raise ConfigError(
                f"aioquic {metadata.version('aioquic')} is another than this gateway knows: H3Connection.{name} is gone; "
                "install a version within the range of pyproject.toml"
            )


class H3Transport:
    """The methods are the connection's own."""

    __slots__ = (
        "_connection",
        "_quic_logger",
        "close",
        "configuration",
        "get_next_available_stream_id",
        "reset_stream",
        "send_stream_data",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._quic_logger = None
        self.configuration = connection.configuration
        self.close = connection.close
        self.get_next_available_stream_id = connection.get_next_available_stream_id
        self.reset_stream = connection.reset_stream
        self.send_stream_data = connection.send_stream_data

    @property
    def _remote_max_datagram_frame_size(self) -> int | None:
        """What the peer takes of datagrams; None: none."""
        return self._connection.datagram_bytes_max() or None
