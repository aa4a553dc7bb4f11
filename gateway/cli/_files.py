"""Files under their name only when they are whole. Room: cli."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.errors import ConfigError


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, bring it to disk, then rename. Raises :class:`ConfigError`."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise ConfigError(f"{path} was not written: {error.strerror}; choose another place") from error
    finally:
        partial.unlink(missing_ok=True)
