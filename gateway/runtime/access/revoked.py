"""What was revoked, remembered across restarts until every token that it concerns has ended. Room: runtime.

A name stands for the token of that ``jti`` and for all tokens of that ``sub`` which were signed before. Written to a
file before anybody is told that it is done. Source: docs/ACCESS.md.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from gateway import limits
from gateway.core.grants import Grant
from gateway.errors import ConfigError, Overloaded

FILE: Final = "revoked.json"
CERTIFICATE_KID: Final = "client-ca"
"""What stands for a key in a grant that a client certificate is."""


class Revoked:
    """Raises :class:`ConfigError` where its file is there and cannot be read: nothing may be forgotten unnoticed."""

    def __init__(self, folder: Path, kept_s: float = limits.REVOKED_KEPT_S) -> None:
        """``kept_s``: how long names are remembered; where certificates count, which may live for years, for ever."""
        self._kept_s = kept_s
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
        at = {known: since for known, since in self._at.items() if since + self._kept_s > now_s}
        if name not in at and len(at) >= limits.REVOKED_MAX:
            raise Overloaded(
                f"{len(at)} names are revoked, which is the bound; take the key of these tokens out of --auth-keys instead",
                bound="revoked names",
                limit=limits.REVOKED_MAX,
            )
        at[name] = now_s
        # A new dict in the old one's place: write() may be reading that in its thread.
        self._at = at

    def write(self) -> None:
        """Have it all on disk on return. Blocks; raises ``OSError``. Never twice at once."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f".{FILE}.{os.getpid()}")
        # NOFOLLOW: where a link of that name lies in wait, another file would be written over.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(self._at, file)
            file.flush()
            os.fsync(file.fileno())
        # Synced before it gets its name, and the folder after: a power cut leaves the old list or the new
        # one, never half of one.
        part.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def concerns(self, grant: Grant, now_s: float) -> bool:
        """Whether the token or the certificate that this grant stands on was revoked."""
        kept_s = self._kept_s if grant.kid == CERTIFICATE_KID else limits.REVOKED_KEPT_S
        by_jti, by_subject = (self._at.get(name) if name else None for name in (grant.jti, grant.subject))
        if by_jti is not None and by_jti + kept_s > now_s:
            return True
        if by_subject is None or by_subject + kept_s <= now_s:
            return False
        # A subject's tokens signed since are good: the name was revoked, not the person. Within the leeway
        # of clocks they count as from before.
        return grant.issued_s is None or grant.issued_s <= by_subject + limits.TOKEN_LEEWAY_S
