"""SQLite's and the disk's errors, turned into the house's. Room: store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import apsw

from gateway.errors import GatewayError, StoreDamaged, StoreError, StoreUnavailable

_DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)
_DISK = (
    apsw.FullError,
    apsw.IOError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.PermissionsError,
    apsw.NoMemError,
)


def translate(error: BaseException, path: object) -> GatewayError:
    """The house's error for one that SQLite or the disk raised; ``path`` is the store's file.
    https://sqlite.org/rescode.html."""
    if isinstance(error, GatewayError):
        return error
    # Before the others of the disk: it is the one that the operator can mend at once.
    if isinstance(error, apsw.FullError):
        return StoreUnavailable(f"no space left for the store {path}; free some, nothing was written")
    if isinstance(error, _DISK):
        return StoreUnavailable(f"the store {path} cannot be used now: {error}")
    if isinstance(error, _DAMAGE):
        return StoreDamaged(f"the store {path} is damaged: {error}")
    return StoreError(f"the store {path} failed: {type(error).__name__}: {error}")


def is_disk(error: BaseException) -> bool:
    """True where trying the others of the same batch alone would fail the same way."""
    return isinstance(error, _DISK)


@contextlib.contextmanager
def translated(path: object) -> Iterator[None]:
    """Raise only classes of :mod:`gateway.errors` from the block."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error
