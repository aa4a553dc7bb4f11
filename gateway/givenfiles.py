"""Files that somebody named on a command line or in a configuration. Any room but the pure ones may read them so: not without end,
for ``/dev/zero``, or a film in the place of a certificate, has none that fits memory."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

from gateway.limits import GIVEN_FILE_BYTES_MAX


def read_given(path: Path | str, bytes_max: int = GIVEN_FILE_BYTES_MAX) -> bytes:
    """All of a file; ``-`` given as text is standard input. Raises ``OSError`` as ``open``, and with ``EFBIG`` beyond ``bytes_max``
    bytes: its ``strerror`` names the bound."""
    if path == "-":
        data = sys.stdin.buffer.read(bytes_max + 1)
    else:
        with open(path, "rb") as file:
            data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise OSError(
            errno.EFBIG, f"it holds more than the {bytes_max:,} bytes that are read of such a file", str(path)
        )
    return data
