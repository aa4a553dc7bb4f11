"""The key of stateless resets, kept beside the certificates. Room: runtime. Source: RFC 9000 section 10.3.2.

By it a peer learns from the first packet that it sends to the next run that the last one is gone.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from gateway.errors import ConfigError
from gateway.runtime.folderlock import locked, write_whole

log = logging.getLogger("mvgateway")

RESET_KEY_FILE = "reset.key"


def reset_key(folder: Path) -> bytes:
    """32 bytes kept beside the certificates, so that clients of a killed run learn at once that it is gone.
    Neither read nor written through a link; gateways that share the folder share them. Raises :class:`ConfigError`.
    RFC 9000 section 10.3.2."""
    key = _kept_reset_key(folder)
    if key is not None:
        return key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            key = _kept_reset_key(folder)  # another may have made it meanwhile
            if key is None:
                key = os.urandom(32)
                write_whole(folder / RESET_KEY_FILE, key, 0o600)
        return key
    except OSError:
        log.warning("--certs %s cannot be written: clients notice a crash later than they could", folder)
    return key or os.urandom(32)


def _kept_reset_key(folder: Path) -> bytes | None:
    path = folder / RESET_KEY_FILE
    try:
        # A FIFO of that name must not stop the start, nor a link lead elsewhere (open(2)).
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            # One more than there should be: a file of another length is no key of ours.
            key = file.read(33)
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                log.warning("%s is open to other users of this machine: chmod 600 it", path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"--certs {folder}: {path}: {error.strerror}; remove it, or name another folder"
        ) from None
    return key if len(key) == 32 else None
