"""A SQLite database whose pages live in a store: open, transact, read. Room: store.

Every method blocks: call from a thread of its own, one at a time, never from the event loop. Source:
the last section of the protocol page: a transaction starts with a snapshot, buffers its writes, and
ends in one commit of the store; on conflict everything known is thrown away and it runs again.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Final, TypeVar

import apsw

from gateway.errors import BadInput, Conflict, NotFound, Unprocessable
from gateway.limits import (
    DATABASE_PAUSE_S,
    DATABASE_PAUSE_S_MAX,
    HEAD_TRUSTED_S,
    SQL_WORK_S_MAX,
    STORE_COMMIT_INLINE_PAGES_MAX,
    STORE_COMMIT_NAMESPACES_MAX,
    VFS_ATTEMPTS_MAX,
    VFS_CACHE_BYTES_MAX,
    VFS_DEADLINE_S,
    VFS_WRITER_CACHE_BYTES_MAX,
)
from gateway.store.base import BlockingStore, Committed, Namespace, NamespaceCommit, Version
from gateway.store.hardening import Deadline, harden
from gateway.store.pages import PAGE_SIZE, Pages, commit_together
from gateway.store.vfs import PagesVFS

T = TypeVar("T")
_HARMLESS: Final = (
    apsw.ConstraintError,
    apsw.SQLError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.ReadOnlyError,
)
"""Errors of the statement alone: after them the connection is as good as before."""
_NAMES: Final = count(1)
"""Never the same twice: SQLite finds a VFS by its name, and one whose database was dropped may be there for a while."""


def _new_key() -> bytes:
    return os.urandom(16)


def _no_key() -> bytes:
    return b""


class Database:
    """One database. Get it by :meth:`open`, end it by :meth:`close`."""

    def __init__(
        self,
        store: BlockingStore,
        pages: Pages,
        *,
        exclusive: bool,
        new_key: Callable[[], bytes],
        own_code: bool = False,
    ) -> None:
        self.new_key = new_key
        self.store = store
        self.pages = pages
        self._exclusive = exclusive
        self._own_code = own_code
        self._deadline = Deadline(SQL_WORK_S_MAX)
        self._connection: apsw.Connection | None = None
        self._vfs: PagesVFS | None = None
        self.deadline_s = VFS_DEADLINE_S
        self.conflicts = 0
        """How often a transaction was run again."""
        self.guard: Callable[[apsw.Connection], None] | None = None
        """Looks, before anything else is read or written, whether this is still what was opened. Called
        within the transaction; where the head is trusted, after each time when it was not."""
        self.meaning: Callable[[BaseException], BaseException] | None = None
        """What an error of the store means for what was opened."""
        self._guarded = False
        self._refused = False
        """The guard raised: what it saw is not to be kept."""
        self._monotonic = time.monotonic
        self._trusted_at_s = 0.0

    @classmethod
    def open(
        cls,
        store: BlockingStore,
        ns: Namespace,
        *,
        version: Version | None = None,
        page_size: int = PAGE_SIZE,
        single_writer: bool = False,
        read_only: bool = False,
        create: bool = False,
        cache_bytes: int | None = None,
        new_key: Callable[[], bytes] | None = None,
        own_code: bool = False,
    ) -> Database:
        """Open ``ns``: at ``version`` (read-only), or at its moving head.

        ``single_writer``: this connection is meant to be the only writer: its head is trusted
        without asking and SQLite keeps its page cache; any foreign commit is a conflict.
        ``create``: make the namespace if it is not there. ``page_size`` (bytes) counts for a new
        database only. ``new_key``: makes the idempotency key (16 bytes) of each commit; by default
        random, and none where the store is in this process: a record per commit is kept for a day. ``own_code``: the statements are a user's own, so that triggers and
        views run and nothing is broken off for taking long. Raises ``NotFound`` at first use where there is no such namespace.
        """
        if create:
            with suppress(Unprocessable):
                store.create_namespace(ns.key)
        if new_key is None:
            new_key = _no_key if store.traits.in_process else _new_key
        # Exclusive to SQLite means that it keeps its page cache from one transaction to the next without a
        # look at the file.
        exclusive = single_writer and not read_only and version is None
        if cache_bytes is None:
            cache_bytes = VFS_WRITER_CACHE_BYTES_MAX if exclusive else VFS_CACHE_BYTES_MAX
        pages = Pages(
            store,
            ns,
            new_key=new_key,
            version=version,
            page_size=page_size,
            follow_head=not exclusive,
            writable=not read_only,
            cache_bytes=cache_bytes,
        )
        return cls(store, pages, exclusive=exclusive, new_key=new_key, own_code=own_code)

    @property
    def namespace(self) -> Namespace:
        return self.pages.ns

    @property
    def version(self) -> Version | None:
        """The version last read or committed; None before the first transaction."""
        return self.pages.head

    @property
    def lineage(self) -> int:
        """How often the head was asked for: see :attr:`Pages.lineage`."""
        return self.pages.lineage

    def renew(self) -> None:
        """Drop what is known where somebody else has committed since: a single writer does not ask by itself."""
        try:
            if self.version is not None and self.store.stat(self.namespace).version != self.version:
                self.throw_away()
        except NotFound as error:
            raise self.meaning_of(error) from None

    @property
    def connection(self) -> apsw.Connection:
        """The SQLite connection, opened when first asked for. Its own COMMITs go to the store too."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> apsw.Connection:
        if self._vfs is None:
            self._vfs = PagesVFS(f"mvpages-{next(_NAMES)}", self.pages)
        flags = apsw.SQLITE_OPEN_READONLY if self.pages.read_only else apsw.SQLITE_OPEN_READWRITE
        try:
            connection = apsw.Connection(self.pages.ns.key, flags=flags, vfs=self._vfs.name)
            harden(connection, own_code=self._own_code)
            if not self._own_code:
                self._deadline.watch(connection)
            # Nothing of a transaction is anywhere before the store's one commit, so there is no journal for a crash to need and
            # nothing to sync; the journal in memory is for ROLLBACK alone.
            wanted = ["journal_mode=MEMORY", "temp_store=MEMORY", "synchronous=OFF"]
            wanted.append("secure_delete=FAST")  # free space as zeros, which pack to nothing
            if self._exclusive:
                wanted.append("locking_mode=EXCLUSIVE")
            for pragma in wanted:  # a statement that is run once is not kept: each is some KiB
                connection.execute(f"PRAGMA {pragma}", can_cache=False)
        except apsw.Error as error:
            raise self._cause(error) from None
        return connection

    def _cause(self, error: BaseException) -> BaseException:
        """What really happened: SQLite only passes an error number on from our pages."""
        file = None if self._vfs is None else self._vfs.file
        failure = None if file is None else file.failure
        if file is not None:
            file.failure = None
        if failure is None and isinstance(error, apsw.InterruptError) and self._deadline.is_over:
            return self._deadline.error(self.pages.ns.key)
        return error if failure is None else self.meaning_of(failure)

    def meaning_of(self, error: BaseException) -> BaseException:
        """What an error of the store means here."""
        return error if self.meaning is None else self.meaning(error)

    def read(self, fn: Callable[[apsw.Connection], T]) -> T:
        """``fn(connection)`` within one read transaction: one snapshot throughout. https://sqlite.org/isolation.html."""
        connection = self.connection
        self._deadline.begin()
        try:
            connection.execute("BEGIN")
            self._look(connection)
            result = fn(connection)
            # Not COMMIT: nothing was written, and no commit of the store is to come of it.
            connection.execute("ROLLBACK")
        except BaseException as error:
            raise self.roll_back(error) or error from None
        return result

    def transact(self, fn: Callable[[apsw.Connection], T]) -> T:
        """``fn(connection)`` and one commit; answers what ``fn`` answered.

        ``fn`` runs again from the start, on a fresh snapshot, each time somebody else was first:
        it must have no other effect than SQL. Raises ``Conflict`` after ``deadline_s`` seconds,
        ``StoreUnavailable`` where the outcome is not known, and whatever ``fn`` raises (rolled back).
        https://sqlite.org/lang_transaction.html.
        """
        return transact_together([self], lambda connections: fn(connections[0]))

    def take_conflicts(self) -> int:
        """How often a transaction was run again since this was last asked."""
        taken, self.conflicts = self.conflicts, 0
        return taken

    def begin_held(self) -> apsw.Connection:
        """Begin a writing transaction whose COMMIT leaves its pages for :func:`commit_held`."""
        self._ask_again()
        connection = self.connection
        self._deadline.begin()
        self.pages.hold = True
        # Whoever is going to write takes the lock, and so its snapshot, at once (sqlite.org/lang_transaction.html).
        connection.execute("BEGIN IMMEDIATE")
        self._look(connection)
        return connection

    def _look(self, connection: apsw.Connection) -> None:
        if self.guard is None or self._guarded:
            return
        # Until it returns: where it raises, what it saw is another world's, and roll_back() throws all of
        # it away.
        self._refused = True
        self.guard(connection)
        self._refused = False
        # A single writer's commit conflicts with any other: one look holds until the head is asked for again.
        # Others look in each transaction.
        self._guarded = self._exclusive
        self._trusted_at_s = self._monotonic()

    def _ask_again(self) -> None:
        """A head that is trusted is asked for all the same after a long rest: a namespace that was deleted
        is kept for longer than that, so that it is not written to when its key reaches nothing good."""
        now_s = self._monotonic()
        if self._guarded and now_s - self._trusted_at_s > HEAD_TRUSTED_S:
            self.renew()
            self._trusted_at_s = now_s

    def hold(
        self, fn: Callable[[apsw.Connection], object], *, atomic: bool = False
    ) -> NamespaceCommit | None:
        """``fn(connection)`` in a transaction whose pages wait: what to commit, by whoever commits it,
        who then calls :meth:`settle`. None where nothing changed: then there is nothing to settle.
        ``atomic``: it is a single statement, and its own transaction. Raises what ``fn`` raises, rolled back."""
        try:
            # BEGIN and COMMIT are two statements more, each of which gives up the interpreter's lock.
            if atomic and self._is_looked_at():
                connection = self.connection
                self._deadline.begin()
                self.pages.hold = True
                fn(connection)
            else:
                connection = self.begin_held()
                fn(connection)
                connection.execute("COMMIT")
        except BaseException as error:
            raise self.roll_back(error) or error from None
        try:
            # Only after SQLite's COMMIT: until then it may still write pages, page 0 last of all.
            part = self.pages.prepare(STORE_COMMIT_INLINE_PAGES_MAX)
        except BaseException:
            self.throw_away()
            raise
        if part is None:
            self.pages.discard()
            self.pages.hold = False
        return part

    def _is_looked_at(self) -> bool:
        """True where nothing needs to stand before a statement that is its own transaction."""
        self._ask_again()
        return self.guard is None or self._guarded

    def settle(self, answer: Committed | BaseException) -> None:
        """How the commit of what :meth:`hold` gave ended. After an error all is read anew."""
        if isinstance(answer, Committed):
            self.pages.accept(answer)
            self._kept()
            return
        self.conflicts += isinstance(answer, Conflict)
        self.throw_away()

    def _kept(self) -> None:
        """The store took a commit on the head that was trusted."""
        self.pages.hold = False
        self._trusted_at_s = self._monotonic()

    def roll_back(self, error: BaseException) -> Exception | None:
        """Undo after ``error``; answers the page call's failure that caused it, if one did."""
        self.pages.hold = False
        cause = self._cause(error)
        connection = self._connection
        sound = (
            cause is error
            and not self._refused
            and (not isinstance(error, apsw.Error) or isinstance(error, _HARMLESS))
        )
        # After an error that was not the statement's alone SQLite's own cache may hold what was never committed:
        # nothing of it is kept.
        if connection is None or not sound or connection.get_autocommit():
            self.throw_away()
        else:
            connection.execute("ROLLBACK")
            self.pages.discard()
        return cause if isinstance(cause, Exception) and cause is not error else None

    def throw_away(self) -> None:
        """Close the connection and forget every page: the next use starts from the store's head."""
        connection, self._connection = self._connection, None
        self._guarded = self._refused = False
        self.pages.hold = False
        if connection is not None:
            with suppress(apsw.Error):
                connection.close(True)
        self.pages.forget()

    def close(self) -> None:
        """Close; idempotent. What was not committed is gone."""
        self.throw_away()
        vfs, self._vfs = self._vfs, None
        if vfs is not None:
            vfs.unregister()


def transact_together(
    databases: Sequence[Database],
    fn: Callable[[Sequence[apsw.Connection]], T],
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> T:
    """``fn(connections)`` and **one** commit over 1 to 16 databases of the same store: all or none.

    Otherwise as :meth:`Database.transact`.
    """
    if not 1 <= len(databases) <= STORE_COMMIT_NAMESPACES_MAX:
        raise BadInput(
            f"{len(databases)} databases in one transaction; 1 to {STORE_COMMIT_NAMESPACES_MAX} go"
        )
    deadline = monotonic() + databases[0].deadline_s
    attempt = 0
    while True:
        attempt += 1
        result = run_held(databases, fn)
        try:
            commit_held(databases)
            return result
        except Conflict:
            if attempt == VFS_ATTEMPTS_MAX or monotonic() >= deadline:
                raise
            databases[0].conflicts += 1
        # Full jitter: two writers that collided would else come back together and collide again.
        sleep(jitter() * min(DATABASE_PAUSE_S_MAX, DATABASE_PAUSE_S * 2**attempt))


def run_held(databases: Sequence[Database], fn: Callable[[Sequence[apsw.Connection]], T]) -> T:
    """``fn`` inside a transaction of each; their pages wait for :func:`commit_held`."""
    connections: list[apsw.Connection] = []
    try:
        # One after the other: those that had begun are rolled back where a later one cannot.
        connections.extend(database.begin_held() for database in databases)
        result = fn(connections)
        for connection in connections:
            connection.execute("COMMIT")
    except BaseException as error:
        causes = [database.roll_back(error) for database in databases]
        raise next((cause for cause in causes if cause is not None), error) from None
    return result


def commit_held(databases: Sequence[Database]) -> None:
    """One store commit of what :func:`run_held` left. After any failure the connections are thrown away."""
    try:
        first = databases[0]
        commit_together(first.store, [database.pages for database in databases], first.new_key())
    except BaseException as error:
        for database in databases:
            database.throw_away()
        raise next(
            (told for one in databases if (told := one.meaning_of(error)) is not error), error
        ) from None
    for database in databases:
        database._kept()
