"""Every bound in the house, each with its reason. Imports nothing; every room may import it.

Units stand last in the name. One section a room: add to your own.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB

# --- names -------------------------------------------------------------------------------
WORLD_NAME_CHARS_MAX: Final = 63
"""One DNS label, and far below mvstore's namespace key bound."""
NAME_SHOWN_CHARS_MAX: Final = 80
"""What a refusal repeats of a name."""

# --- wire/frames -------------------------------------------------------------------------
FRAME_CHAIN_RUNS_MAX: Final = 64
"""Lists of keys whose values stay joined, in one chain: a frame of 64 messages."""
VARIANT_HASHED_KEY_BYTES_MAX: Final = 4096
"""A key longer than this is hashed by its ends and length only: nested keys must not cost depth x size."""
VARIANT_REPR_CHARS_MAX: Final = 10_000
"""A container prints at most about this much of itself: enough for a screen, bounded for a log."""
DATAGRAM_SAFE_BYTES: Final = 1_100
"""Always fits one QUIC datagram: 1,200 (RFC 9000 section 14) less packet and session overhead."""
STREAM_MESSAGE_BYTES_MAX: Final = 16 * MIB
"""One message on a stream (default of the setting ``max_message_bytes``): a keyframe of 150,000 records of 100 bytes."""
WEBSOCKET_MESSAGE_BYTES_MAX: Final = 65_535
"""Godot's WebSocketPeer takes no larger message by default: keyframes are split below it."""
CONTROL_MESSAGE_BYTES_MAX: Final = 64 * KIB
"""JSON control messages are a few hundred bytes; ``focus`` may name some thousand keys."""
JSON_DEPTH_MAX: Final = 256
"""Arrays and objects in one another in a request's or a message's JSON: a quarter of what Python's writer takes."""
JSON_DIGITS_MAX: Final = 1_000
"""Digits of one whole number in it: no number here has more than twenty, and reading one costs the square of them."""
RECORDS_PER_FRAME_MAX: Final = 1_000_000
"""A 16 MiB message of the smallest records (8 bytes head) holds 2 million; no world needs half of it."""
RECORDS_AT_ONCE_MAX: Final = 64
"""A message of so many records (a datagram has some dozens) is read in one call, by a layout made for just that many."""
RECORD_LAYOUTS_CACHED_MAX: Final = 256
"""Such layouts kept, by stride and number: two for each kind of message, a few hundred bytes to some KiB each."""
FRAME_BODY_BYTES_MAX: Final = 4 * STREAM_MESSAGE_BYTES_MAX
"""One recorded row unpacked: a keyframe of four of the longest messages, some 600,000 records of 100 bytes."""
FRAME_CHAIN_KEYS_MAX: Final = 100_000
"""Keys whose last two values a recording's codec remembers, to pack the next one: 20 MB at 100 bytes."""
INFLATED_BYTES_MIN: Final = 64 * KIB
"""A publisher's compressed message may unpack to so much, however short it is: a stroke of memcpy."""
INFLATED_RATIO_MAX: Final = 512
"""And to so many bytes for each of its own: records of 1,000 zero bytes under rising keys come to 440."""
INFLATED_RECORDS_MIN: Final = 256
"""So many records may stand in it, however short it is: 50 us."""
INFLATED_RECORDS_RATIO_MAX: Final = 2
"""And so many for each of its bytes: rising keys pack to one byte each at best, and there is a world's work in each."""
FRAME_CHAIN_BYTES_MAX: Final = 4 * MIB
"""Bytes of records above which the next recorded row stands alone, so that the codec keeps no more than a few times that."""
FRAME_CHAIN_KEYS_KEPT_MAX: Final = 32_768
"""The same in keys, for what is written now; older recordings may have more (``FRAME_CHAIN_KEYS_MAX``)."""
FRAME_CHAIN_LISTED_KEYS_MAX: Final = 32_768
"""Keys in all lists of keys that a codec knows again, some 150 bytes each."""
ZSTD_WINDOW_BYTES_MAX: Final = 8 * MIB
"""What every decoder should take (RFC 8878 section 3.1.1.1.2); a larger window would cost memory at a peer's word."""
STREAM_COMPACT_BYTES: Final = 65_536
"""Bytes already pulled after which a buffer is moved to its front: not for each message, and not never."""
PARITY_MESSAGES_MAX: Final = 32
"""Messages that one parity message covers: a frame's datagrams, of which there are no more (``PIECES_MAX``)."""
PARITY_FRAMES_MAX: Final = 8
"""Frames of several datagrams of which a reader keeps what came until they are whole: 133 ms at 60 Hz, 300 KB."""

LAYOUT_BYTES_MAX: Final = 16 * KIB
"""A layout's document: 128 fields of some 100 bytes. It is kept with the world, and told with its facts."""
LAYOUT_FIELDS_MAX: Final = 128
"""Columns that anybody looks at in a table; an avatar's 56 bones are 56 records."""
LAYOUT_COUNT_MAX: Final = 16
"""Numbers of one field: a 4 by 4 matrix."""
LAYOUT_NAME_CHARS_MAX: Final = 63
"""A layout's name, and a unit."""
LAYOUTS_CACHED_MAX: Final = 256
"""Layouts of worlds read once, some 20 KB each where they are large."""
LAYOUT_TEXTS_CACHED_MAX: Final = 4_096
"""Names in records written as JSON once: as many as a busy world has."""
LAYOUT_TEXT_CACHED_CHARS_MAX: Final = 64
"""A longer one is no name, and written each time: so all of them stay below a megabyte."""
LAYOUT_ANSWER_BYTES_MAX: Final = 32 * MIB
"""Values by field in one answer, as JSON: 1,800 records of 20 fields have 700 KB. Fields may overlap, so that a small state
could become any size."""
LAYOUT_RECORD_BYTES_MAX: Final = 65_535
"""The largest stride."""

# --- core --------------------------------------------------------------------------------
DELAY_S_MIN: Final = 1.0
"""A delayed view shows what the store has. That is there some tens of milliseconds after it came, and is read a quarter
of a second at a time: a second leaves room for a store that is ten times slower than that."""
DELAY_S_MAX: Final = 3_600.0
"""Tournaments ask for minutes. An hour of 60 frames a second is what a recording is looked at without replaying it."""
DELAY_STEP_US_MIN: Final = 2_000
"""Clocks are slewed by half a millisecond a second at most (adjtime, NTP); they are looked at once a second, and
what is more was set."""
DELAY_STEPS_MAX: Final = 64
"""Settings of the clock that are remembered, of the last hour: a few bytes each, and more is nobody's clock."""
WEIGHT_MAX: Final = 1_000_000.0
"""A million times as much as a key that nobody named: more is a mistake."""
STREAM_PATIENCE_S_MAX: Final = 60.0
"""How long a stream under way is waited for at the most, however often it was given up before."""
CAPACITY_RECOUNT_MESSAGES: Final = 64
"""Messages that may come to a state that is nearly full before it is counted anew: some milliseconds' work."""
STALE_DROPPED_MIN: Final = 256
"""Slots that have been served are cut off a queue's front when so many, and most of it, are."""
JOURNAL_ROW_MESSAGES_MAX: Final = 64
"""Parts that share a row; a larger frame takes several."""
HOSTS_CACHED_MAX: Final = 64
"""Host names of which it is remembered whether they are loopback: clients of one machine use two or three."""
ORIGIN_SHOWN_CHARS_MAX: Final = 128
"""A refusal repeats no more than this of what it refuses."""
QUERY_FIELDS_MAX: Final = 32
"""A live session's query has eleven keys."""
BUDGET_KBPS_MAX: Final = 10_000_000
"""10 Gbit/s to one reader: above it a budget is no bound."""
FOCUS_KEYS_MAX: Final = 4_096
"""Keys with a weight of their own per reader: as many as a 64 KiB ``focus`` message can name."""
GRANT_PATTERNS_MAX: Final = 64
"""Patterns of one verb in one grant: each is looked at for each name that is asked for."""
PATTERN_CHARS_MAX: Final = 255
"""The longest name that anything here has, and a star."""
GRANT_RPS_MAX: Final = 1_000_000
"""Requests a second of one grant: above it a rate is no bound."""
GRANT_SESSIONS_MAX: Final = 1_000_000
"""Sessions at once of one grant: above it a count is no bound."""
FOLLOW_CHARS_MAX: Final = 255
"""An entity's name in a query: one path segment."""
STATE_UNREAD_BYTES_MAX: Final = 64 * KIB
"""A frame up to here may stay unread beside the state that it renews; a larger one would double what a world holds."""
RECORDS_PER_WORLD_MAX: Final = 40_960
"""Default of the setting ``records_per_world_max``: more than twenty busy zones; some 200 bytes each besides what they hold."""
WORLD_BYTES_MAX: Final = 5 * MIB
"""Default of the setting ``world_bytes_max``: twenty-five busy zones. A state is in memory some four times over while its
keyframe is packed and written, and a flood must not take more than 64 MiB."""
RECORD_HELD_BYTES: Final = 12
"""What a record counts for besides its bytes: what stands before them in a keyframe (tick, key, length)."""
PONG_S_MIN: Final = 0.1
"""A ``ping`` that comes sooner after the last answer gets none: a client that wants to know pings once or twice a second."""
NOTICE_S: Final = 1.0
"""A publisher whose records find no room is told so this often: each of its frames may be refused."""
TOMBSTONE_TICKS: Final = 600
"""A removal is remembered for ten seconds at 60 Hz: far longer than a datagram can be late. Keyframes carry them."""
TOMBSTONES_MAX: Final = 16_384
"""Removals remembered at once per world: 1,600 a second for ten seconds, about 2 MB."""
KEYFRAMES_PENDING_MAX: Final = 2
"""Keyframes whose parts are still coming: the newest, and the one before it for stragglers."""
PIECE_SIZES_CACHED_MAX: Final = 8
"""A frame is cut once for each datagram size among its readers; paths have few."""
BURST_SIZES_CACHED_MAX: Final = 8
"""The same for the messages that came together: as many sizes as a frame is cut for."""
FRAMINGS_CACHED_MAX: Final = 16
"""Messages are put into DATAGRAM frames once for each session prefix among their readers, which nearly all
share one; beyond so many the cache starts anew."""
OUTSTANDING_MAX: Final = 2_048
"""Messages per reader whose fate is unknown: 16 KB. 34 s of single datagrams at 60 Hz; what is older counts as lost."""
PIECES_MAX: Final = 32
"""A frame of up to so many datagrams (35 KB) is sent as datagrams: a lost one costs its own records only.
Above it one stream costs less than the packets' bookkeeping."""
READER_DATAGRAMS_MAX: Final = 64
"""Datagrams that a reader is sent in a row; more at once go by a stream. What its QUIC acknowledged its application may
not have taken: quic-go keeps 128 and drops the rest without a word, Chromium as many as a page's high water mark says."""
REST_S: Final = 1.0
"""A world of which nothing came for so long rests. Between two frames at a game's rate it never does."""
REST_DATAGRAMS_MIN: Final = 16
"""A reader that was sent so many datagrams since the world last rested is sent their newest values again, by a stream: its
application may have slept through any of them. Fewer fill no queue, so what moves seldom isn't said twice."""
READER_ROW_S: Final = 0.01
"""Datagrams so soon after another are in a row with it: a reader's application sleeps as long, and two frames at 100 Hz are not."""
ROW_DATAGRAM_BYTES: Final = 1_200
"""A message counts as a datagram of a row for every so many bytes: some links cut it smaller, none that is common larger."""
AGAIN_WAITING_MAX: Final = 64
"""Frames that wait some milliseconds to be said again, a world: 16,000 a second. Of more the oldest are said once."""
REDUNDANCY_AGAIN_S: Final = 0.004
"""How long after a frame its values go again: longer than what radios and queues lose in one go, and a quarter of a tick at 60 Hz.
A parity, which is for losses that come alone, goes at once: of frames of five datagrams one in ten needs it at 2 %."""
REDUNDANCY_PARITY_SHARE: Final = 0.03
"""Of what was sent, lost: up to here a parity mends enough. At 2 % one frame of five datagrams in 170 loses two of the six, at 5 % one
in thirty; said again whole it is one in eighty."""
REDUNDANCY_BESIDE_SHARE: Final = 0.25
"""Of what is lost, right after another that was: more than chance brings below 15 %. The path loses in bursts, and what one parity
mends is one message."""
REDUNDANCY_BESIDE_LOSSES_MIN: Final = 4
"""Messages lost, as far as they still count, before bursts are believed: two in a row happen."""
REDUNDANCY_MEMORY_S: Final = 4.0
"""What was sent and lost counts less by a factor e after so long."""
REDUNDANCY_SEEN_SHARE: Final = 0.003
"""Of what was sent, lost: from here on loss is being seen. Below it the 99th percentile hardly knows of it."""
REDUNDANCY_GONE_SHARE: Final = 0.0015
"""Down to here it goes on being seen, so that each loss is not the first one."""
REDUNDANCY_FORGOTTEN_LOSSES: Final = 0.02
"""Of a single loss so little is left after 16 s: the path may be taken for one that loses nothing."""
REDUNDANCY_HEAVY_SHARE: Final = 0.15
"""More than this no radio loses for long at a rate that anybody plays at."""
REDUNDANCY_HEAVY_LOSSES_MIN: Final = 8
"""Messages lost before a share of them is believed to be heavy."""
REDUNDANCY_QUEUE_S: Final = 0.008
"""How far the round trips may stand above the smallest: less is a peer's scheduler."""
REDUNDANCY_QUEUE_SHARE: Final = 0.1
"""The same as a share of the smallest, for longer paths."""
REDUNDANCY_STANDING_S: Final = 0.1
"""Of so long the smallest round trip says how long the queue is: single ones are late for other reasons."""
REDUNDANCY_LEAST_S: Final = 60.0
"""The smallest round trip is that of the last one or two of these: a path that moved has another."""
REDUNDANCY_CALM_S: Final = 1.0
"""After a queue was seen nothing is said twice for so long."""
REDUNDANCY_SPARE_PACKETS: Final = 3
"""What the congestion window keeps free: one packet more than makes it full."""
REDUNDANCY_PAUSE_S_FIRST: Final = 2.0
"""The first pause after heavy loss."""
REDUNDANCY_PROVEN_S: Final = 10.0
"""Saying things twice for so long without heavy loss shows that the path can take it: pauses begin small again."""
REDUNDANCY_PAUSE_S_MAX: Final = 60.0
"""The longest pause after which a path that lost more when everything was said twice is tried again."""
FRAME_STREAMS_MAX: Final = 16
"""Streams of one frame that are under way to a reader together: its messages of 64 KB are 1 MB. What is beyond waits as newest values."""
REPAIR_STREAM_BYTES_MAX: Final = 1 * MIB
"""Newest values that go by one stream when they are too many for datagrams: a large world's; the rest goes with the next."""
REPAIR_STREAM_MESSAGE_BYTES: Final = 60 * KIB
"""Each message of such a stream: a reader uses it before the next one is there."""
GAPS_PENDING_MAX: Final = 64
"""Ticks whose missing parts may still come, per world: a second of a 60 Hz world in which every frame lost a part."""
JOURNAL_BYTES_MAX: Final = 16 * MIB
"""Frames kept per world while the store is away: 53 s at 60 Hz of 5 KB. Then the newest state, and a gap."""
JOURNAL_ROUND_S_MIN: Final = 0.005
"""From one round of commits to the next at least: what comes meanwhile shares its sync. A third of a tick at 60 Hz."""
JOURNAL_ROUND_S_MAX: Final = 0.11
"""And at most, however much a round has to do: a little longer than until a publisher may hear of the durable mark
again, so that it hears of each round right after it."""
JOURNAL_PATIENCE_S: Final = 0.08
"""How long a round waits for one world's database: then it goes on without it, within 100 ms of its beginning."""
JOURNAL_ALONE_S: Final = 5.0
"""How long a world that failed or held others up is written by itself: as long as a store is asked at most."""
JOURNAL_ROUND_WORLDS_MAX: Final = 256
"""Worlds whose batches share one round: some 20 ms of work, after which those durable by then are told."""
JOURNAL_ROUND_BATCH_BYTES_MAX: Final = 256 * KIB
"""A batch that is larger (a backlog, after an outage) is written by itself, so that no other world waits for it."""
NOTICE_COMMITS_MAX: Final = 24
"""Commits told with one durable notice, ten a notice being usual: 300 bytes of JSON, so that it stays one datagram."""
JOURNAL_LET_GO_TOLD_MAX: Final = 8
"""Spans of dropped ticks that stand beside a durable mark: 200 bytes of JSON, so that it stays one datagram."""
JOURNAL_GAPS_MAX: Final = 1_024
"""Gaps waiting for the store, per world: beyond it they are told as one."""
SESSION_STREAMS_MAX: Final = 64
"""Streams of one session that are in the middle of a message: a publisher's large frames of a second."""
SESSION_STREAM_BYTES_MAX: Final = 32 * MIB
"""Unfinished messages of one session, all streams together: two of the largest."""
READER_BACKLOG_BYTES_MAX: Final = MIB
"""What waits for a reader that asked for every frame in order (``conflate=0``): beyond it a keyframe takes its place."""
LATE_RUN_MAX: Final = 256
"""Messages in a row that bring nothing new: seconds of them are no reordering, the publisher's ticks went back."""
REPAIR_MESSAGES_MAX: Final = 32
"""Messages of newest values per reader and turn: what is left waits for the next turn, and others get theirs."""
SLOTS_SPARE_MAX: Final = 4_096
"""Slots of keys that are gone, beyond as many as are there: then slots are given anew. 12 bytes and a bit a set each."""
SLOT_KEYS_CACHED_MAX: Final = 64
"""A list of up to so many keys (a datagram's) is remembered as a set of slots; longer ones would cost more than they save."""
SLOT_SETS_CACHED_MAX: Final = 256
"""Lists of keys remembered so: three frames of 82 datagrams. 5 MB in a world of 150,000 records."""
STALE_MOVED_MAX: Final = 16_384
"""Keys waiting for one reader among which lost ones are still moved to the front, half a millisecond: beyond it they go last."""
LATE_MESSAGES_MAX: Final = 1_024
"""Messages whose keys wait to be made one set: more than come between two turns."""
LATE_SETS_MAX: Final = 64
"""Sets of changed keys kept for readers between their turns: beyond it the two oldest are made one."""
TCP_REPAIR_BYTES_MAX: Final = 16 * KIB
"""One message of newest values: a longer one saves next to nothing, and all of it is as old as its last byte."""
REPAIRS_SHARED_MAX: Final = 64
"""Repair messages that the readers of one turn share: those that fell behind together need the same few."""

ADDRESSES_COUNTED_MAX: Final = 65_536
"""Addresses whose rates are remembered, some 200 bytes each; then those that have rested longest are forgotten."""
PEERS_CACHED_MAX: Final = 8_192
"""Addresses whose peer need not be worked out again, 3 us each."""
RATE_BURST_S: Final = 10.0
"""A rate a second may be spent so far ahead: a crowd behind one address joins at one moment."""
WORLDS_PER_ADDRESS_MAX: Final = 128
"""Default of ``worlds_per_address_max``: half of all, so that no single machine keeps the others out."""
WORLDS_MADE_PER_ADDRESS_PER_MIN: Final = 600
"""Default of ``worlds_made_per_address_per_min``: each is a database, some 30 KiB on disk and 5 ms."""
READERS_PER_WORLD_MAX: Final = 4_096
"""Default of ``readers_per_world_max``: as many as connections; a core serves some 400 at 60 Hz."""
REPLAYS_MAX: Final = 64
"""Default of ``replays_max``: each has a state and a decoder of its own, and a thread's time."""
REQUESTS_PER_ADDRESS_PER_S: Final = 1_000
"""Default of ``requests_per_address_per_s``: some 40 % of what a core answers."""
CONNECTIONS_PER_ADDRESS_MAX: Final = 1_024
"""Of one IPv4 address or IPv6 /64, at each kind of door: a quarter of all, and as many as share a carrier's address."""
HANDSHAKES_PER_ADDRESS_PER_S: Final = 100
"""New connections of one address a second: 2 to 3 ms of a core each, so a quarter of one."""
BUDGET_BURST_S: Final = 0.25
"""What a reader may save up while there is nothing to send, or while the core had no turn for it."""
BUDGET_DEBT_S_MAX: Final = 1.0
"""A keyframe on joining may cost this much in advance; more of it is forgiven, or frames would
stay away for as long as the keyframe is large."""
FANOUT_SERVE_S: Final = 0.01
"""Readers that are behind have their turn at most this often: a frame may be a hundred messages."""
GAP_WAIT_S: Final = 0.25
"""Longer than any reordering, shorter than what anybody waits for a durable mark."""
GAP_COMING_S: Final = 5.0
"""How long the rest of a frame is waited for at most that is on its way by a stream or in order: longer than the pauses
of a bad link, and a publisher that stalls longer must not hold up the durable mark of what came after."""
GAP_DECIDE_S: Final = 2.5
"""A publisher whose step is not known by then has said so little that it is taken as it is: so that a hole between the
only two frames of somebody is told as well."""
GAP_STEP_FRAMES: Final = 16
"""After so many frames in order their smallest step is taken for the publisher's."""
JOURNAL_ROW_OVERHEAD_BYTES: Final = 200
"""What one buffered message costs besides its bytes."""
KEYFRAME_SHARE_S: Final = 0.25
"""A keyframe this old is made anew for the next joiner."""
DURABLE_NOTICE_S: Final = 0.1
"""The publisher hears of the durable mark at most this often."""
DURABLE_PATIENCE_S: Final = 0.025
"""How much longer the next commit is waited for, which brings a newer mark: over a frame at 60 Hz."""
DURABLE_BUSY_PATIENCE_S: Final = 0.1
"""The same while frames are on their way to the store: as long as the journal rests at most."""
RATES_WINDOW_S: Final = 5.0
"""What "a second" is averaged over where rates are shown: steady to the eye."""
RATES_STEP_S: Final = 0.5
"""How often it is counted: ten counts in all."""
READER_FLUSH_S: Final = 0.02
"""How soon what is stale is tried again when no frame comes: about one tick."""
READER_BATCH_S: Final = 0.05
"""A reader that can't have everything gets what its budget earns in so long as one message, on TCP."""
READER_LAG_S: Final = 2.0
"""The default bound on how long a link may take nothing at all before it is given a keyframe."""
WEIGHT_EXPONENT_MAX: Final = 6
"""Weights count from 1/64 to 64: thirteen classes at most."""
RECORDS_SAMPLED: Final = 16
"""Records whose length tells that of all, where a keyframe is cut: they are mostly of a kind."""
STREAM_PATIENCE_S: Final = 0.25
"""How long a stream may be under way before its content is newer elsewhere and it is given up."""
STEADY_US: Final = 500_000
"""A publisher with fewer than two frames a second may well be silent for longer than a wait is taken for."""
GAP_POLL_S: Final = 0.1
"""How often gaps that wait are looked at: they wait for a quarter of a second."""
JOURNAL_ROUND_SHARE: Final = 0.25
"""Of a core: what the journal's thread takes where rounds are short."""
JOURNAL_ROUND_LONG_S: Final = 0.007
"""A round of so much work (some hundred worlds) rests twice as long for it: an eighth of a core."""

# --- store -------------------------------------------------------------------------------
VFS_INLINE_PAGES_MAX: Final = 10
"""Pages that travel inside a commit, as an mvSQLite client does; more are written ahead of it. To a store
in this process nothing travels: there it is the store's own bound, ``STORE_COMMIT_INLINE_PAGES_MAX``."""
VFS_READ_SET_PAGES_MAX: Final = 2_000
"""mvstore checks whole namespaces above this many pages read: sending more would be in vain."""
VFS_READ_AHEAD_PAGES_MAX: Final = 64
"""Pages fetched at once when misses follow each other: half a MiB of 8 KiB pages, one round trip."""
VFS_DIRTY_PAGES_MAX: Final = 512
"""Written pages held before content is written ahead: 4 MiB of 8 KiB pages a transaction."""
VFS_CACHE_BYTES_MAX: Final = 4 * MIB
"""Pages cached under one connection: the inner pages of any world and the last minute of a small one."""
VFS_WRITER_CACHE_BYTES_MAX: Final = 16 * KIB
"""The same under a single writer, where SQLite keeps its own pages (2 MB) from one transaction to the next: what that
has let go of is long gone here."""
VFS_ATTEMPTS_MAX: Final = 64
"""Times that one transaction is run again after a conflict; the deadline usually comes first."""
SQL_WORK_S_MAX: Final = 5.0
"""How long SQLite itself may work in one transaction: scanning some ten million rows. What takes longer is a
database that was made to."""
VFS_DEADLINE_S: Final = 5.0
"""How long a transaction is run again before its caller hears of it: nothing waits longer without telling."""
DATABASE_PAUSE_S: Final = 0.001
"""First pause after a lost commit race; twice as long each time."""
DATABASE_PAUSE_S_MAX: Final = 0.05
"""And at most: some commits of whoever wins."""
SQL_STEPS_BETWEEN_LOOKS: Final = 100_000
"""Virtual machine instructions between two looks at the clock: some milliseconds."""
SQL_LOOK_S_MAX: Final = 0.05
"""What counts of the time between two looks: the rest passed outside of SQLite, in whoever takes the rows
or in a store that was slow."""

# --- store/embedded ----------------------------------------------------------------------
STORE_WAL_KEEP_BYTES: Final = 64 * 1024 * 1024
"""What the log file keeps on disk when it starts again: half of its bound."""
STORE_BUSY_TIMEOUT_MS: Final = 5_000
"""How long SQLite waits for another process that copies the log or makes a backup."""
STORE_READER_CACHE_KIB: Final = 4 * 1024
"""The same of each reading connection."""
STORE_WRITER_CACHE_KIB: Final = 8 * 1024
"""The cache of the one writing connection: the inner pages of some gigabytes, and a batch."""
STORE_BACKUP_STEP_PAGES: Final = 4_096
"""Pages copied in one step of a backup: 16 MiB, after which writers get their turn."""
STORE_STRUCTURE_FINDINGS_MAX: Final = 100
"""Damage of a store that is told line by line: a screenful or two."""
STORE_NAMESPACES_CACHED_MAX: Final = 4_096
"""Namespaces whose head and lock are held in memory, half a KiB each; the others are looked up."""
STORE_CODECS_KEPT: Final = 8
"""Codecs of pages that wait for the next thread with some, 350 KiB each: as many as work at a time."""
STORE_READ_CONNECTIONS_KEPT: Final = 8
"""Idle read connections, up to 4 MiB of cache each: more than the reader threads of one gateway."""
STORE_FOLLOW_S: Final = 1.0
"""How old a head may be that is served of a folder which another process writes."""
STORE_SNAPSHOTS_MAX: Final = 100
"""Moments of a folder that one question is asked on, where the writer goes past each: a checkpoint takes a
second at most and comes after some 1,500 log pages, so the second or third is enough on any disk."""
SALVAGE_NAMED_MAX: Final = 100
"""Lost page versions of a namespace that a salvage names; of more it tells how many."""
SALVAGE_VERSIONS_TRIED_MAX: Final = 64
"""Versions before the head that are looked at for one where nothing is missing: a second of a world at 60 Hz.
Each look reads the whole database, and a page that was hit is mostly one that had not changed for long."""
STORE_READER_THREADS: Final = 4
"""Threads that read for the event loop: reads wait for the disk, not for each other."""
STORE_QUEUE_JOBS_MAX: Final = 4_096
"""Commits waiting for the disk; at 10,000 a second that is under half a second of waiting."""
STORE_QUEUE_BYTES_MAX: Final = 64 * MIB
"""Page data waiting for the disk: 20 of the largest inline commits."""
STORE_BATCH_JOBS_MAX: Final = 256
"""Commits that share one fsync: beyond it the fsync's share of each is lost in the noise."""
STORE_BATCH_PAGES_MAX: Final = 2_000
"""Pages that share one fsync, so that a small commit waits for at most some 20 ms of others' pages."""
STORE_GATHER_JOBS_MIN: Final = 4
"""So many clients at once before a batch waits for those that were just answered to come back."""
STORE_GATHER_JOB_S: Final = 0.000_025
"""What preparing one commit costs: where a sync takes less than that of all, halves overlap instead."""
STORE_GATHER_SHARE: Final = 0.5
"""How long a batch waits for them, as a share of a sync: sooner than the second sync it saves."""
STORE_GATHER_S_MAX: Final = 0.002
"""And never longer, however slow the disk."""
STORE_INTERVAL_COMMITS_MAX: Final = 100
"""mvstore's bound on commits that a change interval spans."""
STORE_INTERVAL_PAGES_MAX: Final = 1_000
"""mvstore's bound on distinct pages of a change interval."""
STORE_LOG_PAGES_MAX: Final = 500
"""mvstore's bound: a commit of so many pages is not listed in the change log."""
STORE_LOG_COMMITS_KEPT: Final = 128
"""Commits of each namespace kept in the change log: an interval spans at most 100."""
STORE_READ_SET_PAGES_MAX: Final = 2_000
"""mvstore's bound on read sets; above it a commit is checked against the whole namespace."""
STORE_PAGE_CHECK_PAGES_MAX: Final = 1_000
"""mvstore's bound: a commit of so many pages is checked against the whole namespace."""
STORE_NAMESPACE_KEY_BYTES_MAX: Final = 1_024
"""A key travels in a header; FoundationDB takes keys of 10,000 bytes, no client comes near this."""
STORE_OVERLAY_DEPTH_MAX: Final = 32
"""Overlays on overlays: each level costs one look-up for a page that was never written above."""
STORE_ATTEMPT_BUCKETS_MAX: Final = 32
"""Buckets of idempotency keys, each an hour or a full one: a day of them and some to spare."""
STORE_ATTEMPT_BUCKET_KEYS_MAX: Final = 125_000
"""Idempotency keys a bucket: four million in all, some 250 MB on disk, two hours of 600 commits a second."""
STORE_ATTEMPT_KEPT_S: Final = 86_400
"""How long a retry is recognised: a day, where the counts above allow."""
STORE_MOMENTS_MAX: Final = 10_000_000
"""The time keeper's points: one every 5 s of activity for a year and a half, 200 MB on disk."""
STORE_STEP_ROWS_MAX: Final = 256
"""Rows that one step of background work takes in hand."""
STORE_STEP_S: Final = 0.005
"""How long one step of background work may hold the writer: a commit waits at most 20 ms for it."""
STORE_WAL_PAGES: Final = 1_500
"""Log pages (4 KiB) after which the background copies them into the file. The log grows to twice that while it
is copied on a busy disk, and a default ring's store (18 MB at 60 Hz of 5 KB) has to stay within three rings."""
STORE_WAL_PAGES_MAX: Final = 32_000
"""Log pages (128 MiB) at which the writer itself stops to copy them: the background fell behind."""
CACHED_STATEMENT_BYTES_MAX: Final = 64 * KIB
"""A statement with longer values is not kept for the next time: it would keep them, a keyframe or two a world."""
RING_S_DEFAULT: Final = 60
"""Seconds of a world that are kept unless it says otherwise."""
RING_S_MAX: Final = 7 * 24 * 3600
"""The longest ring, a week; who wants more records everything."""
RING_QUICK_BYTES_MAX: Final = 2 * KIB
"""Frames of a ring up to here are packed one by one: 3 us of CPU instead of 17 for a frame of 1 KiB, and at most
the ring's length of them is on disk. What is larger pays for its packing by the pages that it saves."""
RING_PRUNE_EVERY_S: Final = 2
"""How long what has fallen out of a ring may lie: deleting two keyframe intervals costs little more than one."""
RING_PRUNE_ROWS_MAX: Final = 512
"""Rows deleted in one commit of the journal: two keyframe intervals at 240 Hz, so that it always
catches up, and a few milliseconds."""
VERSIONS_KEPT_S: Final = 5
"""How long the store's old versions of a ring are kept: long enough for a reader that is under way, and
short enough that they take less than the ring itself."""
VERSIONS_KEPT_RECORD_S: Final = 3_600
"""How long they are kept where everything is recorded: the frames stand in the tables, this is for
looks at entities in the past."""
UPKEEP_PAGES_MIN: Final = 1_000
"""Page versions of a world that a remote store keeps beyond need before it is asked to truncate them: it scans all that the
world has for it, so as much has to have been written as there is to scan. 8 MiB of 8 KiB pages, of a small world."""
UPKEEP_WAIT_S_MAX: Final = 3_600
"""How long fewer old versions lie at a remote store, and the last ones of a world that nobody writes to any more."""
UPKEEP_RETRY_S_MIN: Final = 60
"""Until a remote or local store is asked again after an upkeep that failed; twice as long each time."""
UPKEEP_RETRY_S_MAX: Final = 3_600
"""... and at most this: what fails for an hour is for somebody to mend, not to be asked more often."""
HISTORY_PAGE_ROWS: Final = 64
"""Rows read in one transaction by who streams a recording: a second of frames."""
HISTORY_EPOCHS_MAX: Final = 1_000
"""Epochs on a time line, the newest: more are thinner than a pixel."""
HISTORY_SPANS_MAX: Final = 4_096
"""Spans on a time line: one for each pixel of the widest screen."""
HISTORY_GAPS_MAX: Final = 10_000
"""Gaps told in one answer; a recording with more is broken anyway."""
LAST_SYNCED_WAIT_S: Final = 0.1
"""How long a question for the last synced state waits for the commit under way: several of a commit's
usual time; reading the state back beside a busy publisher takes as long."""
REPLAYED_FRAMES_WAITING_MAX: Final = 64
"""Frames of different keys that wait for one that makes them void: a second or two of what moves."""
RECOVERED_TAIL_ROWS_MAX: Final = 256
"""Rows at a recording's end that are looked through for what is missing, when a journal goes on: several seconds of a world,
and far more than comes while a missing part is waited for (``GAP_WAIT_S``) and a commit is under way."""
RECOVERED_GAPS_MAX: Final = 100
"""Gaps told beside a recovered state: a screenful, the newest ones."""
IMPORT_PAGES_PER_COMMIT: Final = 2_000
"""Pages of an imported file in one commit: half a second of the five that FoundationDB gives a transaction, and a
tenth of its bytes; 16 MiB of 8 KiB pages."""
WORLDS_LISTED_MAX: Final = 1_000
"""Worlds on one page of the list, where it is asked for by pages: 200 KB of JSON."""
LISTED_JUDGED_MAX: Final = 16_384
"""Namespaces of which it is remembered whether they are worlds, and looked at for one list: 2 MB, and some
seconds of a remote store, once."""
LISTED_AT_ONCE: Final = 8
"""Namespaces looked at side by side for a list of worlds: a store has other work."""
WORLD_IDLE_S: Final = 30.0
"""A world's threads that had nothing to do for so long are ended; the next call starts them again."""
HEAD_TRUSTED_S: Final = 60.0
"""A writer that is alone asks for its head again after so long a rest: well below ``RETIRED_S``."""
RETIRED_S: Final = 300.0
"""How long a deleted world's namespace stays, emptied of its name: mvstore forgets a key after 120 s, and no
writer trusts what it knew for longer than ``HEAD_TRUSTED_S``, so that nobody writes to it any more."""
NAME_FORGOTTEN_S: Final = 86_400.0
"""When a deleted name of which nothing is left is a new name again, so that names used once don't pile up."""
NAME_ATTEMPTS_MAX: Final = 32
"""How often a name is looked up again when others change it meanwhile; each time one of them has got it."""
HALF_MADE_S: Final = 3_600.0
"""A branch that was not finished by then was left by a process that died: it is removed."""
STORE_ATTEMPT_BUCKET_S: Final = 3_600
"""Idempotency keys are forgotten by the bucket: an hour of them at once, in one statement."""
STORE_MOMENT_S: Final = 5.0
"""From one point of the time keeper to the next: mvstore's own step."""
STORE_SWEEP_S: Final = 60.0
"""How often what nothing refers to is swept."""
STORE_BACKGROUND_LOOK_S: Final = 1.0
"""How often the thread looks whether something is due; a full log wakes it."""
STORE_COPY_PASSES_MAX: Final = 8
"""Times in a row that the log is copied beside the writer: what it wrote meanwhile is copied with the next."""
STORE_COPY_REST_PAGES: Final = 64
"""A rest of so many pages is little enough: a quarter of a MiB."""
STORE_SNAPSHOT_CACHE_KIB: Final = 4 * 1024
"""The cache of a connection that reads a folder beside its owner."""
STORE_PREPARED_ON_LOOP_PAGES: Final = 4
"""Inline pages hashed and compressed on the loop (10 us each); more go to a thread."""
STORE_COPY_PAUSES_MAX: Final = 200
"""A second of pauses: removing goes on, slowly, where copying the log takes longer than that."""
STORE_SWEEP_ROWS_AT_ONCE: Final = 32
"""Rows between two looks at the clock: some 0.2 ms."""
STORE_MOMENTS_TRIM_EVERY: Final = 4_096
"""Points after which those over the bound go, in one statement."""
SALVAGE_PAYLOAD_BYTES_MAX: Final = 1 << 26
"""Far over what a row of ours can have: a length that a flipped bit made is not believed."""
UPKEEP_COLLECT_SHARE: Final = 4
"""A collection waits for a quarter of the database's pages to have been replaced, or a day."""
UPKEEP_COLLECT_ANYWAY_S: Final = 86_400
"""And a day at most, for what is small."""
FOREIGN_NAMED_MAX: Final = 3
"""Triggers and views of others that a refusal names."""
JOURNAL_ROWS_AT_ONCE: Final = 12
"""What a busy journal writes at once, mostly: each count is a statement that the connection keeps, of a KiB or two."""

# --- wire/mvstore ------------------------------------------------------------------------
STORE_FRAME_BYTES_MAX: Final = 40 * KIB
"""mvstore's bound on one request frame."""
STORE_PAGE_HEADS_CACHED_MAX: Final = 4_096
"""What stands before a page's data in an answer, by version and size: 150 bytes each, used again by the pages of one commit."""
STORE_PAGE_BYTES_MAX: Final = 32_768
"""mvstore's largest page."""
STORE_PAGE_BYTES_UNPACKED_MAX: Final = 1 * MIB
"""What a packed page of a store's answer may unpack to: 32 of the largest."""
STORE_READ_PAGES_MAX: Final = 200
"""mvstore reads at most this many pages a request; what follows is not read."""
STORE_WRITE_PAGES_MAX: Final = 100
"""mvstore's bound on pages of one write batch."""
STORE_COMMIT_INLINE_PAGES_MAX: Final = 100
"""mvstore's bound on inline pages over one whole commit."""
STORE_COMMIT_PAGES_MAX: Final = 50_000
"""mvstore's bound on pages over one whole commit."""
STORE_TRANSACTION_PAGES: Final = 10_000
"""Pages that FoundationDB took in one commit (10 MB and 5 s are its bounds; 20,000 it never takes): a larger commit that
fails below is refused for good, a smaller one is tried again."""
STORE_TRANSACTION_FAILURES: Final = 2
"""... after so many failures: the first may be of another kind."""
STORE_COMMIT_PAGE_S: Final = 0.000_5
"""What each page of a commit adds to its deadline; the real store took 0.24 ms a page."""
STORE_COPIES_HELD_MAX: Final = 256
"""Contents held in memory while a commit copies them from a base: 8 MiB of the largest pages."""
STORE_COMMIT_STEP_PAGES: Final = 1_000
"""Pages of a commit that are put together without a pause: 2 ms in which the event loop does nothing else."""
STORE_COMMIT_NAMESPACES_MAX: Final = 16
"""mvstore's bound on namespaces of one commit."""
STORE_LOCK_OWNER_BYTES_MAX: Final = 256
"""mvstore's bound on a lock owner's name."""
STORE_JSON_BYTES_MAX: Final = 40 * KIB
"""A JSON body of the lock and admin calls: mvstore reads no more than one frame's worth."""
STORE_BODY_IDLE_S_MAX: Final = 60.0
"""A request body of the data plane that is silent for longer is given up: it holds a stream and its buffer."""
STORE_DRAIN_BYTES_MAX: Final = 16 * MIB
"""What is read and thrown away after a refusal, so that it reaches a peer that sends first and reads later:
four commits of 50,000 pages."""
STORE_DRAIN_S_MAX: Final = 1.0
"""How long that may take."""
STORE_ANSWER_PIECE_BYTES: Final = 128 * KIB
"""Answers are handed to the transport in pieces of about this: it can wait for the peer between them."""
STORE_DEADLINE_S: Final = 5.0
"""Nothing waits longer for a remote store without being told; longer than its failovers take."""
STORE_EARLY_ENDS: Final = 2
"""Answers that end early before the admin API is asked why: one may be a hiccup of what is below the store."""
STORE_BACKOFF_S_MIN: Final = 0.05
"""First wait before asking a remote store again: mvSQLite's client waits as long."""
STORE_BACKOFF_S_MAX: Final = 10.0
"""Longest wait, and how long a store that failed often is passed over: mvSQLite's client's bound."""
STORE_INLINE_PAGES: Final = 32
"""Pages that a commit carries itself, to save a round trip (256 KiB at 8 KiB); more go ahead of it."""
STORE_WRITE_AHEAD_PAGES: Final = 50
"""Pages of one batch written ahead: 400 KiB at 8 KiB, so that a lost one costs little."""
STORE_REQUESTS_AT_ONCE: Final = 4
"""Batches of one operation under way at once: keeps a link busy without flooding it."""
STORE_ANSWER_FRAME_BYTES_MAX: Final = STORE_PAGE_BYTES_MAX + 256
"""One framed page of an answer: the page, its version and the field names."""
STORE_SMALL_ANSWER_BYTES_MAX: Final = 1 * MIB
"""Answers that are not pages: statistics, hashes of 100 pages, and changelogs of up to 50,000 pages."""
STORE_POOL_CONNECTIONS_MAX: Final = 64
"""Connections to one address of a remote store: as many requests as are under way at once, by HTTP/1.1."""
STORE_CONNECT_STAGGER_S: Final = 0.25
"""How long one address of a name may be silent before the next is tried beside it (RFC 8305 section 8)."""
STORE_POOL_IDLE_S: Final = 30.0
"""A connection at rest for longer is closed here, before the server does it just as it is used (75 s at a gateway)."""
STORE_ANSWER_HEAD_BYTES_MAX: Final = 64 * KIB
"""The head of a store's answer: ours has some hundred bytes."""
STORE_JOINED_BYTES_MAX: Final = 64 * KIB
"""A smaller request body is copied behind its head, and goes out in one write."""
STORE_H2_BODY_BYTES_MAX: Final = 4 * KIB
"""A larger request body goes by HTTP/1.1 on a connection of its own: httpcore (1.0.9) loses wake-ups where
several requests of one HTTP/2 connection wait for its window, and they hang."""
STORE_ADMIN_ANSWER_BYTES_MAX: Final = 64 * MIB
"""A list of half a million namespaces."""
STORE_ADMIN_SILENCE_S_MAX: Final = 60.0
"""Background work on a large namespace says something at least this often."""
STORE_CONTENT_KEPT_S: Final = 3_600
"""How long mvstore keeps content that nothing refers to before a collection deletes it, by default."""
STORE_ADMIN_LOOK_S: Final = 1.0
"""How long a commit waits for the admin API to say which namespace has its key; without an answer it goes by ``/stat`` alone."""
STORE_ADMIN_SILENT_S: Final = 10.0
"""... and how long the admin API is not asked so again."""
STORE_ADDRESSES_MAX: Final = 16
"""Addresses of one remote store: as many as anyone runs side by side."""
STORE_H3_REQUESTS_PER_CONNECTION: Final = 3
"""Requests under way on a connection to a gateway that is far before another is made: a window that a lossy link has made small
holds one or two pages of 8 KiB."""
STORE_H3_CONNECTIONS_MAX: Final = 12
"""Connections to one gateway that is far: a third of what 32 clients would have by themselves; with more, each costs more CPU
time than its window wins."""
STORE_H3_FAR_S: Final = 0.01
"""An answer that takes so long at best crosses a network where windows and losses count; nearer, one connection costs less."""
STORE_H3_PATIENCE_S: Final = 1.0
"""UDP that has not answered a store's handshake by then is taken as blocked, and TCP is tried."""
STORE_H3_SUSPECT_S: Final = 1.0
"""An answer that is out for longer makes the connection be asked whether it lives: restarts are noticed by it."""
STORE_H3_PING_S_MAX: Final = 1.5
"""A connection that does not answer a ping for this long is left: ten times the worst round trip played over."""
STORE_ANSWER_S_MAX: Final = 30.0
"""One whole answer, as long as it keeps coming: 6.5 MB of 200 pages of 32 KiB at 1.7 Mbit/s."""
STORE_H3_BLOCKED_S: Final = 30.0
"""How long a store is asked over TCP before UDP is tried again."""
STORE_H3_KEEP_ALIVE_S: Final = 10.0
"""Pings below every NAT's shortest UDP binding of some 30 s."""
STORE_CACHE_BYTES: Final = 64 * MIB
"""Default of the page cache before a remote store: 8,000 pages of 8 KiB, some dozen worlds' working sets."""
STORE_CACHE_PAGE_COST_BYTES: Final = 400
"""What a cached page costs beyond its content: its entry, two index slots and the list of its ranges."""
STORE_CACHE_NAMESPACES_MAX: Final = 4_096
"""Namespaces whose head the cache remembers; the one longest unused goes first."""
STORE_CACHE_LAPS_MAX: Final = 256
"""Jumps of a namespace's head whose changes are unknown, remembered one by one before all pages are gone through."""
STORE_CACHE_BATCHES_AT_ONCE: Final = 4
"""Upstream batches under way at once; what is wanted meanwhile travels together in the next."""

# --- quic --------------------------------------------------------------------------------
H3_CONTROL_FRAME_BYTES_MAX: Final = 4_096
"""A frame of the control stream: SETTINGS have some hundred bytes."""
H3_RESPONSE_BYTES_MAX: Final = 64 * MIB
"""A whole response that a client takes into memory: a page batch is 6.5 MB, a large state 16."""
H3_UNSENT_FEW_STREAMS: Final = 4
"""So many streams hold little enough without a look."""
QUIC_FADE_S_MAX: Final = 2.0
"""How long frames go on at their rate though nothing is answered: fades are over by then, and a path that is not is given up by
its probes' own growing patience."""
QUIC_LOOKED_UP_MAX: Final = 32
"""Packet numbers of a range that are looked up one by one, rather than found in a list of all in flight."""
WT_CLOSE_WAIT_S: Final = 1.0
"""How long a session's last control messages may take before the close capsule follows."""
QUIC_REFUSAL_REASON_BYTES_MAX: Final = 64
"""Said in one small packet, to an address that may be forged."""
QUIC_RESETS_PER_S_MAX: Final = 1_000
"""Stateless resets answered a second: enough for every reader of a crashed run, no use as an amplifier."""
QUIC_CONNECTIONS_MAX: Final = 4_096
"""Default of the setting ``quic_connections_max``. One costs some 100 KiB: this many stay below half a gigabyte."""
QUIC_HALF_OPEN_MAX: Final = 512
"""Handshakes under way before Retry is demanded of everybody: a flood of first packets costs memory and signatures."""
QUIC_STREAM_WINDOW_BYTES: Final = 1 * MIB
"""What one stream may hold unread: 20 MB/s at 50 ms, and the most that one stalled request costs."""
QUIC_CONNECTION_WINDOW_BYTES: Final = 2 * MIB
"""What all streams of one connection may hold unread together."""
QUIC_CLIENT_STREAM_WINDOW_BYTES: Final = 4 * MIB
"""The same at a client, which has one connection where a server has thousands: a batch of 200 pages of
16 KiB comes without waiting for a window."""
QUIC_CLIENT_CONNECTION_WINDOW_BYTES: Final = 8 * MIB
"""What all streams of a client's connection may hold unread together: two such batches."""
QUIC_PEER_STREAMS_MAX: Final = 128
"""Streams of one kind that a peer may have open at once: aioquic's own figure; browsers use up to 100."""
QUIC_CONNECTION_IDS_MAX: Final = 4
"""Connection IDs in use of either end: three changes of address before new ones have made a round trip."""
QUIC_SEQUENCE_NUMBERS_MAX: Final = 256
"""Sequence numbers of a peer's connection IDs that are remembered, to know a repeated one: of a hundred changes of path."""
QUIC_RECEIVED_PIECES_MAX: Final = 256
"""Pieces with gaps between them that a stream may wait with: a window of 1 MiB that loses a tenth of its packets at
random has some 80. Beyond it the connection is closed."""
QUIC_CRYPTO_BYTES_MAX: Final = (16 * KIB, 4 * KIB, 4 * KIB)
"""TLS messages in all that a server takes, of the first flight, the handshake and after it: a ClientHello with
post-quantum keys has 2 KB, the rest is one Finished; 4 KiB is the least that RFC 9000 section 7.5 allows."""
QUIC_CLIENT_CRYPTO_BYTES_MAX: Final = (16 * KIB, 128 * KIB, 64 * KIB)
"""The same at a client: a chain of certificates, and tickets."""
QUIC_DATAGRAM_QUEUE_BYTES_MAX: Final = 128 * KIB
"""Datagrams waiting for the pacer: a tick of a large world. Beyond it the oldest is dropped."""
QUIC_PACKET_BYTES_STEPS: Final = (1_452, 8_952, 16_384, 65_000)
"""Sizes of packets that are tried one after the other where there is bulk to send: what Ethernet carries under IPv6, the same
of jumbo frames, and what only this machine's own loopback does."""
QUIC_PACKETS_A_WINDOW_MIN: Final = 4
"""No packet is larger than such a part of the congestion window, which else would be one or two of them: an ACK would come only when
nothing is left in flight. A probe for a larger size may exceed the window by as much."""
QUIC_BULK_BYTES_MIN: Final = 32 * KIB
"""Stream bytes that wait unsent, from which on larger packets are looked for: a game's frames never come to as much."""
QUIC_MTU_PROBES_MAX: Final = 3
"""Probes of one size that are lost before the search ends: RFC 8899 section 5.1.2."""
QUIC_MTU_AGAIN_S: Final = 600.0
"""When it begins again, where there is bulk then: the PMTU_RAISE_TIMER of RFC 8899 section 5.1.1."""
QUIC_MTU_HOLE_PACKETS: Final = 3
"""Packets larger than every path carries that are lost with none behind them arriving, which says that the path no longer
carries them (RFC 8899 section 4.3)."""
QUIC_MTU_HOLE_S: Final = 1.0
"""How long no larger packets are tried after that; doubles each time, up to :data:`QUIC_MTU_AGAIN_S`."""
QUIC_RECEIVE_BATCH_MAX: Final = 64
"""Datagrams read off the socket in one system call."""
HANDED_BYTES_MAX: Final = 66 * KIB
"""A packet that one worker hands to another: the largest of UDP, and its address before it."""
QUIC_RECEIVE_TURN_MAX: Final = 1_024
"""Datagrams read before anything is sent, and other work of the loop gets its turn: some 6 ms. A gateway that is
late then knows all acknowledgements, and offers of several ticks that wait the newest. It bounds what a world
collects before it is offered, too."""
QUIC_RECEIVE_TURN_S: Final = 0.01
"""No further batch is read once those before it took so long: a hundred handshakes would take a quarter of a second."""
QUIC_BY_CLOCK_READS_MIN: Final = 1_200
"""Reads a second from which on a socket is looked at by the clock: each wakes the loop for some 10 us, 1 % of a core."""
QUIC_BY_CLOCK_PACKETS_MIN: Final = 2_000
"""Packets a second below which it is watched again: two for each look, so that looking still costs less."""
QUIC_BY_CLOCK_S: Final = 0.001
"""How often it is looked at, which is what a frame may get older by: as fine as event loops' timers are."""
QUIC_RECEIVE_SLOT_BYTES: Final = 65_535
"""What one of them may take: a UDP datagram's most. Pages that none of that size touched cost nothing."""
QUIC_SEND_BATCH_MAX: Final = 32
"""Datagrams, or runs of them for one peer, in one sendmmsg."""
QUIC_SEND_BATCH_BYTES: Final = 128 * KIB
"""Bytes of them: little enough to stay in the core's cache until they are sent, and two whole runs."""
QUIC_ADDRESSES_CACHED_MAX: Final = 8_192
"""Peers' addresses kept in the kernel's form and in Python's: twice the connections; all go when full."""
QUIC_SEGMENTS_MAX: Final = 60
"""Packets in one UDP_SEGMENT send: the kernel's bound is 64 on older versions."""
QUIC_SEGMENT_BYTES_MAX: Final = 65_000
"""Bytes in one UDP_SEGMENT send: below the 65,507 of one UDP datagram."""
QUIC_SOCKET_BUFFER_BYTES: Final = 4 * MIB
"""Asked of the kernel for the UDP socket: 400 readers answering one tick at once."""
QUIC_PACKETS_PER_KEY_MAX: Final = 1 << 22
"""Packets sent under one key before the next is agreed: AES-GCM may protect 2^23 (RFC 9001 section 6.6), and
the update waits while another is still settling."""
QUIC_TICKETS_MAX: Final = 4_096
"""Session tickets kept for resumption; the oldest goes first. Each some 500 bytes."""
H3_HEADER_BYTES_MAX: Final = 16 * KIB
"""One field section, encoded as well as decoded (RFC 9114 section 4.2.2), announced as SETTINGS_MAX_FIELD_SECTION_SIZE:
nginx's order of magnitude."""
H3_KNOWN_HEADS_MAX: Final = 256
"""Header sections of requests, and of responses, that an endpoint need not code again; then it starts anew."""
H3_KNOWN_HEAD_BYTES_MAX: Final = 512
"""The largest encoded header section kept: a usual request has 100 bytes, a browser's 400."""
H3_KNOWN_HEAD_FIELDS_MAX: Final = 32
"""The most fields of one that is kept: together with its bytes some 16 KiB decoded at the worst, 8 MiB in all."""
H3_BUFFER_BYTES_MAX: Final = 64 * KIB
"""Frame bytes that HTTP/3 itself may hold per stream while they are incomplete."""
H3_SEND_BUFFER_BYTES_MIN: Final = 64 * KIB
"""Unacknowledged response bytes per stream that never wait: a piece of a body; 8 MiB if all streams of a connection do."""
H3_SEND_BUFFER_BYTES_MAX: Final = 2 * MIB
"""Of all writers of a connection together, and no more than two congestion windows: 20 MB/s at 50 ms."""
H3_ANSWER_REST_BYTES: Final = 16 * KIB
"""A large answer counts as taken once no more of it is unacknowledged: what every other stream may leave behind."""
H3_UNSENT_BYTES_MAX: Final = MIB
"""Answers of one connection that its peer has not acknowledged when it asks for another one: sixteen pieces."""
H3_UNSENT_ALL_BYTES_MAX: Final = 32 * MIB
"""The same of all connections together: beyond it those that hold more than a piece are told to take that first."""
WT_SESSIONS_PER_CONNECTION_MAX: Final = 16
"""Browsers pool a few sessions on one connection at most."""
WT_STREAMS_PER_SESSION_MAX: Final = 32
"""Large frames under way at once per session; the oldest is reset beyond it, for newer state has overtaken it."""
WT_EARLY_BYTES_MAX: Final = 64 * KIB
"""What a peer may send into a session before it is open; more is dropped, as if lost."""
WT_CONTROL_BYTES_MAX: Final = 1 * MIB
"""Unacknowledged control messages of one session: far more than a live reader ever lags."""
WT_CLOSE_REASON_BYTES_MAX: Final = 1_024
"""The close capsule's own bound (draft-ietf-webtrans-http3 section 6)."""
QUIC_PATHS_MAX: Final = 8
"""Addresses of one peer that are kept while it moves about; the oldest unproved one goes (RFC 9000 section 9)."""
QUIC_CHALLENGES_WAITING_MAX: Final = 32
"""Challenges of the peer that wait for their answer; more are not answered, or it would have us keep what it likes."""
QUIC_CHALLENGES_SENT_MAX: Final = 5
"""Our newest challenges on one path, any of which its answer may be to: one a probe timeout."""
QUIC_IDS_RETIRING_MAX: Final = 4 * QUIC_CONNECTION_IDS_MAX
"""Retirements that the peer has not acknowledged: more means that it does not listen (RFC 9000 section 5.1.2)."""
QUIC_ACK_RANGES_MAX: Final = 64
"""Ranges of packet numbers kept to be acknowledged: a path that loses every other packet for a hundred of them."""
QUIC_LABELS_CACHED_MAX: Final = 64
"""Labels of TLS's secrets, each with a length, that are kept encoded: a dozen are asked for, none by a peer."""
QUIC_ADDRESSES_TRIED_MAX: Final = 8
"""Addresses of one name that a client tries: more are not tried."""
QUIC_CONNECT_S_MAX: Final = 1.0
"""How long a client waits for a handshake unless it says otherwise: three round trips of any path, then TCP."""
QUIC_REQUEST_S_MAX: Final = 30.0
"""The same for an answer's head."""
QUIC_CLOSE_FLUSH_S: Final = 0.2
"""How long the last packets of a server that ends may take to leave."""
QUIC_DRAIN_LOOK_S: Final = 0.02
"""How often it is looked whether they have."""
UDP_TRIAL_S_MAX: Final = 1.0
"""How long a packet to oneself may take when batched sending is tried out at start; then it is not used."""

# --- http --------------------------------------------------------------------------------
TCP_CONNECTIONS_MAX: Final = 4_096
"""Default of the setting ``tcp_connections_max``. One with TLS costs some 100 KiB: as many as QUIC has."""
TCP_UNSENT_BYTES: Final = 4 * KIB
"""TCP_NOTSENT_LOWAT: what the kernel holds beyond the congestion window; 125 ms at 256 kbit/s."""
TCP_SILENCE_S_MAX: Final = 30
"""A peer that acknowledges nothing for this long is gone (as long as a QUIC connection's idle time)."""
TCP_PROBE_S: Final = 10
"""TCP asks a silent peer this often whether it is still there."""
TCP_TRANSPORT_BYTES_MAX: Final = 16 * KIB
"""The event loop's write buffer before writers wait: bytes in it are past recall."""
LINK_WINDOW_BYTES_MIN: Final = 4 * KIB
"""What waits in a TCP link before newest state, however narrow it is: 125 ms at 256 kbit/s, two messages' worth."""
LINK_WINDOW_BYTES_FIRST: Final = 32 * KIB
"""The same on a link of which nothing is known yet: a second of 256 kbit/s, and soon more where it keeps up."""
LINK_WINDOW_S: Final = 0.05
"""A link on which something waits admits what it drains in this time: a tick at 20 Hz."""
LINK_MEASURE_S: Final = 0.02
"""A shorter span says nothing of a link's rate: acknowledgements come in bursts."""
LINK_WINDOW_BYTES_MAX: Final = 256 * KIB
"""What a TCP link that never blocked admits at once: 60 Hz of 1,800 records of 100 bytes."""
LINK_STREAM_BYTES_MAX: Final = 64 * MIB
"""Keyframe bytes waiting in one link, shared with all others; core gives one keyframe at a time."""
LINK_CONTROL_BYTES_MAX: Final = 256 * KIB
"""Control messages waiting for a peer that does not read: thousands of them; then the link closes."""
LINK_POLL_S: Final = 0.005
"""How soon a blocked TCP link is looked at again at the earliest: below a tick, and 160 bytes at 256 kbit/s."""
LINK_POLL_S_MAX: Final = 0.05
"""And at the latest, however slowly it has drained so far."""
SESSIONS_PER_CONNECTION_MAX: Final = 64
"""Live sessions on one HTTP/2 connection, each of which may hold a world open: a quarter of ``worlds_max``'s default."""
LINK_LAST_WORDS_S: Final = 2.0
"""How long a session's last messages may take to go out; then its peer is left behind."""
SSE_COMMENT_S: Final = 20.0
"""An event stream says something at least this often: proxies cut at 30 to 60 s of silence."""
HTTP_IDLE_S_MAX: Final = 75.0
"""A connection with no request under way is closed after this, as other servers do."""
HTTP_HANDSHAKE_S_MAX: Final = 10.0
"""A TLS handshake takes three round trips; one that takes longer holds a slot for nothing."""
HTTP_HEADER_BYTES_MAX: Final = 32 * KIB
"""A request's head: nginx's order of magnitude."""
HTTP_HEADS_KEPT_MAX: Final = 256
"""Request heads that need not be read again, a door: those of some dozens of clients, in 1 MB at most."""
HTTP_HEAD_KEPT_BYTES_MAX: Final = 1 * KIB
"""... each of this size at most: a page client's has 150 to 250 bytes."""
HTTP_APP_QUEUE_ITEMS_MAX: Final = 64
"""Body pieces and messages (each at most 64 KiB read) that wait for a handler; then reading stops."""
HTTP_H2_STREAMS_MAX: Final = 256
"""Concurrent requests on one HTTP/2 connection: mvSQLite clients run some dozens."""
HTTP_BODY_S_MAX: Final = 30.0
"""A body that is taken whole has come by then (64 MiB at 20 Mbit/s), and one that streams has not paused for longer."""
HTTP_MESSAGE_BYTES_PER_S_MIN: Final = 256 * KIB
"""A message inside a streamed body may take longer than that by its size at 2 Mbit/s."""
HTTP_UNFINISHED_BYTES_MAX: Final = 20 * MIB
"""Bytes of bodies and messages that are not whole yet, of all peers: one of the largest, and a quarter of another."""
HTTP_UNFINISHED_SMALL_BYTES: Final = 16 * KIB
"""A body up to here is taken until there are twice as many: large ones cannot keep small ones out."""
HTTP_UNTAKEN_S_MIN: Final = 1.0
"""An answer of which something was taken within so long is not given up for it, up to twice the bound."""
HTTP_UNTAKEN_BYTES_MAX: Final = 16 * MIB
"""Bytes of answers that their readers have not taken, of all peers: then the one that has not moved for longest goes."""
HTTP_HEAD_S_MAX: Final = 10.0
"""A request's head has come by then, from its first byte on: it fits some dozen packets."""
HTTP_STALL_S_MAX: Final = 30.0
"""An answer of which nothing has gone out for so long is given up, as TCP itself gives up a silent peer."""
HTTP_LINGER_S_MAX: Final = 1.0
"""How long a peer may be silent after the last words, before the connection is closed; what still comes is dropped."""
HTTP_LINGER_WHOLE_S_MAX: Final = 30.0
"""And in all, while it goes on sending: a body of 16 MiB at 5 Mbit/s, whose sender reads the answer only after it."""
HTTP_LINGER_BYTES_MAX: Final = 16 * MIB
"""And how much: the largest body that anybody may send (``STREAM_MESSAGE_BYTES_MAX``), so that who is refused reads why."""
HTTP_LINGER_ADDRESS_BYTES_MAX: Final = 32 * MIB
"""And of all connections of one address together, a second: reading is not free, and a hundred that go on sending would
take a core for as long. Two bodies of the largest size that are refused at once."""
HTTP_INBOX_BYTES_MAX: Final = 64 * KIB
"""Requests that were sent before the answer to the one under way: then reading stops."""
HTTP_AHEAD_S_MAX: Final = 5.0
"""And how long that may last: nobody sends so much behind an answer that takes longer, and whoever leaves is not noticed."""
HTTP_BODY_BUFFER_BYTES_MAX: Final = 64 * KIB
"""Bytes of a body that wait for a handler: then reading stops."""
HTTP_GIVEN_PER_TURN_BYTES: Final = 256 * KIB
"""What one answer writes before all else has a turn of the loop, however fast its peer takes it."""
HTTP_PIECE_BYTES_MAX: Final = 64 * KIB
"""An answer is written in pieces of this size, each when the one before has nearly gone."""
HTTP_WRITE_BYTES_MAX: Final = 96 * KIB
"""An HTTP/1.1 answer is written in pieces of this size: ten pages of 8 KB, which clients ask for, go out in one call."""
TLS_HELLO_BYTES_MAX: Final = 32 * KIB
"""A ClientHello has 200 bytes to 2 KB, with post-quantum keys."""
TCP_BACKLOG: Final = 1_024
"""Connections that the kernel holds until they are accepted: a crowd that comes at one moment."""
TCP_ACCEPTS_PER_TURN: Final = 32
"""Connections accepted in one turn of the loop: some milliseconds of setting them up."""
TCP_ACCEPT_REST_S: Final = 0.1
"""How long accepting rests after the system has refused a descriptor."""
TCP_SHED_AT_ONCE: Final = 16
"""Idle connections ended when descriptors have run out: half a turn's worth of new ones."""
TCP_LOOK_S: Final = 0.5
"""How often the deadlines of connections are looked at: a millisecond for some thousands."""
TCP_EVENTS_PER_TURN: Final = 64
"""Pieces of a body or of WebSocket messages that one connection has parsed in a turn: a millisecond."""
TCP_TURN_S: Final = 0.002
"""How long connections may parse in one turn of the loop, all together: a tenth of a tick, so that frames go in between."""
LOG_QUIET_S: Final = 10.0
"""What may happen with every packet is written down this often at most."""
TCP_REQUEST_S: Final = 0.000_1
"""What a request of HTTP/1.1 counts in such a turn besides its parsing: its answer is made in the loop's next one."""
TCP_SLICE_S: Final = 0.000_5
"""And how long where other connections wait for their turn, so that a hundred of them have one within two ticks."""
TCP_READ_BYTES_MAX: Final = 64 * KIB
"""Taken from a socket at once: what connections hold that was not parsed is bounded by it and by their number. The event
loop's own 256 KB were as much as a thousand connections of one address could make a quarter of a gigabyte of."""
TCP_PARSED_BYTES: Final = 64 * KIB
"""What is given to a connection's parser at once of what was read: as much as its own buffers hold."""
TCP_UNPARSED_BYTES_MAX: Final = 16 * MIB
"""Bytes of all connections that were read and wait to be parsed: then those that hold more than a request are ended."""
TCP_UNPARSED_SMALL_BYTES: Final = 16 * KIB
"""A connection that holds no more of it is never one of them."""
H2_FRAMES_PER_PULL: Final = 16
"""Frames given to the parser at once: half a millisecond."""
H2_CONTROL_FRAMES_BURST: Final = 200
"""Frames that carry nothing for a request (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty ones), at once: browsers begin
with a dozen. Each frame of data earns two more."""
H2_CONTROL_FRAMES_PER_S: Final = 50
"""And a second, on top: 2 ms of a core."""
H2_CRUMB_BYTES: Final = 256
"""Less of an answer, because the peer's window has no room for more, earns nothing: a frame a byte is a flood, both ways."""
H2_RESETS_BURST: Final = 320
"""Requests taken back at once: all that may be open, and a quarter."""
H2_RESETS_PER_S: Final = 20
"""And a second: a request that is served to its end earns one more."""
H2_SETTINGS_MAX: Final = 32
"""Settings in one frame: seven are known."""
H2_BLOCK_FRAMES_MAX: Final = 16
"""Frames of one header block: two carry the largest, and an empty one costs as much as a full one."""
H2_CLOSED_STREAMS_KEPT: Final = 1_024
"""Streams of which it is remembered how they ended: frames for them may still be on their way. 100 bytes each."""
H2_HEADER_TABLE_BYTES_MAX: Final = 4_096
"""Our side's compression table, whatever the peer would allow (RFC 7541 section 4.2): its own default."""
H2_REPLIES_BYTES_MAX: Final = 64 * KIB
"""Answers to control frames that wait for a peer that does not read: then it is not read from either."""
H2_FRAME_BYTES_MAX: Final = 16 * KIB
"""One DATA frame: streams take turns by the frame."""
H2_UNANSWERED_OPEN: Final = 16
"""Requests of a connection at the application and unanswered: so many at least, where its windows are open."""
H2_UNANSWERED_SHUT: Final = 2
"""And so many where they are shut: answers would only be held."""
H2_ANSWER_BYTES: Final = 4 * KIB
"""And one more for so much of window: a client that wants many answers at once leaves room for them."""
H2_UNTAKEN_BYTES_MAX: Final = MIB
"""Bytes of answers that one connection does not take before its next requests wait."""
H2_LOOK_S: Final = 1.0
"""How often the streams of a connection are looked at."""
WEBSOCKET_PING_S: Final = 20.0
"""Silence after which a session's peer is asked whether it is there: proxies cut at 30 to 60 s."""
WEBSOCKET_PONG_S: Final = 15.0
"""And so much later it is gone: an engine that loads a level may not answer for some seconds."""
WEBSOCKET_CLOSE_S: Final = 1.0
"""How long the peer's Close is waited for: some round trips of any path."""
WEBSOCKET_LAST_WORD_S: Final = 0.1
"""Between the last message and the Close: an engine that finds both in one poll may drop the message (a poll a tick at 10 Hz)."""
WEBSOCKET_FRAGMENTS_MAX: Final = 1_024
"""Fragments of one message: 16 KiB each make the largest."""
WEBSOCKET_CONTROL_BURST: Final = 100
"""Pings and pongs of one session at once."""
WEBSOCKET_CONTROL_PER_S: Final = 20
"""And a second."""
HTTP_DISCARD_BYTES_MAX: Final = 8 * MIB
"""A refused body is read this far, so that the refusal arrives before the connection ends."""
HTTP_DISCARD_S_MAX: Final = 2.0
"""And no longer: a refusal waits for a peer that sends first."""
HTTP_UPLOAD_DISCARD_BYTES_MAX: Final = 256 * MIB
"""What is read and thrown away of an upload that the store did not take: it would have been read anyway."""
HTTP_UPLOAD_DISCARD_S_MAX: Final = 10.0
"""And no longer: as long as it waited for the store."""
ANSWERS_AT_ONCE_MAX: Final = 4
"""Whole states and lists that are made at the same time, in all: some 20 ms of a core and 10 MiB each."""
ANSWERS_BYTES_MAX: Final = 32 * MIB
"""Of them that wait for their peers to take them when another one is begun: half of what a flood may take."""
ANSWERS_PEER_BYTES_MAX: Final = 8 * MIB
"""The same of one address: one or two of the largest states."""
ANSWERS_STREAM_BYTES: Final = 256 * KIB
"""What a streamed answer counts for: the pieces that it holds."""
ANSWERS_WAITING_MAX: Final = 1_024
"""Requests that wait for their turn, before anything is made: some 10 KiB each."""
ANSWERS_WAITING_PER_PEER_MAX: Final = 256
"""The same of one address: every request of one HTTP/2 connection."""
ANSWERS_PATIENCE_S: Final = 10.0
"""How long a request waits for its turn before it is told to come back."""
ANSWER_PIECE_BYTES: Final = 64 * KIB
"""A whole body is handed to the transport in pieces of this size, as the peer takes them."""
ANSWER_STALL_S_MAX: Final = 10.0
"""A peer that takes no such piece for so long (50 kbit/s) is given up: what it asked for is held for it."""
WORKS_AT_ONCE_MAX: Final = 2
"""Recordings verified and worlds branched at the same time, one of each address: each keeps a thread busy."""
JSON_BODY_BYTES_MAX: Final = 64 * KIB
"""Options of a world are a hundred bytes."""
SSE_EVENT_BYTES_MAX: Final = 4 * MIB
"""One server-sent event: base64 in JSON is for curl and scripts, not for large worlds."""
SSE_VALUES_BYTES_MAX: Final = 4 * MIB
"""Values by field in one event: fields may overlap, so that a small message could become any size."""
SSE_SHARED_BYTES_MAX: Final = 16 * MIB
"""Events with values that are kept for further readers of the same message, which come within a tick or two; the oldest go first."""
SSE_LAYOUT_LOOK_S: Final = 2.0
"""Between two looks at what a stream's records mean: who changes a layout sees it taken up soon."""

# --- client ------------------------------------------------------------------------------
CLIENT_UDP_PATIENCE_S: Final = 1.0
"""UDP that has not answered a handshake by then is taken as blocked, and TCP is tried."""
CLIENT_CONNECTS_AT_ONCE_MAX: Final = 32
"""Sessions that one event loop opens at a time at one gateway: as many handshakes as a busy core finishes within the second
that UDP is given, and enough that 300 over 100 ms of round trip are there in 3 s."""
CLIENT_UDP_AGAIN_S: Final = 10.0
"""How long a session stays on TCP before UDP is tried again: a network that was changed, a firewall that was slow."""
CLIENT_UDP_AGAIN_S_MAX: Final = 300.0
"""And at last: a handshake in five minutes costs nobody anything."""
CLIENT_CONNECT_S_MAX: Final = 5.0
"""A TCP connect with TLS and upgrade takes three round trips; over 5 s the peer is not there."""
CLIENT_TOKEN_CHARS_MAX: Final = 4_096
"""As many as a gateway takes."""
CLIENT_TOKEN_S_MAX: Final = 10.0
"""How long whoever makes tokens may take for one: as long as a connection to the gateway may."""
CLIENT_TOKEN_MARGIN_S_MAX: Final = 300.0
"""A token of a day is renewed five minutes before its end: time enough for a maker of tokens to come back."""
CLIENT_TOKEN_AGAIN_S: Final = 1.0
"""After a renewal that failed, until the next try: the session still stands."""
CLIENT_BACKOFF_S_MIN: Final = 0.05
"""First wait before connecting again: a restarted gateway is back within some hundred milliseconds."""
CLIENT_BACKOFF_S_MAX: Final = 2.0
"""Longest wait before connecting again: below half the publisher's linger, so that a short outage costs no epoch."""
CLIENT_TCP_UNSENT_BYTES_MAX: Final = 64 * KIB
"""What a publisher lets wait in its own TCP write buffer; beyond it newest values replace older ones."""
CLIENT_FRAMES_WAITING_MAX: Final = 1_024
"""Frames that an async iterator may leave untaken (17 s at 60 Hz); older ones are dropped and counted."""
CLIENT_SYNC_WAITING_MAX: Final = 64
"""Items of an awaited iterator that wait for a program without a loop to take them; the connection is read no further."""
CLIENT_SYNC_CLOSE_S_MAX: Final = 5.0
"""Longest wait for a synchronous client's sessions to end: the interpreter's exit waits for it."""
CLIENT_SYNC_LOOK_S: Final = 1.0
"""How often a synchronous call looks whether the thread that it waits for has ended."""
CLIENT_TOKENS_MAX: Final = 4_096
"""Datagrams whose fate a publisher still awaits: over a second at 60 Hz and 64 datagrams a frame."""
CLIENT_LATENCY_MS_MAX: Final = 60_000.0
"""A frame is not under way for longer than a minute: then the publisher's clock is another."""
CLIENT_LATENCIES_MAX: Final = 8_192
"""Latency samples kept for percentiles: the last two minutes at 60 Hz."""
CLIENT_STREAM_BYTES_MIN: Final = 8 * 1_100
"""A frame of more than eight datagrams goes by one stream: fewer packets to lose a part of it."""
CLIENT_EARLY_BYTES_MAX: Final = 32 * MIB
"""What comes by other streams before ``welcome`` is kept up to here: two of the largest messages."""
CLIENT_STREAMS_MAX: Final = 256
"""Streams of one session that a client reads at once; a gateway has a few open, the oldest is given up."""
CLIENT_PUBLISH_STREAMS_MAX: Final = 4
"""Large frames of one publisher under way at once; further ones wait as stale records, newest value only."""
CLIENT_REPAIR_RECORDS_MAX: Final = 4_096
"""Stale records that one frame may carry along; the rest goes with the next frame."""
CLIENT_REPAIR_S: Final = 0.02
"""How long a publisher that heard of a loss waits for its next frame to carry the repair: about a tick."""
CLIENT_SILENCE_S_MIN: Final = 0.5
"""Silence on QUIC after which a ping asks whether the gateway is still there; doubles while it answers."""
CLIENT_SILENCE_S_MAX: Final = 5.0
"""Longest pause between such pings: below every NAT's UDP timeout (RFC 4787 section 4.3: 2 minutes)."""
CLIENT_PING_ANSWER_S_MAX: Final = 0.25
"""How long one ping may go unanswered before the next one; each draws a stateless reset from a restarted gateway."""
CLIENT_PINGS_MAX: Final = 8
"""Pings in a row without an answer that end the connection: 2 s, over any pause of a path in use."""
CLIENT_LAG_TICKS_MAX: Final = 36_000
"""Ticks whose time of sending is remembered until they are durable: ten minutes at 60 Hz."""
CLIENT_WS_PING_S: Final = 5.0
"""Silence on a WebSocket after which a ping asks whether the gateway is still there."""
CLIENT_WS_SILENCE_S_MAX: Final = 15.0
"""Silence on a WebSocket after which the connection is given up: three pings without an answer."""
CLIENT_HOPS_MAX: Final = 4
"""Gateways that one connect is sent on to: a world has one home, which may move once or twice meanwhile."""
CLIENT_HTTP_BODY_BYTES_MAX: Final = 256 * MIB
"""A state of a million records of 100 bytes with their heads is 112 MB."""
CLIENT_COUNTED_TICKS: Final = 1024
"""Newest ticks of which it is remembered whether they came: 17 s at 60 Hz."""
PROGRESS_EVERY_S: Final = 0.2
"""Of a line that says how much is done: as often as somebody reads it, and no terminal is kept busy."""
FILM_KEYFRAME_EVERY_US: Final = 1_000_000
"""A film can be wound to any second."""
FILM_UPLOAD_BYTES_MAX: Final = 4 * GIB
"""A film that a page brings to `mvgateway film`: an hour of 100 records at 60 Hz has half of one. It goes to disk as it comes."""
FILMS_MAX: Final = 200
"""Films that one `mvgateway film` shows: one page of its list."""
CLIP_ROWS_MAX: Final = 36_000
"""Frames of a clip that a gateway cuts for a request: ten minutes at 60 Hz, some minutes of work."""
CLIP_BYTES_MAX: Final = 256 * MIB
"""And its size, on the disk of the gateway while it is taken; as many as ``--works-at-once-max`` at a time."""
CLIP_PIECE_BYTES: Final = 256 * KIB
"""Of such a file held at once."""
EXPORT_ROWS_HELD_MAX: Final = 32_768
"""Rows of a Parquet file that are held until they are written as one row group: with 20 columns some 30 MB."""
EXPORT_BYTES_HELD_MAX: Final = 16 * MIB
"""Bytes of their records, for those are up to 64 KB each."""
EXPORT_RECORDS_AT_ONCE_MAX: Final = 256
"""Of one step's records between two looks at what is held: with 64 KB each they are 16 MiB."""
EXPORT_CELLS_TOGETHER_MAX: Final = 100_000
"""Values that are read and written together, some thousand rows: enough that what a call costs is spread thin, some MB of Python's numbers."""
EXPORT_CHUNK_BYTES: Final = MIB
"""What an MCAP file packs as one chunk, its library's own measure: what a viewer unpacks to show one moment."""
GLTF_RECORDS_MAX: Final = 10_000
"""Nodes of one scene: some 1 KB of JSON each, and more than a viewer moves."""
GLTF_SAMPLES_MAX: Final = 32_000_000
"""Places of all records: 1 GiB, of the 4 GiB that a .glb can have; 148 records that move at 60 Hz for an hour."""
GLTF_SAMPLES_HELD: Final = 128
"""Of each record until they go to disk: 4 KB, so that 10,000 records hold 40 MB."""
CLIENT_MESSAGE_OVERHEAD_BYTES: Final = 64
"""What a message may have besides its records: its head (24 bytes) and length, with room to spare."""
CLIENT_STREAM_PART_BYTES: Final = 64 * KIB
"""A part of a large frame on a stream: the gateway hands it on before the next one is there."""

# --- runtime -----------------------------------------------------------------------------
UDP_LINGER_S: Final = 30.0
"""How long a plain UDP publisher may be silent before its world is free."""
JOURNAL_RETRY_S_MAX: Final = 1.0
"""Longest such wait: an outage that ends is noticed within a second."""
JOURNAL_RETRY_S_MIN: Final = 0.05
"""First wait before a journal asks a store again that did not answer."""
PORT_TRIES_MAX: Final = 32
"""Ports tried until one is free for UDP and TCP alike."""
REPLAYS_PEER_SHARE: Final = 4
"""One address may have a quarter of all replays."""
DURABLE_S_MAX: Final = 10.0
"""How long a POST waits for a store that takes nothing, and a verb for what it published to be durable."""
ENTITY_SCAN_KEPT_S: Final = 10.0
"""How long: clients that start together after a crash or a change of level come within it."""
ENTITY_SCANS_KEPT_MAX: Final = 4
"""Different filters whose newest scan is kept."""
CERTIFICATE_DAYS: Final = 13
"""Browsers pin a self-signed certificate by hash only if it is valid for under 14 days."""
CERTIFICATE_RENEW_DAYS: Final = 3
"""Renewed this long before it runs out: a browser page that fetched the old hash has days to come back."""
CERTIFICATE_CHECK_S: Final = 5.0
"""How often the certificate files are looked at for a change."""
FOLDER_LOCK_S: Final = 15.0
"""How long a start waits for others that make certificates in the same folder: each takes some 10 ms, on a busy machine 500."""
FOLDER_LOCK_RUNNING_S: Final = 0.25
"""The same while running, where everybody waits with it; the next look at the certificates tries again."""
FOLDER_LOCK_LOOK_S: Final = 0.005
"""How often a process that waits for a folder looks whether it is free: about as long as one is held."""
UDP_TOKENS_MAX: Final = 4_096
"""Registered publishers of the plain UDP door."""
UDP_QUEUE_BYTES: Final = 1 * MIB
"""Asked of the kernel for the plain UDP socket: a burst of 10 worlds' frames."""
DESCRIPTORS_OWN: Final = 128
"""File descriptors besides TCP connections': the store's files, sockets, the event loop."""
MEMORY_MAPPED_BYTES_MIN: Final = 512 * KIB
"""Buffers of so many bytes are mapped one by one: 0.1 ms each, and nothing of them stays when they are freed."""
MEMORY_ARENAS_MAX: Final = 2
"""Heaps of the allocator: what one thread frees another can use. The interpreter's lock lets one run at a time."""
CATALOGUE_LOOK_S: Final = 1.0
"""How often a gateway over a shared store looks whether names mean what is open here: one request for all of
them, and the longest that a reader can be shown a world that another gateway has deleted."""
REAP_S: Final = 60.0
"""How often it looks for deleted worlds whose namespaces can go."""
HOUSEKEEPING_S: Final = 1.0
"""How often an open world looks after its silent publishers."""
EPOCH_END_S_MAX: Final = 2.0
"""How long a world that is closed waits for the store to note that its epoch has ended: without the note it
looks as after a crash, which is little to lose."""
MAINTAIN_S: Final = 5.0
"""How often an open world lets go of old history and old versions: a twelfth of the default ring."""
HOME_LEASE_MS: Final = 2_500
"""A home that shows no sign of life for so long is taken for dead by others: three beats, and another gateway
publishes within 5 s of a crash."""
HOME_LEASE_MS_MAX: Final = 60_000
"""What is believed of another home's lease: no row in a store keeps a world from being published for longer."""
NODE_CHARS_MAX: Final = 512
"""The URL at which other gateways and their readers reach a gateway: it stands in every refusal."""
HOME_BEAT_S: Final = 0.75
"""How often a home whose journal has nothing to write gives a sign of life, while somebody publishes there."""
HOME_POLL_S: Final = 0.1
"""How often another home is looked at while somebody waits to hear whether it lives."""
HOME_UNSEEN_S: Final = 1.5
"""A home that was not looked at for longer may have been unable to give a sign, since the store was away: its lease
is counted from the next look."""
HOME_ALIVE_S: Final = 0.5
"""A sign of life proves that a home lives if it came between two looks so close together; for as long it is
believed without another look, so that many who ask cost no more than one."""
SESSION_COMES_AGAIN_S: Final = 2.0
"""A publisher that was refused because it took too long asks again within this time, as our clients do at the latest: so long
what was begun for it goes on. Then it is taken to be elsewhere, and nothing more is done in its name."""
PUBLISHER_LEAVES_S: Final = 0.25
"""A publisher that finds the place taken is refused only if who has it is still there after so long: of two connections of one client
the end of the first may be heard, or its last messages taken, after the second has asked. Below the second that clients give UDP."""
DELETED_WORLDS_WAIT_S: Final = 2.0
"""How long deleting a world waits for its sessions to end."""

GARBAGE_LOOK_S: Final = 2.5
"""How often a gateway asks whether a full collection of cycles is worth its pause, some 10 ms with 400 readers."""
GARBAGE_ENDED_MAX: Final = 1_024
"""Ended connections after which it is: what little each may have left behind adds up to some tens of MiB."""
GARBAGE_GROWTH_BYTES_MAX: Final = 16 * MIB
"""Growth of the resident memory after which it is, whatever made it grow."""
LOOP_LOOK_S: Final = 0.1
"""How often the event loop's lateness is measured: ten timers a second cost nothing, and find a pause of any length."""
HEALTH_LATE_S: Final = 1.0
"""A frame that waits for the store for so long is late: ten times what a journal rests at most."""
HEALTH_NAMED_MAX: Final = 16
"""Late worlds that health names: the latest; a store that fails has all of them."""
STORE_LOOK_S: Final = 5.0
"""How often a store elsewhere is asked whether it is there, and how long for: as long as any request to it."""
STORE_LOOK_FAILING_S: Final = 1.0
"""And while it is not."""
STORE_LOOK_FIRST_S: Final = 0.5
"""How long a start waits to tell whether it is: below what starting takes anyway."""
SESSION_OPEN_S_MAX: Final = 3.5
"""Opening a session waits so long for the store, then the refusal says so: below the 5 s after which clients
take a silent gateway for none."""
WORLD_OPEN_S_MAX: Final = 8.0
"""The same for a request, whose clients wait longer: longer than one request to a store elsewhere is tried."""
OPERATOR_LOOK_S: Final = 1.0
"""How often a running gateway is looked at for what its operator should be told."""
ACTIVATED_SOCKETS_MAX: Final = 16
"""Sockets that systemd may hand on: a gateway has five doors, and what is more is a mistake in the unit."""
DESCRIPTORS_SHORT_SHARE: Final = 0.9
"""Of the descriptors that are allowed: above it there is a warning, while some are still left to act with."""
DRAIN_SPREAD_MS: Final = 1_000
"""Over so long the sessions of a gateway that stops come back, so that its successor is not met by all at once."""
EVENT_WINDOW_S: Final = 10.0
"""Events of one kind are counted, not written, once there were too many within this time."""
EVENT_LINES_MAX: Final = 20
"""Lines of one kind of event in such a window: a small server's comings and goings are all told."""
EVENT_KINDS_MAX: Final = 64
"""Kinds of events: each is a few words in the source; none comes from a peer."""
CERTIFICATE_AUTHORITY_DAYS: Final = 3_650
"""Ten years: clients keep the file of the authority that the gateway made for itself."""
ENTITY_STREAM_POLL_S: Final = 0.005
"""How often a stream that has not arrived yet is looked at; changes gather meanwhile."""
ENTITY_THREADS: Final = 6
"""Threads for SQLite work on entities: most of their time is the store's."""
RECONNECT_AFTER_MS: Final = 500
"""What a `bye` says: a successor on the same ports is up in about so long."""

# --- workers -----------------------------------------------------------------------------
WORKERS_MAX: Final = 64
"""A byte of a connection ID names the worker, and leaves four values each: nobody's machine has more cores for one gateway."""
WORKER_FRAME_BYTES_MAX: Final = 256 * MIB + KIB
"""What one worker says to another at once: the largest message that may be allowed."""
WORKER_BACKLOG_BYTES_MAX: Final = 16 * MIB
"""What waits for a worker that takes nothing: a keyframe of the largest kind. Beyond it the channel is given up."""
WORKER_ASK_S: Final = 2.0
"""How long a worker waits for another's answer: one that takes longer is left out."""
WORKER_HELLO_S: Final = 5.0
"""How long whoever connects may take to say the secret."""
WORKER_START_S_MAX: Final = 60.0
"""How long the supervisor waits for the first start of all: a busy machine takes its time."""
WORKER_AGAIN_S_MIN: Final = 0.25
"""The first pause before a worker that ended soon after its start is started again; the pauses double."""
WORKER_AGAIN_S_MAX: Final = 30.0
"""The longest of them."""
WORKER_STEADY_S: Final = 10.0
"""Whoever has lived for so long is started again at once."""
WORKER_END_S: Final = 3.0
"""How much longer than the drain allows a worker may take before it is killed."""
WORKER_LOOK_S: Final = 0.1
"""How often the store's owner looks whether anybody needs it still, where the supervisor is gone."""
WORKER_SETTLE_S: Final = 1.0
"""Between one worker's replacement and the next one's: those who were told to move have their first frame by then."""
RENEWED_RECONNECT_AFTER_MS: Final = 50
"""What `bye` says where the other workers are there: in so long the world is given up, and readers come within three times that."""
RENEWAL_SAID_BYTES_MAX: Final = 4 * KIB
"""What the log repeats of why a new version does not start: the end of a traceback."""
WORKER_FOLDER_TRIES: Final = 8
"""Folders that a start makes, where another start clears away what is not locked yet: each try is lost within a microsecond."""
WORKER_FOLDERS_LOOKED_AT_MAX: Final = 1_000
"""Folders of earlier starts that a start looks at, to clear away what was killed: each killed supervisor leaves one at most."""
EDGE_IDLE_S: Final = 5.0
"""How long an edge goes on following a home after its last reader has left."""
EDGE_TRIES: Final = 3
"""How often a home is looked for that has moved just now."""
EDGE_BEGIN_S: Final = 3.0
"""How long an edge waits for the home's state: a large keyframe on a busy machine."""
EDGE_DURABLE_S: Final = 0.1
"""How often a home tells its edges how far the store is."""
EDGE_SEEK_S: Final = 10.0
"""How long a new home is looked for ten times a second after the old one ended; then as often as any is."""
EDGE_PEERS_MAX: Final = 64
"""Gateways over one store that follow each other: more are better a tree (``--upstream``)."""
EDGE_HOPS_MAX: Final = 8
"""Gateways in a row between a home and its reader, a millisecond or so each: a longer row is a mistake, or a ring."""
EDGE_ID_CHARS_MAX: Final = 64
"""By which a gateway in such a row is known: ours have 16."""
EDGE_CONNECT_S: Final = 1.5
"""How long another gateway may take to shake hands, while a reader waits: ten round trips around the world."""
EDGE_ANSWER_S: Final = 1.0
"""How much longer until it says whose frames it gives: below what opening a session may take, together."""
EDGE_WHOLE_S: Final = 0.75
"""How long readers wait for all of a world that has just been followed: what is late comes as newest values."""
EDGE_ASK_S: Final = 1.5
"""How long a home may take to let a publisher go elsewhere, its last frames written: then the store decides."""
EDGE_FLUSH_S: Final = 1.0
"""How long a home that lets its publisher go writes what it has: below the time that whoever asks waits."""
EDGE_ANSWER_BYTES_MAX: Final = 64 * KIB
"""What another gateway answers: a JSON object of a few members."""
EDGE_HELD_BYTES_MAX: Final = 64 * MIB
"""Frames kept until their source is proven: a round trip's worth, and the keyframe of the largest usual world."""
EDGE_KEYFRAMES_MAX: Final = 4
"""Keyframes of which parts are missing that are watched: each newer one takes the place of those before."""
EDGE_BEAT_S: Final = 0.2
"""How often gateways that follow are told that their source lives: five short messages a second for each."""
EDGE_LOOK_S: Final = 0.1
"""How often a gateway that follows looks whether it has heard anything."""
EDGE_SILENT_S: Final = 0.8
"""Who says nothing for so long, four beats, is asked on another session: readers converge within 2 s of a fault's end."""
EDGE_CHECK_S: Final = 1.5
"""How often the store is asked whether the gateway that is followed is the home still: it may be cut off from the store."""
EDGE_AGAIN_S: Final = 0.6
"""The first try to reach a silent gateway on another session; each is a quarter longer, for slow paths."""
EDGE_AGAIN_S_MAX: Final = 1.2
"""The longest of them: what was cut off is back as soon after the path is."""
EDGE_FORSAKE_S: Final = 5.0
"""Readers whose home lives, and cannot be followed for so long, are sent there: they may reach it."""
FORWARD_QUEUE_BYTES: Final = 256 * KIB
"""What a forwarded request's body may wait: then its sender is not read."""

# --- access control ----------------------------------------------------------------------
TOKEN_CHARS_MAX: Final = 4_096
"""A token with sixty patterns has 3,000 characters; with more it would not fit beside other headers."""
TOKEN_NAME_CHARS_MAX: Final = 128
"""A key's name, a token's subject and its number: they stand in logs and metrics."""
TOKEN_LIFETIME_S_MAX: Final = 86_400
"""What is revoked is remembered until the token would have ended: a day's worth."""
TOKEN_LEEWAY_S: Final = 30
"""How far the clocks of who signs and who checks may differ."""
AUTH_KEYS_MAX: Final = 256
"""Keys in use together: a studio's backends, each with the old and the new one while they change."""
AUTH_JWKS_BYTES_MAX: Final = 256 * KIB
"""A JWK set of so many keys, each with a scope of its own."""
AUTH_FETCH_S_MAX: Final = 5.0
"""A JWK set that has not come by then is asked for again later: the keys in use go on."""
AUTH_FETCH_AGAIN_S: Final = 10.0
"""After a failure, and at the most so often for tokens that name an unknown key: strangers can name any."""
AUTH_REFRESH_S: Final = 300.0
"""How long a JWK set is believed that does not say itself how long (RFC 9111 section 5.2.2.1)."""
AUTH_REFRESH_S_MIN: Final = 30.0
"""And at the least: a set with ``no-cache`` is not asked for with every token."""
AUTH_REFRESH_S_MAX: Final = 3_600.0
"""And at the most: a key that was taken away does not stay for longer."""

TOKENS_CACHED_MAX: Final = 8_192
"""Tokens that were found good, by their hash: a check costs 100 us, a look here one."""
TOKEN_WAIT_S: Final = 2.0
"""A session without a token has so long to send one: a message's way, and a page that fetches it."""
TOKEN_WAIT_BYTES_MAX: Final = 128 * KIB
"""What such a session may have sent besides, until it is open."""
AUTH_FAILURES_PER_ADDRESS_PER_S: Final = 20
"""Bad tokens that are looked at for one address, ten seconds' worth at once: 2 ms of CPU a second."""
SUBJECTS_COUNTED_MAX: Final = 4_096
"""Subjects whose rates are remembered while they are not at their full."""
SUBJECTS_SHOWN_MAX: Final = 100
"""Subjects with metrics of their own; all others together are one more."""
GRANT_BURST_S: Final = 1.0
"""What a grant's rates may spend at once: a second's worth."""
GRANT_PATIENCE_S: Final = 10.0
"""How long an answer waits for its grant's ``kbps`` before it is given up."""
REVOKED_MAX: Final = 10_000
"""What was revoked and is remembered, 150 bytes each. Beyond it the way is to take the key away."""
REVOKED_KEPT_S: Final = TOKEN_LIFETIME_S_MAX + 2 * TOKEN_LEEWAY_S
"""How long a name stays revoked: no token lives for longer."""
STANDING_LOOK_S_MAX: Final = 3_600.0
"""The longest that a grant's end is waited for without a look at the clock, which may have been set."""

# --- entities ----------------------------------------------------------------------------
VARIANT_DEPTH_MAX: Final = 1_024
"""Godot's own Variant::MAX_RECURSION_DEPTH: the outermost value is depth 0."""
ENTITY_ID_BYTES_MAX: Final = 64
"""An id, a class, an owner or a tag: a UUID with a prefix fits twice."""
ENTITY_TAGS_MAX: Final = 32
"""Tags of one entity: each costs an index row."""
ENTITY_STATE_BYTES_MAX: Final = 1 * MIB
"""One entity's state: half a minute of inventory, never a level; a level belongs into files."""
ENTITY_STATE_BYTES_HIGH: Final = 16 * MIB
"""The most that ``entity_bytes_max`` may be set to: what a client takes in one message."""
ENTITY_HEAD_BYTES_MAX: Final = 16 * KIB
"""The JSON before a state in an entity message: 32 tags of 64 bytes, escaped, and then some."""
ENTITY_ASIDE_BYTES: Final = 16 * KIB
"""States larger than this are checked and shown in a thread: 10 ms of Python at the worst."""
ENTITY_BATCH_OPS_MAX: Final = 1_000
"""Operations of one batch: one commit of some hundred pages."""
ENTITY_BATCH_BYTES_MAX: Final = 16 * MIB
"""All operations of one batch: they wait in memory for their one commit."""
ENTITY_PAGE_MAX: Final = 1_000
"""Entities of one page of a list."""
ENTITIES_PER_WORLD_MAX: Final = 100_000
"""Default of ``entities_per_world_max``: counted in a millisecond, and a list of them has a hundred pages."""
ENTITY_PAGE_BYTES_MAX: Final = 4 * MIB
"""States of one page of a list, besides its last entity's: the rest comes with the next page."""
ENTITY_SCAN_ROWS: Final = 64
"""Entities read at once for a stream: small enough that the first ones leave at once."""
ENTITY_SCAN_PIECE_BYTES: Final = 256 * KIB
"""States read at once for a stream, in bytes: a few large ones."""
ENTITY_SCAN_BYTES_MAX: Final = 64 * MIB
"""One shared cold start kept in memory; a larger world is streamed to each client by itself."""
ENTITY_FEED_CHANGES_MAX: Final = 4_096
"""Newest changes kept for watchers of a world; who is further behind reads the database."""
ENTITY_FEED_BYTES_MAX: Final = 8 * MIB
"""The same bound in bytes."""
ENTITY_TOMBSTONES_MAX: Final = 100_000
"""Deletions a world remembers for watchers that come back; who is older starts anew."""
ENTITY_WATCHERS_MAX: Final = 1_024
"""Watchers of one world's entities: each is a task and a cursor."""
ENTITY_DATABASES_MAX: Final = 64
"""Databases (worlds and inventories) open for entities at once: some 4 MiB of pages each at most."""
INVENTORIES_TIDIED_MAX: Final = 4_096
"""Inventories whose commits are counted, so that their old versions go: about 1 KiB each, and more than trade at once."""
ENTITY_WRITES_WAITING_MAX: Final = 4_096
"""Writes waiting for one database's next commit; beyond it 503, since they could not end in time."""
ENTITY_WRITES_WAITING_BYTES_MAX: Final = 64 * MIB
"""The same in bytes of states: a megabyte each would be four gigabytes."""
ENTITY_WRITES_PER_COMMIT_MAX: Final = 256
"""Waiting writes taken into one commit: they share its fsync."""
ENTITY_RETRY_S: Final = 5.0
"""How long a lost commit race is run again before the caller hears 409."""
ENTITY_FOREIGN_POLL_S: Final = 0.2
"""How often a watched database is asked for another gateway's commits: one ``/stat``."""
LEASE_TTL_MS: Final = 5_000
"""An owner that is gone this long owns nothing any more."""
LEASE_RENEW_S: Final = 1.0
"""How often a session's lease is written again: four chances before it runs out."""
TRANSFER_ENTITIES_MAX: Final = 64
"""Entities of one transfer: a full bus."""
TRANSFER_EXPIRES_MS_MAX: Final = 5_000
"""The longest offer: nobody's entity stays unwritable for longer."""
TRANSFER_RECORDS_MAX: Final = 100_000
"""Transfer records kept per world, oldest dropped first."""
TRADE_MOVES_MAX: Final = 64
"""Items of one trade."""
ENTITY_MESSAGE_BYTES_MAX: Final = ENTITY_STATE_BYTES_HIGH + ENTITY_HEAD_BYTES_MAX + 8
"""What a client takes of one entity: its length and type, its head, and the largest state that a gateway may allow."""
VARIANT_JSON_DEPTH_MAX: Final = 4 * VARIANT_DEPTH_MAX
"""A tagged dictionary takes three JSON levels for one of Variant's."""

# --- delayed views -----------------------------------------------------------------------
DELAYED_FEEDS_MAX: Final = 64
"""Default of the setting ``delayed_feeds_max``: each holds a state as a world does, and reads the store some times a second."""
DELAYED_FEEDS_PER_WORLD_MAX: Final = 8
"""Default of the setting ``delayed_feeds_per_world_max``: a tournament has one delay, or one for the arena and one for the web."""
DELAYED_AHEAD_S_MAX: Final = 1.5
"""What comes is read so long before it is shown (three quarters of the delay, where that is shorter): a store that hangs
for a second is not to be seen."""
DELAYED_READ_S_MAX: Final = 0.5
"""Between two readings, a third of what is read ahead where that is less: two requests of the store a second."""
DELAYED_BYTES_MAX: Final = 8 * MIB
"""Read and not shown yet, of one feed, and as much in the reading under way: half a second of frames of 256 KiB at 60 a
second; more is read as it is shown."""
DELAYED_ROWS_MAX: Final = 256
"""Rows of one reading: some ten milliseconds on the reading thread, then others have their turn."""
DELAYED_ROWS_AT_ONCE_MAX: Final = 256
"""Rows shown in one turn of the loop, after the store was away: some ten milliseconds as well."""
DELAYED_COME_BACK_MS: Final = 500
"""A world is closed with its delayed views where others need its place: its readers open it again."""
DELAYED_STEP_S: Final = 0.004
"""What comes within is shown together: a quarter of a frame at 60 Hz."""

# --- replay ------------------------------------------------------------------------------
REPLAY_SPEED_MAX: Final = 64.0
"""Fastest paced replay, either way; beyond it ``max`` gives every frame as fast as it is taken."""
REPLAY_WAIT_US_MAX: Final = 2_000_000
"""A frame that came so much later than the one before was late by its ticks, too, or a clock was set."""
REPLAY_STEP_TICKS_MAX: Final = 10_000
"""Ticks of one step: reading them back is a scan of as many rows."""
REPLAY_BATCH_BYTES_MAX: Final = 512 * KIB
"""Messages of a replay that go out together before the viewer must have taken them."""
REPLAY_REWIND_BYTES_MAX: Final = 16 * MIB
"""States kept for running backwards: a second at 60 Hz of 1,800 records of 100 bytes is 11 MB."""
REPLAY_BEHIND_S_MAX: Final = 1.0
"""A viewer further behind its pace gets the state of the moment instead of every frame until it."""
REPLAY_SETTLE_S_MAX: Final = 1.0
"""How long datagrams of the live world may be under way before the past is shown after them."""
REPLAY_COMMANDS_WAITING_MAX: Final = 64
"""Commands of one viewer that wait for their turn; a viewer that sends faster is told so."""
REPLAY_SEEK_S_MIN: Final = 0.02
"""From one seek of a viewer to its next: 50 a second look like a film, and each may read a whole state back."""
REPLAY_LOOK_S: Final = 0.004
"""How often a stream under way is looked at: a quarter of a tick at 60 Hz."""
BRANCHES_PER_WORLD_MAX: Final = 256
"""Default of ``branches_per_world_max``: each keeps the pages of its moment, and its world's namespace, from being freed."""
MARKS_MAX: Final = 10_000
"""Marks of a world: one every 9 s of a day."""
MARK_NAME_CHARS_MAX: Final = 128
"""A chapter's title fits."""
MARKS_BYTES_MAX: Final = 4 * MIB
"""The data of all marks of a world: they are listed in one answer, which is in memory some five times over."""
MARK_DATA_BYTES_MAX: Final = 16 * KIB
"""JSON of a mark: a score, a stack trace."""

# --- archive -----------------------------------------------------------------------------
ARCHIVE_PART_FRAMES_MAX: Final = 3_600
"""Frames of one part: a minute at 60 Hz, so that a cut connection costs at most that much again."""
ARCHIVE_PART_BYTES_MAX: Final = 32 * MIB
"""Messages of one part: restored in one commit, it stays far below the store's 50,000 pages."""
ARCHIVE_PAUSE_S: Final = 0.5
"""The first pause after a transfer that failed."""
ARCHIVE_TRIES_MAX: Final = 5
"""Tries of one transfer, with doubling pauses from half a second: 8 s of outage are ridden out."""
ARCHIVE_REACH_TRIES_MAX: Final = 2
"""Tries of the first look at a place: who mistyped its address should hear so within five seconds."""
ARCHIVE_CONNECT_S: Final = 1.5
"""Until somebody answers at an S3 endpoint, or a resolver knows it: the other side of the earth takes 0.3 s."""
ARCHIVE_REACH_S: Final = 3.0
"""Of the first look at a place that is no folder, credentials included: with what it takes to load the client below five seconds."""
ARCHIVE_MANIFEST_BYTES_MAX: Final = 64 * MIB
"""A manifest of a year of minutes has half a million parts of a hundred bytes."""

# --- link --------------------------------------------------------------------------------
LINK_PACKETS_WAITING_MAX: Final = 200_000
"""Packets in flight on a link: 100,000 a second for two seconds; past that the newest is dropped."""
LINK_READ_BURST_PACKETS: Final = 64
"""Packets read from one device before the due ones go out, so that a burst can't delay them by much."""
LINK_SLOTS_AT_ONCE_MAX: Final = 1_000
"""Slots of a fade played at once: after so many without a packet the state is as good as drawn anew."""
RELAY_SENDERS_MAX: Final = 256
"""UDP sockets that the demo's relay hands on for, one each: ten times the demo's readers."""
RELAY_PACKETS_WAITING_MAX: Final = 20_000
"""UDP packets on their way through it: 25 readers at 60 Hz for seconds; what is over is dropped, as a queue does."""
RELAY_PIECES_WAITING_MAX: Final = 64
"""Pieces of a TCP connection on their way through it, 77 KB: as much as a window of 64 KiB lets be on its way."""
RELAY_RESENDS_MAX: Final = 8
"""Times that a piece of a TCP connection is lost in a row before it arrives all the same."""
RELAY_PIECE_BYTES: Final = 1_200
"""Of a connection through it what counts as one packet: what the smallest paths of QUIC carry, too."""

# --- cli ---------------------------------------------------------------------------------

WATCH_RECORDS_SHOWN_MAX: Final = 20
"""Records whose values `watch --values` shows unless some are named: what a terminal has room for."""
WATCH_LAYOUT_LOOK_S: Final = 5.0
"""Between two looks at what a world's records mean."""
TOP_ASK_S: Final = 5.0
"""How long `mvgateway top` waits for one gateway: longer than a busy one takes, shorter than people look at an old table."""
TOP_GATEWAYS_MAX: Final = 64
"""How many gateways one table is over: those that others tell of would have it grow without end."""
PUBLISH_HZ_MIN: Final = 0.001
"""Of `publish --hz`: a tick in a quarter of an hour; slower ones are for scripts of one's own."""
PUBLISH_HZ_MAX: Final = 1_000
"""Of `publish --hz`: no display shows more, and a thread that sleeps wakes up no oftener."""
PUBLISH_RECORDS_MAX: Final = 1_000_000
"""Avatars times bones of `publish`: a tenth of what a gateway may be set to take, and 100 MB of packets a frame."""
GIVEN_FILE_BYTES_MAX: Final = 4 * MIB
"""Of a certificate, a key, a configuration, a layout, a query that somebody names: a thousand times what any has."""
GIVEN_VALUE_BYTES_MAX: Final = 64 * MIB
"""Of a value for `variant`: eight times what a request may bring, and some 2 GB once it is taken apart."""
CLI_SECONDS_MAX: Final = 31_536_000
"""Of `--seconds`: a year; without it a verb goes on for ever."""
CLI_WAITING_S: Final = 1.5
"""So long `publish` and `watch` wait for a gateway without a word: nobody waits for one that is there."""
CLI_USAGE_LINES_MAX: Final = 12
"""Of a verb with more flags than that, the usage would push the error out of sight."""
CLI_CHILD_READY_S_MAX: Final = 20.0
"""How long `demo` and `bench` wait for a gateway of their own: on a busy machine a start takes seconds."""
CLI_DURABLE_S: Final = 2.0
"""How long `publish` waits at its end for what it sent to be durable; then that is said to be under way."""
DEMO_SETTLE_S: Final = 10.0
"""How long the demo waits for its readers to have everything before it tells what is missing."""
DEMO_SETTLE_LOOK_S: Final = 0.05
"""How often it looks."""
DEMO_GATEWAYS_MAX: Final = 8
"""Gateways of one demo, each a process: what a machine of two cores carries for some seconds."""
DEMO_LOOK_S: Final = 0.1
"""How often the demo's readers tell how old what they show is: as often as an eye follows a figure."""
DEMO_READERS_S_MAX: Final = 30.0
"""How long they may take to connect over the demo's link: a handshake takes seconds on a machine that stands still."""
DEMO_SETTLING_S: Final = 1.0
"""How long the demo publishes before ages are measured: until then readers show what was there when they came."""
DEMO_BAR_MS: Final = 10.0
"""Of age for each block of a live line's bar: a third of a second fills 80 columns, as TCP takes to bring again what was lost."""
DEMO_WORDS_COLUMNS_MAX: Final = 100
"""Columns of what the demo says in plain words: longer lines are hard to read."""
RECOVER_GAPS_SHOWN_MAX: Final = 10
"""Gaps that `recover` lists: with the marks a screenful."""
RECOVER_MARKS_SHOWN_MAX: Final = 10
"""Marks that it lists."""
SALVAGE_SHOWN_MAX: Final = 10
"""Lost page versions of a namespace that are listed on the screen."""
VERIFY_FINDINGS_SHOWN_MAX: Final = 20
"""Findings that `verify` lists: a screenful."""
SQL_CELL_CHARS_MAX: Final = 60
"""A value in a table on the screen; `--json` and `--csv` have all of it."""
