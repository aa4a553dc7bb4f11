"""What other engines drop in, run in those engines where they are installed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

import gateway
from gateway.client import Publisher
from gateway.core.state import WorldState
from gateway.wire import Frame, Record, decode_frame, encode_frame, prefix, split
from gateway.wire.parity import encode_parity
from tests.client.conftest import Served
from tests.kits.abilities import proves
from tests.patience import HANG_S

FOLDER = Path(gateway.__file__).parent / "clients"


def program(name: str) -> str:
    """Its path; skips where it is not installed, which CI does not allow."""
    found = shutil.which(name)
    if found is None:
        why = f"{name} is not installed: the drop-in for it is not tried (tests/system-deps.sh installs it)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found


async def output_of(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode == 0, err.decode()
    return out.decode()


def conversation() -> tuple[list[bytes], dict[str, list[int]]]:
    """Messages in a bad order, and the state that they add up to."""
    frames = [
        Frame(1, 1, [Record(1, b"a"), Record(2, b"b")]),
        Frame(1, 3, [Record(1, None), Record(3, b"c" * 300)]),
        Frame(1, 2, [Record(1, b"late"), Record(2, b"newer")]),
        Frame(1, 5, [Record(9, b"k", 4), Record(2, b"newer", 2)], keyframe=True, ticks=True),
        Frame(1, 4, [Record(7, b"gone with the keyframe")]),
        Frame(1, 6, [Record(4, (4).to_bytes(4, "little") + b"with stride")], stride=15),
        Frame(2, 1, [Record(2, b"next epoch")], repair=True),
    ]
    messages = [encode_frame(frame) for frame in frames]
    messages += split(Frame(2, 2, [Record(k, b"%d" % k) for k in range(20, 60)], keyframe=True), 200)
    state = WorldState()
    for message in messages:
        state.apply(decode_frame(message))
    return messages, {str(key): list(data) for key, data in sorted(state.snapshot().items())}


async def test_javascript_keeps_the_same_state_as_python(tmp_path: Path) -> None:
    node = program("node")
    messages, expected = conversation()
    script = tmp_path / "try.mjs"
    script.write_text(
        f"""
        import {{ decode, encode, WorldState }} from {json.dumps((FOLDER / "web" / "mvgateway.js").as_uri())};
        const state = new WorldState();
        for (const hex of {json.dumps([message.hex() for message in messages])})
          state.apply(decode(Uint8Array.from(Buffer.from(hex, "hex"))));
        const records = Object.fromEntries([...state.keys()].map(key => [key, [...state.get(key)]]));
        const sent = encode(3, 9, new Map([[5, new Uint8Array([1, 2])], [6, null]]), {{ keyframe: true }});
        console.log(JSON.stringify({{ records, sent: Buffer.from(sent).toString("hex") }}));
        """
    )
    told = json.loads(await output_of(node, str(script)))
    assert dict(sorted(told["records"].items())) == dict(sorted(expected.items()))
    frame = decode_frame(bytes.fromhex(told["sent"]))
    assert (frame.epoch, frame.tick, frame.keyframe) == (3, 9, True)
    assert frame.records == [Record(5, b"\x01\x02", 9), Record(6, None, 9)]


@proves("web", "redundancy")
async def test_javascript_rebuilds_any_lost_datagram_of_a_frame(tmp_path: Path) -> None:
    node = program("node")
    frame = Frame(2, 3, [Record(k, b"%d" % k * (k % 9 + 1)) for k in range(60)], sent_at=2**63 + 5)
    messages = split(frame, 300)
    parity = encode_parity(messages)
    assert parity is not None
    script = tmp_path / "try.mjs"
    script.write_text(
        f"""
        import {{ Rebuilder }} from {json.dumps((FOLDER / "web" / "mvgateway.js").as_uri())};
        const bytes = hex => Uint8Array.from(Buffer.from(hex, "hex"));
        const messages = {json.dumps([message.hex() for message in messages])}.map(bytes);
        const parity = bytes({json.dumps(parity.hex())});
        const made = messages.map((lost, at) => {{
          const all = [...messages.slice(0, at), parity, ...messages.slice(at + 1), lost, parity];
          const rebuilder = new Rebuilder();
          return all.map(m => rebuilder.take(m)).filter(m => m).map(m => Buffer.from(m).toString("hex"));
        }});
        const whole = new Rebuilder();
        const none = [...messages, parity].map(m => whole.take(m)).filter(m => m).length;
        console.log(JSON.stringify({{ made, none }}));
        """
    )
    told = json.loads(await output_of(node, str(script)))
    assert told["made"] == [[message.hex()] for message in messages]
    assert told["none"] == 0


async def test_elixir_keeps_the_same_state_as_python_and_fetches_the_last_frame(
    served: Served, tmp_path: Path
) -> None:
    elixir = program("elixir")
    messages, expected = conversation()
    (tmp_path / "messages").write_bytes(b"".join(map(prefix, messages)))
    async with Publisher(served.url, "arena", ca=served.ca) as publisher:
        publisher.send({7: b"seven", 8: b"x" * 2000})
        await publisher.wait_durable()
    script = tmp_path / "try.exs"
    script.write_text(
        f"""
        {{messages, ""}} = MVGateway.split(File.read!({json.dumps(str(tmp_path / "messages"))}))
        state = Enum.reduce(messages, %MVGateway.State{{}}, fn m, s -> {{:frame, f}} = MVGateway.decode(m); MVGateway.apply_frame(s, f) end)
        for {{key, data}} <- Enum.sort(state.records), do: IO.puts("#{{key}} #{{Base.encode16(data)}}")
        IO.puts("sent " <> Base.encode16(MVGateway.encode(3, 9, [{{5, <<1, 2>>}}, {{6, nil}}])))
        :error = MVGateway.decode(<<1, 2, 3>>)
        {{:ok, last}} = MVGateway.fetch_last("https://localhost:{served.gateway.port}", "arena", cacertfile: ~c"{served.ca}")
        IO.puts("last #{{last.epoch}} #{{last.tick}} #{{last.records[7]}} #{{byte_size(last.records[8])}}")
        """
    )
    lines = (await output_of(elixir, "-r", str(FOLDER / "elixir" / "mvgateway.ex"), str(script))).split("\n")
    records = dict(line.split() for line in lines if line[:1].isdigit())
    assert {key: list(bytes.fromhex(data)) for key, data in records.items()} == expected
    sent = next(line for line in lines if line.startswith("sent"))
    assert decode_frame(bytes.fromhex(sent.split()[1])).records == [
        Record(5, b"\x01\x02", 9),
        Record(6, None, 9),
    ]
    assert "last 1 1 seven 2000" in lines
