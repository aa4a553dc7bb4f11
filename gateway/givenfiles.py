"""Files that somebody named on a command line or in a configuration. Any room but the pure ones may read them so: not without end,
for ``/dev/zero``, or a film in the place of a certificate, has none that fits memory."""

from __future__ import annotations

import errno
import os
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


def can_be_replaced(path: Path) -> bool:
    """True where a file of that name can come to be by a rename: nothing stands there, or an ordinary file. A device, a pipe or a folder
    can't, and neither must ``/dev/stdout`` be, though it is a file where the shell has made it one: the name itself would be replaced, for the
    whole machine."""
    if path.exists() and not path.is_file():
        return False
    if os.path.realpath(path.parent).startswith("/proc/"):
        return False
    return not (path.is_symlink() and os.readlink(path).startswith("/proc/"))
