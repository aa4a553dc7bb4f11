"""Which fast tests hold which modules, and which mutants change nothing that anybody could see."""

from __future__ import annotations

from typing import NamedTuple


class Share(NamedTuple):
    """What part of a room's mutants is to be noticed, and what its tests were measured to notice: the gate holds the latter."""

    aim: float
    held: float


ROOMS: dict[str, Share] = {
    "gateway/core": Share(0.92, 0.91),
    "gateway/wire": Share(0.92, 0.97),
    "gateway/store": Share(0.85, 0.85),
    "gateway/quic/connection": Share(0.85, 0.84),
}
"""The rooms that are mutated. ``held`` is what samples of 150 and 200 had, less twice their scatter; it goes up with the tests, and never down."""


def _named(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/{folder}/test_{name}.py" for name in names)


_VFS = _named("store", "vfs", "vfs_embedded", "foreign_schema")
_PARTS = _named(
    *("core", "admission", "asked", "bundle", "capacity", "delay", "grants", "inbox", "newest", "notices"),
    *("options", "origins", "outlet", "pieces", "reader_parts", "rows", "seat", "source"),
)
"""What is a part by itself has its own fast tests, which need no world around it."""
_TURNS = ("reader_turns", "rest", "sessions")
TARGETS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("gateway/wire/entities/", ()),
    ("gateway/wire/layouts/alike.py", _named("wire", "alike")),
    ("gateway/wire/layouts/poses.py", _named("wire", "layout_bounds", "alike")),
    (
        "gateway/wire/variant/",
        _named("wire", "variant_bounds", "variant_golden", "variant_properties", "variant_godot3"),
    ),
    ("gateway/wire/framechain.py", _named("wire", "framechain", "framecodec", "frame_bounds")),
    ("gateway/wire/framecodec.py", _named("wire", "framechain", "framecodec", "frame_bounds")),
    ("gateway/wire/layouts/", _named("wire", "layouts", "layout_bounds")),
    ("gateway/wire/mvstore", _named("wire", "mvstore")),
    ("gateway/wire/parity.py", _named("wire", "parity", "frame_bounds")),
    (
        "gateway/wire/",
        (
            *_named(
                "wire", "controls", "framechain", "framecodec", "frames", "frames_inflate", "frames_streams"
            ),
            *_named("wire", "frame_bounds", "layout_bounds"),
            *_named("wire", "layouts", "mvstore", "parity", "records_at_once", "strictjson"),
            *_named("core", "journal", "reader_parts"),
            *_named("store", "world_history"),
        ),
    ),
    ("gateway/core/again.py", _named("core", "again")),
    ("gateway/core/rates.py", _named("core", "rates")),
    ("gateway/core/gaps.py", _named("core", "gaps")),
    ("gateway/core/gate.py", _named("core", "gate")),
    ("gateway/core/grants.py", _named("core", "grants")),
    ("gateway/core/keyframes.py", _named("core", "keyframes")),
    ("gateway/core/late.py", _named("core", "stale", "slots")),
    ("gateway/core/lease.py", _named("core", "lease")),
    ("gateway/core/redundancy.py", _named("core", "loss_watch")),
    ("gateway/core/slots.py", _named("core", "stale", "slots")),
    ("gateway/core/stale.py", _named("core", "stale", "slots")),
    ("gateway/core/state.py", _named("core", "state_bounds", "state", "keyframes")),
    ("gateway/core/steady.py", _named("core", "steady")),
    ("gateway/core/window.py", _named("core", "window", "reader_parts")),
    ("gateway/core/twice.py", _named("core", "twice")),
    ("gateway/core/fanout.py", _named("core", "fanout", "rest")),
    *(
        (f"gateway/core/{name}.py", _named("core", *more, "fanout", "reader", "reader_offers", *_TURNS))
        for name, *more in (("reader",), ("rebase", "rebase", "overtaken_keyframes"), ("repairs", "repairs"))
    ),
    ("gateway/core/queueing.py", _named("core", "queueing")),
    *(
        (f"gateway/core/{name}.py", _PARTS)
        for name in (
            *("admission", "budget", "bundle", "capacity", "delay", "inbox", "needs", "newest", "notices"),
            *("options", "origins", "outgoing", "outlet", "row", "seat", "source", "streams"),
        )
    ),
    (
        "gateway/core/world.py",
        _named("core", "world", "world_homes", "world_sessions", "sessions", "journal"),
    ),
    ("gateway/core/ports.py", ()),
    ("gateway/core/replay.py", ()),
    (
        "gateway/core/",
        (
            *_named(
                "core", "admission", "bundle", "capacity", "delay", "grants", "inbox", "journal", "keyframes"
            ),
            *_named("core", "journal_bounds", "lease", "options", "origins", "pings", "queueing", "reader"),
            *_named("core", "asked", "fanout", "reader_parts", "sessions"),
            *_named("core", "refusals", "rows", "seat", "slots", "state", "states", "steady"),
            *_named("core", "world", "world_homes", "world_sessions"),
        ),
    ),
    *(
        (
            f"gateway/store/remote/{name}.py",
            _named("store/remote", "connections", "tcp", "httpx", "time_that_is_left"),
        )
        for name in ("http", "pool", "tcp", "wire")
    ),
    ("gateway/store/remote/", _named("store/remote", "asking", "retries")),
    ("gateway/store/salvage/btree.py", _named("store", "salvage_trees", "salvage_databases")),
    ("gateway/store/salvage/image.py", _named("store", "salvage_image", "salvage_rows")),
    (
        "gateway/store/salvage/salvaging.py",
        _named("store", "salvage_rows", "salvage_databases", "embedded_corners"),
    ),
    ("gateway/store/salvage/", _named("store", "salvage_rows", "salvage_databases")),
    ("gateway/store/entities/", _named("entities", "rules", "store")),
    ("gateway/store/cache", _named("store", "cache", "cache_pages")),
    ("gateway/store/embedded/snapshot.py", _named("store", "folder_reader")),
    ("gateway/store/embedded/reader.py", _named("store", "folder_reader")),
    ("gateway/store/embedded/inspection.py", _named("store", "embedded_faults", "embedded_inspection")),
    (
        "gateway/store/embedded/",
        (
            *_named("store", "embedded", "embedded_corners", "embedded_folder", "embedded_parts"),
            *_named("store", "embedded_upkeep", "model_store"),
        ),
    ),
    ("gateway/store/world/listing.py", _named("store", "world_listing")),
    ("gateway/store/world/soundness.py", _named("store", "foreign_schema", "world_store")),
    ("gateway/store/world/maintenance.py", _named("store", "world_upkeep")),
    (
        "gateway/store/world/",
        (
            *_named(
                "store", "home", "naming", "world_files", "world_history", "world_past", "world_replayed"
            ),
            *_named("store", "world_lanes", "world_store", "world_tables", "world_tail", "world_together"),
            *_named("store", "world_names", "world_timeline"),
        ),
    ),
    ("gateway/store/database.py", (*_named("store", "database"), *_VFS)),
    ("gateway/store/hardening.py", _named("store", "database", "foreign_schema")),
    ("gateway/store/pages.py", (*_named("store", "pages", "pages_ahead"), *_VFS)),
    ("gateway/store/", _VFS),
    (
        "gateway/quic/connection/",
        (
            *_named(
                "quic", "acks", "congestion", "datagram_fate", "fades", "frame_rules", "hkdf", "key_update"
            ),
            *_named("quic", "migration", "pacing", "parameters", "parts_fuzz", "path_mtu", "received"),
            *_named("quic", "recovery", "stream_frames", "partial_reset", "handover", "closing", "burst"),
            *_named("quic", "bounded_work", "packet_fuzz", "connection_ids", "stream_talks", "frame_bytes"),
            *_named("quic", "in_flight", "congestion_alone", "rivals", "when_to_send"),
            *_named("quic", "send_half_handed_on", "path_mtu_alone", "paths_alone", "packet_bytes"),
            *_named("quic", "keys_alone", "packets_in", "asked_of_a_connection", "read_in_line"),
            *_named("quic", "mixed_packets", "first_moments"),
        ),
    ),
)
"""The first that a path begins with counts; what has no tests here is not mutated."""

EQUIVALENT: dict[str, str] = {
    "gateway/core/again.py: len(kept) < len(self.outs) -> len(kept) <= len(self.outs), in leave_out()": (
        "the bundle is made anew, and is the same"
    ),
    "gateway/core/again.py: frames < values -> frames <= values, in frames is not None and frames < values": (
        "where both are due at once it is the same time"
    ),
    "gateway/core/budget.py: -self._bytes_per_s * BUDGET_DEBT_S_MAX -> -self._bytes_per_s // BUDGET_DEBT_S_MAX, in max(self.level - size_bytes, -self._bytes_per_s * BUDGET_DEBT_S_MAX)": (
        "the debt is one second's, and a second's bytes are whole"
    ),
    "gateway/core/capacity.py: self._since = CAPACITY_RECOUNT_MESSAGES -> pass, in __init__()": (
        "nothing is weighed before the state was counted, which sets it"
    ),
    "gateway/core/capacity.py: growth <= 0 -> growth < 0, in _weighed()": (
        "what grows by nothing fits, and adds nothing to what is counted"
    ),
    "gateway/core/capacity.py: len(records) + len(keys) <= self.records_max -> len(records) + len(keys) < self.records_max, in is_far and len(records) + len(keys) <= self.records_max and (self._bytes + more ": (
        "what just fits is weighed one by one then, and fits as well"
    ),
    "gateway/core/capacity.py: 1 -> 2, in -1": "any number below zero says that the key was not seen",
    "gateway/core/capacity.py: before < 0 -> before <= 0, in _weighed()": (
        "a key that was seen has grown by something: zero stands for none"
    ),
    "gateway/core/delay.py: by_us > 0 -> by_us >= 0, in by_us > 0 and self._steps": (
        "a step that is set back by nothing is put back as it was"
    ),
    "gateway/core/fanout.py: self._moved_at = float('-inf') -> pass, in __init__()": (
        "nothing rests before something moved, which sets it"
    ),
    "gateway/core/fanout.py: self._is_ordered = False -> pass, in __init__()": (
        "without readers nothing is offered, and whoever brings them sets it"
    ),
    "gateway/core/fanout.py: turn_at < soonest -> turn_at <= soonest, in turn_at is not None and turn_at < soonest": (
        "where both are due at once it is the same time"
    ),
    "gateway/core/fanout.py: again_at < soonest -> again_at <= soonest, in again_at is not None and again_at < soonest": (
        "where both are due at once it is the same time"
    ),
    "gateway/core/fanout.py: at < soonest -> at <= soonest, in at is not None and at < soonest": (
        "where both are due at once it is the same time"
    ),
    "gateway/core/fanout.py: up_to < taken -> up_to <= taken, in up_to is not None and up_to < taken": (
        "where both are the same it is the same number"
    ),
    "gateway/core/journal.py: self._in_flight.epoch is not None and self._in_flight.tick is not None -> self._in_flight.epoch is not None or self._in_flight.tick is not None, in take_batch()": (
        "a batch has both or neither"
    ),
    "gateway/core/journal.py: batch.epoch is None or batch.tick is None -> batch.epoch is None and batch.tick is None, in committed()": (
        "a batch has both or neither"
    ),
    "gateway/core/journal.py: 0 -> 1, in GapTracker(0)": (
        "of whichever epoch, a tracker that saw nothing waits for nothing"
    ),
    "gateway/core/journal.py: self._keyframe_at = float('-inf') -> pass, in __init__()": (
        "the first keyframe is due whatever this says, and sets it"
    ),
    "gateway/core/journal.py: order > newest -> order >= newest, in add()": (
        "the newest is written over with the same number"
    ),
    "gateway/core/journal.py: (mark.epoch, mark.tick) > (self.durable.epoch, self.durable.tick) -> (mark.epoch, mark.tick) >= (self.durable.epoch, self.durable.tick), in self.durable is None or (mark.epoch, mark.tick) > (self.durable.epoch, self.dura": (
        "where both are the same the mark is written over with itself"
    ),
    "gateway/core/newest.py: left < 0 -> left <= 0, in pick()": (
        "where nothing is left the next one finds no room either"
    ),
    "gateway/core/newest.py: 1 -> 2, in max(1, (message_bytes_max - HEADER_BYTES) // (state.stride + _TICK_BYTES))": (
        "what is too long by the stride is picked record by record, and is the same message"
    ),
    "gateway/core/newest.py: 1 -> 2, in message_bytes_max // RECORD_HEAD_BYTES + 1": (
        "it bounds how many are looked at; those that fit are the same"
    ),
    "gateway/core/newest.py: message_bytes_max // RECORD_HEAD_BYTES -> message_bytes_max * RECORD_HEAD_BYTES, in message_bytes_max // RECORD_HEAD_BYTES + 1": (
        "it bounds how many are looked at; those that fit are the same"
    ),
    "gateway/core/newest.py: REPAIR_STREAM_MESSAGE_BYTES // RECORD_HEAD_BYTES -> REPAIR_STREAM_MESSAGE_BYTES * RECORD_HEAD_BYTES, in :REPAIR_STREAM_MESSAGE_BYTES // RECORD_HEAD_BYTES": (
        "it bounds how many are looked at; those that fit are the same"
    ),
    "gateway/core/rates.py: 1 -> 2, in len(samples) > 1": (
        "the newest sample is never older than a step, so of two the first stays either way"
    ),
    "gateway/core/repairs.py: 0 -> 1, in allowed <= 0": "a budget never allows a single byte: a record is more",
    "gateway/core/repairs.py: 0 -> 1, in room <= 0": "a single byte is room for nothing, and blocked all the same",
    "gateway/core/repairs.py: len(message) <= limit -> len(message) < limit, in _send_one()": (
        "what just fits goes by the way for large ones, which sends it as it is"
    ),
    "gateway/core/redundancy.py: self._lost < REDUNDANCY_FORGOTTEN_LOSSES -> self._lost <= REDUNDANCY_FORGOTTEN_LOSSES, in at is not None and self._lost < REDUNDANCY_FORGOTTEN_LOSSES and (not self._lost_": (
        "what decays by powers of e comes past the bound, and never stands on it"
    ),
    "gateway/core/sessions.py: what.tick > self._newest_tick -> what.tick >= self._newest_tick, in receive()": (
        "the newest is written over with the same number"
    ),
    "gateway/core/slots.py: 1 -> 2, in max(numbers) + 1": "one more zero in front of a number's digits",
    "gateway/core/slots.py: len(numbers) > _SOME -> len(numbers) >= _SOME, in bits_of()": (
        "both ways make the same set: which is quicker is all that the bound says"
    ),
    "gateway/core/slots.py: bits.bit_count() <= _FEW -> bits.bit_count() < _FEW, in numbers_of()": (
        "both ways find the same slots: which is quicker is all that the bound says"
    ),
    "gateway/core/slots.py: 7 -> 8, in bits.bit_length() + 7": "an empty byte after the last slot at most",
    "gateway/core/stale.py: self.head >= STALE_DROPPED_MIN and self.head * 2 >= len(self.slots) -> self.head >= STALE_DROPPED_MIN or self.head * 2 >= len(self.slots), in drop()": (
        "what was served is given back sooner, and what waits is the same"
    ),
    "gateway/core/stale.py: self.head >= STALE_DROPPED_MIN -> self.head > STALE_DROPPED_MIN, in self.head >= STALE_DROPPED_MIN and self.head * 2 >= len(self.slots)": (
        "what was served is given back one key later, and what waits is the same"
    ),
    "gateway/core/stale.py: self.head * 2 >= len(self.slots) -> self.head * 2 > len(self.slots), in self.head >= STALE_DROPPED_MIN and self.head * 2 >= len(self.slots)": (
        "what was served is given back one key later, and what waits is the same"
    ),
    "gateway/core/stale.py: 2 -> 3, in self.head * 2": (
        "what was served is given back sooner, and what waits is the same"
    ),
    "gateway/core/twice.py: trips.given_up > self._given_up -> trips.given_up >= self._given_up, in trips is not None and trips.given_up > self._given_up": (
        "where none were given up since, none are taken back"
    ),
    "gateway/core/twice.py: whole.largest > self._outlet.link.message_bytes_max() -> whole.largest >= self._outlet.link.message_bytes_max(), in _burst_of()": (
        "what just fits is cut into itself"
    ),
    "gateway/core/window.py: count <= len(entries) -> count < len(entries), in token == self._first and count <= len(entries) and (not self._acked)": (
        "each one by itself comes to the same"
    ),
    "gateway/core/world.py: keys is self._last_keys or keys == self._last_keys -> keys is self._last_keys and keys == self._last_keys, in _shared()": (
        "the same keys in another tuple: only what is held of them differs"
    ),
    "gateway/core/world.py: self._last_keys = keys -> pass, in _shared()": (
        "the same keys in another tuple: only what is held of them differs"
    ),
    "gateway/core/world.py: at < soonest -> at <= soonest, in soonest is None or at < soonest": (
        "where both are due at once it is the same time"
    ),
    "gateway/wire/framecodec.py: 0 -> 1, in 0 < len(body) <= self.quick_bytes_max": (
        "a body that is not empty has the four bytes of a length at least"
    ),
    "gateway/wire/mvstore/reads.py: 0 -> 1, in _PAGE_TAILS[0]": ("both tails are of one length"),
    "gateway/wire/mvstore/reads.py: 65536 > page >= 0 -> 65536 > page > 0, in digest is None and len(version) == VERSION_DIGITS and version.isascii() and (655": (
        "page 0 is written the long way then, as the same bytes"
    ),
    "gateway/wire/mvstore/commits.py: 65536 > page >= 0 -> 65536 > page > 0, in data is None and len(digest) == HASH_BYTES and (65536 > page >= 0)": (
        "page 0 is written the long way then, as the same bytes"
    ),
    "gateway/wire/mvstore/reads.py: 30 -> 31, in contents.startswith(_USUAL_DATA, 30)": (
        "the page is read the careful way then, with the same outcome"
    ),
    "gateway/wire/mvstore/reads.py: 38 + int.from_bytes(contents[36:38], 'big') -> 38 - int.from_bytes(contents[36:38], 'big'), in decode_page()": (
        "the page is read the careful way then, with the same outcome"
    ),
    "gateway/wire/mvstore/reads.py: 38 -> 39, in 38 + int.from_bytes(contents[36:38], 'big')": (
        "the page is read the careful way then, with the same outcome"
    ),
    "gateway/wire/mvstore/reads.py: 36 -> 37, in 36:38": (
        "the page is read the careful way then, with the same outcome"
    ),
    "gateway/wire/mvstore/reads.py: 38 -> 39, in 36:38": (
        "the page is read the careful way then, with the same outcome"
    ),
    "gateway/wire/mvstore/reads.py: at <= last -> at < last, in usual_pages()": (
        "what is as long as a head alone is no page, for its end is missing"
    ),
    "gateway/wire/mvstore/reads.py: 30 -> 31, in 10:30": (
        "the byte behind the version is not ASCII: then the page is read the careful way, with the same outcome"
    ),
    "gateway/wire/frames.py: records_bytes % unit -> records_bytes + unit, in records_bytes % unit or records_bytes > unit * records_max": (
        "what is looked at again passes or is refused as it was"
    ),
    "gateway/wire/frames.py: records_bytes > unit * records_max -> records_bytes >= unit * records_max, in records_bytes % unit or records_bytes > unit * records_max": (
        "what is looked at again passes or is refused as it was"
    ),
    "gateway/wire/frames.py: unit * records_max -> unit // records_max, in records_bytes > unit * records_max": (
        "what is looked at again passes or is refused as it was"
    ),
    "gateway/wire/frames.py: frame._bytes = b'' -> pass, in decode_frame()": (
        "the records were read: only what is held of the message differs"
    ),
    "gateway/wire/records.py: count <= RECORDS_AT_ONCE_MAX -> count < RECORDS_AT_ONCE_MAX, in read_columns()": (
        "both ways read the same: which is quicker is all that the bound says"
    ),
    "gateway/wire/streams.py: end >= STREAM_COMPACT_BYTES -> end > STREAM_COMPACT_BYTES, in _advance()": (
        "when what was read is let go of changes nothing of what is read"
    ),
    "gateway/wire/strictjson.py: text.count('[') + text.count('{') > depth_max -> text.count('[') + text.count('{') >= depth_max, in loads()": (
        "the value is walked then, and is just as deep as it may be"
    ),
    "gateway/wire/variant/cursor.py: 1 -> 2, in self.sized('a string').split(b'\\x00', 1)": (
        "what stands before the first NUL is the same, however much of the rest is cut up"
    ),
    "gateway/wire/variant/decode.py: 0 -> 1, in FLAG_64 if kind in (T.INT, T.FLOAT, T.OBJECT) else 0": (
        "that bit of a header is the type's, which nobody asks again"
    ),
    "gateway/wire/variant/decode.py: size <= VARIANT_HASHED_KEY_BYTES_MAX -> size < VARIANT_HASHED_KEY_BYTES_MAX, in __hash__()": (
        "equal keys have equal hashes either way: how much of one is hashed is all that the bound says"
    ),
    "gateway/wire/variant/decode.py: not isinstance(other, _RawKey) or self.end - self.start != other.end - other.sta -> not isinstance(other, _RawKey) and self.end - self.start != other.end - other.st, in __eq__()": (
        "what is of another length, or no container, has another hash and is not compared"
    ),
    "gateway/wire/variant/decode.py: return False -> return True, in __eq__()": (
        "what is of another length, or no container, has another hash and is not compared"
    ),
    "gateway/wire/variant/decode.py: 512 -> 513, in self.start + 512": "equal keys have equal hashes either way",
    "gateway/wire/variant/decode.py: 512 -> 513, in self.end - 512": "equal keys have equal hashes either way",
    "gateway/wire/variant/decode.py: self.end - 512 -> self.end + 512, in self.end - 512:self.end": (
        "equal keys have equal hashes either way: of long ones their beginnings and lengths"
    ),
    "gateway/wire/variant/values.py: return (float, 'nan') -> return None, in key_identity()": (
        "either is equal to itself and to no other key's"
    ),
    "gateway/store/world/maintenance.py: self._failures = 0 -> pass, in __init__()": (
        "the first run has nothing old enough to truncate, so it cannot fail, and sets it"
    ),
    "gateway/store/pages.py: self._forget(None) -> pass, in forget()": (
        "the head is asked for anew, which forgets everything again"
    ),
    "gateway/store/remote/admin.py: return StoreAnswer(200, {}, b'') -> return None, in _ask()": (
        "who deletes or renames looks at no word of the answer"
    ),
    "gateway/store/remote/admin.py: 200 -> 201, in StoreAnswer(200, {}, b'')": (
        "who deletes or renames looks at no word of the answer"
    ),
    "gateway/store/remote/asking.py: attempt += 1 -> attempt -= 1, in ask()": (
        "of the attempt's number it counts only whether it is zero"
    ),
    "gateway/store/remote/asking.py: 1 -> 2, in ask()": (
        "of the attempt's number it counts only whether it is zero"
    ),
    "gateway/store/remote/assumed.py: part.version > stat.version -> part.version >= stat.version, in _check()": (
        "the head itself was let pass just before"
    ),
    "gateway/store/remote/assumed.py: part.version > ns_id -> part.version >= ns_id, in not request.first_attempt and part.version > ns_id": (
        "the id itself was let pass just before"
    ),
    "gateway/store/remote/committing.py: 1 -> 2, in 1 << 30": (
        "the deadline comes before either count of failures"
    ),
    "gateway/store/remote/committing.py: 30 -> 31, in 1 << 30": (
        "the deadline comes before either count of failures"
    ),
    "gateway/store/remote/reading.py: len(reads) <= limits.STORE_READ_PAGES_MAX -> len(reads) < limits.STORE_READ_PAGES_MAX, in read()": (
        "a single part side by side with none is asked for in the same way"
    ),
    "gateway/store/remote/reading.py: version > head -> version >= head, in (version > head for version in at)": (
        "what is wanted at the head is then read at the head"
    ),
    "gateway/store/entities/leases.py: owner and token -> owner or token, in _live(connection, owner, now_us) if owner and token else None": (
        "nobody without a name has a lease, and no lease has an empty token"
    ),
    "gateway/store/entities/queries.py: 1 -> 2, in limit + 1": (
        "one row more is read, and as many are given"
    ),
    "gateway/store/entities/rows.py: entity.revision > entities_max -> entity.revision >= entities_max, in old is None and entity.revision > entities_max": (
        "they are counted once more, and there is room"
    ),
    "gateway/store/entities/transfers.py: ensure(connection) -> pass, in offer()": (
        "what can be offered has been put before, which made the tables"
    ),
    "gateway/store/salvage/btree.py: 1 -> 2, in rows()": ("any mark but zero says that the page was reached"),
    "gateway/store/salvage/btree.py: 1 -> 2, in _overflow()": (
        "any mark but zero says that the page was reached"
    ),
    "gateway/store/salvage/btree.py: 0 -> 1, in left > 0": (
        "by what stays on the row's own page no last page holds a single byte"
    ),
    "gateway/store/salvage/btree.py: size <= most -> size < most, in local_bytes()": (
        "the formula for longer ones gives the same for the longest that stays"
    ),
    "gateway/store/salvage/btree.py: serial > 9 -> serial >= 9, in _value()": (
        "nine is the number one, and was taken before"
    ),
    "gateway/store/salvage/building.py: con.execute('CREATE INDEX IF NOT EXISTS work.page_by_hash ON page(ns, hash)') -> pass, in _count()": (
        "the index makes the count quick"
    ),
    "gateway/store/salvage/gathering.py: self._walking = '' -> pass, in gather()": (
        "the last table walked is not the change log, and of no other is asked whether it is whole"
    ),
    "gateway/store/salvage/gathering.py: 0 -> 1, in values[6] or 0": ("no mark at all is as good as any"),
    "gateway/store/salvage/gathering.py: con.execute(f'PRAGMA page_size={PAGE_SIZE}') -> pass, in _usual_roots()": (
        "it is what SQLite takes by itself"
    ),
    "gateway/store/salvage/heads.py: 1 -> 2, in -1": ("no database has less than no rows"),
    "gateway/store/salvage/heads.py: return bool(ask(cursor, query, (rid, version))) -> return None, in _lacks()": (
        "a version that lacks a page is found by reading it, too, at a higher price"
    ),
    "gateway/store/salvage/image.py: os.O_RDONLY | os.O_CLOEXEC -> os.O_RDONLY & os.O_CLOEXEC, in os.open(path, os.O_RDONLY | os.O_CLOEXEC)": (
        "reading is zero, and Python lets no child have the file anyway (PEP 446)"
    ),
    "gateway/store/salvage/image.py: os.O_RDONLY | os.O_CLOEXEC -> os.O_RDONLY & os.O_CLOEXEC, in os.open(f'{path}-wal', os.O_RDONLY | os.O_CLOEXEC)": (
        "reading is zero, and Python lets no child have the file anyway (PEP 446)"
    ),
    "gateway/store/salvage/rebuilding.py: return 0 -> return None, in _put_in_order()": (
        "none left out is not told either way"
    ),
    "gateway/store/salvage/rebuilding.py: con.executemany('DELETE FROM keyframes WHERE seq = ?', gone) -> pass, in _put_in_order()": (
        "a keyframe that is named ends the hole, so that none that goes is named"
    ),
    "gateway/store/salvage/rebuilding.py: {'frames', 'keyframes', 'gaps', 'meta'} <= names -> {'frames', 'keyframes', 'gaps', 'meta'} < names, in not {'frames', 'keyframes', 'gaps', 'meta'} <= names": (
        "a world has more tables than these"
    ),
    "gateway/store/salvage/salvaging.py: con.execute('PRAGMA temp_store=FILE') -> pass, in _rebuilt()": (
        "it bounds memory, and changes no row"
    ),
    "gateway/store/salvage/salvaging.py: con.execute('PRAGMA work.journal_mode=OFF; PRAGMA work.synchronous=OFF') -> pass, in _rebuilt()": (
        "how a file is written that is deleted at the end"
    ),
    "gateway/store/embedded/reading.py: packed.byteswap() -> pass, in pack_pages()": (
        "only big-endian machines come there"
    ),
    "gateway/store/embedded/reading.py: pages.byteswap() -> pass, in unpack_pages()": (
        "only big-endian machines come there"
    ),
    "gateway/store/world/history.py: first is None or last is None -> first is None and last is None, in _timeline()": (
        "a recording that has a first row has a last one"
    ),
    "gateway/store/world/history.py: first and last -> first or last, in last.seq - first.seq + 1 if first and last else 0": (
        "a recording that has a first row has a last one"
    ),
    "gateway/store/world/history.py: 0 -> 1, in (start.seq, start.received_at_us, 0)": (
        "the row that it is replayed from is always taken, and says its own"
    ),
    "gateway/store/world/history.py: 0 -> 1, in start.seq if start else 0": (
        "where there is no row it is the same"
    ),
    "gateway/store/world/history.py: 0 -> 1, in self._reached or 0": ("the first epoch of a world is 1"),
    "gateway/store/embedded/commit.py: part.assumed >= written -> part.assumed > written, in _others()": (
        "between a version and itself nothing changed, as the log says, too"
    ),
    "gateway/store/remote/wire.py: self.idle_since = 0.0 -> pass, in __init__()": (
        "it is asked of those at rest, and set when one is laid there"
    ),
    "gateway/quic/connection/congestion.py: window < ssthresh -> window <= ssthresh, in on_acked()": (
        "at the threshold nothing of an ACK is before it"
    ),
    "gateway/quic/connection/congestion.py: size < ssthresh - window -> size <= ssthresh - window, in size if size < ssthresh - window else ssthresh - window": (
        "either way it is as much as is missing"
    ),
    "gateway/quic/connection/congestion.py: last_sent_at > self._recovery_since -> last_sent_at >= self._recovery_since, in last_sent_at > self._recovery_since and self._is_loss_heavy(last_sent_at)": (
        "a cut counts from a nanosecond after the packets of its moment: none was sent just then"
    ),
    "gateway/quic/connection/congestion.py: 0 -> 1, in on_lost()": ("no window is as small"),
    "gateway/quic/connection/congestion.py: 0 -> 1, in (self._came_most, 0)": ("no packet is as small"),
    "gateway/quic/connection/congestion.py: self._min_rtt_at = 0.0 -> pass, in __init__()": (
        "it is asked for once a round trip was measured, which sets it"
    ),
    "gateway/quic/connection/congestion.py: came > self._came_most -> came >= self._came_most, in on_rtt()": (
        "it is set to what it is"
    ),
    "gateway/quic/connection/congestion.py: path < self._round_min_rtt -> path <= self._round_min_rtt, in on_rtt()": (
        "it is set to what it is"
    ),
    "gateway/quic/connection/flight.py: start < oldest -> start <= oldest, in among()": (
        "it is set to what it is"
    ),
    "gateway/quic/connection/flight.py: stop > end -> stop >= end, in among()": ("it is set to what it is"),
    "gateway/quic/connection/minting.py: 256 -> 257, in 256 // self.workers": (
        "257 is a prime: of no number of workers is the quotient another"
    ),
    "gateway/quic/connection/mixed.py: self._sending.bytes_max - overhead -> self._sending.bytes_max + overhead, in self._sending.bytes_max - overhead if allowed is None else allowed - overhead": (
        "as many answers as may wait fill no packet"
    ),
    "gateway/quic/connection/streamtable.py: recv.highest != recv.taken and (not recv.is_over) -> recv.highest != recv.taken or not recv.is_over, in note_gaps()": (
        "who counts what is out of order leaves out what is over, and what is in order counts for nothing"
    ),
    "gateway/store/pages.py: self._ahead.pop(page, None) -> pass, in write()": (
        "a transaction of which pages went ahead has more than go inline: all of it goes ahead then, the newest last"
    ),
    "gateway/wire/framecodec.py: len(packed) >= len(body) -> len(packed) > len(body), in encode()": (
        "either is as long, and is read as the same messages"
    ),
    "gateway/quic/connection/flight.py: stop - start <= QUIC_LOOKED_UP_MAX -> stop - start < QUIC_LOOKED_UP_MAX, in among()": (
        "looked up one by one or together, the same are found"
    ),
    "gateway/quic/connection/flight.py: stop - start -> stop + start, in stop - start <= QUIC_LOOKED_UP_MAX": (
        "looked up one by one or together, the same are found"
    ),
    "gateway/store/world/tail.py: seq > upto -> seq >= upto, in received_us > until_us and seq > upto": (
        "the row of that number had come by then"
    ),
    "gateway/store/world/tail.py: seq > upto -> seq >= upto, in _next()": (
        "the row of that number had come by then"
    ),
}
"""Mutants that were looked at, by what they are and the expression or function around them, and why nobody could tell."""


def tests_of(path: str) -> tuple[str, ...]:
    """The tests that should notice a change of this module."""
    return next((tests for prefix, tests in TARGETS if path.startswith(prefix)), ())


def room_of(path: str) -> str:
    """The room whose bound holds for this module."""
    return next(room for room in ROOMS if path.startswith(room))
