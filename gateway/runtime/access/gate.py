"""The gate: keys and certificates in, standings out; ends those whose time is over or that were revoked. Room: runtime.

Implements :class:`gateway.core.gate.Gate`. A good token is checked once and known by its hash from then on; a bad one
costs its sender's address a place in a bucket. Source: docs/ACCESS.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from gateway import limits
from gateway.core.admission import PeerRates
from gateway.core.gate import Asked, Standing
from gateway.core.grants import OPEN, Grant, GrantRefused, Need
from gateway.core.needs import need_of
from gateway.core.ports import CloseCode
from gateway.errors import GatewayError, StoreUnavailable, TooMany, Unauthorized
from gateway.runtime.access.jwks import PublicKey
from gateway.runtime.access.keysource import KeySource
from gateway.runtime.access.revoked import Revoked
from gateway.runtime.access.subjects import Subjects
from gateway.runtime.access.tokens import check_lifetime, refuse, verify

SESSION_PATHS: Final = ("/live", "/replay")
"""What these end in goes on until somebody ends it."""
EXPIRED: Final = "expired"
REVOKED: Final = "revoked"


class AccessGate:
    """``clock``: Unix seconds. Call :meth:`begin` before the doors open, :meth:`stop` after they have closed."""

    def __init__(
        self,
        source: KeySource,
        revoked: Revoked,
        audience: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.source = source
        self.revoked = revoked
        self.subjects = Subjects()
        self.refused: Counter[str] = Counter()
        """Refusals by rule."""
        self.sessions_ended: Counter[str] = Counter()
        """Standings that ended early, by reason."""
        self._audience = audience
        self._clock = clock
        self._known: dict[bytes, Grant] = {}
        """Good tokens by their hash, least recently used first."""
        self._standing: dict[Standing, asyncio.TimerHandle | None] = {}
        self._failures = PeerRates(
            limits.AUTH_FAILURES_PER_ADDRESS_PER_S, "bad tokens", "AUTH_FAILURES_PER_ADDRESS_PER_S"
        )
        self._writing = asyncio.Lock()
        self._keys = source.keys
        source.on_change = self._on_keys

    async def begin(self) -> None:
        """Have the keys, where they come from elsewhere."""
        await self.source.begin()

    def stop(self) -> None:
        """Ask for keys no more."""
        self.source.stop()
        for handle in self._standing.values():
            if handle is not None:
                handle.cancel()

    # -- coming in ------------------------------------------------------------------------

    def admit(self, asked: Asked) -> Standing | None:
        need = need_of(asked.method, asked.path, asked.query)
        if need is not None and need.verb == OPEN:
            return None
        try:
            grant = self._grant(asked.token, asked.certificate, asked.peer)
            self._check(grant, need)
            self.subjects.take_request(grant, time.monotonic())
        except GatewayError as error:
            self._count(error)
            raise
        assert need is not None
        return self._begun(grant, need, is_session=asked.path.endswith(SESSION_PATHS))

    def _begun(self, grant: Grant, need: Need, *, is_session: bool) -> Standing:
        if is_session:
            try:
                self.subjects.take_session(grant)
            except TooMany as error:
                self._count(error)
                raise
        standing = Standing(grant, need, self._over)
        standing.is_session = is_session
        self._standing[standing] = None
        self._watch(standing)
        return standing

    def _check(self, grant: Grant, need: Need | None) -> None:
        if need is None:
            raise GrantRefused(
                "nothing is served here for this method, or no rule says who may ask; docs/API.md lists the routes",
                rule="path",
            )
        grant.check(need)

    def another(self, standing: Standing) -> Standing:
        """The same grant, in use by a session that outlives what asked for it. Raises ``TooMany``."""
        return self._begun(standing.grant, standing.need, is_session=True)

    def renew(self, standing: Standing, token: str, peer: str) -> None:
        if standing.ended is not None:
            return
        try:
            # Without the certificate: a token was sent to be looked at, not what stood before.
            grant = self._grant(token, None, peer)
            self._check(grant, replace(standing.need, takeover=False))
            _check_no_narrower(grant, standing)
            if grant.subject != standing.grant.subject:
                refuse("subject", "it is of another subject than this session; open a new one with it")
        except GatewayError as error:
            self._count(error)
            raise
        standing.grant = grant
        self._watch(standing)

    async def pace(self, standing: Standing, size: int) -> None:
        wait_s = self.subjects.bytes_wait_s(standing.grant, size, time.monotonic())
        if wait_s:
            await asyncio.sleep(min(wait_s, limits.GRANT_PATIENCE_S))

    # -- whose token ----------------------------------------------------------------------

    def _grant(self, token: str | None, certificate: Grant | None, peer: str) -> Grant:
        is_by_certificate = token is None and certificate is not None
        grant = certificate if is_by_certificate and certificate else self._by_token(token, peer)
        now_s = self._clock()
        check_lifetime(grant, now_s)
        if self.revoked.concerns(grant, now_s):
            refuse("revoked", "it was revoked; get a fresh one")
        return grant

    def _by_token(self, token: str | None, peer: str) -> Grant:
        if token is None:
            raise Unauthorized(
                "this gateway asks for a token (missing): send Authorization: Bearer TOKEN; where headers cannot be set "
                "?token=, or within 2 s of a session's begin its first message",
                rule="missing",
            )
        # By its hash: memory that is read by others then holds no token that counts.
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        # Out and in again: the dict's order is that of use, and the first goes when it is full.
        grant = self._known.pop(digest, None)
        if grant is None:
            grant = self._verified(token, peer)
            if len(self._known) >= limits.TOKENS_CACHED_MAX:
                del self._known[next(iter(self._known))]
        self._known[digest] = grant
        return grant

    def _verified(self, token: str, peer: str) -> Grant:
        now = time.monotonic()
        # Only tokens that are not known come here: whoever has a good one is not kept out by his neighbour
        # behind the same address.
        if not self._failures.has_left(peer, now):
            raise TooMany(
                f"more than {limits.AUTH_FAILURES_PER_ADDRESS_PER_S} bad tokens a second came from this address (failures); "
                "come back later, with a good one",
                bound="auth_failures",
                limit=limits.AUTH_FAILURES_PER_ADDRESS_PER_S,
            )
        try:
            return verify(token, self.source.keys, self._audience, self._clock())
        except GatewayError as error:
            self._failures.admits(peer, now)
            if error.facts.get("rule") == "key":
                self.source.miss()
            raise

    def _count(self, error: GatewayError) -> None:
        rule = error.facts.get("rule") or error.facts.get("bound")
        self.refused[str(rule or error.code)] += 1

    # -- how long it stands ---------------------------------------------------------------

    def _watch(self, standing: Standing) -> None:
        """Wait for the end of its time, as the clock goes now."""
        handle = self._standing.get(standing)
        if handle is not None:
            handle.cancel()
        left_s = ends_s(standing.grant, self._clock()) - self._clock()
        if math.isinf(left_s):
            return
        loop = asyncio.get_running_loop()
        # Not till the end at once: the loop's clock does not follow a wall clock that is set.
        wait_s = min(max(left_s, 0.0), limits.STANDING_LOOK_S_MAX)
        self._standing[standing] = loop.call_later(wait_s, self._look, standing)

    def _look(self, standing: Standing) -> None:
        if standing not in self._standing:
            return
        # Timers may fire a little early, by the clock's own fineness.
        if self._clock() + 0.01 >= standing.grant.expires_s:
            self._end(standing, EXPIRED, CloseCode.EXPIRED)
        else:
            self._watch(standing)

    def _end(self, standing: Standing, reason: str, code: CloseCode) -> None:
        if standing.ended is None:
            self.sessions_ended[reason] += 1
            standing.end(reason, code)

    def _over(self, standing: Standing) -> None:
        handle = self._standing.pop(standing, None)
        if handle is not None:
            handle.cancel()
        if standing.is_session:
            self.subjects.give_back_session(standing.grant)

    # -- taking back ----------------------------------------------------------------------

    async def revoke(self, name: str) -> Mapping[str, object]:
        """End what stands on the token of this ``jti`` and on those of this ``sub``, and take none of them any more, also
        after a restart. Raises ``Overloaded``, ``StoreUnavailable`` where it cannot be remembered."""
        async with self._writing:
            now_s = self._clock()
            self.revoked.add(name, now_s)
            # Before the disk: what is revoked ends now, even where it can't be remembered.
            ended = self._end_all(lambda grant: name in (grant.subject, grant.jti))
            try:
                await asyncio.to_thread(self.revoked.write)
            except OSError as error:
                raise StoreUnavailable(
                    f"{ended} sessions were ended and no more begin, but a restart would forget it: the list of what "
                    f"was revoked cannot be written ({error.strerror}); mend that, and ask again"
                ) from None
        return {"revoked": name, "ended": ended, "until": int(now_s) + limits.TOKEN_LIFETIME_S_MAX}

    def _on_keys(self) -> None:
        """Keys have changed: what stands on one that is gone, or is another now, or gives less, ends."""
        # What was verified by keys that may be gone has to prove itself again.
        self._known.clear()
        before, self._keys = self._keys, self.source.keys
        gone = {kid for kid, key in before.items() if _is_other(key, self._keys.get(kid))}
        if gone:
            self._end_all(lambda grant: grant.kid in gone)

    def _end_all(self, concerns: Callable[[Grant], bool]) -> int:
        ending = [one for one in self._standing if one.ended is None and concerns(one.grant)]
        for standing in ending:
            self._end(standing, REVOKED, CloseCode.REFUSED)
        return len(ending)

    @property
    def sessions(self) -> int:
        """Sessions that stand now."""
        return sum(standing.is_session for standing in self._standing)


def ends_s(grant: Grant, now_s: float) -> float:
    """When a use of this grant that begins now ends: at its ``exp``; where that is over, and it was let in by the leeway
    of clocks, at the end of that."""
    return grant.expires_s if grant.expires_s > now_s else grant.expires_s + limits.TOKEN_LEEWAY_S


def _check_no_narrower(grant: Grant, standing: Standing) -> None:
    """Raises ``GrantRefused`` where a session would have to show less than it does: that is fixed when it opens."""
    was = standing.grant
    if standing.need.is_read and grant.delay_s > was.delay_s:
        rule = "delay"
    elif grant.kbps is not None and (was.kbps is None or grant.kbps < was.kbps):
        rule = "kbps"
    else:
        return
    raise GrantRefused(
        f"this token allows less than the one before ({rule}), which an open session cannot be held to; open a new one",
        rule=rule,
    )


def _is_other(before: PublicKey, now: PublicKey | None) -> bool:
    return now is None or (now.thumbprint, now.scope) != (before.thumbprint, before.scope)
