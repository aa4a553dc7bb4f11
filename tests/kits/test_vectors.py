"""The vectors that all kits share are what the Python codec makes, and it reads them as they say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.client.token import expiry_s, margin_s
from gateway.core.state import WorldState
from gateway.errors import MalformedMessage
from gateway.wire import Control, Frame, Record, decode_frame, encode_frame
from gateway.wire.entities.messages import decode_entity
from tests.kits.abilities import proves
from tests.kits.vectors.make import HERE, checked, files, frame_of


def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((HERE / f"{name}.json").read_text())
    assert found
    return found


def test_the_files_are_what_the_script_makes() -> None:
    for name, text in files().items():
        assert (HERE / name).read_text() == text, f"{name}: run python -m tests.kits.vectors.make"


@pytest.mark.parametrize("case", vectors("frames"), ids=lambda case: case["name"])
def test_frames_are_read_as_the_vectors_say(case: dict[str, Any]) -> None:
    found = checked(bytes.fromhex(case["message"]))
    assert (frame_of(found) if isinstance(found, Frame) else None) == case["frame"]


@proves("python", "vectors")
@pytest.mark.parametrize("case", vectors("made"), ids=lambda case: case["name"])
def test_frames_are_made_as_the_vectors_say(case: dict[str, Any]) -> None:
    records = [Record(key, None if data is None else bytes.fromhex(data)) for key, data, _ in case["records"]]
    frame = Frame(case["epoch"], case["tick"], records, keyframe=case["keyframe"], sent_at=case["sent_at"])
    assert encode_frame(frame).hex() == case["message"]


@proves("python", "vectors")
def test_conversations_lead_to_the_states_that_the_vectors_say() -> None:
    for case in vectors("states"):
        state = WorldState()
        for message, changed, epoch, tick in case["steps"]:
            try:
                applied = state.apply(decode_frame(bytes.fromhex(message)))
                assert sorted({*applied.changed, *applied.dropped}) == changed
            except MalformedMessage:
                assert changed == []
            assert (state.epoch, state.tick) == (epoch, tick)
        assert {str(key): data.hex() for key, data in state.snapshot().items()} == case["records"]


def test_control_messages_tokens_and_entities_are_read_as_the_vectors_say() -> None:
    for case in vectors("controls"):
        found = checked(bytes.fromhex(case["message"]))
        told = {"type": found.type, **found.fields} if isinstance(found, Control) else None
        assert told == case["fields"], case["name"]
    for case in vectors("tokens"):
        if "token" in case:
            assert expiry_s(case["token"]) == case["expires"]
        else:
            assert margin_s(case["left_s"]) == case["margin_s"]
    for case in vectors("entities"):
        assert decode_entity(bytes.fromhex(case["message"])) == (case["head"], bytes.fromhex(case["state"]))
