"""Every bound stands in gateway/limits.py, with its reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_architecture import GATEWAY, ROOT, modules

BOUND_NAME = re.compile(
    r"_?[A-Z0-9_]*(?:^|_)(?:MAX|MIN|LEAST|S|MS|US|BYTES|KIB|MIB|CHARS|ROWS|PAGES|FRAMES|PACKETS|TICKS|DAYS|KEPT|TRIES|PASSES"
    r"|DEPTH|SHARE|THREADS|BURST|SHOWN|AT_ONCE|SIZE)"
)
"""What a bound of the house is called: its unit, or what it bounds, stands last."""
NO_BOUNDS: dict[str, tuple[str, set[str]]] = {
    "wire/xrgrid.py": ("fields of the format", {"PACKET_BYTES", "VELOCITY_UM_A_TICK_MAX"}),
    "cli/_motion.py": ("how long a stride takes", {"_STEP_S"}),
    "core/newest.py": ("fields of a frame message", {"RECORD_BYTES_LEAST", "_TICK_BYTES"}),
    "core/options.py": ("the largest u32", {"U32_MAX"}),
    "core/state.py": ("fields of a frame message", {"RECORD_HEAD_BYTES"}),
    "http/dataplane.py": ("the largest u64", {"_U64_MAX"}),
    "http/queries.py": ("the largest u32", {"U32_MAX"}),
    "http/tcp/clienthello.py": ("RFC 8446 section 5.2", {"_RECORD_BYTES_MAX"}),
    "http/tcp/frameguard.py": (
        "RFC 9113 sections 4.1, 6.5.1, 6.5.2 and 6.8",
        {"_FRAME_BYTES_MAX", "_GOAWAY_BYTES", "_HEAD_BYTES", "_SETTING_BYTES"},
    ),
    "http/tcp/websocket.py": ("RFC 6455 section 5.5", {"_CLOSE_REASON_BYTES_MAX"}),
    "quic/connection/beginning.py": ("RFC 9000 section 14.1", {"PACKET_BYTES_LEAST"}),
    "quic/connection/congestion.py": (
        "how the window grows and shrinks, read beside the algorithm",
        {
            *("GROWTH_PACKETS", "INITIAL_PACKETS", "LEAST_PACKETS", "LOSSES_MIN", "MIN_RTT_S"),
            *("QUEUE_BACK_OFF_LEAST", "QUEUE_SHARE", "QUEUE_S_MIN", "REGAIN_KEPT", "ROUND_S_MIN"),
            *("ACK_PACKETS", "TURN_S", "TURN_SHARE"),
        },
    ),
    "quic/connection/rivals.py": (
        "when a queue is others', read beside the algorithm",
        {"CLAIM_S", "VAIN_SHARE", "VAIN_S"},
    ),
    "quic/connection/datagrams.py": ("fields of a frame", {"HEAD_BYTES_MAX"}),
    "quic/connection/deadlines.py": ("what a probe has room for", {"PROBE_BYTES"}),
    "quic/connection/framing.py": ("fields of a packet", {"HEAD_BYTES_MAX"}),
    "quic/connection/ids.py": (
        "RFC 9000 sections 10.3, 18.2 and 19.15",
        {"CID_BYTES", "COUNT_LEAST", "ISSUE_FRAME_BYTES", "RETIRE_FRAME_BYTES", "TOKEN_BYTES"},
    ),
    "quic/connection/intake.py": (
        "the shortest packets, and when to acknowledge",
        {"PACKET_BYTES_MIN", "RESET_BYTES_MIN", "STREAM_ACK_S"},
    ),
    "quic/connection/mixed.py": (
        "fields of packets, and RFC 9002 section 6.2.2",
        {"CLOSE_REASON_BYTES_MAX", "CONTENT_BYTES_MIN", "INITIAL_PTO_S"},
    ),
    "quic/connection/pacing.py": (
        "how packets are spread, read beside the algorithm",
        {"BURST_PACKETS", "TURN_S"},
    ),
    "quic/connection/packets.py": (
        "fields of a packet",
        {
            "AEAD_TAG_BYTES",
            "DATAGRAM_OVERHEAD_BYTES",
            "FRAME_HEAD_BYTES",
            "HEAD_BYTES",
            "PACKET_NUMBER_BYTES",
        },
    ),
    "quic/connection/received.py": ("max_ack_delay, RFC 9000 section 13.2.1", {"ACK_DELAY_S"}),
    "quic/connection/recovery.py": (
        "RFC 9002 section 6.1.2 and 6.2.2",
        {"GRANULARITY_S", "INITIAL_RTT_S", "RTT_S_MIN"},
    ),
    "quic/connection/streamsout.py": (
        "what a frame is worth being begun for",
        {"CONTROL_BYTES_MIN", "FRAME_BYTES_MIN"},
    ),
    "quic/connection/tlsrest.py": ("room for one TLS message of ours", {"ANSWER_BYTES"}),
    "quic/endpoint.py": ("a timer's grain", {"PTO_S_MIN", "TIMER_SLACK_S"}),
    "quic/h3/capsules.py": ("a field of the closing capsule", {"_CODE_BYTES"}),
    "quic/server.py": ("RFC 9000 section 10.3", {"RESET_BYTES", "RESET_BYTES_MIN"}),
    "quic/tls.py": ("what RFC 9221 section 3 recommends to announce", {"DATAGRAM_FRAME_BYTES_MAX"}),
    "quic/udp/batch.py": (
        "the kernel's structures, and when its clock is believed",
        {"CLOCK_SET_S", "CONTROL_BYTES", "NAME_BYTES_MAX", "SEGMENT_BYTES", "STAMP_BYTES", "WAITED_S_MAX"},
    ),
    "quic/udp/coalesce.py": (
        "when it is worth to wait for more, read beside the rule",
        {"ANSWERED_SHARE", "WINDOW_S"},
    ),
    "quic/udp/race.py": ("RFC 8305 section 5", {"HEAD_START_S"}),
    "quic/udp/sockets.py": ("the largest UDP payloads", {"RECEIVE_BYTES", "UDP_BYTES_MAX"}),
    "runtime/memory.py": ("glibc's mallopt", {"_M_ARENA_MAX"}),
    "runtime/udp.py": ("a field of the packet", {"TOKEN_BYTES"}),
    "store/embedded/numbers.py": ("what fits the stored form", {"NUMBER_MAX"}),
    "store/embedded/snapshot.py": ("SQLite's formats", {"_SHM_BYTES", "_WAL_HEADER_BYTES"}),
    "store/embedded/versions.py": ("what fits the stored form", {"ORDER_MAX"}),
    "store/pages.py": ("what mvSQLite's databases have", {"PAGE_SIZE"}),
    "store/salvage/gathering.py": ("SQLite's page, BLAKE3's hash", {"HASH_BYTES", "PAGE_SIZE"}),
    "store/world/reading.py": ("SQLite's largest integer", {"ORDER_MAX"}),
    "wire/entities/trades.py": ("the largest whole number of every JSON reader", {"QUANTITY_MAX"}),
    "wire/entities/transfers.py": ("128 bits in hexadecimal", {"_SECRET_CHARS"}),
    "wire/framechain.py": ("fields of a frame message", {"MESSAGE_HEAD_BYTES"}),
    "wire/frames.py": (
        "fields of a frame message",
        {"FLAG_TICKS", "HEADER_BYTES", "STRIDE_MIN", "U16_MAX", "U32_MAX"},
    ),
    "wire/mvstore/commits.py": ("mvstore's protocol", {"IDEMPOTENCY_KEY_BYTES"}),
    "wire/mvstore/framing.py": ("mvstore's protocol", {"PREFIX_BYTES"}),
    "wire/mvstore/shape.py": ("mvstore's protocol", {"HASH_BYTES", "U32_MAX"}),
    "wire/streams.py": ("a length's field", {"_PREFIX_BYTES"}),
    "wire/variant/layout.py": (
        "Godot's types",
        {"INT32_MAX", "INT32_MIN", "INT64_MAX", "INT64_MIN", "UINT64_MAX", "VARIANT_MAX"},
    ),
}
"""Numbers outside of limits.py that are named like bounds and are none, with what makes them so."""
ALONE = {"Semaphore", "ThreadPoolExecutor"}
"""One of these is a lock, or an order."""
AWAITED = {
    "timeout",
    "wait_for",
    "sleep",
    "lru_cache",
    "settimeout",
    "deque",
    "Semaphore",
    "ThreadPoolExecutor",
}
"""Whose numbers are bounds, too, without a name."""


def is_number(node: ast.expr | None) -> bool:
    """A literal, or arithmetic of literals and names."""
    if isinstance(node, ast.BinOp):
        return is_number(node.left) and is_number(node.right)
    if isinstance(node, ast.UnaryOp):
        return is_number(node.operand)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and not isinstance(node.value, bool)
    return isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).rpartition(".")[2].isupper()


def bare_bounds(path: Path) -> Iterator[str]:
    """Names of the module that are bounds by their names, whose value stands there."""
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and BOUND_NAME.fullmatch(target.id) and is_number(node.value):
                yield target.id


def bare_numbers(path: Path) -> Iterator[str]:
    """Calls that wait, or keep, for a number which stands there without a name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in AWAITED:
            given = [*node.args, *(word.value for word in node.keywords)]
            numbers = [one.value for one in given if isinstance(one, ast.Constant) and is_number(one)]
            name = ast.unparse(node.func).rpartition(".")[2]
            if any(number and not (number == 1 and name in ALONE) for number in numbers):
                yield f"line {node.lineno}: {ast.unparse(node)}"


OUR_OWN = [path for _, path in modules() if path.name != "limits.py"]


def test_every_bound_stands_in_limits() -> None:
    found = {
        name: set(bare_bounds(path)) for path in OUR_OWN if (name := path.relative_to(GATEWAY).as_posix())
    }
    listed = {name: names for name, (_, names) in NO_BOUNDS.items()}
    assert {name: names for name, names in found.items() if names} == listed, (
        "move it to gateway/limits.py with its reason, or say in NO_BOUNDS what makes it no bound"
    )
    assert all(reason for reason, _ in NO_BOUNDS.values())


def test_nothing_waits_or_is_kept_for_a_number_without_a_name() -> None:
    found = [f"{path.relative_to(ROOT)}, {one}" for path in OUR_OWN for one in bare_numbers(path)]
    assert not found, "give the number a name and a reason in gateway/limits.py"


@pytest.mark.parametrize(
    ("source", "is_bound"),
    [
        ("ITEMS_MAX = 10", True),
        ("_WAIT_S: Final = 0.5", True),
        ("BODY_BYTES = 4 * limits.KIB", True),
        ("THREADS = 6", True),
        ("ITEMS_MAX = limits.ITEMS_MAX + 1", True),
        ("TYPE_FRAME = 1", False),
        ("SHOWN_S = frozenset({1})", False),
        ("items_max = 10", False),
    ],
)
def test_what_counts_as_a_bound(tmp_path: Path, source: str, is_bound: bool) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert bool(list(bare_bounds(path))) is is_bound
