"""Who may sit in a world's publisher's place again. Room: core. Pure: the random bits come in.

An epoch's number is public: it stands in every frame. So the right to come back to it while somebody is
attached is a secret, 128 random bits that only the epoch's publisher was told (``resume`` in its ``welcome``).
Without it an epoch is given back as well, but only where the place is empty, as anybody might take it then.
"""

from __future__ import annotations

import hmac


class Seat:
    """The secret of the newest epoch. ``epoch`` 0: none was handed out since the gateway started."""

    def __init__(self) -> None:
        self._epoch = 0
        self._secret = ""

    def __repr__(self) -> str:
        return f"<Seat of epoch {self._epoch}>"

    def is_proven(self, epoch: int | None, claim: str | None) -> bool:
        """Whether ``claim`` is what the publisher of ``epoch`` was told."""
        if not epoch or epoch != self._epoch:
            return False
        if not self._secret:
            return True  # whoever drives the rules gave no random bits: there are no secrets here
        return self.knows(claim)

    def knows(self, claim: str | None) -> bool:
        """Whether ``claim`` is the secret, where there is one."""
        if not self._secret or claim is None:
            return False
        # In constant time, as any secret; in bytes, for with texts it refuses what is not ASCII, and a claim is
        # anybody's.
        return hmac.compare_digest(self._secret.encode(), claim.encode())

    def taken(self, epoch: int, claim: str | None, fresh: str) -> str | None:
        """Somebody sits down with ``epoch``; answers the secret to tell, None where that is another's. ``fresh``:
        random bits for an epoch that has none yet; of an epoch that was given back but is not known here (the
        gateway was started anew, or another handed it out) what its publisher claims is believed, since it comes first."""
        if epoch != self._epoch:
            self._epoch, self._secret = epoch, claim or fresh
            return self._secret or None
        return self._secret if self.is_proven(epoch, claim) else None
