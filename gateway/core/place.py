"""The publisher's place in a world: who has it, who may have it next, and for how long it waits for whom went away. Room: core. Pure."""

from __future__ import annotations

from gateway.core.ports import CloseCode, LiveOptions
from gateway.core.seat import Seat
from gateway.core.sessions import PublisherSession
from gateway.errors import PublisherPresent


class PublisherPlace:
    """One publisher at most. ``linger_s``: how long its link may be gone before readers notice."""

    __slots__ = ("_linger_s", "_name", "_seat", "last_epoch", "left_us", "linger_until", "publisher")

    def __init__(self, name: str, linger_s: float, last_epoch: int) -> None:
        self._name = name
        self._linger_s = linger_s
        self._seat = Seat()
        self.last_epoch = last_epoch
        """The epoch handed out last: the only one that can be asked back."""
        self.publisher: PublisherSession | None = None
        self.linger_until: float | None = None
        self.left_us: int | None = None
        """When the last publisher's link went (µs, Unix); None while there is one."""

    def reclaim_epoch(self, options: LiveOptions) -> int | None:
        """The epoch that this publisher gets back, or None: allocate the next one. Raises
        :class:`PublisherPresent` where one publishes and this one neither is it (:mod:`gateway.core.seat`) nor asks
        for ``takeover``."""
        wanted = self._wanted(options)
        # In an empty place the epoch is given back without proof, as anybody might take a new one there.
        if self.publisher is None or self._seat.is_proven(wanted, options.resume):
            return wanted if wanted else None
        if not options.takeover:
            raise self._present()
        return None

    def may_go(self, options: LiveOptions) -> bool:
        """Whether whoever comes with these to another gateway may publish instead of whoever publishes here."""
        wanted = self._wanted(options)
        return self.publisher is None or options.takeover or self._seat.is_proven(wanted, options.resume)

    def _wanted(self, options: LiveOptions) -> int | None:
        return options.epoch if options.epoch == self.last_epoch else None

    def is_publishers(self, resume: str | None) -> bool:
        """Whether ``resume`` is the secret of the publisher that is attached."""
        return self.publisher is not None and self._seat.knows(resume)

    def vacate(self, epoch: int, *, takeover: bool, resume: str | None) -> PublisherSession | None:
        """Who had the place until now, for one that takes it with ``epoch``; it is to be told. Raises :class:`PublisherPresent`
        where it may not."""
        if self.publisher is not None and not takeover and not self._seat.is_proven(epoch, resume):
            raise self._present()
        present, self.publisher = self.publisher, None
        return present

    def occupy(self, session: PublisherSession, resume: str | None, fresh: str) -> str | None:
        """It has the place. Answers the secret to tell it (:meth:`Seat.taken`)."""
        self.publisher = session
        self.last_epoch = max(self.last_epoch, session.epoch)
        self.linger_until = self.left_us = None
        return self._seat.taken(session.epoch, resume, fresh)

    def left(self, session: PublisherSession, mono: float, now_us: int) -> bool:
        """Its link is gone, and the place waits for it. False: it had it no more."""
        if self.publisher is not session:
            return False
        self.publisher = None
        self.linger_until = mono + self._linger_s
        self.left_us = now_us
        return True

    def bye(self, reason: str, code: CloseCode, reconnect_after_ms: int = 0, *, url: str = "") -> None:
        """Whoever has the place is told to go (:meth:`PublisherSession.bye`)."""
        if self.publisher is not None:
            publisher, self.publisher = self.publisher, None
            publisher.bye(reason, code, reconnect_after_ms, url=url)

    def _present(self) -> PublisherPresent:
        return PublisherPresent(
            f"world {self._name} has a publisher; say takeover=1 to replace it, or epoch= and resume= "
            "as its welcome told them if you are the same one"
        )
