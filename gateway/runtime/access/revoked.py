"""What was revoked, remembered across restarts until every token that it concerns has ended. Room: runtime.

A name stands for the token of that ``jti`` and for all tokens of that ``sub`` which were signed before. Written to a
file before anybody is told that it is done.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from gateway import limits
from gateway.errors import ConfigError, Overloaded

FILE = "revoked.json"


class Revoked:
    """Raises :class:`ConfigError` where its file is there and cannot be read: nothing may be forgotten unnoticed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._at: dict[str, float] = {}
        """name → when it was revoked, Unix seconds."""
        try:
            read = json.loads(self._path.read_bytes())
            self._at = {str(name): float(at) for name, at in read.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"{self._path}, which holds what was revoked, cannot be read ({error}); mend it, or remove it: "
                "what was revoked in the last day would count again"
            ) from None

    def __len__(self) -> int:
        return len(self._at)

    def add(self, name: str, now_s: float) -> None:
        """Revoke ``name`` from now on. Raises :class:`Overloaded` at the bound."""
        at = {known: since for known, since in self._at.items() if since + limits.REVOKED_KEPT_S > now_s}
        if name not in at and len(at) >= limits.REVOKED_MAX:
            raise Overloaded(
                f"{len(at)} names are revoked, which is the bound; take the key of these tokens out of --auth-keys instead",
                bound="revoked names",
                limit=limits.REVOKED_MAX,
            )
        at[name] = now_s
        self._at = at

    def write(self) -> None:
        """Have it all on disk on return. Blocks; raises ``OSError``. Never twice at once."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f".{FILE}.{os.getpid()}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(self._at, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def concerns(self, subject: str, jti: str, issued_s: float | None) -> bool:
        """Whether a token with these claims was revoked. ``issued_s``: its ``iat``, if it has one."""
        if jti and jti in self._at:
            return True
        at = self._at.get(subject) if subject else None
        return at is not None and (issued_s is None or issued_s <= at + limits.TOKEN_LEEWAY_S)
