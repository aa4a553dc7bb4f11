"""Makes the files beside it, from the Python codec: what each kit's own runner decodes and makes.

    python -m tests.kits.vectors.make         writes them
    python -m tests.kits.vectors.make --check says whether they are what would be written

``frames.json``: messages and what is in them, and some that are malformed. ``made.json``: what to make, and the bytes.
``states.json``: conversations, whatever their order, and after each message the keys that changed; at the end the
state. ``controls.json``: control messages. ``refusals.json``: how a session ended, and whether another one is to be
tried. ``tokens.json``: tokens and when they end. ``entities.json``: entity messages.
"""

from __future__ import annotations

import base64
import json
import random
import sys
from pathlib import Path
from typing import Any

from gateway.client.problems import error_for
from gateway.client.token import expiry_s, margin_s
from gateway.core.state import WorldState
from gateway.errors import MalformedMessage
from gateway.http.budget import Crowded
from gateway.wire import Frame, Record, decode_frame, decode_message, encode_control, encode_frame, split
from gateway.wire.entities.messages import encode_entity

HERE = Path(__file__).parent
KNOWN_ERRORS = (Crowded,)
"""Found by its code because its module is imported."""
SENT_AT = 1_764_000_000_123_456


def frame_of(frame: Frame) -> dict[str, Any]:
    records = [
        [record.key, None if record.data is None else record.data.hex(), record.tick]
        for record in frame.records
    ]
    names = ("epoch", "tick", "part", "parts", "stride", "sent_at", "keyframe", "repair", "ticks")
    return {**{name: getattr(frame, name) for name in names}, "records": records}


def keyed(key: int, text: bytes) -> bytes:
    return key.to_bytes(4, "little") + text


def good_frames() -> dict[str, Frame]:
    return {
        "nothing changed": Frame(1, 1, [], sent_at=SENT_AT),
        "one record": Frame(1, 2, [Record(7, b"seven")], sent_at=SENT_AT),
        "an empty record": Frame(1, 3, [Record(7, b"")], sent_at=SENT_AT),
        "a removal": Frame(1, 4, [Record(7, None), Record(8, b"x")], sent_at=SENT_AT),
        "the highest key, epoch and tick": Frame(
            0xFFFFFFFF, 0xFFFFFFFF, [Record(0xFFFFFFFF, b"last"), Record(0, b"first")], sent_at=2**63 - 1
        ),
        "a stride": Frame(2, 5, [Record(k, keyed(k, b"abcd")) for k in (1, 9, 4)], stride=8, sent_at=SENT_AT),
        "a stride with ticks": Frame(
            2, 9, [Record(k, keyed(k, b"ab"), 3 + k) for k in (1, 2)], stride=6, ticks=True, sent_at=SENT_AT
        ),
        "a repair": Frame(
            2,
            10,
            [Record(1, b"a", 4), Record(2, None, 10), Record(3, b"of an earlier epoch", 0)],
            repair=True,
            ticks=True,
            sent_at=SENT_AT,
        ),
        "a gateway's keyframe": Frame(
            2, 11, [Record(1, b"a", 4), Record(2, b"b", 11)], keyframe=True, ticks=True, sent_at=SENT_AT
        ),
    }


def frames() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, frame in good_frames().items():
        message = encode_frame(frame)
        found.append({"name": name, "message": message.hex(), "frame": frame_of(decode_frame(message))})
    parts = split(
        Frame(3, 1, [Record(k, b"%d" % k * 9) for k in range(40)], keyframe=True, sent_at=SENT_AT), 200
    )
    for part, message in enumerate(parts):
        what = f"part {part} of a keyframe"
        found.append({"name": what, "message": message.hex(), "frame": frame_of(decode_frame(message))})
    return found + [
        {"name": name, "message": data.hex(), "frame": None} for name, data in malformed().items()
    ]


def malformed() -> dict[str, bytes]:
    one = encode_frame(Frame(1, 2, [Record(7, b"seven")], sent_at=SENT_AT))
    stride = bytearray(one[:24])
    stride[6] = 7
    small = bytearray(one[:24])
    small[6] = 3
    broken = {
        "a header cut short": one[:23],
        "a record cut short": one[:-1],
        "a record's head cut short": one[:30],
        "a length beyond the end": one[:28] + (2**31).to_bytes(4, "little") + one[32:],
        "bytes after the last record": one + b"\0",
        "no whole number of strides": bytes(stride) + b"\0" * 8,
        "a stride below a key": bytes(small) + b"\0" * 3,
    }
    for name, data in broken.items():
        try:
            decode_frame(data)
        except MalformedMessage:
            continue
        raise AssertionError(f"{name} is decoded")
    return broken


def made() -> list[dict[str, Any]]:
    """A kit that publishes makes these; it may leave out strides and ticks."""
    wanted = [
        ("a frame", Frame(3, 9, [Record(5, b"\1\2"), Record(6, None)], sent_at=SENT_AT)),
        ("an empty frame", Frame(3, 10, [], sent_at=SENT_AT)),
        (
            "a keyframe",
            Frame(3, 11, [Record(k, b"k%d" % k) for k in range(3)], keyframe=True, sent_at=SENT_AT),
        ),
    ]
    found = []
    for name, frame in wanted:
        message = encode_frame(frame)
        found.append({"name": name, **frame_of(decode_frame(message)), "message": message.hex()})
    return found


def story(seed: int) -> list[bytes]:
    """A publisher's messages and a gateway's, doubled, lost and in no order."""
    chance = random.Random(seed)
    messages: list[bytes] = []
    epoch, tick = 1, 0
    for _ in range(chance.randint(12, 30)):
        tick += chance.randint(1, 3)
        if chance.random() < 0.08:
            epoch, tick = epoch + 1, 1
        keys = chance.sample(range(12), chance.randint(0, 6))
        kind = chance.random()
        if kind < 0.2:
            whole = [Record(k, b"k%d" % tick) for k in keys]
            messages += split(
                Frame(epoch, tick, whole, keyframe=True, sent_at=SENT_AT), chance.choice((40, 60, 1_000))
            )
        elif kind < 0.35:
            own = [Record(k, chance.choice((None, b"g%d" % tick)), chance.randint(0, tick)) for k in keys]
            flags: dict[str, Any] = {"ticks": True, chance.choice(("keyframe", "repair")): True}
            messages.append(encode_frame(Frame(epoch, tick, own, sent_at=SENT_AT, **flags)))
        elif kind < 0.55:
            rows = [Record(k, keyed(k, b"s%03d" % (tick % 1_000))) for k in keys]
            messages.append(encode_frame(Frame(epoch, tick, rows, stride=8, sent_at=SENT_AT)))
        else:
            rows = [Record(k, chance.choice((None, b"", b"v%d" % tick))) for k in keys]
            if rows and chance.random() < 0.2:
                rows.append(Record(rows[0].key, b"the second of its key"))
            messages.append(encode_frame(Frame(epoch, tick, rows, sent_at=SENT_AT)))
        if chance.random() < 0.05:
            messages.append(messages[-1][:-1] if len(messages[-1]) > 24 else b"\1")
    if seed % 3:
        for _ in range(len(messages) // 2):
            one, other = chance.randrange(len(messages)), chance.randrange(len(messages))
            messages[one], messages[other] = messages[other], messages[one]
    if seed % 2:
        messages += chance.sample(messages, len(messages) // 4)
    return [message for message in messages if chance.random() > (seed % 4) * 0.08]


def states() -> list[dict[str, Any]]:
    found = []
    for seed in range(40):
        state, steps = WorldState(), []
        for message in story(seed):
            try:
                applied = state.apply(decode_frame(message))
                changed = sorted({*applied.changed, *applied.dropped})
            except MalformedMessage:
                changed = []
            steps.append([message.hex(), changed, state.epoch, state.tick])
        records = {str(key): data.hex() for key, data in sorted(state.snapshot().items())}
        found.append({"name": f"story {seed}", "steps": steps, "records": records})
    return found


def controls() -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [
        {"type": "welcome", "world": "arena", "role": "publish", "epoch": 3, "tick": 9, "durable": {"epoch": 3, "tick": 7},
         "max_datagram": 1_200, "server_time": SENT_AT, "resume": "0" * 32},
        {"type": "durable", "epoch": 3, "tick": 4_294_967_295},
        {"type": "resync", "reason": "seek"},
        {"type": "moved", "world": "forest", "url": "/v1/worlds/forest/live", "entity": "player:ü"},
        {"type": "notice", "code": "world_full", "message": "…", "bound": "records", "limit": 10, "refused": 2},
        {"type": "granted", "expires": 1_764_000_000},
        {"type": "a type of the future", "field": [1, None, {"a": "b"}]},
    ]  # fmt: skip
    made_of = [
        {"name": told["type"], "message": encode_control(**told).hex(), "fields": told} for told in messages
    ]
    return [
        *made_of,
        *[
            {"name": f"no control message: {bad!r}", "message": (b"\x10" + bad).hex(), "fields": None}
            for bad in (b"", b"[]", b"{", b"7", b'{"type"')
        ],
    ]


FINAL_BYES = {"taken_over": "taken_over", "expired": "grant_ended", "revoked": "grant_ended"}


def refusals() -> list[dict[str, Any]]:
    """``again``: whether a kit that has one token, a text, is to try again by itself; ``code``: what it tells if not.
    ``message`` null: only the close code was seen."""
    found: list[dict[str, Any]] = []
    codes = ("publisher_present", "unknown_world", "bad_input", "bad_name", "unauthorized", "grant_refused", "forbidden",
             "malformed", "overloaded", "too_many", "crowded", "store_unavailable", "shutting_down", "world_deleted",
             "unprocessable", "not_found")  # fmt: skip
    for code in codes:
        again = error_for(code, "why").retry
        message = encode_control("error", code=code, message="why").hex()
        found.append(
            {"name": f"error {code}", "message": message, "close": 4001, "again": again, "code": code}
        )
    for reason in ("taken_over", "expired", "revoked", "draining", "shutting_down"):
        message = encode_control("bye", reason=reason, reconnect_after_ms=10).hex()
        final = FINAL_BYES.get(reason)
        found.append(
            {
                "name": f"bye {reason}",
                "message": message,
                "close": 4002,
                "again": final is None,
                "code": final or "",
            }
        )
    closes = {4_001: "", 4_002: "", 4_003: "taken_over", 4_004: "publisher_present", 4_005: "malformed", 4_006: "",
              4_008: "grant_ended", 4_009: "unauthorized", -1: "", 1_000: "", 1_006: "", 1_013: ""}  # fmt: skip
    for close, code in closes.items():
        found.append(
            {"name": f"close {close}", "message": None, "close": close, "again": code == "", "code": code}
        )
    return found


def tokens() -> list[dict[str, Any]]:
    def token(claims: Any) -> str:
        text = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return f"eyJhbGciOiJFZERTQSJ9.{text}.c2ln"

    texts = [token({"exp": 1_764_000_000, "mv": {"sub": ["*"]}}), token({"exp": 1_764_000_000.5, "sub": "ü?>~"}), token({}),
             token([]), token({"exp": "soon"}), "no token", "a.b", "a.!.c", ""]  # fmt: skip
    found: list[dict[str, Any]] = [{"token": text, "expires": expiry_s(text)} for text in texts]
    return [
        *found,
        *[{"left_s": left, "margin_s": margin_s(left)} for left in (-5.0, 0.0, 60.0, 1_200.0, 86_400.0)],
    ]


def entities() -> list[dict[str, Any]]:
    heads: list[tuple[dict[str, Any], bytes]] = [
        (
            {"op": "put", "id": "chest:7", "kind": "variant", "revision": 9, "tags": ["a", "ü"], "key": 7},
            b"\2\0\0\0\5\0\0\0",
        ),
        ({"op": "put", "id": "b", "kind": "bytes", "revision": 10, "quantity": 3}, b"\0\1\2"),
        ({"op": "delete", "id": "gone", "revision": 11, "moved_to": "forest"}, b""),
    ]
    return [
        {"head": head, "state": state.hex(), "message": encode_entity(head, state).hex()}
        for head, state in heads
    ]


def files() -> dict[str, str]:
    """Name -> text."""
    all_of = {"frames": frames(), "made": made(), "states": states(), "controls": controls(), "refusals": refusals(),
              "tokens": tokens(), "entities": entities()}  # fmt: skip
    texts = {}
    for name, cases in all_of.items():
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
        texts[f"{name}.json"] = f"[\n{lines}\n]\n"
    return texts


def checked(message: bytes) -> Any:
    """As the Python kit decodes it; None where it is malformed."""
    try:
        return decode_message(message)
    except MalformedMessage:
        return None


def main() -> int:
    stale = []
    for name, text in files().items():
        path = HERE / name
        if "--check" in sys.argv:
            stale += [name] if not path.exists() or path.read_text() != text else []
        else:
            path.write_text(text)
    print("\n".join(f"{name} is not what would be made" for name in stale) or "as they should be")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
