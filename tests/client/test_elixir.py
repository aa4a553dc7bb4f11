"""The Elixir drop-in speaks the same protocol: a real Elixir reads what we write, and the other way round."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from gateway.core.state import WorldState
from gateway.wire import Frame, Record, decode_frame, encode_control, encode_frame

ELIXIR = shutil.which("elixir")
if ELIXIR is None and os.environ.get("CI") == "true":
    raise RuntimeError("CI must have Elixir: tests/system-deps.sh installs it")
pytestmark = pytest.mark.skipif(ELIXIR is None, reason="Elixir is not installed: its drop-in is not tried")

SCRIPT = """
Code.require_file(System.get_env("DROP_IN"))
hex = &Base.encode16(&1, case: :lower)
for line <- IO.stream(:stdio, :line) do
  case line |> String.trim() |> Base.decode16!(case: :lower) |> MVGateway.decode() do
    {:frame, frame} ->
      old = %{epoch: 1, tick: 1, part: 0, parts: 1, keyframe: false, records: [{9, "old", 1}]}
      state = struct(MVGateway.State) |> MVGateway.apply_frame(old) |> MVGateway.apply_frame(frame)
      rows = for {key, data} <- Enum.sort(state.records), do: "#{key}:#{hex.(data)}"
      records = for {key, data, _} <- frame.records, do: {key, data}
      again = MVGateway.encode(frame.epoch, frame.tick, records, keyframe: frame.keyframe)
      IO.puts(Enum.join(rows, ",") <> " " <> hex.(again))
    {:control, json} -> IO.puts("control " <> json)
    :error -> IO.puts("error")
  end
end
"""


def run(messages: list[bytes], tmp_path: Path) -> list[str]:
    script = tmp_path / "try.exs"
    script.write_text(SCRIPT)
    drop_in = resources.files("gateway") / "clients" / "elixir" / "mvgateway.ex"
    done = subprocess.run(
        ["elixir", str(script)],
        input="".join(m.hex() + "\n" for m in messages),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DROP_IN": str(drop_in), "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_elixir_reads_frames_as_we_do_and_writes_what_we_read(tmp_path: Path) -> None:
    frames = [
        Frame(1, 5, [Record(1, b"abc"), Record(2, None)], sent_at=7),
        Frame(1, 6, [Record(3, b"\x03\0\0\0" + b"x" * 8)], stride=12),
        Frame(2, 7, [Record(9, b"new", 4)], repair=True, ticks=True),
        Frame(1, 8, [Record(1, b"k")], keyframe=True),
    ]
    answers = run([encode_frame(f) for f in frames], tmp_path)
    for frame, answer in zip(frames, answers, strict=True):
        rows, again = answer.split(" ")
        state = WorldState()
        state.apply(Frame(1, 1, [Record(9, b"old")]))
        state.apply(frame)
        alive = {int(k): bytes.fromhex(v) for k, v in (row.split(":") for row in rows.split(","))}
        assert alive == {key: data for key, (_, data) in state.records.items() if data is not None}
        assert [(r.key, r.data) for r in decode_frame(bytes.fromhex(again)).records] == [
            (r.key, r.data) for r in frame.records
        ]


def test_elixir_names_what_it_cannot_read(tmp_path: Path) -> None:
    whole = encode_frame(Frame(1, 5, [Record(1, b"abc")]))
    answers = run([encode_control("bye", reason="done"), whole[:-1], b"\x01", b"\x07", b""], tmp_path)
    assert answers[0].startswith("control {")
    assert answers[1:] == ["error"] * 4
