"""Control messages come from one table: its page, the gateway, the client and the kits say nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.ports import CloseCode, LiveOptions
from gateway.core.world import World, WorldSettings
from gateway.errors import MalformedMessage
from gateway.limits import CONTROL_MESSAGE_BYTES_MAX
from gateway.wire import Control, Frame, Record, decode_control, encode_control, encode_frame
from gateway.wire.controls import CONTROL_TYPES, SESSION
from tests.core.links import RecordingLink

ROOT = Path(__file__).parents[2]
KITS = {
    "web/session.js": r'(?m)(?:said\.type === "|^    )(\w+)(?:"|: (?:said|\(said, link\)) =>)',
    "godot/mvgateway.gd": r'control\(\{"type": "(\w+)"',
    "elixir/mvgateway.ex": r'"type":"(\w+)"',
}


def page_rows() -> dict[str, tuple[str, str, str]]:
    """docs/FRAMES.md, "Control messages": type -> (from, to, the whole section's words on it)."""
    page = (ROOT / "docs/FRAMES.md").read_text()
    section = page.partition("## Control messages")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) → (\w+) \| (.*) \|$", section, flags=re.M)
    beside = section.rpartition("|\n")[2]
    return {kind: (said_by, to, text + beside) for kind, said_by, to, text in rows}


def test_the_page_has_each_type_of_a_session_in_the_order_of_the_table() -> None:
    assert list(page_rows()) == list(SESSION)


@pytest.mark.parametrize("kind", SESSION)
def test_the_page_says_of_each_who_says_it_to_whom_and_with_which_fields(kind: str) -> None:
    said_by, to, text = page_rows()[kind]
    row = SESSION[kind]
    assert (said_by, to) == (row.said_by, row.to)
    coded = " ".join(re.findall(r"`([^`]+)`", text)) + (" that" if "also that" in text else "")
    words = set(re.findall(r"\w+", coded))
    assert {*row.fields, *row.more} <= words


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "encode_control" and node.args:
                kind = node.args[0]
                if isinstance(kind, ast.Constant):
                    yield str(path.relative_to(ROOT)), kind.value, node


def test_nothing_is_said_that_is_not_in_the_table() -> None:
    found = list(calls())
    assert len(found) > 20
    for path, kind, call in found:
        assert kind in CONTROL_TYPES, f"{path} says {kind}"
        row = CONTROL_TYPES[kind]
        named = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
        known = {*row.fields, *row.more}
        if known:
            assert named <= known, f"{path} says {kind} with {named - known}"


def test_nobody_listens_for_what_nobody_says() -> None:
    heard = set[str]()
    for room in ("client", "core"):
        for path in (ROOT / "gateway" / room).rglob("*.py"):
            heard.update(re.findall(r'\b(?:control|what|decoded)\.type == "(\w+)"', path.read_text()))
    assert len(heard) > 8
    assert heard <= CONTROL_TYPES.keys()


@pytest.mark.parametrize("kit", KITS)
def test_the_kits_know_no_other_types(kit: str) -> None:
    named = set(re.findall(KITS[kit], (ROOT / "gateway/clients" / kit).read_text()))
    assert named
    assert named <= CONTROL_TYPES.keys()


def fits(control: Control) -> None:
    row, has = SESSION[control.type], set(control.fields)
    assert set(row.fields) <= has <= {*row.fields, *row.more}, control


def test_what_a_world_says_in_the_course_of_its_life_has_the_fields_of_the_table() -> None:
    world = World("arena", WorldSettings(records_max=1), mono=0.0, now_us=0)
    publisher, reader, third = RecordingLink(), RecordingLink(), RecordingLink()
    session = world.attach_publisher(publisher, 1, 0.0, fresh="ab" * 16)
    session.receive(encode_control("lags"), 0.0)
    world.attach_subscriber(reader, LiveOptions(), 0.0).receive(encode_control("focus", keys=[1]), 0.0)
    for tick in range(1, 4):
        frame = Frame(1, tick, [Record(1, b"x"), Record(2, b"y")])
        session.receive(encode_frame(frame), tick / 10)
        batch = world.take_batch(tick / 10)
        assert batch is not None
        world.committed(batch, tick / 10)
    world.attach_subscriber(third, LiveOptions(), 1.0)
    bad = world.attach_subscriber(RecordingLink(), LiveOptions(), 1.0)
    bad.on_message(b"\x10[]", 1.0)
    world.moved_away("https://b.example:4433")
    world.shutdown("draining", 100)
    told = [*publisher.controls, *reader.controls, *third.controls, *bad.link.controls]  # type: ignore[attr-defined]
    told += [decode_control(message) for _, message in publisher.sent]
    for control in told:
        fits(control)
    kinds = {control.type for control in told}
    assert kinds == {"welcome", "durable", "resync", "moved", "notice", "bye", "error"}
    assert reader.closed == CloseCode.HELD_ELSEWHERE


def test_a_control_message_of_exactly_the_bound_is_taken_and_one_byte_more_is_not() -> None:
    room = CONTROL_MESSAGE_BYTES_MAX - len(encode_control("bye", reason=""))
    longest = encode_control("bye", reason="x" * room)
    assert len(decode_control(longest)["reason"]) == room
    with pytest.raises(MalformedMessage, match=f"over the bound of {CONTROL_MESSAGE_BYTES_MAX}"):
        decode_control(encode_control("bye", reason="x" * (room + 1)))
