"""aioquic's buffer, which it offers without saying so in its types. Room: quic."""

# Ignored: aioquic.buffer takes them from its C module, without naming them in an __all__.
from aioquic.buffer import Buffer, BufferReadError  # type: ignore[attr-defined]

__all__ = ["Buffer", "BufferReadError"]
