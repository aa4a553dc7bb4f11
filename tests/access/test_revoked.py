"""What was revoked, and for how long."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gateway import limits
from gateway.core.grants import Grant
from gateway.errors import ConfigError, Overloaded
from gateway.runtime.access.revoked import CERTIFICATE_KID, FILE, Revoked

NOW = 1_800_000_000.0
LATER = NOW + limits.REVOKED_KEPT_S + 1
TOKEN = Grant(subject="ann", jti="7", kid="k")
CERTIFICATE = Grant(subject="server-2", jti="0aff", kid=CERTIFICATE_KID)


@pytest.mark.parametrize("name", ["ann", "7"])
def test_a_name_stays_revoked_for_as_long_as_any_token_lives(tmp_path: Path, name: str) -> None:
    revoked = Revoked(tmp_path)
    revoked.add(name, NOW)
    revoked.write()
    again = Revoked(tmp_path)
    assert again.concerns(TOKEN, NOW + limits.TOKEN_LIFETIME_S_MAX)
    assert not again.concerns(TOKEN, LATER)
    again.add("other", LATER)
    assert len(again) == 1


@pytest.mark.parametrize("name", ["server-2", "0aff"])
def test_a_certificate_that_was_revoked_never_counts_again(tmp_path: Path, name: str) -> None:
    revoked = Revoked(tmp_path, math.inf)
    revoked.add(name, NOW)
    revoked.add("another", NOW + 10 * 365 * 86_400)
    revoked.write()
    assert Revoked(tmp_path, math.inf).concerns(CERTIFICATE, NOW + 10 * 365 * 86_400)
    assert not Revoked(tmp_path, math.inf).concerns(TOKEN, NOW)


def test_a_token_that_was_signed_later_counts_again(tmp_path: Path) -> None:
    revoked = Revoked(tmp_path)
    revoked.add("ann", NOW)
    leeway = limits.TOKEN_LEEWAY_S
    assert revoked.concerns(Grant(subject="ann", issued_s=NOW + leeway), NOW + 100)
    assert not revoked.concerns(Grant(subject="ann", issued_s=NOW + leeway + 1), NOW + 100)
    assert not revoked.concerns(Grant(subject=""), NOW)


def test_at_the_bound_nothing_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REVOKED_MAX", 3)
    revoked = Revoked(tmp_path)
    for n in range(3):
        revoked.add(str(n), NOW)
    with pytest.raises(Overloaded, match="--auth-keys"):
        revoked.add("one more", NOW)
    revoked.add("0", NOW + 1)
    assert revoked.concerns(Grant(jti="2"), NOW)


@pytest.mark.parametrize("text", ["{", "[]", '{"ann": "soon"}', '{"ann": null}'])
def test_a_list_that_cannot_be_read_stops_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfigError, match=FILE):
        Revoked(tmp_path)
