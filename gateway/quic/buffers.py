"""aioquic's buffer, which it offers without saying so in its types. Room: quic."""

from aioquic.buffer import Buffer, BufferReadError  # type: ignore[attr-defined]

__all__ = ["Buffer", "BufferReadError"]
