"""Every bound that refuses: at it all is well, one over is refused with the bound in the words; and none is without a test."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest
from starlette.requests import Request

from gateway import limits
from gateway.cli._bounds import check
from gateway.cli.replay import _speed
from gateway.cli.top import checked_urls
from gateway.client.token import _checked
from gateway.config import Settings
from gateway.config.agreeing import check_node, check_peers
from gateway.core.grants import Scope
from gateway.core.options import parse_live_query, parse_weights
from gateway.core.source import read_source
from gateway.errors import GatewayError
from gateway.http.answers import AnswerBudget, works_of
from gateway.http.budget import ByteBudget
from gateway.http.dataplane import _owner, _page, _written
from gateway.http.dataplane_call import Call
from gateway.http.dataplane_commit import CommitReader
from gateway.http.tcp.collector import Breach, Collector, ReceivedMessage
from gateway.http.tcp.frameguard import Flood, FrameGuard
from gateway.http.tcp.wire import session_on
from gateway.quic.h3 import codes
from gateway.quic.h3.codes import H3Error
from gateway.quic.h3.control import ControlStream
from gateway.quic.unsent import Unsent
from gateway.recordings.exports.tracks import Tracks
from gateway.runtime.access.jwks import by_kid
from gateway.runtime.access.tokens import _name
from gateway.runtime.clips import _check_bounds
from gateway.runtime.edges.forward import _body
from gateway.runtime.recordings import _mark_data, _mark_name
from gateway.runtime.stores.opening import _urls
from gateway.store.base import Namespace, OverlayBase
from gateway.store.embedded import EmbeddedStore
from gateway.store.embedded.admin import check_key
from gateway.store.embedded.jobs import Job
from gateway.store.embedded.queue import Queue
from gateway.store.remote.bodies import _framed
from gateway.store.salvage.btree import TABLE, Walker
from gateway.store.world.schema import Retention
from gateway.wire import decode_control, encode_control, mvstore, strictjson
from gateway.wire.entities.checks import check_name, check_tags
from gateway.wire.entities.messages import decode_entity
from gateway.wire.entities.trades import parse_trade
from gateway.wire.entities.transfers import parse_offer
from gateway.wire.layouts import parse
from gateway.wire.variant import decode

ROOT = Path(__file__).resolve().parents[1]
Take = Callable[[int], object]
"""Does what the bound is on, so large, or so often."""


def commit_head(namespaces: int) -> bytes:
    head = mvstore.CommitHead(bytes(16), False, namespaces, None)
    return mvstore.encode_commit_head(head)[4:]


def commit_of(pages: int) -> CommitReader:
    commit = CommitReader()
    commit.receive(commit_head(1))
    commit.receive(mvstore.encode_commit_namespace(namespace(pages))[4:])
    return commit


def namespace(pages: int) -> mvstore.CommitNamespace:
    return mvstore.CommitNamespace("0" * 20, "w", None, None, pages, None)


def inline_pages(count: int) -> None:
    commit = commit_of(limits.STORE_COMMIT_PAGES_MAX)
    for number in range(count):
        commit.receive(mvstore.encode_commit_page(number, bytes(32), b"x")[4:])


def inline_page(size: int) -> None:
    commit_of(1).receive(mvstore.encode_commit_page(1, bytes(32), bytes(size))[4:])


def trade(moves: int) -> object:
    move = {"from": "ann", "to": "bob", "item": "e", "quantity": 1}
    return parse_trade({"moves": [move] * moves})


def offer(**members: object) -> object:
    return parse_offer({"from": "a", "to": "b", "entity": "e", **members})


def entity_message(head_bytes: int) -> object:
    head = b'{"id":"' + b"e" * (head_bytes - 9) + b'"}'
    return decode_entity(b"\x20\0\0\0" + len(head).to_bytes(4, "little") + head)


def variant_nested(depth: int) -> object:
    """Arrays of one array each, and a nil in the innermost."""
    return decode(b"\x1c\0\0\0\x01\0\0\0" * depth + bytes(4))


def queue_of(jobs: int, size: int) -> None:
    queue = Queue()
    for _ in range(jobs):
        queue.put(Job(lambda txn: None, size=size))


def settings_frame(count: int) -> None:
    guard = FrameGuard()
    size = 6 * count
    guard.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + size.to_bytes(3, "big") + b"\x04\0" + bytes(4 + size))
    while guard.pull(0.0):
        pass


def control_frame(size: int) -> None:
    ControlStream(is_client=False).receive(bytes([codes.SETTINGS]) + (0x80000000 | size).to_bytes(4, "big"))


def header_frames(count: int) -> None:
    """A header block that comes in so many frames of a byte each."""
    guard = FrameGuard()
    frames = [b"\0\0\x01" + bytes([1 if n == 0 else 9, 0]) + b"\0\0\0\x01" + b"x" for n in range(count)]
    guard.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(frames))
    while guard.pull(0.0):
        pass


def header_bytes(size: int) -> None:
    """A header block of so many bytes, in frames of 16 KiB."""
    guard = FrameGuard()
    guard.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    for at in range(0, size, 16_384):
        length = min(16_384, size - at)
        guard.feed(length.to_bytes(3, "big") + bytes([9 if at else 1, 0]) + b"\0\0\0\x01" + bytes(length))
    while guard.pull(0.0):
        pass


def sessions(count: int) -> None:
    wire: Any = SimpleNamespace(sessions=0)
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(session_on(wire))
    assert wire.sessions == 0


def json_body(size: int) -> object:
    return asyncio.run(call_with(b'{"a":"' + b"x" * (size - 8) + b'"}').json())


def pages_written(count: int) -> object:
    frames = [mvstore.encode_write(b"x"), *[mvstore.encode_write(b"x")] * (count - 1), mvstore.COMPLETE]
    return asyncio.run(_written(call_with(b"".join(frames))))


def call_with(body: bytes) -> Call:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        raise AssertionError("nothing is answered")

    return Call({"type": "http", "headers": []}, receive, send)


def keys(count: int) -> object:
    made: list[Any] = [SimpleNamespace(kid=f"k{n}", thumbprint=f"t{n}") for n in range(count)]
    return by_kid(made, "keys")


def source_of_hops(hops: int) -> object:
    told = {"home": True, "via": [], "epoch": 1, "durable": None, "records": 0, "stale_ms": 0}
    return read_source(decode_control(encode_control("source", hops=hops, **told)))


def layout(**more: object) -> object:
    return parse({"fields": [{"name": "a", "type": "u8", "offset": 0}], **more})


def layout_of(size: int) -> object:
    """A document of so many bytes of JSON, by a list of labels that is long enough."""
    fields = [{"name": f"f{n}", "type": "u8", "offset": n, "unit": "m" * 60} for n in range(120)]
    document: dict[str, Any] = {"fields": fields, "name": ""}
    while len(json.dumps(document)) > size:
        fields.pop()
    missing = size - len(json.dumps(document))
    for field in fields:
        field["name"] = str(field["name"]) + "x" * min(missing, 50)
        missing -= min(missing, 50)
    assert len(json.dumps(document)) == size
    return parse(document)


def written(rows: int, size: int) -> None:
    """A clip of so many rows and bytes so far."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        with path.open("wb") as file:
            file.truncate(size)
        _check_bounds(path, rows)


def edge_body(size: int) -> object:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bytes(size), "more_body": False}

    scope: dict[str, Any] = {"type": "http", "headers": [], "method": "POST"}
    return asyncio.run(_body(Request(scope, receive), scope))


def fragments(count: int) -> None:
    """A message in so many masked frames without content."""
    collector = Collector(1_000, ByteBudget())
    for n in range(count):
        collector.feed(bytes([(2 if n == 0 else 0) | (0x80 if n == count - 1 else 0), 0x80]) + bytes(4))
        got = collector.pull(0.0, 1)
    assert isinstance(got, ReceivedMessage)


def in_line(count: int, peer: Callable[[int], str]) -> None:
    """So many wait for a turn while the only one is taken."""

    async def wait() -> None:
        budget = AnswerBudget(works_of(1))

        async def one(name: str) -> None:
            async with budget.turn(name):
                raise AssertionError("there was no turn to take")

        async with budget.turn(peer(0)):
            tasks = [asyncio.ensure_future(one(peer(n + 1))) for n in range(count)]
            try:
                await asyncio.sleep(0)
                for task in tasks:
                    if task.done():
                        task.result()
                assert budget.waiting == count
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(wait())


class Holding:
    """A peer whose connection has so many bytes of answers that are not acknowledged."""

    def __init__(self, size: int) -> None:
        many = dict.fromkeys(range(limits.H3_UNSENT_FEW_STREAMS + 1))
        streams = SimpleNamespace(by_number=many, unsent_total=lambda: size)
        self.quic = SimpleNamespace(streams=streams)
        self.sessions = 1


def unsent(own: int, of_all: int) -> None:
    peer: Any = Holding(own)
    others: Any = [peer, Holding(of_all - own)]
    held = Unsent()
    held.add(of_all)
    held.check(peer, others, 0.0)


def samples(count: int) -> None:
    tracks = Tracks(io.BytesIO())
    # As many as it takes would be minutes.
    tracks._samples = count - 1
    tracks._count()


def overlays(count: int) -> None:
    """So many namespaces, each over the one before."""
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore.open(folder, auto_create=True)
        blocking = store.blocking()
        try:
            blocking.create_namespace("w0")
            for n in range(1, count):
                below = Namespace(f"w{n - 1}")
                info = blocking.namespace_info(below.key)
                base = OverlayBase(info.ns_id, blocking.stat(below).version)
                blocking.create_namespace(f"w{n}", base)
        finally:
            asyncio.run(store.aclose())


class Image:
    """A database file in memory, as :class:`Walker` reads one."""

    page_size = 65_536

    def __init__(self, image: bytes) -> None:
        self.image = memoryview(image)
        self.pages = len(image) // self.page_size

    def page(self, number: int) -> bytes:
        return bytes(self.image[(number - 1) * self.page_size : number * self.page_size])


def salvaged(size: int) -> None:
    """A row whose payload, five bytes of head and a blob, has so many bytes, read back from SQLite's own pages."""
    connection = apsw.Connection(":memory:")
    connection.execute(f"PRAGMA page_size = {Image.page_size}; CREATE TABLE t (b)")
    connection.execute("INSERT INTO t VALUES (zeroblob(?))", (size - 5,))
    image = Image(connection.serialize("main"))
    connection.close()
    lost: list[str] = []
    rows = list(Walker(image, image.pages, lambda page, why: lost.append(why)).rows(2, TABLE))
    if lost:
        raise ValueError(lost[0])
    assert [len(row.values[0]) for row in rows] == [size - 5]


ROWS: dict[str, Take] = {
    "FOLLOW_CHARS_MAX": lambda n: parse_live_query("follow=" + "e" * n),
    "FOCUS_KEYS_MAX": lambda n: parse_weights([(key, 1.0) for key in range(n)]),
    "WEIGHT_MAX": lambda n: parse_weights([(1, float(n))]),
    "GRANT_PATTERNS_MAX": lambda n: Scope.of({"sub": ["w"] * n}),
    "PATTERN_CHARS_MAX": lambda n: Scope.of({"sub": ["w" * n]}),
    "GRANT_RPS_MAX": lambda n: Scope.of({"rps": n}),
    "GRANT_SESSIONS_MAX": lambda n: Scope.of({"sessions": n}),
    "ENTITY_ID_BYTES_MAX": lambda n: check_name("e" * n, "entity id"),
    "ENTITY_TAGS_MAX": lambda n: check_tags(f"t{k}" for k in range(n)),
    "ENTITY_HEAD_BYTES_MAX": entity_message,
    "TRADE_MOVES_MAX": trade,
    "TRANSFER_ENTITIES_MAX": lambda n: offer(entities=[f"e{k}" for k in range(n)]),
    "TRANSFER_EXPIRES_MS_MAX": lambda n: offer(expires_ms=n),
    "VARIANT_DEPTH_MAX": variant_nested,
    "MARK_NAME_CHARS_MAX": lambda n: _mark_name("m" * n),
    "MARK_DATA_BYTES_MAX": lambda n: _mark_data({"name": "m", "data": "x" * (n - 2)}),
    "EDGE_PEERS_MAX": lambda n: check_peers(Settings(peers=tuple(f"https://g{k}:1" for k in range(n)))),
    "EDGE_HOPS_MAX": source_of_hops,
    "NODE_CHARS_MAX": lambda n: check_node("https://" + "h" * (n - 8)),
    "CLIENT_TOKEN_CHARS_MAX": lambda n: _checked("t" * n),
    "REPLAY_SPEED_MAX": lambda n: _speed(str(n)),
    "RING_S_MAX": lambda n: Retention("ring", n),
    "STORE_ADDRESSES_MAX": lambda n: _urls(",".join(f"http://s{k}:1" for k in range(n))),
    "STORE_NAMESPACE_KEY_BYTES_MAX": lambda n: check_key("k" * n),
    "STORE_LOCK_OWNER_BYTES_MAX": lambda n: _owner({"owner": "o" * n}),
    "STORE_PAGE_BYTES_MAX": lambda n: (_page(bytes(n)), inline_page(n)),
    "STORE_COMMIT_NAMESPACES_MAX": lambda n: CommitReader().receive(commit_head(n)),
    "STORE_COMMIT_PAGES_MAX": commit_of,
    "STORE_COMMIT_INLINE_PAGES_MAX": inline_pages,
    "STORE_QUEUE_JOBS_MAX": lambda n: queue_of(n, 1),
    "STORE_QUEUE_BYTES_MAX": lambda n: queue_of(1, n),
    "STORE_JSON_BYTES_MAX": json_body,
    "STORE_WRITE_PAGES_MAX": pages_written,
    "AUTH_KEYS_MAX": keys,
    "LAYOUT_BYTES_MAX": layout_of,
    "LAYOUT_NAME_CHARS_MAX": lambda n: layout(name="n" * n),
    "JSON_DIGITS_MAX": lambda n: strictjson.loads("1" * n),
    "SESSIONS_PER_CONNECTION_MAX": sessions,
    "HTTP_HEADER_BYTES_MAX": header_bytes,
    "H2_BLOCK_FRAMES_MAX": header_frames,
    "H2_SETTINGS_MAX": settings_frame,
    "H3_CONTROL_FRAME_BYTES_MAX": control_frame,
    "ANSWERS_WAITING_MAX": lambda n: in_line(n, lambda k: f"peer{k}"),
    "ANSWERS_WAITING_PER_PEER_MAX": lambda n: in_line(n, lambda k: "peer"),
    "CLIP_ROWS_MAX": lambda n: written(n, 0),
    "CLIP_BYTES_MAX": lambda n: written(0, n),
    "DEMO_GATEWAYS_MAX": lambda n: check("--gateways", n, 1, limits.DEMO_GATEWAYS_MAX),
    "EDGE_ANSWER_BYTES_MAX": edge_body,
    "GLTF_SAMPLES_MAX": samples,
    "H3_UNSENT_BYTES_MAX": lambda n: unsent(n, n),
    "H3_UNSENT_ALL_BYTES_MAX": lambda n: unsent(limits.H3_UNSENT_BYTES_MAX, n),
    "ANSWER_PIECE_BYTES": lambda n: unsent(n, limits.H3_UNSENT_ALL_BYTES_MAX + 1),
    "SALVAGE_PAYLOAD_BYTES_MAX": salvaged,
    "STORE_FRAME_BYTES_MAX": lambda n: _framed(bytes(n + mvstore.PREFIX_BYTES)),
    "STORE_OVERLAY_DEPTH_MAX": overlays,
    "TOKEN_NAME_CHARS_MAX": lambda n: _name({"sub": "s" * n}, "sub"),
    "TOP_GATEWAYS_MAX": lambda n: checked_urls([f"https://g{k}" for k in range(n)]),
    "WEBSOCKET_FRAGMENTS_MAX": fragments,
}
"""Of bounds that are asked of one call: the call."""
CODES = {
    "H2_SETTINGS_MAX": "settings",
    "H2_BLOCK_FRAMES_MAX": "header_block",
    "HTTP_HEADER_BYTES_MAX": "header_block",
    "H3_CONTROL_FRAME_BYTES_MAX": "a control frame",
    "ANSWERS_WAITING_MAX": "come back in a second",
    "ANSWERS_WAITING_PER_PEER_MAX": "more than its share",
    "ANSWER_PIECE_BYTES": f"{limits.ANSWER_PIECE_BYTES + 1} of them on this connection",
    "CLIP_BYTES_MAX": f"{limits.CLIP_BYTES_MAX // limits.MIB} MiB",
}
"""What a refusal says in the place of the bound's value: a protocol's own error has no room for it, a line is told as full, and
megabytes are said as such. A connection that holds one piece of an answer is not turned away for what the others hold: it is told
what it holds itself."""
ELSEWHERE: dict[str, tuple[str, ...]] = {
    "ARCHIVE_MANIFEST_BYTES_MAX": (
        "tests/recordings/test_archives.py::test_a_manifest_of_exactly_the_bound_is_read_and_a_larger_one_refused",
    ),
    "FOREIGN_NAMED_MAX": (
        "tests/store/test_foreign_schema.py::test_so_many_of_what_runs_by_itself_are_named_and_the_rest_counted",
    ),
    "FRAME_CHAIN_KEYS_MAX": (
        "tests/wire/test_framecodec.py::test_a_row_that_leans_on_too_many_keys_is_refused_with_the_bound",
    ),
    "LAYOUT_ANSWER_BYTES_MAX": (
        "tests/http/test_worldjson.py::test_values_of_exactly_the_bound_are_told_and_a_byte_more_is_refused",
    ),
    "UDP_TOKENS_MAX": (
        "tests/runtime/test_bounds.py::test_so_many_publishers_register_by_udp_and_one_more_is_refused",
    ),
    "VFS_ATTEMPTS_MAX": (
        "tests/store/test_vfs_embedded.py::test_a_transaction_that_loses_each_time_is_given_up_at_the_bound",
    ),
    "ACTIVATED_SOCKETS_MAX": (
        "tests/runtime/test_activation.py::test_more_sockets_than_a_gateway_has_doors_are_refused_with_the_bound",
    ),
    "AUTH_FAILURES_PER_ADDRESS_PER_S": (
        "tests/access/test_doors.py::test_bad_tokens_of_one_address_are_bounded_and_good_ones_known_before_still_count",
    ),
    "CLIENT_HTTP_BODY_BYTES_MAX": (
        "tests/client/test_http.py::test_an_answer_of_exactly_the_bound_is_read_and_a_byte_more_is_refused",
    ),
    "ENTITY_WRITES_WAITING_BYTES_MAX": (
        "tests/entities/test_writes_waiting.py::test_so_many_writes_wait_and_one_more_or_a_byte_more_is_refused",
    ),
    "ENTITY_WRITES_WAITING_MAX": (
        "tests/entities/test_writes_waiting.py::test_so_many_writes_wait_and_one_more_or_a_byte_more_is_refused",
    ),
    "FILMS_MAX": ("tests/cli/test_film.py::test_a_film_beyond_the_bound_and_one_too_many_are_refused",),
    "SESSION_OPEN_S_MAX": (
        "tests/runtime/test_tunnel.py::test_a_worker_that_does_not_answer_in_time_is_given_up_and_one_that_does_is_not",
    ),
    "AUTH_JWKS_BYTES_MAX": (
        "tests/access/test_keysource.py::test_a_set_that_cannot_be_had_changes_nothing_and_is_told",
    ),
    "CONTROL_MESSAGE_BYTES_MAX": (
        "tests/wire/test_controls.py::test_a_control_message_of_exactly_the_bound_is_taken_and_one_byte_more_is_not",
        "tests/wire/test_frames_streams.py::test_a_control_message_of_exactly_the_bound_is_taken_and_one_byte_more_is_refused",
    ),
    "DELAY_S_MAX": (
        "tests/core/test_delay.py::test_a_visitor_sees_the_older_of_what_is_asked_and_allowed",
        "tests/core/test_delay.py::test_whatever_the_query_says_what_is_read_from_it_is_never_sooner",
    ),
    "DELAY_S_MIN": ("tests/core/test_delay.py::test_a_visitor_sees_the_older_of_what_is_asked_and_allowed",),
    "FRAME_BODY_BYTES_MAX": (
        "tests/wire/test_framecodec.py::test_a_row_that_claims_more_than_the_bound_is_refused_by_its_claim",
        "tests/wire/test_framecodec.py::test_a_row_of_exactly_the_bound_unpacks",
    ),
    "GLTF_RECORDS_MAX": ("tests/recordings/test_exports.py::test_a_scene_of_too_many_records_is_refused",),
    "H3_HEADER_BYTES_MAX": (
        "tests/quic/test_h3_messages.py::test_broken_bytes_break_a_rule_and_nothing_else_and_what_is_held_is_bounded",
        "tests/quic/test_h3_messages.py::test_a_field_section_beyond_the_bound_is_refused_before_it_has_come",
    ),
    "LATE_RUN_MAX": ("tests/core/test_world.py::test_a_publisher_whose_every_message_is_late_is_told_so",),
    "LAYOUT_FIELDS_MAX": ("tests/wire/test_layouts.py::test_bounds_are_taken_to_the_last",),
    "MARKS_BYTES_MAX": (
        "tests/runtime/test_bounds.py::test_the_data_of_all_marks_of_a_world_is_bounded_and_a_mark_may_be_moved",
    ),
    "QUIC_CONNECTION_IDS_MAX": (
        "tests/quic/test_parts_fuzz.py::test_a_peers_connection_ids_stay_few_and_each_is_given_back_once",
    ),
    "QUIC_IDS_RETIRING_MAX": (
        "tests/quic/test_parts_fuzz.py::test_a_peers_connection_ids_stay_few_and_each_is_given_back_once",
    ),
    "RECORDS_PER_FRAME_MAX": ("tests/wire/test_frames.py::test_too_many_records_are_refused",),
    "REPLAY_COMMANDS_WAITING_MAX": (
        "tests/client/test_hostile_viewer.py::test_nothing_that_a_viewer_sends_raises_or_grows",
    ),
    "REVOKED_MAX": ("tests/access/test_revoked.py::test_at_the_bound_nothing_is_forgotten",),
    "SESSION_STREAMS_MAX": (
        "tests/core/test_inbox.py::test_so_many_streams_may_be_inside_a_message_and_one_more_is_refused_by_name",
        "tests/core/test_session_fuzz.py::test_unfinished_streams_are_bounded_in_number_and_bytes",
    ),
    "SESSION_STREAM_BYTES_MAX": (
        "tests/core/test_inbox.py::test_so_many_bytes_may_wait_in_unfinished_messages_and_one_more_is_refused_by_name",
        "tests/core/test_session_fuzz.py::test_unfinished_streams_are_bounded_in_number_and_bytes",
    ),
    "TOKEN_CHARS_MAX": ("tests/access/test_tokens.py::test_a_token_at_the_bound_of_its_length_counts",),
    "TOKEN_LIFETIME_S_MAX": (
        "tests/access/test_revoked.py::test_a_name_stays_revoked_for_as_long_as_any_token_lives",
    ),
    "WT_SESSIONS_PER_CONNECTION_MAX": (
        "tests/quic/test_webtransport.py::test_sessions_beyond_the_bound_are_refused",
    ),
}
"""Bounds on what takes more than one call: the tests that have them."""


@pytest.mark.parametrize("bound", ROWS)
def test_at_the_bound_it_passes_and_one_over_is_refused_by_the_bound_s_value(bound: str) -> None:
    value, take = int(getattr(limits, bound)), ROWS[bound]
    take(value)
    with pytest.raises((GatewayError, Flood, H3Error, Breach, ValueError)) as refused:
        take(value + 1)
    said = str(refused.value)
    shown = {str(value), f"{value:,}", f"{value:g}", CODES.get(bound, str(value))}
    assert any(re.search(rf"(?<![\d,.]){re.escape(one)}(?!\d|,\d)", said) for one in shown), said


@cache
def refusing() -> dict[str, str]:
    """The bounds of ``limits.py`` by which the source refuses: an *if* that names one raises. And where."""
    names = set(re.findall(r"^([A-Z][A-Z0-9_]+): Final", (ROOT / "gateway/limits.py").read_text(), re.M))
    names -= {"KIB", "MIB", "GIB"}
    found = dict[str, str]()
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.If) and any(isinstance(one, ast.Raise) for one in node.body):
                parts = [node.test, *(one for one in node.body if isinstance(one, ast.Raise))]
                for name in {word for part in parts for word in words(part)} & names:
                    found.setdefault(name, f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def words(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Name):
            yield one.id
        elif isinstance(one, ast.Attribute):
            yield one.attr


def test_no_bound_refuses_without_a_test_of_its_own() -> None:
    found = refusing()
    assert len(found) > 70, "none was found: does the pattern still match the code?"
    untested = {name: where for name, where in found.items() if name not in ROWS.keys() | ELSEWHERE.keys()}
    assert not untested, "give each a row in ROWS, or name its test in ELSEWHERE"


@pytest.mark.parametrize("bound", ELSEWHERE)
def test_the_test_that_is_named_for_a_bound_is_there_and_speaks_of_it(bound: str) -> None:
    assert hasattr(limits, bound)
    for named in ELSEWHERE[bound]:
        path, _, test = named.partition("::")
        found = [
            node
            for node in ast.parse((ROOT / path).read_text()).body
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == test
        ]
        assert found, f"{path} has no {test}"
        assert bound in set(words(found[0])) | {text(one) for one in ast.walk(found[0])}, (
            f"{test} is not of it"
        )


def text(node: ast.AST) -> str:
    """A name in quotes, as a test sets it for itself."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
