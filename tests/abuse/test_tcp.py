"""Attacks on the TCP doors, each by one client without credentials."""

from __future__ import annotations

import asyncio
import itertools
import resource
import time
import zlib

import httpx
import pytest

from gateway.limits import LOG_QUIET_S
from tests.abuse.attackers import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    WINDOW_UPDATE,
    connected,
    dial,
    h2_frame,
    h2_request,
    h2_settings,
    push,
    put_state,
    ws_close_code,
    ws_frame,
    ws_open,
)
from tests.abuse.conftest import LONG, Innocent, StartTarget, Target, attack_on, falls, given_back
from tests.patience import HANG_S

MIB = 2**20
LIVE = "/v1/worlds/held/live"
FLOOD_S = 30.0 if LONG else 3.0


@pytest.fixture
async def held(target: Target) -> Target:
    """The target, with a world to follow."""
    async with target.client() as client:
        (await client.put("/v1/worlds/held")).raise_for_status()
    return target


def plain(target: Target) -> int:
    return target.port("plain")


async def is_served(target: Target) -> bool:
    """Whether a new client gets an answer."""
    async with target.client(timeout=HANG_S) as client:
        return (await client.get("/healthz")).status_code == 200


async def test_one_endless_compressed_message_is_refused_at_its_first_frame(
    held: Target, innocent: Innocent
) -> None:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = squeezer.compress(bytes(64 * MIB)) + squeezer.flush(zlib.Z_SYNC_FLUSH)
    async with attack_on(held, innocent) as attack:
        offered = "Sec-WebSocket-Extensions: permessage-deflate"
        reader, writer = await ws_open(plain(held), LIVE, offered)
        writer.write(ws_frame(2, bomb, fin=False, rsv1=True))
        await push(writer, ws_frame(0, bomb, fin=False), 30)
        assert await ws_close_code(reader) == 1002
        writer.close()
    attack.check()


async def test_fragments_without_end_are_refused_at_the_bound_of_a_message(
    held: Target, innocent: Innocent
) -> None:
    async with attack_on(held, innocent) as attack:
        reader, writer = await ws_open(plain(held), LIVE)
        code = asyncio.ensure_future(ws_close_code(reader))
        writer.write(ws_frame(2, bytes(MIB), fin=False))
        await push(writer, ws_frame(0, bytes(MIB), fin=False), 1_500 if LONG else 100)
        assert await asyncio.wait_for(code, HANG_S) == 1009
        writer.close()
    attack.check()
    await given_back(held, attack)


async def test_a_message_of_empty_fragments_is_refused(held: Target) -> None:
    reader, writer = await ws_open(plain(held), LIVE)
    writer.write(ws_frame(2, b"", fin=False))
    await push(writer, ws_frame(0, b"", fin=False) * 100, 200)
    assert await ws_close_code(reader) == 1008
    writer.close()


async def test_many_unfinished_messages_share_one_budget(held: Target, innocent: Innocent) -> None:
    async with attack_on(held, innocent) as attack:
        sockets = [await ws_open(plain(held), LIVE) for _ in range(100 if LONG else 20)]
        for _, writer in sockets:
            await push(writer, ws_frame(2, bytes(15 * MIB), fin=False), 1)
        codes = [asyncio.ensure_future(ws_close_code(reader)) for reader, _ in sockets]
        done, pending = await asyncio.wait(codes, timeout=10)
        assert {task.result() for task in done} == {1013}
        assert len(pending) <= 3, "so many of them find room"
        for task in pending:
            task.cancel()
        for _, writer in sockets:
            writer.transport.abort()
    attack.check()
    await given_back(held, attack)


async def test_answers_that_a_shut_window_keeps_back_are_bounded(target: Target, innocent: Innocent) -> None:
    async with target.client() as client:
        await put_state(client, "big", 4 * 1_000_000)
        await client.get("/v1/worlds/big/frames/last")
    requests = b"".join(h2_request(1 + 2 * n, "/v1/worlds/big/frames/last") for n in range(250))
    before = await target.metric("mvgateway_tcp_connections")
    async with attack_on(target, innocent) as attack:
        shut = PREFACE + h2_settings({INITIAL_WINDOW_SIZE: 0}) + requests
        attackers = [connected(plain(target), shut) for _ in range(20 if LONG else 4)]
        pairs = [await one.__aenter__() for one in attackers]
        assert await is_served(target)
        await asyncio.sleep(5)
        for one in attackers:
            await one.__aexit__(None, None, None)
        assert pairs
    attack.check()
    await given_back(target, attack)
    await falls(target, "mvgateway_tcp_connections", before)


async def test_answers_in_an_untouched_first_window_are_bounded(target: Target) -> None:
    async with target.client() as client:
        await put_state(client, "big", 4 * 1_000_000)
        await client.get("/v1/worlds/big/frames/last")
    requests = b"".join(h2_request(1 + 2 * n, "/v1/worlds/big/frames/last") for n in range(250))
    async with attack_on(target) as attack:
        wide = h2_frame(WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big"))
        async with connected(plain(target), PREFACE + h2_settings() + wide + requests):
            assert await is_served(target)
            await asyncio.sleep(3)
    attack.check()
    await given_back(target, attack)


async def test_downloads_that_are_cut_off_give_everything_back(target: Target) -> None:
    async with target.client() as client:
        await put_state(client, "big", 5 * 1_000_000)
        await client.get("/v1/worlds/big/frames/last")
    open_before, files_before = await target.metric("mvgateway_tcp_connections"), target.descriptors()
    async with attack_on(target) as attack:
        for n in range(60 if LONG else 20):
            first = PREFACE + h2_settings() + h2_request(1, "/v1/worlds/big/frames/last")
            if n % 2:
                first = b"GET /v1/worlds/big/frames/last HTTP/1.1\r\nHost: localhost\r\n\r\n"
            async with connected(plain(target), first) as (reader, _):
                assert await reader.read(1_000)
    attack.check()
    await given_back(target, attack, lambda: target.descriptors() <= files_before + 2)
    await falls(target, "mvgateway_tcp_connections", open_before + 1)


async def test_short_connections_leave_at_once(target: Target, innocent: Innocent) -> None:
    files_before = target.descriptors()
    count = 4_092 if LONG else 600

    async def ask(n: int) -> None:
        async with connected(plain(target), b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") as (
            reader,
            writer,
        ):
            assert b" 200 " in await reader.readline()
            if n % 2:
                writer.write_eof()  # closed by the client, in order

    async with attack_on(target, innocent) as attack:
        for n in range(0, count, 20):
            await asyncio.gather(*(ask(n + k) for k in range(20)))
        assert await is_served(target)
    attack.check()
    await given_back(target, attack, lambda: target.descriptors() <= files_before + 4)


async def test_connections_without_a_byte_hold_no_door_and_running_out_of_descriptors_is_said(
    start_target: StartTarget,
) -> None:
    target = start_target()
    resource.prlimit(target.process.pid, resource.RLIMIT_NOFILE, (128, 128))
    attackers = [connected(port) for port in (plain(target), target.port("https")) for _ in range(143)]
    async with attack_on(target) as attack:
        for one in attackers:
            await one.__aenter__()
        assert await is_served(target)
        assert (await secure(target)).status_code == 200
        for one in attackers:
            await one.__aexit__(None, None, None)
        assert await is_served(target)
    attack.check()
    _, errors = target.terminate()
    said = [line for line in errors.splitlines() if "no connection can be accepted" in line]
    assert 1 <= len(said) <= 2 * (2 + attack.seconds // LOG_QUIET_S), "once a while at each door"
    assert "ulimit -n" in said[0]


async def secure(target: Target) -> httpx.Response:
    async with httpx.AsyncClient(verify=str(target.ca), timeout=HANG_S) as client:
        return await client.get(f"{target.url}/healthz")


async def test_connections_without_a_byte_end_by_themselves(target: Target) -> None:
    began = time.monotonic()
    async with connected(plain(target)) as (first, _), connected(target.port("https")) as (second, _):
        async with asyncio.timeout(HANG_S):
            ended = await asyncio.gather(first.read(), second.read(), return_exceptions=True)
        assert all(isinstance(end, ConnectionError) or end == b"" for end in ended)
        assert time.monotonic() - began > 5


def rapid_resets(count: int) -> bytes:
    return b"".join(
        h2_request(1 + 2 * n, "/healthz") + h2_frame(RST_STREAM, 0, 1 + 2 * n, bytes(4)) for n in range(count)
    )


FLOODS = {
    "ping": lambda: h2_frame(PING, 0, 0, b"12345678") * 2_000,
    "settings": lambda: h2_settings() * 2_000,
    "many_settings": lambda: h2_settings({n: n for n in range(100, 2_000)}) * 4,
    "rapid_reset": lambda: rapid_resets(1_000),
    "priority": lambda: h2_frame(PRIORITY, 0, 1, bytes([0, 0, 0, 0, 9])) * 2_000,
    "empty_data": lambda: (
        h2_request(1, "/v1/worlds/w/frames", method="POST", end=False) + h2_frame(DATA, 0, 1) * 2_000
    ),
    "continuation": lambda: h2_frame(HEADERS, 0, 1, b"") + h2_frame(CONTINUATION, 0, 1, b"") * 2_000,
    "endless_block": lambda: (
        h2_frame(HEADERS, 0, 1, b"")
        + h2_frame(CONTINUATION, 0, 1, (b"\x00\x01a\x7f\x81\x7f" + bytes(256)) * 60) * 100
    ),
    "window_update": lambda: h2_frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 2_000,
    "unknown_frames": lambda: h2_frame(0x77, 0, 0, b"?") * 2_000,
    "long_frame": lambda: h2_frame(DATA, 0, 1, bytes(1_000_000)),
    "acks": lambda: h2_frame(4, 1, 0) * 2_000,
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_of_frames_that_carry_nothing_ends_its_own_connection(
    target: Target, innocent: Innocent, flood: str
) -> None:
    data = PREFACE + h2_settings() + FLOODS[flood]()
    sent = 0
    async with attack_on(target, innocent) as attack:
        until = time.monotonic() + FLOOD_S
        while time.monotonic() < until:
            async with connected(plain(target)) as (reader, writer):
                sent += len(data) * await push(writer, data, 1)
                got = b""
                try:
                    async with asyncio.timeout(HANG_S):
                        while piece := await reader.read(65_536):
                            got = (got + piece)[-4_096:]
                except ConnectionError:
                    pass
                assert h2_frame(7, 0, 0)[3:9] in got, "the flood is told why it ends"
            await asyncio.sleep(0.1)
    attack.check()
    print(f"{flood}: {sent / 1e6:.1f} MB, {attack.cpu_s / attack.seconds:.0%} of a core")
    assert await is_served(target)


async def test_unfinished_bodies_share_one_budget_and_end_by_time(target: Target, innocent: Innocent) -> None:
    head = b"POST /v1/worlds/w/frames HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000000\r\n\r\n"
    body = (15_900_000).to_bytes(4, "little") + bytes(15_000_000)
    async with attack_on(target, innocent) as attack:
        attackers = [connected(plain(target), head) for _ in range(40)]
        pairs = [await one.__aenter__() for one in attackers]
        pushing = [asyncio.ensure_future(push(writer, body, 1)) for _, writer in pairs]
        answers = [asyncio.ensure_future(reader.readline()) for reader, _ in pairs]
        async with target.client() as client:
            await put_state(client, "small", 3_000)
        async with asyncio.timeout(HANG_S):
            for answer in itertools.islice(asyncio.as_completed(answers), 37):
                assert b" 503 " in await answer
        waiting = [task for task in answers if not task.done()]
        if LONG:
            slow, late = await asyncio.wait(waiting, timeout=120)
            assert not late
            statuses = [task.result().split()[1] for task in slow]
            assert set(statuses) <= {b"503", b"408"}, "no room for it, or it had its time"
            assert b"408" in statuses, "whoever found room does not keep it"
        for task in (*waiting, *pushing):
            task.cancel()
        for one in attackers:
            await one.__aexit__(None, None, None)
    attack.check()
    await given_back(target, attack)


async def test_one_connection_cannot_hold_every_world(target: Target) -> None:
    async with target.client() as client:
        for n in range(256):
            (await client.put(f"/v1/worlds/w{n}")).raise_for_status()
    requests = b"".join(h2_request(1 + 2 * n, f"/v1/worlds/w{n}/live") for n in range(256))
    wide = h2_frame(WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big"))
    async with connected(plain(target), PREFACE + h2_settings({4: 2**30}) + wide + requests) as (reader, _):
        assert await reader.read(1_000)
        await asyncio.sleep(2)
        async with target.client() as client:
            assert (await client.put("/v1/worlds/another")).status_code == 201


async def test_one_address_cannot_hold_all_connections(start_target: StartTarget) -> None:
    target = start_target("--tcp-connections-max", "60", "--connections-per-address-max", "40")
    request = b"GET /v1/worlds/w/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with target.client() as client:
        (await client.put("/v1/worlds/w")).raise_for_status()
    attackers = [connected(plain(target), request) for _ in range(100)]
    for one in attackers:
        await one.__aenter__()
    async with connected(plain(target), b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") as (reader, _):
        try:
            refused = await asyncio.wait_for(reader.read(), HANG_S)
        except ConnectionError:
            refused = b""
        assert refused == b"", "the address has its share"
    reader, writer = await dial(plain(target), local_addr=("127.0.0.2", 0))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    told = await asyncio.wait_for(reader.read(), HANG_S)
    assert b'mvgateway_refusals_total{bound="connections_per_address_max"}' in told
    writer.close()
    for one in attackers:
        await one.__aexit__(None, None, None)


async def test_two_lengths_of_one_body_are_refused(target: Target) -> None:
    request = (
        b"POST /v1/worlds/w/frames HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    async with connected(plain(target), request) as (reader, _):
        answer = await asyncio.wait_for(reader.read(), HANG_S)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1, "what follows is not taken for a request"


@pytest.mark.parametrize("door", ["plain", "https"])
async def test_an_upgrade_to_h2c_is_passed_over(target: Target, door: str) -> None:
    import ssl

    context = ssl.create_default_context(cafile=str(target.ca)) if door == "https" else None
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port(door), ssl=context)
    writer.write(
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    assert (await asyncio.wait_for(reader.readline(), HANG_S)).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_images_of_another_sites_page_are_not_served(target: Target) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    async with target.client(headers=headers) as client:
        for path in ("/healthz", "/v1/worlds", "/v1/worlds/w/frames/last", "/v1/worlds/w/verify"):
            assert (await client.get(path)).status_code == 403


async def test_a_slow_head_ends_by_time(target: Target) -> None:
    async with connected(plain(target), b"GET / HTTP/1.1\r\nHost: localhost\r\n") as (reader, writer):

        async def drip() -> None:
            while True:
                await asyncio.sleep(1)
                writer.write(b"X: y\r\n")

        dripping = asyncio.ensure_future(drip())
        answer = await asyncio.wait_for(reader.read(), HANG_S)
        dripping.cancel()
    assert b" 408 " in answer, "while it would go on for ever"


async def test_a_peer_that_makes_the_gateway_answer_and_reads_nothing_is_not_read_from(
    target: Target,
) -> None:
    async with attack_on(target) as attack, connected(plain(target)) as (reader, writer):
        # No StreamReader stops reading from its kernel by a public way.
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(PREFACE + h2_settings())
        ask = b"".join(h2_request(1 + 2 * n, "/" + "x" * 3_000) for n in range(200))
        try:
            async with asyncio.timeout(5):  # (its own time)
                await push(writer, ask, 1)
        except TimeoutError:
            pass
    attack.check()
    assert await is_served(target)


TINY_CHUNKS = (
    b"POST /v1/worlds/c/frames HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"1\r\n\0\r\n" * 1_000,
)
TINY_DATA = (
    PREFACE + h2_settings() + h2_request(1, "/v1/worlds/d/frames", method="POST", end=False),
    h2_frame(DATA, 0, 1, b"\x01") * 1_000,
)
CROWDS = {
    "empty lines": (b"", b"\r\n" * 8_000),
    "tiny chunks": TINY_CHUNKS,
    "tiny data": TINY_DATA,
    "requests": (b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_000),
}
"""What each connection begins with, and what it then sends without end."""
CROWD = 128
TURN_S_MAX = 0.1
"""How late the loop may come to a timer while all of them send, in the mean: some ticks, on a machine with much other work."""


@pytest.mark.parametrize("what", CROWDS)
async def test_connections_that_all_have_much_to_parse_leave_the_loop_to_others(
    target: Target, innocent: Innocent, what: str
) -> None:
    async def lateness() -> tuple[float, float]:
        name = "mvgateway_event_loop_lag_seconds"
        return await target.metric(f"{name}_sum"), await target.metric(f"{name}_count")

    async def send(pair: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        reader, writer = pair
        reading = asyncio.ensure_future(reader.read(-1))
        try:
            async with asyncio.timeout(FLOOD_S):
                while not writer.transport.is_closing():
                    writer.write(CROWDS[what][1])
                    await writer.drain()
        except (TimeoutError, ConnectionError):
            pass
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    summed, times = await lateness()
    async with attack_on(target, innocent) as attack:
        crowd = [connected(plain(target), CROWDS[what][0]) for _ in range(CROWD)]
        pairs = [await one.__aenter__() for one in crowd]
        await asyncio.gather(*map(send, pairs))
        late = await lateness()
        for one in crowd:
            await one.__aexit__(None, None, None)
    attack.check()
    mean_s = (late[0] - summed) / (late[1] - times)
    print(f"{what}: the loop was {mean_s * 1e3:.1f} ms late")
    assert mean_s < TURN_S_MAX
    await given_back(target, attack)


async def test_answers_taken_byte_by_byte_end_their_own_connection(target: Target) -> None:
    """A window for one byte more with each byte that came: a frame for a frame, each way."""
    async with target.client() as client:
        await put_state(client, "crumbs", 400_000)
    ask = PREFACE + h2_settings({INITIAL_WINDOW_SIZE: 0}) + h2_request(1, "/v1/worlds/crumbs/frames/last")
    crumbs = 0
    async with attack_on(target) as attack, connected(plain(target), ask) as (reader, writer):
        writer.write(h2_frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1") * 50)
        async with asyncio.timeout(HANG_S):
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == GOAWAY:
                    break
                if head[3] == DATA:
                    crumbs += 1
                    writer.write(h2_frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"))
    assert payload[4:8] == (11).to_bytes(4, "big"), "ENHANCE_YOUR_CALM (RFC 9113 section 7)"
    assert crumbs < 5_000
    attack.check()
    assert await target.metric("mvgateway_refusals_total", bound="http2_control_frames") > 0


async def test_who_leaves_behind_a_stream_with_requests_sent_ahead_is_missed_in_time(held: Target) -> None:
    """Its end comes after bytes that nobody reads."""
    begun = held.descriptors()
    ask = b"GET /v1/worlds/held/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with held.client() as client:
        for _ in range(10):
            reader, writer = await dial(plain(held))
            writer.write(ask)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ask * 3_000)
            writer.close()
        assert held.descriptors() > begun
        async with asyncio.timeout(HANG_S):
            while (await client.get("/v1/worlds/held")).json()["readers"]:  # noqa: ASYNC110 (no event tells it)
                await asyncio.sleep(0.1)
    assert await held.metric("mvgateway_refusals_total", bound="pipelined") == 10


NO_JSON = {
    "NaN": b"NaN",
    "overflow": b"1e999",
    "half of a pair": b'"\\ud800"',
    "deep": b"[" * 900 + b"]" * 900,
    "digits": b"9" * 5_000,
}


@pytest.mark.parametrize("what", NO_JSON)
async def test_what_is_no_json_is_refused_at_every_door_that_takes_json(held: Target, what: str) -> None:
    value = NO_JSON[what]
    doors = {
        "/v1/worlds/held/marks": b'{"name": "m", "data": %b}',
        "/v1/worlds/held/branch": b'{"name": %b}',
        "/v1/worlds/held/leases": b'{"owner": %b}',
        "/v1/transfers": b'{"entity": "e", "from": "held", "to": %b}',
        "/v1/inventories:trade": b'{"moves": [{"from": %b}]}',
    }
    async with held.client() as client:
        for path, body in doors.items():
            answer = await client.post(path, content=body % value)
            assert answer.status_code == 400, (path, answer.text)
            assert "is not JSON" in answer.json()["detail"]
        answer = await client.put("/v1/worlds/held", content=b'{"ring_s": %b}' % value)
        assert answer.status_code == 400
        operations = b'{"operations": [{"op": "put", "id": "e", "kind": "json", "tags": [%b]}]}' % value
        answer = await client.post("/v1/worlds/held/entities:batch", content=operations)
        assert answer.status_code in (400, 422)
    _, log = await asyncio.to_thread(held.terminate)
    assert "Traceback" not in log
