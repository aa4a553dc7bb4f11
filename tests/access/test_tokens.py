"""Tokens: which count, and which rule the others break."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.grants import GrantRefused, Need
from gateway.errors import Unauthorized
from gateway.limits import TOKEN_CHARS_MAX, TOKEN_LEEWAY_S
from gateway.runtime.access.jwks import load_keys, public_key
from gateway.runtime.access.signing import SigningKey
from gateway.runtime.access.tokens import verify

from .conftest import Maker

KEY = SigningKey.generate("EdDSA", "k")
EC_KEY = SigningKey.generate("ES256", "ec")
KEYS = {key.kid: public_key(key.public_jwk(), "test") for key in (KEY, EC_KEY)}
NOW = 1_800_000_000.0
MV = {"sub": ["plaza-*"]}
GOOD: dict[str, Any] = {"exp": NOW + 60, "mv": MV, "sub": "ann", "jti": "1"}


def b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def rule_of(token: str, audience: str = "") -> str:
    with pytest.raises((Unauthorized, GrantRefused)) as caught:
        verify(token, KEYS, audience, NOW)
    error = caught.value
    assert "plaza" not in str(error.problem())
    for part in token.split("."):
        assert len(part) < 8 or part not in str(error.problem())
    return str(error.facts["rule"])


def with_header(**header: Any) -> str:
    signed = KEY.sign(GOOD).split(".")
    return ".".join((b64(header), signed[1], signed[2]))


def hs256_by_the_public_key() -> str:
    head = f"{b64({'alg': 'HS256', 'kid': 'k'})}.{b64(GOOD)}"
    secret = base64.urlsafe_b64decode(KEY.public_jwk()["x"] + "==")
    return f"{head}.{b64(hmac.new(secret, head.encode(), hashlib.sha256).digest())}"


@pytest.mark.parametrize("key", [KEY, EC_KEY], ids=lambda key: key.alg)
def test_a_sound_token_is_the_grant_that_it_says(key: SigningKey) -> None:
    grant = verify(key.sign(GOOD), KEYS, "", NOW)
    assert (grant.subject, grant.jti, grant.kid, grant.expires_s) == ("ann", "1", key.kid, NOW + 60)
    assert grant.allows(Need("sub", ("plaza-1",)))
    assert not grant.allows(Need("pub", ("plaza-1",)))


FAULTS: dict[str, tuple[str, str]] = {
    "empty": ("", "malformed"),
    "no dots": ("abc", "malformed"),
    "two parts": ("a.b", "malformed"),
    "five parts (a JWE)": ("a.b.c.d.e", "malformed"),
    "not base64": ("!!.??.!!", "malformed"),
    "not ASCII": ("é.é.é", "malformed"),
    "deep JSON": (f"{b64(b'[' * 2000)}.e30.AA", "malformed"),
    "header no object": (f"{b64([1])}.e30.AA", "malformed"),
    "64 KB": (KEY.sign({**GOOD, "x": "y" * 65_536}), "too_long"),
    "alg none": (f"{b64({'alg': 'none', 'kid': 'k'})}.{b64(GOOD)}.", "algorithm"),
    "HS256 by the public key": (hs256_by_the_public_key(), "algorithm"),
    "RS256": (with_header(alg="RS256", kid="k"), "algorithm"),
    "alg no text": (with_header(alg=["EdDSA"], kid="k"), "algorithm"),
    "alg of another key": (with_header(alg="ES256", kid="k"), "algorithm"),
    "unknown kid": (with_header(alg="EdDSA", kid="other"), "key"),
    "no kid": (with_header(alg="EdDSA"), "key"),
    "kid no text": (with_header(alg="EdDSA", kid=["k"]), "key"),
    "a key of its own": (with_header(alg="EdDSA", kid="k", jwk=KEY.public_jwk()), "malformed"),
    "crit": (with_header(alg="EdDSA", kid="k", crit=["b64"], b64=False), "malformed"),
    "another header": (with_header(alg="EdDSA", kid="k", typ="other"), "signature"),
    "signed by another": (SigningKey.generate("EdDSA", "k").sign(GOOD), "signature"),
    "no signature": (KEY.sign(GOOD).rpartition(".")[0] + ".", "signature"),
    "expired": (KEY.sign({**GOOD, "exp": NOW - TOKEN_LEEWAY_S - 1}), "expired"),
    "no exp": (KEY.sign({"mv": MV}), "lifetime"),
    "exp null": (KEY.sign({"mv": MV, "exp": None}), "lifetime"),
    "exp a text": (KEY.sign({**GOOD, "exp": "tomorrow"}), "claims"),
    "exp a bool": (KEY.sign({**GOOD, "exp": True}), "claims"),
    "exp too far": (KEY.sign({**GOOD, "exp": NOW + 86_400 + TOKEN_LEEWAY_S + 5}), "lifetime"),
    "exp endless": (KEY.sign({**GOOD, "exp": 10**400}), "lifetime"),
    "not yet": (KEY.sign({**GOOD, "nbf": NOW + TOKEN_LEEWAY_S + 2}), "not_yet"),
    "nbf a text": (KEY.sign({**GOOD, "nbf": "now"}), "claims"),
    "nbf endless": (KEY.sign({**GOOD, "nbf": 10**400}), "claims"),
    "an audience that nobody asked for": (KEY.sign({**GOOD, "aud": "eu"}), "audience"),
    "no mv": (KEY.sign({"exp": NOW + 60}), "claims"),
    "mv unknown member": (KEY.sign({**GOOD, "mv": {"subs": ["*"]}}), "claims"),
    "sub no text": (KEY.sign({**GOOD, "sub": 7}), "claims"),
    "sub too long": (KEY.sign({**GOOD, "sub": "a" * 129}), "claims"),
    "jti with a line end": (KEY.sign({**GOOD, "jti": "a\nb"}), "claims"),
    "claims no object": (KEY.sign(GOOD).split(".")[0] + "." + b64([1]) + ".AA", "signature"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told_by_its_rule_and_repeats_nothing_of_the_token(fault: str) -> None:
    token, rule = FAULTS[fault]
    assert rule_of(token) == rule


def test_a_time_of_issue_that_is_none_is_as_if_it_were_not_told() -> None:
    assert verify(KEY.sign({**GOOD, "iat": 10**400}), KEYS, "", NOW).issued_s is None


def test_clocks_may_differ_by_half_a_minute() -> None:
    assert verify(KEY.sign({**GOOD, "exp": NOW - TOKEN_LEEWAY_S + 2}), KEYS, "", NOW)
    assert verify(KEY.sign({**GOOD, "nbf": NOW + TOKEN_LEEWAY_S - 2}), KEYS, "", NOW)


def test_an_audience_is_named_or_the_token_is_for_another() -> None:
    assert verify(KEY.sign({**GOOD, "aud": "eu"}), KEYS, "eu", NOW)
    assert verify(KEY.sign({**GOOD, "aud": ["us", "eu"]}), KEYS, "eu", NOW)
    for aud in ("us", ["us"], [], 7, {"eu": 1}, "eu2"):
        assert rule_of(KEY.sign({**GOOD, "aud": aud}), "eu") == "audience"
    assert rule_of(KEY.sign(GOOD), "eu") == "audience"


def test_a_scoped_key_gives_no_more_than_it_has(maker: Maker) -> None:
    scoped = maker.another("scoped", scope={"sub": ["plaza-*"]})
    keys = load_keys(maker.folder)
    now = time.time()
    assert verify(maker.token({"sub": ["plaza-1"]}, key=scoped), keys, "", now).allows(
        Need("sub", ("plaza-1",))
    )
    with pytest.raises(GrantRefused) as caught:
        verify(maker.token({"sub": ["plaza-1", "arena"]}, key=scoped), keys, "", now)
    assert caught.value.facts["rule"] == "key_scope"


@given(st.text(max_size=200))
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    with pytest.raises(Unauthorized):
        verify(text, KEYS, "", NOW)


@given(st.data())
def test_no_letter_of_a_token_can_be_changed(data: st.DataObject) -> None:
    token = KEY.sign(GOOD)
    at = data.draw(st.integers(0, len(token) - 2))  # of the last letter some bits are padding
    letter = data.draw(st.sampled_from("AQgw_.0"))
    changed = token[:at] + letter + token[at + 1 :]
    if changed != token:
        with pytest.raises((Unauthorized, GrantRefused)):
            verify(changed, KEYS, "", NOW)


def test_a_token_at_the_bound_of_its_length_counts() -> None:
    filler = ""
    while len(KEY.sign({**GOOD, "x": filler + "yyyy"})) <= TOKEN_CHARS_MAX:
        filler += "yyyy"
    assert verify(KEY.sign({**GOOD, "x": filler}), KEYS, "", NOW)
    assert rule_of(KEY.sign({**GOOD, "x": filler + "yyyyyyyy"})) == "too_long"
